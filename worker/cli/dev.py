"""`worker dev`: a small fleet on this machine, live."""

from __future__ import annotations

import asyncio
import sys
import tempfile

import click

from worker.cli.options import Options, global_options
from worker.errors import ConfigurationError
from worker.settings import load_settings


@click.command()
@click.option(
    "-n", "--instances", type=click.IntRange(1, 9), default=3, show_default=True, help="How many instances to run."
)
@click.option(
    "--for", "seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End after this."
)
@click.option("--until-idle", is_flag=True, help="End when every partition has its owner and no queue a message.")
@click.option(
    "--kill-leader-every",
    "kill_every",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Kill whoever leads, about that often.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Varies when leaders are killed.")
@global_options
def dev(instances: int, seconds: float | None, until_idle: bool, kill_every: float | None, seed: int) -> int:
    """Run a small fleet on this machine, and watch it.

    Real instances, each with its launcher and worker. On a terminal: a live view, with keys to kill, stop, resume and
    step down. With --json, or without a terminal: every event as one line of JSON. Without a store (--store,
    WORKER_STORE) the fleet gets a new SQLite file, which is deleted at the end.

    Ends with 1 when the fleet broke a promise: two leaders, two owners of a partition, a term or fence that did not
    grow, an old term that acted.
    """
    options = Options.current()
    from worker.dev.session import Session, Wishes

    wishes = Wishes(
        count=instances,
        live=sys.stdout.isatty() and not options.json,
        quiet=options.quiet,
        ends_after=seconds,
        until_idle=until_idle,
        kill_leader_every=kill_every,
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="worker-dev-") as folder:
        settings = load_settings(**options.flags)
        if settings.store is None:
            settings = load_settings(**{**options.flags, "store": f"sqlite:///{folder}/fleet.db"})
        if settings.need_store().startswith("memory:"):
            raise ConfigurationError("a store in memory cannot be shared by processes: use --store sqlite:///dev.db")
        session = Session(settings, wishes)
        return asyncio.run(session.run())
