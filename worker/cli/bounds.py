"""`worker bounds`: how long each recovery takes. It computes and never touches the store."""

from __future__ import annotations

from dataclasses import asdict

import click

from worker.cli.options import Options, global_options
from worker.cli.output import print_json, print_table
from worker.core.bounds import bounds as compute
from worker.core.timings import RHO
from worker.settings import load_settings


@click.command()
@click.option("--lease", type=float, metavar="SECONDS", help="Another lease duration (WORKER_LEASE).")
@global_options
def bounds(lease: float | None) -> None:
    """Say how long each recovery takes at these settings, usually and at the worst.

    "Worst" holds while the store answers every request within T and clocks differ by at most rho. Without a store
    the timings are those of a cloud.
    """
    options = Options.current()
    settings = load_settings(lease=lease, **options.flags)
    found = compute(settings.leader, settings.member, drain_timeout=settings.drain_seconds)
    leader, member = settings.leader, settings.member
    symbols = {
        "D": leader.lease,
        "i": leader.renew,
        "T": leader.total,
        "m": leader.margin,
        "g": leader.grace,
        "j": leader.jitter,
        "D_m": member.lease,
        "g_m": member.grace,
        "drain_timeout": settings.drain_seconds,
        "rho": RHO,
    }
    if options.json:
        print_json({"timings": symbols, "bounds": [asdict(bound) for bound in found]})
        return
    click.echo("  ".join(f"{name}={value:.4g}" for name, value in symbols.items()) + "  (seconds, but rho)\n")
    print_table(
        ["recovery", "usual", "worst", "what it is", "worst ="],
        [(one.name, f"{one.usual:.1f} s", f"{one.worst:.1f} s", one.meaning, one.formula) for one in found],
    )
