"""The keeper of a local fleet: what it makes of lines, and what it does to processes. Here they are small scripts."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime

import pytest

from tests.waiting import alive, until
from worker.dev.events import ENDED, KILLED, Event, parse_line
from worker.dev.fleet import LocalFleet, NoProcess, NotWithin, named
from worker.dev.instance import Instance

WORKER = """
import json, os, signal, sys, time
name = os.environ["WORKER_INSTANCE"]
def say(event, **fields):
    print(json.dumps({"event": event, "instance": name, "session": "s-" + name, **fields}), file=sys.stderr, flush=True)
child = os.fork()
if child == 0:
    signal.pause()
def end(*_):
    os.kill(child, signal.SIGKILL)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("not an event")
say("instance.started", pid=child, launcher=os.getpid())
say("leader.elected", term=int(name[2:]))
pid, status = os.waitpid(child, 0)
say("instance.killed", pid=pid, why="it was", exit_code=137)
signal.pause()
"""
"""Plays the launcher, with a child that plays the worker."""

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"event": "instance.started", "pid": null}', flush=True)
signal.pause()
"""
"""Plays one that does not hear TERM."""


def fleet_of(count: int, script: str = WORKER) -> LocalFleet:
    return LocalFleet("sqlite:///unused.db", count=count, program=[sys.executable, "-c", script], arguments=[])


def test_a_line_is_dated_by_its_own_timestamp() -> None:
    """A line that is read late counts from when it was written, on the reader's clock."""
    line = json.dumps({"event": "leader.elected", "timestamp": datetime.fromtimestamp(1000.0, UTC).isoformat()})
    found = parse_line("i-1", line, received=50.0, wall=1002.5)
    assert found is not None
    assert (found.at, found.received, found.name) == (47.5, 50.0, "leader.elected")


@pytest.mark.parametrize(
    "timestamp", [datetime.fromtimestamp(2000.0, UTC).isoformat(), "soon", None, "1970-01-01T00:00:00Z"]
)
def test_an_odd_timestamp_is_not_believed(timestamp: str | None) -> None:
    """A line from the future, from long ago or without a time counts from when it was read."""
    found = parse_line("i-1", json.dumps({"event": "x", "timestamp": timestamp}), received=50.0, wall=1000.0)
    assert found is not None
    assert found.at == 50.0


@pytest.mark.parametrize("line", ["", "Traceback", "[1]", "{}", '{"event": 3}', '"event"'])
def test_what_is_no_event_is_told_apart(line: str) -> None:
    """Stack dumps and prints are not events."""
    assert parse_line("i-1", line, received=1.0, wall=1.0) is None


def test_an_instance_is_what_its_events_say() -> None:
    """Role, term, partitions and pids follow the events, and a death takes all of them away."""
    it = Instance("i-1", state="starting")

    def note(name: str, **fields: object) -> None:
        it.apply(Event(1.0, 1.0, "i-1", name, {"session": "s", **fields}))

    note("instance.started", pid=7, launcher=6)
    assert (it.state, it.role, it.worker, it.launcher) == ("running", "follower", 7, 6)
    note("leader.elected", term=3)
    note("partition.granted", partition="orders-00", fence=1)
    note("partition.granted", partition="orders-01", fence=2)
    note("partition.released", partition="orders-00", fence=1)
    note("message.handled", message="a")
    assert (it.role, it.term, it.partitions, it.handled) == ("leader", 3, {"orders-01": 2}, 1)
    note("leader.lost", term=2)
    assert it.term == 3
    note("instance.killed", pid=7, restart_in=0.5)
    assert it == Instance("i-1", state="restarting", launcher=6, handled=1, lives=1)


def test_events_of_all_instances_come_together() -> None:
    """One history holds everybody's events with their instance; other lines stay with the instance that wrote them."""
    with fleet_of(2) as fleet:
        for name in fleet.instances:
            fleet.wait_for(named("leader.elected", instance=name), 20)
        leader = fleet.leader
        assert leader is not None
        assert (leader.name, leader.term) == ("i-2", 2)
        until(lambda: all(list(it.raw) == ["not an event"] for it in fleet.instances.values()), 5, "the other lines")
        assert {event.instance for event in fleet.events("instance.started")} == {"i-1", "i-2"}


def test_a_killed_worker_is_dead_and_its_launcher_lives() -> None:
    """`kill_worker` ends the worker alone, and the fault is in the history before the launcher's word for it."""
    with fleet_of(1) as fleet:
        fleet.wait_for(named("leader.elected"), 20)
        worker, launcher = fleet.instances["i-1"].worker, fleet.instances["i-1"].launcher
        assert worker is not None
        assert launcher is not None
        fault = fleet.kill_worker("i-1")
        assert (fault.get("pid"), fault.get("what"), fault.term) == (worker, "worker", 1)
        death = fleet.wait_for(named("instance.killed"), 20)
        assert death.received >= fault.at
        assert not alive(worker)
        assert alive(launcher)
        with pytest.raises(NoProcess, match="no worker"):
            fleet.kill_worker("i-1")


def test_a_stopped_machine_is_told_apart_from_a_dead_one() -> None:
    """`resume` says whether the worker was still there; a worker that died in its sleep was not."""
    with fleet_of(1) as fleet:
        fleet.wait_for(named("leader.elected"), 20)
        worker = fleet.instances["i-1"].worker
        assert worker is not None
        fleet.stop("i-1", machine=True)
        assert fleet.instances["i-1"].state == "stopped"
        assert fleet.resume("i-1").get("alive") is True
        fleet.stop("i-1", machine=True)
        os.kill(worker, 9)
        until(lambda: not alive(worker), 5, "the worker's end")
        assert fleet.resume("i-1").get("alive") is False


def test_a_killed_machine_stays_down_until_it_is_started() -> None:
    """`kill_machine` ends the launcher, which only `start` replaces."""
    with fleet_of(1) as fleet:
        fleet.wait_for(named("leader.elected"), 20)
        worker = fleet.instances["i-1"].worker
        assert worker is not None
        fleet.kill_machine("i-1")
        os.kill(worker, 9)  # the kernel does this for a real launcher's worker
        ended = fleet.wait_for(named(ENDED), 20)
        assert ended.get("exit_code") == 137
        assert fleet.instances["i-1"].state == "ended"
        mark = fleet.mark()
        fleet.start("i-1")
        fleet.wait_for(named("leader.elected"), 20, since=mark)
        assert [event.name for event in fleet.events(KILLED)] == [KILLED]


def test_waiting_in_vain_says_for_what() -> None:
    """A wait that is too long names what did not come, and what came last."""
    with fleet_of(1) as fleet:
        fleet.wait_for(named("leader.elected"), 20)
        with pytest.raises(NotWithin, match=r"not within 0\.05 s: a second leader; i-1 running leader"):
            fleet.wait_for(named("leader.elected", term=2), 0.05, what="a second leader")


def test_closing_leaves_nobody() -> None:
    """`close` ends instances that obey, and those that do not."""
    for script in (WORKER, DEAF):
        fleet = fleet_of(2, script)
        fleet.start()
        for name in fleet.instances:
            fleet.wait_for(named("instance.started", instance=name), 20)
        launchers = [it.launcher for it in fleet.instances.values()]
        fleet.close(grace=0.5)
        assert not any(alive(pid) for pid in launchers if pid)
