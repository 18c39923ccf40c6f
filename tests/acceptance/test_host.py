"""Real processes on machines that are taken away: each asks a metadata service of its own for notices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from tests.acceptance.support import (
    BOUNDS,
    MEMBER,
    ROOT,
    SLACK,
    STARTING,
    acted,
    acts,
    all_here,
    all_owned,
    at_rest,
    send,
    store_url,
)
from tests.emulators import AwsEmulator
from tests.fake_metadata import INSTANCE_ID, LIFECYCLE, REGION, FakeMetadata
from tests.scaling import add_hook, make_group
from tests.waiting import until
from worker.dev.events import ENDED, Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.hosting import EVERY

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

PARTITIONS = 8  # of the app
NOTICED = EVERY + SLACK
"""Seconds until a notice has been heard."""


@dataclass(frozen=True)
class Rehearsal:
    """A fleet of three, and the platform of each one's machine."""

    folder: Path
    fleet: LocalFleet
    machines: dict[str, FakeMetadata]

    def announce(self, name: str, kind: str, seconds: float) -> float:
        """Announce something for an instance's machine; return the Unix time after which it may happen."""
        at = float(int(time.time() + seconds))
        self.machines[name].schedule(kind, NotBefore=formatdate(at, usegmt=True))
        return at

    def work(self, count: int, seconds: float, first: int = 1) -> None:
        """Send so many items that take so long each."""
        bodies = [{"number": number, "seconds": seconds} for number in range(first, first + count)]
        send(self.folder, "items", bodies, app="plain")

    def in_hand(self, name: str) -> int:
        """Count the messages that an instance has begun and not ended, by its acts."""
        begun = {one["message"] for one in acts(self.folder, "begun", instance=name)}
        return len(begun - {one["message"] for one in acts(self.folder, "done", instance=name)})

    def all_done(self, count: int, within: float) -> None:
        """Wait until all items have been handled and acknowledged, and nothing is wrong with the history."""
        wanted = set(range(1, count + 1))
        until(lambda: wanted <= {one["number"] for one in acts(self.folder, "done")}, within, "all items handled")
        self.fleet.wait_until(lambda: not check(self.fleet.history, sent=count).problems, STARTING, "all acknowledged")

    def one(self, name: str, instance: str, since: int) -> Event:
        """Wait for an event of an instance."""
        return self.fleet.wait_for(named(name, instance=instance), 120, since=since, what=name)


@contextmanager
def rehearsal(folder: Path, ids: Sequence[str] = (), **env: str) -> Iterator[Rehearsal]:
    """Run three instances, each on a machine of its own; in Azure, unless the environment says otherwise."""
    with ExitStack() as stack:
        fleet = LocalFleet(
            store_url(folder),
            app="tests.acceptance.apps.plain:app",
            env={"ACTS_FOLDER": str(folder), "WORKER_HOST": "azure", **env},
            cwd=ROOT,
        )
        machines = {name: stack.enter_context(FakeMetadata()) for name in fleet.instances}
        for (name, machine), id in zip(machines.items(), ids or machines, strict=True):
            machine.say(INSTANCE_ID, id)
            # The identity, too, must never ask the real address.
            own = {"WORKER_HOST_URL": machine.url, "AZURE_POD_IDENTITY_AUTHORITY_HOST": machine.url}
            fleet.instances[name].env.update(own)
        with fleet:
            all_owned(fleet, PARTITIONS)
            yield Rehearsal(folder, fleet, machines)
        (folder / "events.jsonl").write_text("".join(event.to_line() + "\n" for event in fleet.history))


def scale_in(folder: Path) -> dict[str, float]:
    """Announce the end of the busy leader's machine; return what came of it, times in seconds."""
    with rehearsal(folder) as it:
        leader = at_rest(folder, it.fleet).name
        it.work(40, seconds=2.0)
        in_flight = until(lambda: it.in_hand(leader), STARTING, "the leader is busy")
        mark = it.fleet.mark()
        at = it.announce(leader, "Terminate", 300)
        noticed = it.one("host.notice", leader, mark)
        stepped_down = it.one("leader.stepped_down", leader, mark)
        elected = it.fleet.wait_for(named("leader.elected"), BOUNDS["hand-over"].worst + SLACK, since=mark)
        stopped, acknowledged = it.one("instance.stopped", leader, mark), it.one("host.acknowledged", leader, mark)
        ended = it.one(ENDED, leader, mark)
        assert ended.get("exit_code") == 0
        assert elected.at - stepped_down.at <= BOUNDS["hand-over"].worst
        assert noticed.at < stepped_down.at <= stopped.at <= acknowledged.at
        assert it.machines[leader].started == ["e1"]
        assert time.time() < at
        it.all_done(40, within=120)
        assert it.fleet.events("message.retried", "instance.killed", since=mark) == []
        return {
            "messages in flight": in_flight,
            "without a leader": elected.at - stepped_down.at,
            "drained after": stopped.at - noticed.at,
            "acknowledged after": acknowledged.at - noticed.at,
        }


