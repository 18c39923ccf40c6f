"""The judge of a fleet's events, on histories made by hand: it must see every broken rule, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from worker.dev.events import ENDED, KILLED, RESUMED, STOPPED, Event
from worker.dev.history import check


def event(at: float, instance: str, name: str, **fields: Any) -> Event:
    return Event(at, at, instance, name, {"event": name, "session": f"{instance}-session", **fields})


def elected(at: float, instance: str, term: int) -> Event:
    return event(at, instance, "leader.elected", term=term)


def granted(at: float, instance: str, fence: int, partition: str = "orders-00") -> Event:
    return event(at, instance, "partition.granted", partition=partition, fence=fence)


def released(at: float, instance: str, fence: int, partition: str = "orders-00") -> Event:
    return event(at, instance, "partition.released", partition=partition, fence=fence)


def handled(at: float, instance: str, message: str, fence: int) -> Event:
    return event(at, instance, "message.handled", message=message, partition="orders-00", fence=fence)


GOOD = [
    elected(1.0, "i-1", 1),
    granted(2.0, "i-1", 11),
    handled(3.0, "i-1", "a", 11),
    event(4.0, "i-1", KILLED, what="worker", term=1),
    event(4.1, "i-1", "instance.killed", why="killed by signal 9 (SIGKILL)", term=1),
    elected(7.5, "i-2", 2),
    granted(14.0, "i-2", 21),
    handled(15.0, "i-2", "a", 21),
    handled(16.0, "i-2", "b", 21),
    event(17.0, "i-2", "message.dead_lettered", message="c", partition="orders-00", fence=21),
    event(18.0, "i-2", "leader.stepped_down", term=2, reason="drain"),
    elected(18.2, "i-1", 3),
    released(19.0, "i-2", 21),
    granted(19.5, "i-1", 32),
]
"""A kill, a step-down, a redelivery and a dead letter: an ordinary day."""


def test_an_ordinary_day_is_in_order() -> None:
    """A history that keeps every rule has no problems, and its numbers are counted."""
    report = check(GOOD, sent=3)
    assert report.problems == []
    assert report.ok
    assert (report.handled, report.duplicates, report.dead_lettered, report.moves) == (2, 1, 1, 2)
    assert [span.number for span in report.terms] == [1, 2, 3]


def test_a_gap_runs_from_the_fault_to_the_next_term() -> None:
    """Time without a leader is counted from the kill itself, not from when somebody noticed it."""
    gaps = check(GOOD).gaps
    assert [(gap.how, gap.instance, gap.term, gap.successor, gap.next_term) for gap in gaps] == [
        ("killed", "i-1", 1, "i-2", 2),
        ("stepped down", "i-2", 2, "i-1", 3),
    ]
    assert [gap.seconds for gap in gaps] == pytest.approx([3.5, 0.2])


def test_the_order_of_arrival_does_not_matter() -> None:
    """Events that were read late are judged by when they happened."""
    assert check(reversed(GOOD), sent=3) == check(GOOD, sent=3)


def test_two_leaders_at_a_time_are_seen() -> None:
    """A term that begins before the one before it has ended is a problem."""
    problems = check([elected(1.0, "i-1", 1), elected(2.0, "i-2", 2)]).problems
    assert len(problems) == 1
    assert "two leaders" in problems[0]


@pytest.mark.parametrize(
    "end",
    [
        event(1.5, "i-1", "leader.stepped_down", term=1),
        event(1.5, "i-1", "leader.lost", term=1),
        event(1.5, "i-1", "instance.killed", why="trust ran out: leader term 1"),
        event(1.5, "i-1", "instance.stopped", exit_code=0),
        event(1.5, "i-1", "instance.started"),
        event(1.5, "i-1", KILLED, what="machine"),
        event(1.5, "i-1", STOPPED, what="worker"),
        event(1.5, "i-1", ENDED, exit_code=137),
    ],
    ids=lambda end: end.name,
)
def test_a_term_ends_in_many_ways(end: Event) -> None:
    """After whatever ends a leader's acting, the next term is in order."""
    assert check([elected(1.0, "i-1", 1), end, elected(2.0, "i-2", 2)]).problems == []


def test_the_end_of_another_instance_ends_no_term() -> None:
    """A follower's death does not excuse two leaders."""
    history = [elected(1.0, "i-1", 1), event(1.5, "i-3", KILLED, what="worker"), elected(2.0, "i-2", 2)]
    assert not check(history).ok


