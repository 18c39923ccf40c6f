"""Show, with figures, what the fleet survives: `python scripts/must_show.py [NAME ...]`, all of them by default.

The scenarios are those of the acceptance tests, repeated as often as a claim deserves (`tests.acceptance.support`:
`SHOWN`). On an idle machine this takes about half an hour. Exit code 0 only if everything held.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
for setting in [name for name in os.environ if name.upper().startswith("WORKER_")]:
    del os.environ[setting]  # nobody's own settings may change what is shown

from tests.acceptance import test_blocking, test_exec, test_failover, test_frozen, test_gil, test_outage  # noqa: E402 - the path comes first
from tests.acceptance.support import SHOWN, Gaps  # noqa: E402 - as above

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


SCENARIOS: dict[str, Callable[[Path], str]] = {
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
