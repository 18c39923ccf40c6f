"""The leader dies, or gives up: how long nobody leads, beside what `worker bounds` says."""

from __future__ import annotations

import random
from pathlib import Path

from tests.acceptance.support import (
    BOUNDS,
    SLACK,
    STARTING,
    TESTED,
    Gaps,
    acted,
    acts,
    at_rest,
    fleet_of,
    ok,
    worker,
)
from worker.dev.fleet import named
from worker.dev.history import check

HAND_OVER_GOAL = 0.5
"""Seconds without a leader after `worker step-down`, at the most: what this project aims at."""


def kill_leaders(folder: Path, times: int, seed: int = 0) -> Gaps:
    """SIGKILL the leader's worker so often, at any moment between two renewals; return the times to the next term."""
    bound = BOUNDS["failover"]
    moments = random.Random(seed)
    seconds = []
    with fleet_of(folder, "heart", count=4) as fleet:
        for _ in range(times):
            leader = at_rest(folder, fleet)
            beats = len(acts(folder, "beat", term=leader.term))
            acted(folder, "beat", term=leader.term, times=beats + moments.randint(1, 30))
            mark = fleet.mark()
            killed = fleet.kill_worker(leader.name)
            elected = fleet.wait_for(named("leader.elected"), bound.worst + SLACK, since=mark, what="the next leader")
            seconds.append(elected.at - killed.at)
        assert check(fleet.history).problems == []
    return Gaps("leader killed", seconds, bound)


def step_down(folder: Path, times: int) -> Gaps:
    """Tell the leader to step down so often; return how long nobody led each time."""
    bound = BOUNDS["hand-over"]
    seconds = []
    with fleet_of(folder, "heart") as fleet:
        for _ in range(times):
            leader = at_rest(folder, fleet)
            mark = fleet.mark()
            ok(worker(folder, "step-down"))
            left = fleet.wait_for(named("leader.stepped_down"), STARTING, since=mark, what="the leader to step down")
            assert left.instance == leader.name
            elected = fleet.wait_for(named("leader.elected"), bound.worst + SLACK, since=mark, what="the next leader")
            seconds.append(elected.at - left.at)
            assert elected.instance != leader.name
        assert fleet.events("leader.lost", "instance.killed") == []
        assert check(fleet.history).problems == []
    return Gaps("leader stepped down", seconds, bound)


def test_killed_leader_is_replaced_in_time(tmp_path: Path, seed: int) -> None:
    """After the death of the leader the next term begins within what `worker bounds` says, usually and at the worst."""
    gaps = kill_leaders(tmp_path, TESTED.kills, seed)
    assert gaps.median <= gaps.bound.usual, gaps
    assert gaps.longest <= gaps.bound.worst, gaps


def test_step_down_hands_over_at_once(tmp_path: Path) -> None:
    """A leader that is told to step down hands over to another instance, with hardly a moment without a leader."""
    gaps = step_down(tmp_path, TESTED.step_downs)
    assert gaps.longest <= gaps.bound.worst, gaps
