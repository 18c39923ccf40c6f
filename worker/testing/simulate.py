"""Run simulated fleets: `python -m worker.testing.simulate --seeds 500`, or one again: `--seed 17 --verbose`."""

from __future__ import annotations

import argparse
import multiprocessing  # noqa: TID251 - a tool, not the runtime: seeds are independent of one another
import sys
import time  # noqa: TID251 - says how long it took
from collections.abc import Sequence
from functools import partial

from providers.interface import Expiry
from worker.testing.fleet import FleetSim, Report, SimulationFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="python -m worker.testing.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print the timeline as it happens")
    parser.add_argument("--jobs", type=int, default=2, help="processes to use")
    parser.add_argument(
        "--expiry",
        choices=["store", "observer", "both"],
        default="both",
        help="who keeps the leases' time: the store, the followers, or in turn from seed to seed",
    )
    options = parser.parse_args(arguments)
    expiry = None if options.expiry == "both" else Expiry(options.expiry)
    started = time.monotonic()
    if options.seed is not None:
        outcomes = [one(options.seed, expiry=expiry, verbose=options.verbose)]
    else:
        seeds = range(options.first, options.first + options.seeds)
        with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=50) as pool:
            outcomes = []
            for outcome in pool.imap(partial(one, expiry=expiry), seeds):
                outcomes.append(outcome)
                if isinstance(outcome, str):
                    print(outcome, file=sys.stderr, flush=True)  # noqa: T201 - a command's output
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if options.seed is not None and failed:
        print(failed[0], file=sys.stderr)  # noqa: T201 - a command's output
    print(summary([one for one in outcomes if isinstance(one, Report)], len(failed), time.monotonic() - started))  # noqa: T201 - a command's output
    return 1 if failed else 0


def one(seed: int, *, expiry: Expiry | None = None, verbose: bool = False) -> Report | str:
    """Run one seed; return its report, or the text of its failure."""
    echo = (lambda line: print(line, flush=True)) if verbose else None  # noqa: T201 - a command's output
    try:
        return FleetSim(seed, expiry=expiry, echo=echo).run()
    except SimulationFailed as exc:
        return str(exc)


def summary(reports: Sequence[Report], failed: int, wall: float) -> str:
    """Say what so many runs came to."""
    total = {
        name: sum(getattr(report, name) for report in reports)
        for name in ("steps", "requests", "elections", "killed_by_dead_man", "crashes", "messages", "handled_again")
    }
    hours = sum(report.seconds for report in reports) / 3600
    return (
        f"{len(reports)} seeds green ({sum(report.expiry is Expiry.STORE for report in reports)} on a store that keeps "
        f"leases itself), {failed} failed: {hours:.1f} simulated hours in {wall:.1f} s; "
        f"{total['elections']} elections, {total['crashes']} crashes, {total['killed_by_dead_man']} kills by the "
        f"dead-man's switch; {total['messages']} messages, {total['handled_again']} handled again, "
        f"{sum(report.buried for report in reports)} dead letters; {total['requests']} requests, "
        f"{total['steps']} steps, each checked"
    )


if __name__ == "__main__":
    sys.exit(main())
