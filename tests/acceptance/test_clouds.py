"""The same fleet, unchanged, on Azure's and on AWS's emulators: failover, lost answers, one SDK only."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.clouds import Venue
from tests.acceptance.support import STARTING, Gaps, acted, acts, all_here, all_owned
from tests.proxy import Fault, Request
from tests.waiting import until
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.dev.instance import Instance

PARTITIONS = 8  # of the app


@dataclass(frozen=True)
class Often:
    """How often a scenario does what it does."""

    kills: int
    lost_answers: int


TESTED = Often(kills=1, lost_answers=4)
SHOWN = Often(kills=8, lost_answers=50)
"""What the tests do on every change, and what `scripts/must_show.py` does for the record."""


def settled(venue: Venue, fleet: LocalFleet, within: float = 120.0) -> Instance:
    """Wait until the plan is the present leader's and its first successor lives; return the leader."""

    def rest() -> Instance | None:
        leader = all_here(fleet, within=within)
        plan = venue.fields("plan")
        living = {f"{it.name}~{it.member}" for it in fleet.instances.values()}
        return leader if plan.get("term") == leader.term and set(plan.get("successors", [])[:1]) & living else None

    return until(rest, within, "a plan by the present leader that names a living successor")


# --- scenarios: a test does each a little, `scripts/must_show.py` does it as often as a claim deserves ---


def kill_leaders(venue: Venue, folder: Path, times: int) -> Gaps:
    """SIGKILL the leader's worker so often; return the times to the next term."""
    bound = venue.bounds["failover"]
    seconds = []
    with venue.fleet(folder, "heart", count=4) as fleet:
        for number in range(times):
            leader = settled(venue, fleet)
            beats = len(acts(folder, "beat", term=leader.term))
            acted(folder, "beat", term=leader.term, times=beats + 5 + 7 * number % 20, within=60)
            mark = fleet.mark()
            killed = fleet.kill_worker(leader.name)
            elected = fleet.wait_for(named("leader.elected"), bound.worst + STARTING, since=mark, what="a next leader")
            seconds.append(elected.at - killed.at)
        assert check(fleet.history).problems == []
    return Gaps(f"leader killed on {venue.name}", seconds, bound)


def lose_answers(venue: Venue, folder: Path, times: int) -> list[str]:
    """Cut the answers of every second renewal, so many in all; return what came of it."""
    turns = itertools.count()
    with venue.fleet(folder, "heart") as fleet:
        leader = settled(venue, fleet)
        mark = fleet.mark()

        def every_second(request: Request) -> bool:
            return venue.is_renewal(request) and next(turns) % 2 == 0

        rule = venue.documents.inject(Fault.CUT_ANSWER, when=every_second, times=times)
        until(lambda: rule.hits >= times, times * venue.leader.lease + STARTING, f"{times} lost answers")
        beats = len(acts(folder, "beat", term=leader.term))
        acted(folder, "beat", term=leader.term, times=beats + 3, within=STARTING)
        venue.documents.clear()
        changes = fleet.events("leader.lost", "leader.elected", "leader.stepped_down", "instance.killed", since=mark)
        return [f"{event.instance}: {event.name}" for event in changes] + check(fleet.history).problems


# --- tests ---


def test_killed_leader_is_replaced_in_time(venue: Venue, tmp_path: Path) -> None:
    """After the death of the leader the next term begins within what `worker bounds` says."""
    gaps = kill_leaders(venue, tmp_path, TESTED.kills)
    assert gaps.longest <= gaps.bound.worst, gaps


def test_lost_answers_change_nothing(venue: Venue, tmp_path: Path) -> None:
    """Renewals whose answers are lost depose nobody, elect nobody, and leave no moment without a leader."""
    assert lose_answers(venue, tmp_path, TESTED.lost_answers) == []


def test_only_one_sdk_is_loaded(venue: Venue, tmp_path: Path) -> None:
    """An instance on one cloud has not imported the SDK of another."""
    with venue.fleet(tmp_path, count=1) as fleet:
        all_owned(fleet, PARTITIONS, within=120)
        venue.send(tmp_path, 1)
        loaded = set(acted(tmp_path, "modules", within=60)["names"])
    mine, other = ("azure", "boto3") if venue.name == "azurite" else ("boto3", "azure")
    assert mine in loaded
    assert other not in loaded
    assert not any(name.startswith(f"{other}.") for name in loaded)
