"""Code that holds the GIL in C for ever: nothing of the process can act against it, and still it ends in time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.support import (
    BOUNDS,
    SLACK,
    STARTING,
    TESTED,
    acted,
    acts,
    all_here,
    all_owned,
    fleet_of,
    key_for,
    send,
    worker_of,
)
from tests.waiting import alive
from worker.core.names import partition_names
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.dev.instance import Instance
from worker.processes import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="needs a kernel timer that no process can hold up (Linux)")

PARTITIONS = partition_names("work", 4)


def stick_in_leader_jobs(folder: Path, times: int) -> list[float]:
    """Have a leader job hold the GIL so often; return by how much the last of its family acted before the next term."""
    margins = []
    with fleet_of(folder, "stuck", count=2) as fleet:
        for number in range(1, times + 1):
            leader = all_here(fleet)
            worker = worker_of(leader)
            mark = fleet.mark()
            (folder / f"hold-as-leader-{leader.name}").touch()
            child = acted(folder, "stuck", times=number)["child"]
            elected = fleet.wait_for(
                named("leader.elected"), BOUNDS["failover"].worst + SLACK, since=mark, what="the next leader"
            )
            _is_gone(fleet, leader, worker, child, mark, f"leader term {elected.term - 1 if elected.term else 0}")
            margins.append(elected.at - acts(folder, "child", pid=child)[-1]["at"])
        assert check(fleet.history).problems == []
    return margins


def stick_in_handlers(folder: Path, times: int) -> list[float]:
    """Have a handler hold the GIL so often; return by how much the last of its family acted before the next grant."""
    margins = []
    with fleet_of(folder, "stuck", count=2) as fleet:
        for number in range(1, times + 1):
            all_owned(fleet, len(PARTITIONS))
            follower = next(it for it in fleet.instances.values() if it.term is None and it.partitions)
            partition = min(follower.partitions)
            worker = worker_of(follower)
            mark = fleet.mark()
            (folder / "hold-as-handler").touch()
            send(folder, "work", [number], app="stuck", key=key_for(PARTITIONS.index(partition), len(PARTITIONS)))
            stuck = acted(folder, "stuck", times=number)
            assert (stuck["pid"], stuck["partition"]) == (worker, partition)
            within = BOUNDS["member-loss"].worst + 2 * SLACK
            again = _granted_again(partition, stuck["fence"])
            granted = fleet.wait_for(again, within, since=mark, what=f"{partition} granted anew")
            _is_gone(fleet, follower, worker, stuck["child"], mark, "membership")
            margins.append(granted.at - acts(folder, "child", pid=stuck["child"])[-1]["at"])
            acted(
                folder,
                "done",
                partition=partition,
                within=within,
                times=len(acts(folder, "stuck", partition=partition)),
            )
        assert check(fleet.history).problems == []
    return margins


def _granted_again(partition: str, fence: int) -> Callable[[Event], bool]:
    named_so = named("partition.granted", partition=partition)
    return lambda event: named_so(event) and event.get("fence") > fence


def _is_gone(fleet: LocalFleet, instance: Instance, worker: int, child: int, mark: int, entry: str) -> None:
    """The process and its child are gone, the launcher says why, has the stacks, and starts the instance again."""
    assert not alive(worker)
    assert not alive(child)
    killed = fleet.wait_for(named("instance.killed", instance=instance.name), STARTING, since=mark, what="the reason")
    assert killed.get("pid") == worker
    assert killed.get("why") == f"trust ran out: {entry}"
    assert any("in hold_the_gil" in line for line in instance.raw), "no stack in the log"
    fleet.wait_for(named("member.joined", instance=instance.name), 60, since=mark, what="the instance's next life")


def test_leader_job_that_holds_the_gil(tmp_path: Path) -> None:
    """A leader job stuck in C, and the child process that it started, are gone before the next term begins."""
    assert all(margin > 0 for margin in stick_in_leader_jobs(tmp_path, TESTED.stuck))


def test_handler_that_holds_the_gil(tmp_path: Path) -> None:
    """A handler stuck in C, and the child process that it started, are gone before its partition is granted again."""
    assert all(margin > 0 for margin in stick_in_handlers(tmp_path, TESTED.stuck))
