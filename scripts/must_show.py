"""Show, with figures, what the fleet survives: `python scripts/must_show.py [NAME ...]`, all of them by default.

The scenarios are those of the acceptance tests, repeated as often, or as long, as a claim deserves (`SHOWN` in
`tests.acceptance.support`, `test_clouds` and `test_cloud_outage`). On an idle machine this takes about an hour.
Exit code 0 only if everything held.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
for setting in [name for name in os.environ if name.upper().startswith("WORKER_")]:
    del os.environ[setting]  # nobody's own settings may change what is shown

from tests import emulators  # noqa: E402 - the path comes first
from tests.acceptance import (  # noqa: E402
    test_blocking,
    test_cloud_outage,
    test_clouds,
    test_exec,
    test_failover,
    test_frozen,
    test_gil,
    test_host,
    test_outage,
    test_upgrade,
)
from tests.acceptance.clouds import Venue, azure_venue, s3_venue  # noqa: E402
from tests.acceptance.support import SHOWN, Gaps  # noqa: E402

Scenario = Callable[[Path], str]
"""Does its worst in a folder, and returns a line that says what was shown. Raises NotShown or AssertionError."""

HELP_RUNS = 11
HELP_LIMIT = 0.4
"""Seconds that `worker --help` may take."""


class NotShown(Exception):
    """A claim did not hold."""


def kills(folder: Path) -> str:
    """Kill the leader."""
    return _within(test_failover.kill_leaders(folder, SHOWN.kills))


def step_downs(folder: Path) -> str:
    """Tell the leader to step down."""
    goal = test_failover.HAND_OVER_GOAL
    gaps = test_failover.step_down(folder, SHOWN.step_downs)
    return _within(gaps) + f"; goal: max <= {goal} s, {'reached' if gaps.longest <= goal else 'MISSED'}"


def stops(folder: Path) -> str:
    """Stop the leader beyond its trust, and wake it."""
    return _nothing(test_frozen.wake_leaders(folder, SHOWN.stops), f"{SHOWN.stops} leaders woken: acts of the old term")


def stuck_jobs(folder: Path) -> str:
    """Leader jobs that hold the GIL."""
    return _margins("leader jobs stuck in C", "the next term", test_gil.stick_in_leader_jobs(folder, SHOWN.stuck))


def stuck_handlers(folder: Path) -> str:
    """Handlers that hold the GIL."""
    return _margins("handlers stuck in C", "the next grant", test_gil.stick_in_handlers(folder, SHOWN.stuck))


def threads(folder: Path) -> str:
    """Plain functions that go on after their cancellation."""
    for number, scenario in enumerate(
        (
            test_blocking.test_drained_owner_keeps_what_its_thread_still_works_on,
            test_blocking.test_function_that_never_returns_costs_its_process,
        )
    ):
        (folder / str(number)).mkdir()
        scenario(folder / str(number))
    return "threads that went on after their cancellation: partition kept until the function, or its process, had ended"


def nap(folder: Path) -> str:
    """A coroutine that blocks its loop."""
    lost = test_blocking.nap(folder, SHOWN.nap)
    if lost:
        raise NotShown(f"{lost} losses")
    return f"time.sleep({SHOWN.nap:g}) in a coroutine: leases and memberships lost: 0"


def outage(folder: Path) -> str:
    """A store that is away."""
    lines = []
    for number, holder in enumerate(test_outage.HOLDERS):
        (folder / str(number)).mkdir()
        problems = test_outage.outlast(folder / str(number), SHOWN.outage, holder)
        lines.append(_nothing(problems, f"{SHOWN.outage:g} s outage ({holder}): processes killed, messages lost"))
    return "\n".join(lines)


def programs(folder: Path) -> str:
    """`worker exec`, its holder killed."""
    found = test_exec.kill_holders(folder, SHOWN.program_kills)
    return _nothing(found, f"worker exec on six processes, holder killed {SHOWN.program_kills} times: overlaps")


def help_time(folder: Path) -> str:
    """`worker --help`, several times."""
    seconds = []
    for _ in range(HELP_RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "worker", "--help"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    line = f"worker --help: median {statistics.median(seconds):.2f} s of {HELP_RUNS}, max {max(seconds):.2f} s"
    if statistics.median(seconds) > HELP_LIMIT:
        raise NotShown(line)
    return line


def inputs(folder: Path) -> str:
    """Bad input of every kind: the tests that say what comes of it."""
    names = ("bad_input", "poison", "garbage", "startup")
    files = [f"tests/acceptance/test_{name}.py" for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise NotShown(done.stdout)
    return f"bad input: {done.stdout.splitlines()[-1]}"


def scale_in(folder: Path) -> str:
    """Announce the end of the busy leader's machine."""
    found = [f"{name} {value:.3g}" for name, value in test_host.scale_in(folder).items()]
    return "busy leader's machine scaled in (seconds): " + ", ".join(found)


