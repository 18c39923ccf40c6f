"""A leader that is stopped in its tracks, replaced, and woken: it must not act as leader again, not even once."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.acceptance.support import BOUNDS, SLACK, TESTED, Inside, acted, acts, all_here, fleet_of, worker_of
from tests.waiting import boottime, until
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.processes import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="a stopped process is ended by a kernel timer (Linux)")

HEART = "state/~leader/heart"
_STANDING = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def wake_leaders(folder: Path, times: int) -> list[str]:
    """Stop a leader beyond its trust and wake it, so often; return what it did as leader after it was stopped.

    Every second time the launcher is stopped as well, as when a host freezes a machine.
    """
    found = []
    with fleet_of(folder, "heart") as fleet:
        for number in range(times):
            found += _wake_one(folder, fleet, machine=number % 2 == 1)
        assert check(fleet.history).problems == []
    return found


def _wake_one(folder: Path, fleet: LocalFleet, *, machine: bool) -> list[str]:
    leader = all_here(fleet)
    pid, term = worker_of(leader), leader.term
    acted(folder, "beat", pid=pid, term=term)
    mark = fleet.mark()
    fleet.stop(leader.name, machine=machine)
    until(lambda: _stands(pid), 5, "the leader's worker to stand still")
    stopped = boottime()
    elected = fleet.wait_for(
        named("leader.elected"), BOUNDS["failover"].worst + SLACK, since=mark, what="the next leader"
    )
    acted(folder, "beat", term=elected.term)
    fleet.resume(leader.name)
    fleet.wait_for(named("member.joined", instance=leader.name), 60, since=mark, what="a new life of the woken one")
    acted(folder, "beat", term=elected.term, times=len(acts(folder, "beat", term=elected.term)) + 10)

    found = [f"wrote a line: {one}" for one in acts(folder, "beat", pid=pid) if one["at"] > stopped]
    found += [f"beat in term {term} after {stopped}" for one in acts(folder, "beat", term=term) if one["at"] > stopped]
    heart = Inside(folder).fields(HEART)["content"]
    if heart["pid"] == pid or heart["term"] == term:
        found.append(f"wrote its document: {heart}")
    session = elected.get("lease_session")
    assert session is not None
    found += [
        f"reported {event.name} in term {term}"
        for event in fleet.events("plan.published", "partition.moving", "leader.elected", since=mark)
        if event.instance == leader.name and event.term == term and event.at > stopped
    ]
    return found


def _stands(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in _STANDING
    except psutil.NoSuchProcess:
        return True


def test_woken_leader_does_not_act(tmp_path: Path) -> None:
    """A leader that was stopped beyond its trust and then woken does nothing any more in its old term."""
    assert wake_leaders(tmp_path, TESTED.stops) == []
