"""`worker exec`: any program, on one machine at a time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.acceptance.support import (
    BOUNDS,
    ROOT,
    SLACK,
    STARTING,
    TESTED,
    Inside,
    acted,
    acts,
    environment,
    fleet_of,
    ok,
    worker,
)
from tests.waiting import alive, until
from worker.dev.fleet import named
from worker.dev.history import check

LATECOMER_AFTER = BOUNDS["failover"].worst + SLACK

PROGRAM = f"""\
import fcntl, os, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.acceptance.apps.acts import FOLDER, act, tick
lock = open(FOLDER / "lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    act("overlap", term=int(os.environ["WORKER_TERM"]))
act("start", term=int(os.environ["WORKER_TERM"]))
while True:
    act("tick", term=int(os.environ["WORKER_TERM"]))
    tick(0.01)
"""
"""Says when it starts and that it runs, and holds a lock of the kernel's: a second one could not have it."""

FAMILY = f"""\
import os, signal, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.acceptance.apps.acts import act, tick
role = sys.argv[1]
def end(*_):
    act("term", role=role)
    if role == "parent":
        child.wait()
        sys.exit(23)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
if role == "parent":
    child = subprocess.Popen([sys.executable, __file__, "child"])
act("up", role=role)
while True:
    tick(0.01)
"""
"""A program with a child in its process group; both say that TERM has reached them."""


def kill_holders(folder: Path, times: int, seed: int = 0) -> list[str]:
    """Kill the holder among six so often, every third time with its launcher; return every overlap of two programs."""
    choices = random.Random(seed)
    arguments = ("exec", "nightly", "--", sys.executable, "-c", PROGRAM)
    with fleet_of(folder, "none", count=6, arguments=arguments) as fleet:
        acted(folder, "start", within=STARTING)
        for number in range(1, times + 1):
            holder = fleet.wait_until(lambda: fleet.leader, STARTING, "a holder")
            acted(folder, "tick", term=holder.term, times=choices.randint(2, 60))
            if number % 3 == 0:
                mark = fleet.mark()
                fleet.kill_machine(holder.name)
                fleet.wait_for(named("process.ended", instance=holder.name), STARTING, since=mark)
                fleet.start(holder.name)
            else:
                fleet.kill_worker(holder.name)
            acted(folder, "start", times=number + 1, within=LATECOMER_AFTER)
            acted(folder, "tick", term=acts(folder, "start")[-1]["term"])
        assert check(fleet.history).problems == []
    return _overlaps(folder)


def _overlaps(folder: Path) -> list[str]:
    """Return where two programs ran at once: by the kernel's lock, and by what each of them has written."""
    found = [f"the program of term {one['term']} found another one running" for one in acts(folder, "overlap")]
    lives: dict[int, list[dict[str, Any]]] = {}
    for one in acts(folder, "start", "tick"):
        lives.setdefault(one["pid"], []).append(one)
    for old, new in pairwise(sorted(lives.values(), key=lambda life: life[0]["at"])):
        if old[-1]["at"] >= new[0]["at"]:
            found.append(
                f"term {new[0]['term']} began {old[-1]['at'] - new[0]['at']:.3f} s before the last act before it"
            )
        if old[0]["term"] >= new[0]["term"]:
            found.append(f"term {new[0]['term']} came after term {old[0]['term']}")
    return found


def test_two_programs_never_overlap(tmp_path: Path, seed: int) -> None:
    """Of six candidates one runs the program, and when it is killed the next one starts after it is really gone."""
    assert kill_holders(tmp_path, TESTED.program_kills, seed) == []


def test_exit_code_and_term_are_passed_on(tmp_path: Path) -> None:
    """The program's exit code is that of `worker exec`, 128 + n for signal n, and the program knows its term."""
    for term, (last, code) in enumerate((("exit 0", 0), ("exit 1", 1), ("kill -KILL $$", 137)), start=1):
        done = worker(tmp_path, "exec", "job", "--", "sh", "-c", f'echo "term $WORKER_TERM"; {last}')
        assert done.returncode == code, done.stderr
        assert done.stdout == f"term {term}\n"


def test_program_that_is_not_there(tmp_path: Path) -> None:
    """A program that cannot be started is a usage error that names it, and nothing is tried again."""
    done = worker(tmp_path, "exec", "job", "--", "no-such-program")
    assert done.returncode == 2
    assert "cannot run 'no-such-program'" in done.stderr


def test_stop_reaches_the_whole_group(tmp_path: Path) -> None:
    """TERM to `worker exec` reaches the program and its children, and the program's own answer is the exit code."""
    program = tmp_path / "family.py"
    program.write_text(FAMILY)
    command = [sys.executable, "-m", "worker", "exec", "job", "--", sys.executable, str(program), "parent"]
    started = subprocess.Popen(
        command, cwd=ROOT, env=environment(tmp_path), stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        acted(tmp_path, "up", times=2)
        family = [one["pid"] for one in acts(tmp_path, "up")]
        started.send_signal(signal.SIGTERM)
        assert started.wait(STARTING) == 23
        assert {one["role"] for one in acts(tmp_path, "term")} == {"parent", "child"}
        until(lambda: not any(alive(pid) for pid in family), 5, "the end of the family")
    finally:
        started.kill()
        started.wait()


def test_exec_needs_nothing_but_a_store(tmp_path: Path) -> None:
    """A store is all that `worker exec` needs: no app, no plan, no members; and nothing is left but lease and terms."""
    ok(worker(tmp_path, "exec", "job", "--", "true", cwd=tmp_path))
    kept = {key.split("/")[0] for key in Inside(tmp_path).keys("")}
    assert kept == {"leases", "roles"}
