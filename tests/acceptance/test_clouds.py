"""The same fleet, unchanged, on Azure's and on AWS's emulators: failover, lost answers, a store that is away."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.clouds import Venue
from tests.acceptance.support import STARTING, Gaps, acted, acts, all_here, all_owned
from tests.proxy import Fault, Request
from tests.waiting import until
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.dev.instance import Instance

PARTITIONS = 8  # of the app
MESSAGES = 200


@dataclass(frozen=True)
class Often:
    """How often, or for how long, a scenario does what it does."""

    kills: int
    lost_answers: int
    outage: float  # seconds, of each kind


TESTED = Often(kills=1, lost_answers=4, outage=20.0)
SHOWN = Often(kills=8, lost_answers=50, outage=60.0)
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


def outlast(venue: Venue, folder: Path, seconds: float) -> list[str]:
    """Take the store away in mid-run, first silently, then by refusing connections; return what went wrong."""
    with venue.fleet(folder) as fleet:
        all_owned(fleet, PARTITIONS, within=120)
        for number, kind in enumerate(("black hole", "refused")):
            venue.send(folder, MESSAGES, first=1 + number * MESSAGES)
            acted(folder, "done", times=1 + number * MESSAGES, within=60)
            mark = fleet.mark()
            if kind == "black hole":
                holes = [proxy.inject(Fault.BLACK_HOLE) for proxy in (venue.documents, venue.queues)]
                assert holes
            else:
                venue.documents.refuse()
                venue.queues.refuse()
            fleet.wait_for(named("leader.lost"), seconds + STARTING, since=mark, what="the leader to give up")
            end = fleet.mark()
            _pass(seconds)
            for proxy in (venue.documents, venue.queues):
                if kind == "black hole":
                    proxy.clear()
                else:
                    proxy.accept()
            bound = venue.bounds["outage"].worst
            fleet.wait_for(named("leader.elected"), bound, since=end, what=f"a leader after the {kind}")
            wanted = set(range(1, 1 + (number + 1) * MESSAGES))
            fleet.wait_until(
                partial(_all_done, folder, wanted),
                bound + 120,
                f"all messages handled after the {kind}",
            )
        fleet.wait_until(lambda: not check(fleet.history, sent=2 * MESSAGES).problems, 120, "all messages acknowledged")
        died = [f"{event.instance} died: {event.get('why')}" for event in fleet.events("instance.killed")]
        return check(fleet.history, sent=2 * MESSAGES).problems + died


def _all_done(folder: Path, wanted: set[int]) -> bool:
    return wanted <= {one["number"] for one in acts(folder, "done")}


def _pass(seconds: float) -> None:
    """Let an outage last: what is waited for is that it has been long."""
    time.sleep(seconds)


# --- tests ---


def test_killed_leader_is_replaced_in_time(venue: Venue, tmp_path: Path) -> None:
    """After the death of the leader the next term begins within what `worker bounds` says."""
    gaps = kill_leaders(venue, tmp_path, TESTED.kills)
    assert gaps.longest <= gaps.bound.worst, gaps


def test_lost_answers_change_nothing(venue: Venue, tmp_path: Path) -> None:
    """Renewals whose answers are lost depose nobody, elect nobody, and leave no moment without a leader."""
    assert lose_answers(venue, tmp_path, TESTED.lost_answers) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_outage_kills_nobody(venue: Venue, tmp_path: Path) -> None:
    """A store that is silent, and then refuses, for longer than trust lasts ends no process and loses no message."""
    assert outlast(venue, tmp_path, TESTED.outage) == []


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
