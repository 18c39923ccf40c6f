"""The election's law: the table of moves, and the arithmetic of trust and claims for clocks that really differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.interface import Expiry, LeaseView, Version
from worker.core import election
from worker.core.election import ACTING, DATE_UNIT, MOVES, IllegalMove, Move, Phase, Renewals, Standing, StoreClock
from worker.core.timings import RHO, Timings, leader_timings, member_timings

OBSERVER = Expiry.OBSERVER

RATES = st.floats(1 - RHO, 1 + RHO)
DELAYS = st.floats(0, 100)
LEASES = st.sampled_from(
    [leader_timings(3), leader_timings(15), leader_timings(60), member_timings(leader_timings(15))]
)
V1, V2 = Version("v1"), Version("v2")


def view(version: Version | None = V1, **fields: object) -> LeaseView:
    known = LeaseView(version=version, term=3, holder="s", instance="i", fleet="f", duration=15.0, nonce="n")
    return replace(known, **fields)  # type: ignore[arg-type] # the fields of a view


# --- the table ---


def predecessors(targets: Iterable[Phase]) -> set[Move]:
    """Return the moves by which the targets can be entered from any other phase."""
    inside = set(targets)
    return {move for (start, move), end in MOVES.items() if end in inside and start not in inside}


def test_every_phase_can_be_reached_and_left() -> None:
    """From following every phase can be reached, and from every phase there is a way back to following."""

    def reachable(start: Phase) -> set[Phase]:
        found, front = {start}, [start]
        while front:
            here = front.pop()
            for (source, _), end in MOVES.items():
                if source is here and end not in found:
                    found.add(end)
                    front.append(end)
        return found

    assert reachable(Phase.FOLLOWING) == set(Phase)
    assert all(Phase.FOLLOWING in reachable(phase) for phase in Phase)
    assert {move for _, move in MOVES} == set(Move)


def test_only_opened_makes_an_instance_act_and_only_granted_makes_it_open() -> None:
    """Whoever acts has gone through GRANTED and then OPENED: there is no other way in."""
    assert predecessors(ACTING) == {Move.OPENED}
    assert predecessors(ACTING | {Phase.OPENING}) == {Move.GRANTED}
    assert MOVES[Phase.CLAIMING, Move.GRANTED] is Phase.OPENING
    assert MOVES[Phase.OPENING, Move.OPENED] is Phase.LEADING


def test_whoever_acted_leaves_only_by_ended() -> None:
    """No move but ENDED leads from a phase in which work may run to one in which none does."""
    leaving = {(start, move) for (start, move), end in MOVES.items() if start in ACTING and end not in ACTING}
    assert leaving == {(Phase.YIELDING, Move.ENDED), (Phase.STOPPING, Move.ENDED)}


def test_a_loss_ends_leading_exactly_once() -> None:
    """LOST and EXPIRED lead out of leading and yielding into stopping, where they cannot happen again."""
    for move in (Move.LOST, Move.EXPIRED):
        for phase in (Phase.LEADING, Phase.YIELDING):
            assert MOVES[phase, move] is Phase.STOPPING
        with pytest.raises(IllegalMove):
            election.advance(Phase.STOPPING, move)


def test_nothing_is_renewed_after_a_loss_or_a_decision_to_go() -> None:
    """RENEWED is possible only while opening or leading."""
    assert {phase for (phase, move) in MOVES if move is Move.RENEWED} == {Phase.OPENING, Phase.LEADING}


@given(st.lists(st.sampled_from(list(Move)), max_size=60))
def test_no_walk_acts_after_a_loss_before_its_work_has_ended(moves: list[Move]) -> None:
    """In any order of events, after a loss nothing is LEADING again before ENDED and a new GRANTED and OPENED."""
    phase, lost, granted = Phase.FOLLOWING, False, False
    for move in moves:
        try:
            after = election.advance(phase, move)
        except IllegalMove:
            assert (phase, move) not in MOVES
            continue
        if move is Move.GRANTED:
            granted = True
        if phase in ACTING and move in (Move.LOST, Move.EXPIRED):
            lost, granted = True, False
        if phase in ACTING and move is Move.ENDED:
            lost = granted = False
        if after is Phase.LEADING:
            assert granted
            assert not lost
        if phase in ACTING and after not in ACTING:
            assert move is Move.ENDED
        phase = after


def test_an_illegal_move_names_itself() -> None:
    """A move that the table does not have raises an error that names the move and the phase."""
    with pytest.raises(IllegalMove, match="'opened' cannot happen while following"):
        election.advance(Phase.FOLLOWING, Move.OPENED)


def test_the_diagram_shows_every_move() -> None:
    """The drawn diagram has each arrow of the table, with its moves."""
    lines = election.diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    for (start, move), end in MOVES.items():
        (arrow,) = [line for line in lines if line.strip().startswith(f"{start.value} --> {end.value}:")]
        assert move.value in arrow.partition(": ")[2].split(", ")


# --- trust ---


@given(LEASES, RATES, RATES, DELAYS, DELAYS, DELAYS)
def test_an_old_holder_is_gone_before_anybody_else_may_claim(
    timings: Timings, holders_rate: float, observers_rate: float, there: float, back: float, seen_after: float
) -> None:
    """However clocks run within 10 % and requests linger, the holder is killed before an observer's earliest claim."""
    applied = there  # true time; the request was sent at 0, and an observer cannot see it before it is applied
    seen = applied + seen_after
    standing = Standing(view(duration=timings.lease), since=seen * observers_rate)
    due = election.claim_due(standing, session="me", history=None, expiry=Expiry.OBSERVER)
    assert due is not None
    trust = election.trust_from(0.0, timings)
    dead = (trust.deadline + timings.latency) / holders_rate  # the kernel's timer may be late by its latency
    assert trust.stop_at < trust.deadline
    assert dead <= due / observers_rate + 1e-9
    assert back >= 0  # when the answer comes changes nothing of this


