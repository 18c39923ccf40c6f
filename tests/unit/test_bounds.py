"""The bounds are honest sums: ordered, growing with their parts, and the same every time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.core.bounds import bounds, drain, failover, failover_without_successor, hand_over, leader_loss, member_loss
from worker.core.timings import RHO, Timings, leader_timings, member_timings

CLOUD = leader_timings(15)
LOCAL = leader_timings(3)


def _both(lease: float) -> tuple[Timings, Timings]:
    leader = leader_timings(lease)
    return leader, member_timings(leader)


leases = st.floats(min_value=3, max_value=60)


@given(leases)
def test_worst_is_never_below_usual(lease: float) -> None:
    """What usually happens must never take longer than the worst case."""
    for bound in bounds(*_both(lease)):
        assert 0 < bound.usual <= bound.worst, bound


@given(leases, st.floats(min_value=0.1, max_value=30))
def test_bounds_grow_with_the_lease(lease: float, more: float) -> None:
    """A longer lease must never promise a faster recovery."""
    for short, long in zip(bounds(*_both(lease)), bounds(*_both(lease + more)), strict=True):
        assert short.name == long.name
        assert short.worst <= long.worst
        assert short.usual <= long.usual


@given(leases)
def test_nobody_is_elected_while_the_old_leader_may_act(lease: float) -> None:
    """A failover must last longer than the old leader's trust, even on the fastest clock of all."""
    leader, member = _both(lease)
    assert failover(leader, member).usual > leader.trusted
    assert leader.patience / (1 + RHO) >= leader.trusted / (1 - RHO)


@given(leases)
def test_the_order_of_recoveries(lease: float) -> None:
    """Handing over must beat dying, a live successor must beat none, and a leader's loss hold both parts."""
    leader, member = _both(lease)
    assert hand_over(leader, member).worst < failover(leader, member).worst
    assert failover(leader, member).worst < failover_without_successor(leader, member).worst
    assert leader_loss(leader, member).worst >= failover(leader, member).worst + member_loss(leader, member).worst


@given(leases, st.floats(min_value=0, max_value=600))
def test_drain_contains_its_timeout(lease: float, timeout: float) -> None:
    """A drain's worst case must leave the running handlers their whole drain timeout and grace."""
    leader, member = _both(lease)
    assert drain(leader, member, timeout).worst >= timeout + member.grace


@given(
    st.floats(min_value=0.01, max_value=1),
    st.floats(min_value=0.01, max_value=0.5),
)
def test_a_slower_request_or_interval_never_helps(total: float, renew: float) -> None:
    """Every bound must grow when requests take longer or intervals are wider."""
    base = leader_timings(15, total=0.5, renew=1, grace=3)
    slower = leader_timings(15, total=0.5 + total, renew=1 + renew, grace=3)
    member = member_timings(base)
    for before, after in zip(bounds(base, member), bounds(slower, member), strict=True):
        assert before.worst < after.worst


def test_the_sums_of_the_table() -> None:
    """The default timings must give the figures that the documentation quotes."""
    cloud = {bound.name: bound for bound in bounds(CLOUD, member_timings(CLOUD))}
    assert round(cloud["failover"].usual, 1) == 18.5
    assert round(cloud["failover"].worst, 1) == 41.7
    local = {bound.name: bound for bound in bounds(LOCAL, member_timings(LOCAL))}
    assert round(local["failover"].worst, 1) == 8.3
    assert local["hand-over"].usual <= 0.5


def test_names_are_unique_and_explained() -> None:
    """Every bound must have a name of its own, a meaning and the formula that it was computed by."""
    found = bounds(CLOUD, member_timings(CLOUD))
    assert len({bound.name for bound in found}) == len(found)
    assert all(bound.meaning and bound.formula for bound in found)
