"""The store is away for longer than any trust lasts: everybody stops safely, nobody dies, and all is worked off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.acceptance.support import (
    BOUNDS,
    MEMBER,
    SLACK,
    TESTED,
    acted,
    acts,
    all_owned,
    fleet_of,
    send,
)
from worker.dev.fleet import named
from worker.dev.history import check

PARTITIONS = 8
MESSAGES = 300

NO_WRITES = """\
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)
store.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
store.execute("ROLLBACK")
"""
"""Holds the file's write lock, as a backup or a stuck tool does."""

NOTHING_AT_ALL = """\
import fcntl, sys, time
with open(sys.argv[1] + "-shm", "r+b") as index:
    fcntl.lockf(index, fcntl.LOCK_EX, 8, 120)
    print("locked", flush=True)
    time.sleep(float(sys.argv[2]))
"""
"""Holds every lock that SQLite takes in WAL mode, those of readers included: the store is gone."""

HOLDERS = {"no writes": NO_WRITES, "nothing at all": NOTHING_AT_ALL}


def outlast(folder: Path, seconds: float, holder: str) -> list[str]:
    """Take the store away for so long from a fleet at work; return what went wrong."""
    with fleet_of(folder, "plain") as fleet:
        all_owned(fleet, PARTITIONS)
        send(folder, "items", [{"number": number} for number in range(MESSAGES)], app="plain")
        acted(folder, "done", times=PARTITIONS)
        mark = fleet.mark()
        command = [sys.executable, "-c", HOLDERS[holder], str(folder / "store.db"), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as away:
            assert away.stdout is not None
            assert away.stdout.readline() == "locked\n"
            done = len(acts(folder, "done"))
            fleet.wait_for(named("leader.lost"), seconds, since=mark, what="the leader to give up")
            assert away.wait(seconds + SLACK) == 0
        assert done < MESSAGES
        bound = BOUNDS["outage"]
        fleet.wait_for(named("leader.elected"), bound.worst, since=mark, what="a leader after the outage")
        fleet.wait_until(lambda: _all_done(folder), bound.worst + 30, "all messages handled after the outage")
        fleet.wait_until(lambda: not check(fleet.history, sent=MESSAGES).problems, SLACK, "all messages acknowledged")
        return [
            *check(fleet.history, sent=MESSAGES).problems,
            *(f"{event.instance} died: {event.get('why')}" for event in fleet.events("instance.killed")),
        ]


def _all_done(folder: Path) -> bool:
    return {one["number"] for one in acts(folder, "done")} == set(range(MESSAGES))


def test_outage_kills_nobody(tmp_path: Path) -> None:
    """A store that is locked for longer than any trust lasts ends no process, and no message is lost."""
    assert TESTED.outage > MEMBER.lease
    assert outlast(tmp_path, TESTED.outage, "no writes") == []
