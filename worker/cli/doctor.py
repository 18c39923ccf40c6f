"""`worker doctor`: one line for each check, and an exit code that a deployment can stop at."""

from __future__ import annotations

import asyncio
import math
import sys
from collections import Counter

import click

from providers.connect import connect, connect_host
from providers.interface import Misconfigured
from worker.cli.options import Options, chosen, global_options
from worker.cli.output import print_json
from worker.clock import SystemClock
from worker.doctor.basics import bad_settings
from worker.doctor.checks import CHECKS, diagnose, without_settings
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, Status, exit_code
from worker.errors import ConfigurationError

COLORS = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "red", Status.SKIPPED: None}
WIDTH = max(len(check.name) for check in CHECKS)


def _positive(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:  # click's own ranges let NaN pass
        raise click.BadParameter(f"{value:g} is not a positive number of seconds")
    return value


@click.command()
@click.option(
    "--stop-grace",
    type=float,
    callback=_positive,
    metavar="SECONDS",
    help="What the container's platform gives it from SIGTERM to SIGKILL (default: WORKER_STOP_GRACE).",
)
@global_options
def doctor(stop_grace: float | None) -> None:
    """Examine the settings, the permissions and the store that `worker run` would use.

    It disturbs no fleet: it writes documents and leases under random names and removes them, and sends a message to
    its own queue `worker-doctor`, which stays, empty. Ends with 0 when all is well (there may be warnings), 3 when a
    setting, a permission or the store cannot work, 4 when the store cannot be reached, 6 when it works, but not as it
    should.
    """
    as_json = Options.current().json
    found = _examined(stop_grace, quiet=as_json)
    code = exit_code(found.values())
    if as_json:
        checks = [
            {"check": name, "status": one.status.value, "what": one.what, "fix": one.fix or None}
            for name, one in found.items()
        ]
        print_json({"exit_code": int(code), "checks": checks})
    else:
        counts = Counter(one.status for one in found.values())
        click.echo("\n" + ", ".join(f"{counts[status]} {status.value}" for status in Status))
    click.get_current_context().exit(int(code))


def _examined(stop_grace: float | None, *, quiet: bool) -> Findings:
    def tell(name: str, finding: Finding) -> None:
        if not quiet:
            _print(name, finding)
            sys.stdout.flush()  # some checks take a while: what is known is shown

    try:
        settings = chosen(click.get_current_context())
        options = settings.store_options
        provider = connect(settings.need_store(), total=settings.leader.total, options=options)
        host = None if settings.host == "none" else connect_host(settings.host, settings.host_url, options=options)
    except (ConfigurationError, Misconfigured) as exc:
        return without_settings(bad_settings(exc), tell)
    clock = SystemClock()
    given = settings.stop_grace if stop_grace is None else stop_grace
    patient = Patient(settings, provider, clock, clock.token(), given, host)

    async def whole() -> Findings:
        try:
            return await diagnose(patient, tell)
        finally:
            await provider.close()
            if host is not None:
                host.close()

    return asyncio.run(whole())


def _print(name: str, finding: Finding) -> None:
    status = click.style(f"{finding.status.value:<7}", fg=COLORS[finding.status])
    fix = f". Fix: {finding.fix}" if finding.fix else ""
    click.echo(f"{status}  {name:<{WIDTH}}  {finding.what}{fix}")