def test_scale_in_of_the_busy_leader(tmp_path: Path) -> None:
    """The leader's machine is scaled in: it finishes, hands over at once, acknowledges after that, and ends with 0."""
    assert scale_in(tmp_path)["messages in flight"] > 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_eviction_with_a_handler_that_takes_too_long(tmp_path: Path) -> None:
    """With 30 s to go and a handler of 60 s, its message is released before the end, and handled by another one."""
    with rehearsal(tmp_path, WORKER_DRAIN_TIMEOUT="300") as it:
        send(tmp_path, "items", [{"number": 1, "seconds": 60.0, "patience": 1}], app="plain")
        begun = acted(tmp_path, "begun", number=1)
        name = begun["instance"]
        mark = it.fleet.mark()
        at = it.announce(name, "Preempt", 30)
        it.one("host.acknowledged", name, mark)
        assert time.time() < at
        assert it.machines[name].started == ["e1"]
        assert acts(tmp_path, "done", number=1) == []
        assert it.fleet.events("instance.killed", since=mark) == []
        again = acted(tmp_path, "begun", number=1, times=2, within=MEMBER.patience + STARTING)
        assert again["instance"] != name
        it.all_done(1, within=STARTING)


def test_a_pause_of_the_machine(tmp_path: Path) -> None:
    """Before a freeze an instance hands everything back and acknowledges; its process stays, and joins again."""
    with rehearsal(tmp_path) as it:
        leader = all_here(it.fleet)
        name, worker = leader.name, leader.worker
        mark = it.fleet.mark()
        it.announce(name, "Freeze", 900)
        it.one("host.acknowledged", name, mark)
        assert it.fleet.instances[name].partitions == {}
        it.work(10, seconds=0.1)
        it.all_done(10, within=60)
        assert it.fleet.events("member.joined", since=mark) == []
        it.machines[name].finish("e1")
        it.fleet.wait_for(named("member.joined", instance=name), NOTICED + STARTING, since=mark, what="its return")
        assert it.fleet.instances[name].worker == worker
        it.fleet.terminate(name)
        assert it.one(ENDED, name, mark).get("exit_code") == 0


@contextmanager
def scaling_group(server: AwsEmulator, size: int) -> Iterator[tuple[AutoScalingClient, list[str]]]:
    """Make an Auto Scaling group with a hook that waits for its machines; return their ids."""
    with closing(
        boto3.client(
            "autoscaling",
            endpoint_url=server.url,
            region_name=REGION,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )
    ) as aws:
        group, machines = make_group(aws, size)
        add_hook(aws, group)
        yield aws, machines


def test_scale_in_by_auto_scaling(moto_server: AwsEmulator, tmp_path: Path) -> None:
    """A busy machine is protected; one that is to be terminated completes its lifecycle action after its drain."""
    with scaling_group(moto_server, 3) as (aws, ids):
        env = {**moto_server.env, "AWS_ENDPOINT_URL_AUTO_SCALING": moto_server.url, "WORKER_HOST": "aws"}
        with rehearsal(tmp_path, ids, **env, AWS_ENDPOINT_URL_CLOUDWATCH=moto_server.url) as it:
            leader = at_rest(tmp_path, it.fleet).name
            machine = dict(zip(it.machines, ids, strict=True))

            def state(name: str) -> list[bool]:
                found = aws.describe_auto_scaling_instances(InstanceIds=[machine[name]])["AutoScalingInstances"]
                return [one["ProtectedFromScaleIn"] for one in found]

            it.work(40, seconds=2.0)
            until(lambda: state(leader) == [True], NOTICED + STARTING, "the busy leader is protected")
            mark = it.fleet.mark()
            it.machines[leader].say(LIFECYCLE, "Terminated")
            it.one("instance.draining", leader, mark)
            assert state(leader), "the machine may go before its drain is over"
            it.one("host.acknowledged", leader, mark)
            until(lambda: state(leader) == [], STARTING, "the machine leaves its group")
            assert it.one(ENDED, leader, mark).get("exit_code") == 0
            it.all_done(40, within=120)
            assert it.fleet.events("message.retried", "instance.killed", since=mark) == []
