"""Which members run the newest release, and what a leader on an older one does about it."""

from __future__ import annotations

from typing import Any

import pytest

from worker.core.facts import Candidate, Facts
from worker.core.plan import Plan
from worker.core.planner import advance
from worker.core.versions import newest, release


def best(**members: dict[str, Any]) -> set[str]:
    return set(newest({name: release(facts) for name, facts in members.items()}))


@pytest.mark.parametrize(
    "older, newer",
    [
        ({}, {"version": "0.1.0"}),
        ({"version": "0.9.0"}, {"version": "0.10.0"}),
        ({"version": "9.0", "app_version": "1.0"}, {"version": "0.1", "app_version": "1.0.1"}),
        ({"version": "1.0", "app_version": "2.0rc1"}, {"version": "1.0", "app_version": "2.0"}),
        ({"version": "1.0", "app_version": "main"}, {"version": "1.0", "app_version": "0.1"}),
        ({"version": "1.0", "app_version": ["9"]}, {"version": "1.0", "app_version": "0.1"}),
    ],
    ids=["none", "numbers", "app first", "release candidate", "no version", "garbage"],
)
def test_the_newest_release(older: dict[str, Any], newer: dict[str, Any]) -> None:
    """The app's version decides, then the worker's, as numbers; what says none that can be ordered is the oldest."""
    assert best(a=older, b=newer) == {"b"}
    assert best(a=newer, b=older, c=newer) == {"a", "c"}
    assert best(a=older, b=older) == {"a", "b"}


def test_the_newest_go_first_in_the_succession() -> None:
    """Members of a newer release replace ranked ones of an older one, and otherwise nothing in the ranks changes."""
    members = [Candidate(f"i-{number}~s") for number in range(6)]
    first = advance(Plan(term=1, generation=1, leader="i-0~s"), Facts("i-0~s", members))
    again = advance(first, Facts("i-0~s", members, newest=frozenset(member.id for member in members)))
    assert again.successors == first.successors
    newer = {"i-4~s", "i-5~s"} - set(first.successors) or {"i-3~s"}
    after = advance(first, Facts("i-0~s", members, newest=newer))
    assert set(after.successors[: len(newer)]) == newer
    assert advance(after, Facts("i-0~s", members, newest=newer)) is after
