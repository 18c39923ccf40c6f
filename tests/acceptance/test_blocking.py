"""Handlers that block: what they cost, and what they must not cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.acceptance.support import (
    BOUNDS,
    MEMBER,
    SLACK,
    STARTING,
    TESTED,
    acted,
    acts,
    all_owned,
    fleet_of,
    ok,
    send,
    worker,
    worker_of,
)
from tests.waiting import alive
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check

PARTITIONS = 3
"""One each of the queues `deaf`, `late` and `naps`."""


def test_drained_owner_keeps_what_its_thread_still_works_on(tmp_path: Path) -> None:
    """A plain function that goes on after its cancellation keeps its partition until it has really returned."""
    with fleet_of(tmp_path, "blocking", count=2, WORKER_DRAIN_TIMEOUT="1") as fleet:
        all_owned(fleet, PARTITIONS)
        owner = _owner(fleet, "deaf-00")
        send(tmp_path, "deaf", [1], app="blocking")
        fence = acted(tmp_path, "acting", partition="deaf-00")["fence"]
        mark = fleet.mark()
        ok(worker(tmp_path, "drain", owner))
        cancelled = fleet.wait_for(
            lambda event: event.name == "problem" and "handlers are cancelled" in event.get("problem"),
            STARTING,
            since=mark,
            what="the handlers' cancellation",
        )
        acted(tmp_path, "acting", fence=fence, times=len(acts(tmp_path, "acting")) + 100)
        changes = fleet.events("partition.granted", "partition.released", since=mark)
        assert [event for event in changes if event.get("partition") == "deaf-00"] == []
        (tmp_path / "return").touch()
        returned = acted(tmp_path, "returned", fence=fence)
        again = fleet.wait_for(
            _granted("deaf-00", fence), BOUNDS["move"].worst + SLACK, since=mark, what="the next owner"
        )
        assert cancelled.at < returned["at"] < again.at
        assert again.instance != owner
        acted(tmp_path, "returned", times=2, within=MEMBER.lease + SLACK)
        fleet.wait_for(named("process.ended", instance=owner, exit_code=0), STARTING, since=mark)
        fleet.wait_for(named("message.handled"), STARTING, since=mark, what="the message handled by the next owner")
        assert check(fleet.history, sent=1).problems == []


def test_function_that_never_returns_costs_its_process(tmp_path: Path) -> None:
    """A plain function that goes on long after its timeout loses its process first, and only then its partition."""
    with fleet_of(tmp_path, "blocking", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        owner = fleet.instances[_owner(fleet, "late-00")]
        pid = worker_of(owner)
        mark = fleet.mark()
        send(tmp_path, "late", [1], app="blocking")
        fence = acted(tmp_path, "acting", pid=pid)["fence"]
        killed = fleet.wait_for(
            named("instance.killed", instance=owner.name),
            1.0 + MEMBER.grace + SLACK,
            since=mark,
            what="the end of its process",
        )
        assert str(killed.get("why")).startswith("trust ran out: handler of late-00")
        (tmp_path / "return").touch()
        bound = BOUNDS["leader-loss"]
        again = fleet.wait_for(_granted("late-00", fence), bound.worst + SLACK, since=mark, what="the next owner")
        assert not alive(pid)
        assert acts(tmp_path, "acting", pid=pid)[-1]["at"] < again.at
        acted(tmp_path, "returned", within=bound.worst)
        fleet.wait_for(named("message.handled"), STARTING, since=mark, what="the message handled by the next owner")
        assert check(fleet.history, sent=1).problems == []


def nap(folder: Path, seconds: float) -> int:
    """Let a handler of every instance block its loop for so long; return how often lease or membership was lost."""
    with fleet_of(folder, "blocking", count=1) as fleet:
        all_owned(fleet, PARTITIONS)
        mark = fleet.mark()
        send(folder, "naps", [seconds], app="blocking")
        acted(folder, "asleep")
        acted(folder, "awake", within=seconds + SLACK)
        fleet.wait_for(named("message.handled"), STARTING, since=mark, what="the message to be acknowledged")
        lost = fleet.events("leader.lost", "leader.stepped_down", "member.left", "instance.killed", since=mark)
        assert len(acts(folder, "asleep")) == 1
        assert check(fleet.history, sent=1).problems == []
    return len(lost)


def test_sleeping_coroutine_costs_nothing(tmp_path: Path) -> None:
    """A coroutine that blocks its loop for longer than a membership lasts costs neither lease nor membership."""
    assert TESTED.nap > MEMBER.trusted
    assert nap(tmp_path, TESTED.nap) == 0


def _owner(fleet: LocalFleet, partition: str) -> str:
    return next(it.name for it in fleet.instances.values() if partition in it.partitions)


def _granted(partition: str, after: int) -> Callable[[Event], bool]:
    is_grant = named("partition.granted", partition=partition)
    return lambda event: is_grant(event) and event.get("fence") > after