def test_terms_must_grow() -> None:
    """A term that is not above the one before it is a problem, even long after."""
    history = [elected(1.0, "i-1", 2), event(2.0, "i-1", "leader.lost", term=2), elected(9.0, "i-2", 2)]
    assert ["began after" in problem for problem in check(history).problems] == [True]


def test_a_stopped_leader_that_wakes_in_time_still_leads() -> None:
    """A leader that was resumed alive holds its term, so a successor meanwhile or later is a problem."""
    stop, wake = event(2.0, "i-1", STOPPED, what="machine"), event(3.0, "i-1", RESUMED, alive=True)
    assert check([elected(1.0, "i-1", 1), stop, wake]).ok
    assert not check([elected(1.0, "i-1", 1), stop, elected(2.5, "i-2", 2), wake]).ok
    assert not check([elected(1.0, "i-1", 1), stop, wake, elected(4.0, "i-2", 2)]).ok


def test_a_leader_that_died_in_its_sleep_ended_when_it_was_stopped() -> None:
    """What was stopped and never woke is counted as leaderless from the stop on."""
    history = [
        elected(1.0, "i-1", 1),
        event(2.0, "i-1", STOPPED, what="machine"),
        elected(6.0, "i-2", 2),
        event(7.0, "i-1", RESUMED, alive=False),
        event(7.1, "i-1", "instance.killed", why="trust ran out: leader term 1", term=1),
    ]
    report = check(history)
    assert report.problems == []
    assert [gap.how for gap in report.gaps] == ["stopped"]
    assert report.gaps[0].seconds == pytest.approx(4.0)


def test_an_old_term_must_not_publish() -> None:
    """A plan that is published in a term after a later one has begun is a problem."""
    late = event(8.0, "i-1", "plan.published", term=1, generation=9)
    assert [problem for problem in check([*GOOD, late]).problems if "plan.published in term 1" in problem]


def test_two_owners_at_a_time_are_seen() -> None:
    """A partition that is granted before its last owner let go of it is a problem; of another partition it is not."""
    assert not check([granted(1.0, "i-1", 1), granted(2.0, "i-2", 2)]).ok
    assert check([granted(1.0, "i-1", 1), granted(2.0, "i-2", 2, "orders-01")]).ok
    assert check([granted(1.0, "i-1", 1), released(1.5, "i-1", 1), granted(2.0, "i-2", 2)]).ok


def test_an_overlap_is_seen_behind_a_short_one() -> None:
    """An owner that never let go is compared with all that follow, not only with the next."""
    history = [granted(1.0, "i-1", 1), granted(2.0, "i-2", 2), released(3.0, "i-2", 2), granted(4.0, "i-3", 3)]
    assert len(check(history).problems) == 2


def test_a_release_under_another_fence_releases_nothing() -> None:
    """Only the release of what is held ends an ownership."""
    assert not check([granted(1.0, "i-1", 5), released(1.5, "i-1", 4), granted(2.0, "i-2", 6)]).ok


def test_fences_must_grow() -> None:
    """A partition that is granted under a fence that is not above its last one is a problem."""
    history = [granted(1.0, "i-1", 7), released(2.0, "i-1", 7), granted(3.0, "i-2", 7)]
    assert ["was granted after fence 7" in problem for problem in check(history).problems] == [True]


def test_an_old_owner_must_not_handle() -> None:
    """A message that is handled under a fence after a later one was granted is a problem."""
    history = [granted(1.0, "i-1", 7), released(2.0, "i-1", 7), granted(3.0, "i-2", 8), handled(4.0, "i-1", "a", 7)]
    assert ["after fence 8 was granted" in problem for problem in check(history).problems] == [True]


def test_every_message_is_accounted_for() -> None:
    """A message that was sent and never settled is a problem, and so is one that nobody sent."""
    assert check(GOOD, sent={"a", "b", "c"}).ok
    assert check(GOOD, sent=4).problems == ["4 messages were sent, and 3 handled or dead-lettered"]
    assert check(GOOD, sent={"a", "b", "c", "d"}).problems == ["1 messages neither handled nor dead-lettered: d"]
    assert check(GOOD, sent={"a", "b"}).problems == ["1 messages that nobody sent: c"]