def upgrade(folder: Path) -> str:
    """Roll six instances to a newer release and back, under load."""
    forward, back = test_upgrade.there_and_back(folder, test_upgrade.INSTANCES)
    return f"rolling upgrade of {test_upgrade.INSTANCES}: {forward}; and back: {back}"


@contextmanager
def azurite() -> Iterator[Venue]:
    """Azure's emulator, and a container of its own."""
    with emulators.azurite() as server, azure_venue(server) as venue:
        yield venue


@contextmanager
def s3() -> Iterator[Venue]:
    """SeaweedFS and moto, and a prefix of its own."""
    with emulators.seaweedfs() as buckets, emulators.moto() as messages, s3_venue(buckets, messages) as venue:
        os.environ.update(buckets.env)
        yield venue


def cloud_kills(venue: Venue, folder: Path) -> str:
    """Kill the leader."""
    gaps = test_clouds.kill_leaders(venue, folder, test_clouds.SHOWN.kills)
    return f"{_within(gaps)}; the protocol's minimum: {venue.floor:.2f} s"


def cloud_answers(venue: Venue, folder: Path) -> str:
    """Lose the answers of renewals."""
    count = test_clouds.SHOWN.lost_answers
    found = test_clouds.lose_answers(venue, folder, count)
    return _nothing(found, f"{count} answers of renewals lost on {venue.name}: depositions, elections, restarts")


def cloud_outage(venue: Venue, folder: Path) -> str:
    """A store that is away."""
    seconds = test_cloud_outage.SHOWN
    found = test_cloud_outage.outlast(venue, folder, seconds)
    return _nothing(
        found, f"{seconds:g} s silent and {seconds:g} s refused on {venue.name}: processes ended, messages lost"
    )


def _on(place: Callable[[], AbstractContextManager[Venue]], scenario: Callable[[Venue, Path], str]) -> Scenario:
    def whole(folder: Path) -> str:
        with place() as venue:
            return scenario(venue, folder)

    return whole


def _within(gaps: Gaps) -> str:
    if gaps.median > gaps.bound.usual or gaps.longest > gaps.bound.worst:
        raise NotShown(str(gaps))
    return str(gaps)


def _nothing(found: list[str], what: str) -> str:
    if found:
        raise NotShown(f"{what}: {len(found)}\n" + "\n".join(found))
    return f"{what}: 0"


def _margins(what: str, before: str, margins: list[float]) -> str:
    line = f"{len(margins)} {what}: process and child gone before {before}, by {min(margins):.2f} s at the least"
    if min(margins) <= 0:
        raise NotShown(line)
    return line


SCENARIOS: dict[str, Scenario] = {
    "kills": kills,
    "step-downs": step_downs,
    "stops": stops,
    "stuck-jobs": stuck_jobs,
    "stuck-handlers": stuck_handlers,
    "threads": threads,
    "nap": nap,
    "outage": outage,
    "exec": programs,
    "help": help_time,
    "inputs": inputs,
    "scale-in": scale_in,
    "upgrade": upgrade,
    "azurite-kills": _on(azurite, cloud_kills),
    "azurite-answers": _on(azurite, cloud_answers),
    "azurite-outage": _on(azurite, cloud_outage),
    "s3-kills": _on(s3, cloud_kills),
    "s3-answers": _on(s3, cloud_answers),
    "s3-outage": _on(s3, cloud_outage),
}


def main(names: list[str]) -> int:
    """Run the scenarios of these names and print what each shows."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    held = True
    for name in names or SCENARIOS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="must-show-", ignore_cleanup_errors=True) as folder:
            try:
                line = SCENARIOS[name](Path(folder))
            except (NotShown, AssertionError) as exc:
                held = False
                line = f"FAILED: {exc}" if isinstance(exc, NotShown) else f"FAILED: {traceback.format_exc()}"
        print(f"[{name}, {time.monotonic() - started:.0f} s] {line}", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
