"""Verdicts: who is dead, when, and that no verdict falls on anybody who may still act."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.interface import Version
from worker.core.roster import LONGEST_PATIENCE, Roster, patience, patience_told
from worker.core.timings import RHO, leader_timings, member_timings

PATIENCE, GAP = 50.0, 20.0


class Watch:
    """A roster, and listings that take no time."""

    def __init__(self) -> None:
        self.roster = Roster(patience=PATIENCE, gap=GAP)

    def at(self, now: float, **beats: str) -> set[str]:
        """List these beats; return the new verdicts."""
        return set(self.roster.saw({name: Version(beat) for name, beat in beats.items()}, sent=now, received=now))

    def until(self, start: float, end: float, **beats: str) -> set[str]:
        """List the same beats every ten seconds after `start` and up to `end`."""
        fallen: set[str] = set()
        for now in range(int(start) + 10, int(end) + 1, 10):
            fallen |= self.at(now, **beats)
        return fallen


def test_patience_is_the_members_lease_and_margin() -> None:
    """A beat must stand still for D_m(1+ρ)+m."""
    assert patience(member_timings(leader_timings(15))) == pytest.approx(45 * 1.1 + 1)


@pytest.mark.parametrize("gap", [0, -1, 50, 60])
def test_a_senseless_gap_is_refused(gap: float) -> None:
    """A gap as long as the patience would let one listing after an outage judge everybody."""
    with pytest.raises(ValueError, match="gap"):
        Roster(patience=PATIENCE, gap=gap)


def test_a_beat_that_stands_still_is_death() -> None:
    """The verdict falls with the first listing after the patience, not before, and once."""
    watch = Watch()
    assert watch.at(0, a="1", b="1") == set()
    assert watch.until(0, 40, a="1", b="1") == set()
    assert watch.at(49, a="1", b="2") == set()
    assert watch.at(50, a="1", b="2") == {"a"}
    assert watch.at(60, a="1", b="2") == set()
    assert watch.roster.dead == {"a"}
    assert watch.roster.present == {"b"}


def test_a_beat_that_moves_is_life() -> None:
    """Any change of version restarts the clock, however long ago the last one was."""
    watch = Watch()
    for now in range(0, 500, 10):
        assert watch.at(now, a=str(now // 40)) == set()
    assert watch.roster.alive == {"a"}


def test_a_missing_beat_starts_the_same_clock() -> None:
    """Absence is not death: a beat that disappears restarts the clock, and only then it runs."""
    watch = Watch()
    watch.at(0, a="1")
    watch.until(0, 40, a="1")
    assert watch.at(45) == set()
    assert watch.roster.present == set()
    assert watch.until(45, 94) == set()
    assert watch.at(95) == {"a"}


def test_a_member_of_the_plan_that_was_never_seen_is_judged_from_the_first_round() -> None:
    """An owner without a beat gets a full patience from the moment the new leader starts to look."""
    watch = Watch()
    watch.roster.expect(["a", "b"], 0)
    assert watch.at(5, b="7") == set()
    assert watch.roster.alive == {"b"}
    assert watch.until(5, 45, b="7") == set()
    assert watch.at(50, b="7") == {"a"}
    assert watch.at(55, b="7") == {"b"}


def test_a_verdict_is_final() -> None:
    """A session once dead never lives again, though its beat move, be missing or be expected."""
    watch = Watch()
    watch.at(0, a="1")
    watch.until(0, 50, a="1")
    watch.roster.expect(["a"], 60)
    watch.at(60, a="2")
    watch.at(70, a="3")
    assert watch.roster.dead == {"a"}
    assert watch.roster.alive == watch.roster.present == set()


def test_an_outage_judges_nobody() -> None:
    """After a gap in the leader's own listings every clock starts again."""
    watch = Watch()
    watch.at(0, a="1", b="1")
    assert watch.at(300, a="1") == set()
    assert watch.until(300, 340, a="1") == set()
    assert watch.at(350, a="1") == {"a", "b"}


def test_a_beat_that_lands_while_the_listing_is_under_way_is_not_overlooked() -> None:
    """A listing judges by when it was asked for: what it does not show may have happened since."""
    watch = Watch()
    watch.at(0, a="1")
    watch.until(0, 40, a="1")
    assert watch.roster.saw({"a": Version("1")}, sent=49.0, received=51.0) == set()
    assert watch.at(55, a="2") == set()


