"""The durations of a lease: what each derived set is, and what is refused with both values named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.timings import RHO, TIMER_LATENCY, ImpossibleTimings, Timings, leader_timings, member_timings

CLOUD = {"lease": 15.0, "renew": 3.0, "total": 2.0, "margin": 1.0, "grace": 3.0, "jitter": 0.5}


@pytest.mark.parametrize(
    "timings, figures",
    [
        (leader_timings(15), (15, 3, 2, 1, 3, 0.5)),
        (leader_timings(3), (3, 0.6, 0.4, 0.2, 0.6, 0.1)),
        (member_timings(leader_timings(15)), (45, 10, 2, 1, 20, 0.5)),
        (member_timings(leader_timings(3)), (9, 2, 0.4, 0.2, 4, 0.1)),
    ],
    ids=["leader, cloud", "leader, local", "member, cloud", "member, local"],
)
def test_one_duration_gives_the_rest(timings: Timings, figures: tuple[float, ...]) -> None:
    """The ratios give exactly the figures that the design states."""
    found = (timings.lease, timings.renew, timings.total, timings.margin, timings.grace, timings.jitter)
    assert found == pytest.approx(figures)


@given(st.floats(3, 600))
def test_every_lease_that_may_be_set_is_possible(lease: float) -> None:
    """No lease from 3 s up derives timings that are refused, neither the leader's nor the member's."""
    leader = leader_timings(lease)
    member = member_timings(leader)
    for timings in (leader, member):
        assert timings.trusted < timings.lease < timings.patience
        assert timings.patience == pytest.approx(lease * (1 + RHO) * (3 if timings is member else 1))


@given(st.floats(1, 60), *[st.floats(0.01, most) for most in (0.4, 0.25, 0.2, 0.4, 0.2)])
def test_whatever_is_accepted_keeps_every_rule(
    lease: float, renew: float, total: float, margin: float, grace: float, jitter: float
) -> None:
    """Timings exist only if one lost request cannot depose, a request ends within the grace, and the timer has room."""
    renew, total, margin, grace, jitter = (share * lease for share in (renew, total, margin, grace, jitter))
    possible = (
        renew + 3 * total + jitter + grace + margin <= lease * (1 - RHO)
        and total < grace
        and margin >= 2 * TIMER_LATENCY
    )
    try:
        timings = Timings(lease, renew, total, margin, grace, jitter)
    except ImpossibleTimings:
        assert not possible
    else:
        assert possible
        assert timings.trusted - grace >= renew + 3 * total + jitter - 1e-6


@pytest.mark.parametrize(
    "changed, names",
    [
        ({"renew": 8.0}, ("renew 8", "lease 15", "18.5 s", "13.5 s")),
        ({"total": 2.9}, ("3 x total 2.9", "lease 15")),
        ({"lease": 10.0}, ("lease 10", "renew 3")),
        ({"grace": 2.0}, ("total 2 s", "grace 2 s")),
        ({"grace": 1.0}, ("total 2 s", "grace 1 s")),
        ({"margin": 0.1}, ("margin 0.1 s", "latency 0.1 s")),
        ({"renew": 0.0}, ("renew is 0.0 s",)),
        ({"jitter": -1.0}, ("jitter is -1.0 s",)),
        ({"lease": float("inf")}, ("lease is inf s",)),
        ({"total": float("nan")}, ("total is nan s",)),
    ],
    ids=str,
)
def test_a_contradiction_is_refused_with_both_values(changed: dict[str, float], names: tuple[str, ...]) -> None:
    """What cannot hold is refused by the constructor, in words that name both values."""
    with pytest.raises(ImpossibleTimings) as caught:
        Timings(**{**CLOUD, **changed})
    for name in names:
        assert name in str(caught.value)


def test_the_sum_that_others_forgot_is_refused() -> None:
    """Timings whose parts all fit into the lease, and whose sum does not, are refused."""
    with pytest.raises(ImpossibleTimings, match="one lost request would depose a healthy holder"):
        leader_timings(15, renew=4, grace=10)


def test_an_override_counts() -> None:
    """Whatever is given replaces its ratio, for leader and member."""
    leader = leader_timings(30, renew=2, total=1, margin=0.5, grace=5, jitter=0.25)
    assert leader == Timings(30, 2, 1, 0.5, 5, 0.25)
    assert member_timings(leader, lease=60, grace=30) == Timings(60, 60 * 2 / 9, 1, 0.5, 30, 0.25)