@given(LEASES, RATES, RATES, DELAYS)
def test_a_deleted_lease_is_not_claimed_while_it_may_be_trusted(
    timings: Timings, holders_rate: float, observers_rate: float, seen: float
) -> None:
    """A lease object that is gone is claimed only when its holder is certainly gone too."""
    standing = Standing(LeaseView(version=None, free=True), since=seen * observers_rate)
    due = election.claim_due(standing, session="me", history=timings.lease, expiry=Expiry.OBSERVER)
    assert due is not None
    dead = (election.trust_from(0.0, timings).deadline + timings.latency) / holders_rate
    assert dead <= due / observers_rate + 1e-9


@given(LEASES, st.floats(-1e6, 1e6))
def test_trust_counts_from_the_send(timings: Timings, sent: float) -> None:
    """Trust is sent + D(1-rho) - m, and the time to stop is the grace before it."""
    trust = election.trust_from(sent, timings)
    assert trust.deadline == pytest.approx(sent + timings.lease * 0.9 - timings.margin)
    assert trust.stop_at == pytest.approx(trust.deadline - timings.grace)


@given(LEASES, st.floats(0, 1), st.floats(0, 1))
def test_one_lost_request_never_deposes(timings: Timings, used: float, jitter: float) -> None:
    """After one request that hangs for its whole total there is time to read back and to renew before the stop time."""
    sent = timings.renew + jitter * timings.jitter  # the next renewal after one sent at 0
    answered = sent + timings.total + used * timings.total * 2  # lost; then a read-back and another try, each bounded
    assert answered <= election.trust_from(0.0, timings).stop_at + 1e-9


def test_a_read_back_finds_any_unanswered_request_and_no_other() -> None:
    """Every unanswered nonce proves its own send time, a foreign or missing one proves nothing."""
    asked = Renewals().sent("a", 1.0).sent("b", 2.0)
    assert [asked.proven_by(nonce) for nonce in ("a", "b", "c", None)] == [1.0, 2.0, None, None]
    assert Renewals().unanswered == {}


