"""Two releases side by side: rolled from one to the other and back under load, with nothing lost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from providers.body import FORMAT
from tests.acceptance.support import STARTING, Inside, acted, acts, all_owned, fleet_of, send, worker
from tests.waiting import until
from worker.dev.events import ENDED, Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check

OLD, NEW = "1.0", "2.0"
PARTITIONS = 8  # of `items`
EXTRAS = 4  # partitions of the queue that only the new release has
LOAD = 40  # messages sent with every instance that is replaced
INSTANCES = 6


@dataclass(frozen=True)
class Roll:
    """What replacing all instances of a fleet, one after the other, came to."""

    leaders: int  # elections
    moves: int  # partitions granted
    ownerless: float  # the longest that any partition had no owner, in seconds

    def __str__(self) -> str:
        return (
            f"{self.leaders} leader changes, {self.moves} moves, "
            f"no partition without an owner for longer than {self.ownerless:.2f} s"
        )


class Upgrade:
    """A fleet whose instances are replaced one by one, while messages keep coming."""

    def __init__(self, folder: Path, fleet: LocalFleet) -> None:
        self.folder, self.fleet = folder, fleet
        self.sent = 0

    def send(self, queue: str, bodies: Sequence[dict[str, object]]) -> None:
        """Send messages, as somebody does who knows the new release."""
        send(self.folder, queue, bodies, app="rolling", env={"APP_VERSION": NEW})
        self.sent += len(bodies)

    def load(self) -> None:
        """Send some more items, which say something that the old release does not know."""
        self.send("items", [{"number": self.sent + one, "priority": "high"} for one in range(1, LOAD + 1)])

    def roll(self, version: str) -> Roll:
        """Replace every instance by one of this version, as a rolling upgrade does."""
        begun = self.fleet.mark()
        for name, instance in self.fleet.instances.items():
            self.load()
            mark = self.fleet.mark()
            self.fleet.terminate(name)
            ended = self.fleet.wait_for(named(ENDED, instance=name), 60, since=mark, what=f"the end of {name}")
            assert ended.get("exit_code") == 0
            instance.env["APP_VERSION"] = version
            self.fleet.start(name)
            self.fleet.wait_for(named("member.joined", instance=name), STARTING, since=mark, what=f"{name} again")
        all_owned(self.fleet, PARTITIONS + (EXTRAS if version == NEW else 0))
        return roll_of(self.fleet.history, begun)

    def nothing_is_lost(self) -> None:
        """Wait until all that was sent has been handled and acknowledged, and nobody has died."""
        self.fleet.wait_until(
            lambda: not check(self.fleet.history, sent=self.sent).problems, 90, "all messages acknowledged"
        )
        assert self.fleet.events("instance.killed", "message.dead_lettered") == []


def roll_of(history: Sequence[Event], since: int) -> Roll:
    """Return what happened from a mark on."""
    lost: dict[str, float] = {}
    gaps: defaultdict[str, list[float]] = defaultdict(list)
    for event in history[since:]:
        partition = str(event.get("partition"))
        if event.name == "partition.released":
            lost[partition] = event.at
        elif event.name == "partition.granted" and partition in lost:
            gaps[partition].append(event.at - lost.pop(partition))
    names = [event.name for event in history[since:]]
    longest = max((max(found) for found in gaps.values()), default=0.0)
    return Roll(names.count("leader.elected"), names.count("partition.granted"), longest)


def there_and_back(folder: Path, instances: int) -> tuple[Roll, Roll]:
    """Roll a fleet from the old release to the new one and back, under load; return both."""
    with fleet_of(folder, "rolling", count=instances) as fleet:
        all_owned(fleet, PARTITIONS)
        it = Upgrade(folder, fleet)
        forward = it.roll(NEW)
        it.send("extras", [{"number": number} for number in range(10)])
        acted(folder, "extra", times=10, within=60)
        back = it.roll(OLD)
        it.nothing_is_lost()
        return forward, back


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_rolling_upgrade_and_rollback(tmp_path: Path) -> None:
    """Every instance is replaced by a newer one and then by an older one, under load, and nothing is lost."""
    forward, back = there_and_back(tmp_path, 4)
    assert forward.leaders <= 3, forward
    assert back.leaders <= 4, back
    assert {one["version"] for one in acts(tmp_path, "done")} == {OLD, NEW}


def test_both_releases_side_by_side(tmp_path: Path) -> None:
    """The newer release leads, only it gets its new queue, and the older one goes on with what both know."""
    with fleet_of(tmp_path, "rolling", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        old = fleet.leader
        assert old is not None
        mark = fleet.mark()
        [other] = [one for one in fleet.instances.values() if one.name != old.name]
        fleet.terminate(other.name)
        fleet.wait_for(named(ENDED, instance=other.name), 60, since=mark, what="its end")
        other.env["APP_VERSION"] = NEW
        fleet.start(other.name)
        down = fleet.wait_for(named("leader.stepped_down", instance=old.name), 60, since=mark, what="a step-down")
        assert down.get("reason") == "a successor runs a newer release"
        fleet.wait_for(named("leader.elected", instance=other.name), 60, since=mark, what="a newer leader")
        all_owned(fleet, PARTITIONS + EXTRAS)
        assert {name for name in old.partitions if name.startswith("extras")} == set()
        assert old.partitions
        it = Upgrade(tmp_path, fleet)
        it.load()
        it.send("extras", [{"number": number} for number in range(10)])
        acted(tmp_path, "extra", times=10, within=60)
        it.nothing_is_lost()


def test_a_newer_document_format(tmp_path: Path) -> None:
    """A member whose documents are of a format of the future is reported and kept out, and never written over."""
    future = {"format": FORMAT + 1, "state": "ready", "queues": {"items": 8}, "nonce": "n"}
    with fleet_of(tmp_path, "rolling", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        inside = Inside(tmp_path)
        body, beats = json.dumps(future).encode(), count(1)
        inside.overwrite("members/i-9~0123456789abcdef", body)
        mark = fleet.mark()

        def reported() -> bool:
            inside.overwrite("beats/i-9~0123456789abcdef", json.dumps({"format": FORMAT, "n": next(beats)}).encode())
            return any("reads up to" in str(event.get("problem")) for event in fleet.events("problem"))

        until(reported, STARTING, "a report of the newer format")
        it = Upgrade(tmp_path, fleet)
        it.load()
        it.nothing_is_lost()
        assert inside.body("members/i-9~0123456789abcdef") == body
        assert fleet.events("leader.lost", "member.left", since=mark) == []


def test_another_partition_count(tmp_path: Path) -> None:
    """A release that declares another number of partitions ends with 3 and the command, and the fleet goes on."""
    with fleet_of(tmp_path, "rolling", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        refused = worker(tmp_path, "run", app="rolling", APP_VERSION=NEW, APP_PARTITIONS="16", WORKER_ADMIN_PORT="0")
        assert refused.returncode == 3
        assert "`worker partitions items --count 16`" in refused.stderr
        it = Upgrade(tmp_path, fleet)
        it.load()
        it.nothing_is_lost()
