"""The demo of the sample app: `make demo`. Every route is sent, leaders die, and the totals are compared at the end."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict

import click

from jobs.feed import routes
from providers.body import decode
from providers.interface import ProviderError
from providers.provider import Provider
from worker.cli.root import describe
from worker.dev.demo import Broken, play
from worker.errors import WorkerError
from worker.settings import load_settings

Totals = dict[str, dict[str, int]]
"""Flights by origin and destination."""


def in_the_file() -> Totals:
    """Count the flights as the file has them."""
    totals: Totals = defaultdict(dict)
    for route in routes():
        totals[str(route["origin"])][str(route["destination"])] = int(route["count"])
    return dict(totals)


async def in_the_store(provider: Provider) -> Totals:
    """Read what the handlers have noted: one document per airport (`Message.state`)."""
    prefix, totals = "state/routes/", Totals()
    for stamp in await provider.documents.list(prefix):
        document = await provider.documents.read(stamp.key)
        assert document is not None  # only a conditional read answers None
        totals[stamp.key.removeprefix(prefix)] = dict(decode(document.body, stamp.key)["content"])
    return totals


async def audit(provider: Provider) -> str:
    """Compare every airport's flights in the store with the file. Raises Broken when one differs."""
    expected, found = in_the_file(), await in_the_store(provider)
    wrong = [airport for airport in sorted({*expected, *found}) if expected.get(airport) != found.get(airport)]
    if wrong:
        raise Broken(f"the flights of {len(wrong)} airports differ from the file: {', '.join(wrong[:5])}")
    messages = sum(len(airport) for airport in found.values())
    flights = sum(sum(airport.values()) for airport in found.values())
    return f"{messages:,} messages, {flights:,} flights counted: every airport's total equals the file"


@click.command()
@click.option("--store", metavar="URL", help="Play it in this store, which must be empty. Default: a new SQLite file.")
def main(store: str | None) -> None:
    """Watch three instances elect, work, die and recover: about a minute."""
    with tempfile.TemporaryDirectory(prefix="worker-demo-") as folder:
        try:
            settings = load_settings(store=store or f"sqlite:///{folder}/fleet.db", app="jobs:app")
            play(settings, "routes", list(routes()), audit)
        except (WorkerError, ProviderError) as exc:
            lines, code = describe(exc)
            for line in lines:
                click.echo(f"error: {line}", err=True)
            sys.exit(code)


if __name__ == "__main__":
    main()
