"""Somebody writes garbage over a fleet's documents in the cloud's portal: reported, survived, and terms never fall."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.clouds import Venue
from tests.acceptance.support import SLACK, STARTING, acted, all_owned, ok, reported
from tests.waiting import until
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check

PARTITIONS = 8  # of the app
GARBAGE = b"\xff\xfe not JSON at all {{{"


class Damaged:
    """A fleet at work whose store is about to be written over."""

    def __init__(self, venue: Venue, folder: Path, fleet: LocalFleet) -> None:
        self.venue, self.folder, self.fleet = venue, folder, fleet
        self.sent = 0
        self.still_works()

    def still_works(self) -> None:
        """A message that is sent now is handled."""
        self.sent += 1
        self.venue.send(self.folder, 1, first=self.sent)
        acted(self.folder, "done", number=self.sent, within=self.venue.bounds["outage"].worst)

    def overwrite(self, key: str) -> int:
        """Write garbage over a document; return the mark from which on events tell what came of it."""
        mark = self.fleet.mark()
        self.venue.overwrite(key, GARBAGE)
        return mark

    def reported(self, words: str, since: int) -> Event:
        """Wait until an instance has reported a problem in these words."""
        return reported(self.fleet, words, since, self.venue.member.lease + STARTING)

    def calm(self, since: int) -> bool:
        """Say whether nobody has lost a partition, its membership or the lead."""
        return self.fleet.events("partition.released", "member.left", "leader.lost", since=since) == []


def over_the_plan(it: Damaged) -> None:
    """The leader knows the plan and writes it again; nobody loses a partition."""
    before = it.venue.fields("plan")
    mark = it.overwrite("plan")
    it.reported("written again from memory", mark)
    after = until(lambda: it.venue.fields("plan"), STARTING, "the plan")
    assert after["partitions"] == before["partitions"]
    assert (after["term"], after["generation"]) > (before["term"], before["generation"])
    assert it.calm(mark)


def over_a_member(it: Damaged) -> None:
    """Its status and its beat are written again; it stays a member and keeps its partitions."""
    [status, *_] = it.venue.keys("members/")
    [beat, *_] = it.venue.keys("beats/")
    mark = it.overwrite(status)
    it.overwrite(beat)
    it.reported("the status was changed by somebody else", mark)
    it.reported("the beat was changed by somebody else", mark)
    until(lambda: it.venue.fields(status).get("state") == "ready", STARTING, "the status to be written again")
    until(lambda: it.venue.fields(beat).get("n"), STARTING, "the beat to be written again")
    assert it.calm(mark)


def over_the_orders(it: Damaged) -> None:
    """The last good orders stay in force, until an operator has them replaced."""
    ok(it.venue.worker(it.folder, "pause", "items"))
    mark = it.overwrite("control")
    it.reported("the last good control document stays in force", mark)
    refused = it.venue.worker(it.folder, "resume", "items")
    assert refused.returncode != 0
    assert "control" in refused.stderr
    ok(it.venue.worker(it.folder, "resume", "items", "--yes"))
    assert it.calm(mark)


def over_the_lease(it: Damaged) -> None:
    """The leader loses its term, the damage is reported, and the next term is higher."""
    leader = it.fleet.leader
    assert leader is not None
    assert leader.term is not None
    before = leader.term
    mark = it.overwrite("leases/leader")
    lost = it.fleet.wait_for(named("leader.lost"), STARTING, since=mark, what="the leader to notice")
    assert lost.term == before
    it.reported("the lease object is damaged", mark)
    worst = it.venue.bounds["failover-no-successor"].worst
    after = it.fleet.wait_for(named("leader.elected"), worst + SLACK, since=mark, what="a leader")
    assert after.term is not None
    assert after.term > before


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_garbage_by_hand(venue: Venue, tmp_path: Path) -> None:
    """Whatever document is written over, the fleet goes on, ends no process and loses no message."""
    with venue.fleet(tmp_path, count=2) as fleet:
        all_owned(fleet, PARTITIONS, within=120)
        it = Damaged(venue, tmp_path, fleet)
        for harm in (over_the_plan, over_a_member, over_the_orders, over_the_lease):
            harm(it)
            it.still_works()
        fleet.wait_until(lambda: not check(fleet.history, sent=it.sent).problems, 60, "all messages acknowledged")
        assert fleet.events("instance.killed") == []
