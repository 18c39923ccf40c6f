"""Somebody writes garbage over the fleet's documents: it is reported and survived, and terms never fall."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from providers.interface import LONGEST_LEASE
from tests.acceptance.support import (
    BOUNDS,
    MEMBER,
    SLACK,
    STARTING,
    Inside,
    acted,
    acts,
    all_owned,
    fleet_of,
    ok,
    reported,
    send,
    worker,
)
from tests.waiting import until
from worker.core.timings import RHO
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check

PARTITIONS = 8
GARBAGE = b"\xff\xfe not JSON at all {{{"


@dataclass
class Damaged:
    """A fleet at work whose store is about to be written over."""

    folder: Path
    fleet: LocalFleet
    inside: Inside
    sent: int = 0

    def still_works(self) -> None:
        """A message that is sent now is handled."""
        self.sent += 1
        send(self.folder, "items", [{"number": self.sent}], app="plain")
        acted(self.folder, "done", number=self.sent, within=BOUNDS["outage"].worst)

    def overwrite(self, key: str) -> int:
        """Write garbage over a document; return the mark from which on events tell what came of it."""
        mark = self.fleet.mark()
        self.inside.overwrite(key, GARBAGE)
        return mark

    def reported(self, words: str, since: int, within: float = STARTING) -> Event:
        """Wait until an instance has reported a problem in these words."""
        return reported(self.fleet, words, since, within)


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    """One fleet for all but the worst: each test leaves it as sound as it found it."""
    with _fleet_at_work(tmp_path_factory.mktemp("garbage")) as damaged:
        yield damaged


@contextmanager
def _fleet_at_work(folder: Path) -> Iterator[Damaged]:
    with fleet_of(folder, "plain", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        damaged = Damaged(folder, fleet, Inside(folder))
        damaged.still_works()
        yield damaged
        damaged.still_works()
        fleet.wait_until(lambda: not check(fleet.history, sent=damaged.sent).problems, STARTING, "all accounted for")
        assert fleet.events("instance.killed") == []
        assert len(acts(folder, "done")) >= damaged.sent


def test_garbage_over_the_lease(it: Damaged) -> None:
    """A lease that is overwritten costs the leader its term, and the next term is higher."""
    before = it.inside.fields("leases/leader")["term"]
    mark = it.overwrite("leases/leader")
    lost = it.fleet.wait_for(named("leader.lost"), STARTING, since=mark, what="the leader to notice")
    assert "changed by somebody else" in str(lost.get("reason"))
    it.reported("the lease object is damaged", mark)
    after = it.fleet.wait_for(named("leader.elected"), BOUNDS["failover-no-successor"].worst + SLACK, since=mark)
    assert after.term is not None
    assert after.term > before
    it.still_works()


def test_garbage_over_the_plan(it: Damaged) -> None:
    """A plan that is overwritten is written again by the leader that knows it, and nobody loses a partition."""
    before = it.inside.fields("plan")
    mark = it.overwrite("plan")
    it.reported("plan is not JSON", mark)
    it.reported("written again from memory", mark)
    again = until(lambda: _whole(it.inside.fields("plan")), STARTING, "the plan")
    assert again["partitions"] == before["partitions"]
    assert (again["term"], again["generation"]) > (before["term"], before["generation"])
    assert it.fleet.events("partition.released", "leader.lost", since=mark) == []


def test_garbage_over_the_plan_while_nobody_leads(tmp_path: Path) -> None:
    """A plan that is lost together with its leader starts anew, and grants nothing while an old owner may still act."""
    with _fleet_at_work(tmp_path) as it:
        before = it.inside.fields("plan")
        leader = it.fleet.leader
        assert leader is not None
        mark = it.fleet.mark()
        it.fleet.kill_machine(leader.name)
        it.inside.overwrite("plan", GARBAGE)
        elected = it.fleet.wait_for(named("leader.elected"), BOUNDS["failover"].worst + SLACK, since=mark)
        assert elected.term is not None
        assert elected.term > before["term"]
        it.reported("the plan is damaged and starts anew", mark)
        it.fleet.start(leader.name)
        granted = it.fleet.wait_for(named("partition.granted"), BOUNDS["outage"].worst + SLACK, since=mark)
        assert granted.at - elected.at >= MEMBER.patience


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_everything_deleted(tmp_path: Path) -> None:
    """Where all documents are deleted under a fleet, its terms and fences go on, and it is whole again by itself."""
    with _fleet_at_work(tmp_path) as it:
        before = it.inside.fields("plan")
        mark = it.fleet.mark()
        it.inside.empty()
        it.reported(f"the store has forgotten term {before['term']}", mark)
        longest = LONGEST_LEASE * (1 + RHO) + BOUNDS["failover"].worst + SLACK
        elected = it.fleet.wait_for(named("leader.elected"), longest, since=mark, what="a leader")
        assert elected.term is not None
        assert elected.term > before["term"]
        within = BOUNDS["outage"].worst + SLACK
        granted = it.fleet.wait_for(named("partition.granted"), within, since=mark, what="a grant")
        assert granted.at - elected.at >= MEMBER.patience
        assert granted.get("fence") > max(record["fence"] for record in before["partitions"].values())


def test_garbage_over_a_status_and_a_beat(it: Damaged) -> None:
    """A member whose status or beat is overwritten stays a member, keeps its partitions and writes them again."""
    [status, *_] = it.inside.keys("members/")
    [beat, *_] = it.inside.keys("beats/")
    mark = it.overwrite(status)
    it.overwrite(beat)
    it.reported("is kept out", mark)
    it.reported("the status was changed by somebody else", mark, within=MEMBER.lease + SLACK)
    it.reported("the beat was changed by somebody else", mark, within=MEMBER.lease + SLACK)
    until(lambda: it.inside.fields(status).get("state") == "ready", STARTING, "the status to be written again")
    until(lambda: it.inside.fields(beat).get("n"), STARTING, "the beat to be written again")
    assert it.fleet.events("partition.released", "member.left", "leader.lost", since=mark) == []


def test_garbage_over_the_orders(it: Damaged) -> None:
    """With orders that cannot be read the last good ones stay in force, until an operator has them replaced."""
    ok(worker(it.folder, "pause", "items"))
    mark = it.overwrite("control")
    it.reported("the last good control document stays in force", mark)
    refused = worker(it.folder, "resume", "items")
    assert refused.returncode != 0
    assert "control" in refused.stderr
    ok(worker(it.folder, "resume", "items", "--yes"))
    it.still_works()


def _whole(plan: dict[str, object]) -> dict[str, object] | None:
    return plan if plan.get("partitions") else None