def test_everybody_is_waited_for_by_its_own_word() -> None:
    """A member's own patience counts, not the leader's; one that has told none has the longest that there is."""
    watch = Watch()
    watch.roster.told({"quick": 20.0, "slow": 90.0})
    watch.at(0, quick="1", usual="1", slow="1")
    fallen = {now: watch.at(now, quick="1", usual="1", slow="1") for now in range(10, 101, 10)}
    assert {now: who for now, who in fallen.items() if who} == {20: {"quick"}, 50: {"usual"}, 90: {"slow"}}


@pytest.mark.parametrize("told", [None, "50", True, 0, -1, LONGEST_PATIENCE + 1, float("inf"), [50]], ids=str)
def test_a_patience_that_is_none_counts_as_the_longest(told: object) -> None:
    """Of a member that does not say for how long it may act, or says what cannot be, nothing shorter is believed."""
    assert patience_told(told) == LONGEST_PATIENCE


def test_a_patience_that_is_told_is_believed() -> None:
    """Every patience up to the longest is taken as it is."""
    assert [patience_told(told) for told in (0.5, 50, LONGEST_PATIENCE)] == [0.5, 50.0, LONGEST_PATIENCE]


def test_beats_of_the_long_dead_are_not_fit_for_a_grant() -> None:
    """What a new leader finds must move first, unless a plan names it; who joins while it watches is alive at once."""
    watch = Watch()
    watch.roster.expect(["owner"], 0)
    watch.at(0, owner="1", stale="1", idle="1")
    assert watch.roster.alive == {"owner"}
    assert watch.roster.present == {"owner", "stale", "idle"}
    watch.at(10, owner="1", stale="1", idle="2", new="1")
    assert watch.roster.alive == {"owner", "idle", "new"}
    watch.roster.expect(watch.roster.present, 10)
    assert watch.roster.alive == {"owner", "idle", "new", "stale"}


def test_collected_members_are_forgotten() -> None:
    """What has been collected takes no memory."""
    watch = Watch()
    watch.at(0, a="1", b="1")
    watch.until(0, 50, a="1", b="1")
    watch.roster.forget(["a", "b", "c"])
    assert watch.roster.dead == set()


# --- a member on a clock of its own, against a leader on another ------------------------------------------------

MEMBER = member_timings(leader_timings(15))


@dataclass(frozen=True)
class Beat:
    """When a beat was sent, took effect, and was answered, in true seconds; None: never."""

    sent: float
    landed: float | None
    answered: float | None


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Beat], float]:
    """Draw a member's beats and the end of its trust: it beats while it is trusted, until it falls silent."""
    rate = draw(st.floats(1 - RHO, 1 + RHO))  # seconds of its clock per true second
    delay = st.floats(0, MEMBER.total / rate)
    beats: list[Beat] = []
    now = draw(st.floats(0, 20))
    trusted = now + MEMBER.trusted / rate  # a session whose first beat nobody answers by then is given up
    for _ in range(draw(st.integers(1, 14))):
        if now >= trusted:
            break
        landed = now + draw(delay) if draw(st.integers(0, 3)) else None
        answered = landed + draw(delay) if landed is not None and draw(st.integers(0, 4)) else None
        beats.append(Beat(now, landed, answered))
        if answered is not None and answered < trusted:
            trusted = now + MEMBER.trusted / rate
        now += draw(st.floats(MEMBER.renew / rate, 2.5 * MEMBER.renew / rate))
    return beats, trusted


@settings(max_examples=300)
@given(
    lives(),
    st.floats(1 - RHO, 1 + RHO),
    st.lists(st.tuples(st.floats(1, 15), st.floats(0, 4), st.floats(0, 1)), max_size=60),
)
def test_nobody_is_dead_who_may_still_act(
    life: tuple[list[Beat], float], rate: float, listings: list[tuple[float, float, float]]
) -> None:
    """On any two clocks within ±10 %, with slow and lost answers, no verdict comes before the end of trust."""
    beats, trusted = life
    roster = Roster(gap=2 * MEMBER.renew)
    roster.told({"a": patience(MEMBER)})
    sent = 0.0
    for pause, duration, moment in [*listings, *[(9.0, 1.0, 0.5)] * 20]:
        sent += pause
        looked, received = sent + duration * moment, sent + duration
        shown = [number for number, beat in enumerate(beats) if beat.landed is not None and beat.landed <= looked]
        listing = {"a": Version(str(max(shown)))} if shown else {}
        if roster.saw(listing, sent=sent * rate, received=received * rate):
            assert received >= trusted
        sent = received