@given(LEASES, st.floats(-100, 100), st.floats(-100, 100))
def test_a_wall_clock_shortens_trust_and_never_lengthens_it(timings: Timings, before: float, growth: float) -> None:
    """The machine stood still if the wall clock gained more than half the margin; a loss of any size proves nothing."""
    frozen = election.frozen(before, before + growth, timings)
    if growth <= 0:
        assert not frozen
    elif abs(growth - timings.margin / 2) > 1e-6:
        assert frozen == (growth > timings.margin / 2)


# --- the store's clock ---


def answers(
    timings: Timings, rate: float, gap: float, delays: tuple[float, float, float, float], frozen: float = 0.0
) -> tuple[StoreClock, float, float]:
    """Return what one answer told, and the time in a second one and its receipt, on a local clock of this rate.

    `delays` are true seconds: there and back of the first request, then of the second, which is sent `gap` after the
    first. The local clock, and it alone, stands still for `frozen` seconds in between.
    """
    there, _, there_again, back_again = delays
    first = float(floor(1_750_000_000.25 + there))
    applied = gap + frozen + there_again
    second = float(floor(1_750_000_000.25 + applied))
    received = (applied + back_again - frozen) * rate
    return StoreClock().answered(first, 0.0), second, received


DELAY = st.floats(0, 2)


@given(LEASES, RATES, st.floats(0, 60), st.tuples(DELAY, DELAY, DELAY, DELAY))
def test_honest_clocks_are_never_taken_for_a_freeze(
    timings: Timings, rate: float, gap: float, delays: tuple[float, float, float, float]
) -> None:
    """A local clock slow or fast by up to rho against the store's proves nothing, for any latency and rounding."""
    known, store_time, received = answers(timings, rate, gap, delays)
    assert not known.ran_ahead(store_time, received, timings)


@given(LEASES, st.floats(0, 60), st.tuples(DELAY, DELAY, DELAY, DELAY), st.floats(0.001, 1000))
def test_a_freeze_of_all_own_clocks_is_caught(
    timings: Timings, gap: float, delays: tuple[float, float, float, float], beyond: float
) -> None:
    """A freeze longer than half the margin, two roundings, the requests' ways and rho of the time is always seen."""
    ways = delays[0] + delays[3]
    slewed = (gap + delays[2] + delays[3]) * RHO / (1 - RHO)
    frozen = timings.margin / 2 + 2 * DATE_UNIT + ways + slewed + beyond
    known, store_time, received = answers(timings, 1.0, gap, delays, frozen)
    assert known.ran_ahead(store_time, received, timings)


def test_a_store_that_does_not_tell_its_time_proves_nothing() -> None:
    """Without a time in both answers there is nothing to compare, and what was known stays known."""
    timings = leader_timings(15)
    assert not StoreClock().ran_ahead(1e9, 0.0, timings)
    known = StoreClock().answered(1e9, 5.0)
    assert not known.ran_ahead(None, 100.0, timings)
    assert known.answered(None, 50.0) == known


# --- when a lease may be claimed ---


def test_the_clock_of_a_standing_lease_restarts_only_when_its_version_changes() -> None:
    """Looking again does not restart the wait; another version does, even with an equal body."""
    standing = Standing(view(), since=10.0)
    assert standing.seen(view(), 20.0).since == 10.0
    assert standing.seen(view(V2), 20.0).since == 20.0
    assert standing.seen(LeaseView(version=None), 20.0).since == 20.0
    assert standing.seen(view(renewals=9), 20.0).view.renewals == 9


def test_the_clock_restarts_when_the_store_says_that_the_lease_is_free() -> None:
    """An expiry that changes no version begins the wait in which claims are staggered, and so does its end."""
    held = Standing(view(), since=10.0)
    free = held.seen(view(free=True), 20.0)
    assert free.since == 20.0
    assert free.seen(view(free=True), 30.0).since == 20.0
    assert free.seen(view(), 30.0).since == 30.0


@pytest.mark.parametrize(
    "seen, history, expiry, due",
    [
        (view(), None, Expiry.OBSERVER, 100 + 16.5),
        (view(duration=60.0), None, Expiry.OBSERVER, 100 + 66),
        (view(handed=True, token="t"), None, Expiry.OBSERVER, 100 + 16.5),
        (view(holder="me"), None, Expiry.OBSERVER, 100),
        (view(holder=None, free=True), None, Expiry.OBSERVER, 100),
        (view(holder=None, free=True), 60.0, Expiry.OBSERVER, 100),
        (view(None, holder=None, free=True), None, Expiry.OBSERVER, 100),
        (view(None, holder=None, free=True), 15.0, Expiry.OBSERVER, 100 + 16.5),
        (view(garbled="no JSON", holder=None), None, Expiry.OBSERVER, 100),
        (view(garbled="no JSON", holder=None), 60.0, Expiry.OBSERVER, 100 + 66),
        (view(), None, Expiry.STORE, None),
        (view(free=True), None, Expiry.STORE, 100),
        (view(None, free=True), 15.0, Expiry.STORE, 100 + 16.5),
    ],
    ids=lambda value: None,
)
def test_when_a_lease_may_be_claimed(seen: LeaseView, history: float | None, expiry: Expiry, due: float | None) -> None:
    """A held lease waits for its own duration, a missing or damaged one for the recorded one, a free one for nobody."""
    found = election.claim_due(Standing(seen, since=100.0), session="me", history=history, expiry=expiry)
    assert found == (None if due is None else pytest.approx(due))


@given(st.lists(st.integers(0, 10**6)))
def test_a_claims_term_is_above_all_that_is_known(known: list[int]) -> None:
    """The next term is one above the highest known, and 1 in an empty store."""
    term = election.next_term(*known)
    assert all(term > other for other in known)
    assert term == max([0, *known]) + 1


@given(LEASES, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_successors_claim_in_their_order(timings: Timings, one: float, two: float) -> None:
    """Within the jitter, the first successor claims before the second, and the second before all others."""
    first, second = election.stagger(0, timings, one), election.stagger(1, timings, two)
    others = [election.stagger(rank, timings, two) for rank in (2, 7, None)]
    assert 0 <= first < timings.jitter
    assert second - first >= timings.renew / 2 - timings.jitter > 0
    assert all(other >= timings.renew for other in others)
    assert max(others) <= timings.renew + timings.jitter


@given(LEASES, st.floats(0, 1), st.data())
def test_followers_cost_little(timings: Timings, start: float, data: st.DataObject) -> None:
    """The two successors look about once per renewal, everybody else once per lease duration."""
    assert election.next_look(None, True, timings, OBSERVER) == timings.lease
    assert election.next_look(2, False, timings, OBSERVER) == timings.lease
    renewals = 200
    drift = data.draw(st.floats(-0.001, 0.001)) * timings.renew
    now, seen, looks = start * timings.renew, 0, 0
    while now < renewals * (timings.renew + drift):
        version = int(now / (timings.renew + drift))  # how often the holder has renewed by now
        now += election.next_look(
            data.draw(st.sampled_from([0, 1])) if looks == 0 else 0, version != seen, timings, OBSERVER
        )
        seen, looks = version, looks + 1
    assert looks <= renewals * 1.15 + 10


@given(LEASES, st.floats(0, 1))
def test_a_successor_sees_a_renewal_soon_after_it_was_made(timings: Timings, start: float) -> None:
    """Once in step, a successor's look finds a renewal at most an eighth of an interval old."""
    now, seen, ages = start * timings.renew, -1, []
    for _ in range(2000):
        version = int(now / timings.renew)
        if version != seen:
            ages.append(now - version * timings.renew)
        now += election.next_look(0, version != seen, timings, OBSERVER)
        seen = version
    assert max(ages[len(ages) // 2 :]) <= timings.renew * (election.EARLY + election.SHIFT) + 1e-6


@given(LEASES, st.booleans())
def test_a_store_that_keeps_leases_is_asked_once_per_interval(timings: Timings, changed: bool) -> None:
    """No look can show a renewal there: the two successors ask once per renew interval, all others once per lease."""
    for rank in (0, 1):
        assert election.next_look(rank, changed, timings, Expiry.STORE) == timings.renew
    for rank_of_others in (2, None):
        assert election.next_look(rank_of_others, changed, timings, Expiry.STORE) == timings.lease
