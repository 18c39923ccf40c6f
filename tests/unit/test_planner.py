"""The planner, one rule at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.planning import counts, facts, limit_of, member, moved, obeying, settle
from worker.core.plan import Assignment, Handover, Plan, fence_of
from worker.core.planner import Candidate, Facts, advance

FENCE = fence_of(1, 1)


def holding(*records: Assignment, **more: object) -> Plan:
    """Return a plan in which `orders` has these partitions."""
    partitions = {f"orders-{number:02d}": record for number, record in enumerate(records)}
    fields: dict[str, object] = {"leader": "vm-0~s0", "queues": {"orders": len(records)}, **more}
    return Plan(1, 1, partitions=partitions, **fields)  # type: ignore[arg-type]  # tests name real fields


def only(plan: Plan) -> Assignment:
    """Return the one record of a plan."""
    (record,) = plan.partitions.values()
    return record


def one(number: int, **more: object) -> Candidate:
    """Return a member that handles `orders` in one partition."""
    return member(number, {"orders": 1}, **more)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 40])
def test_a_new_queue_is_spread_in_one_round(size: int) -> None:
    """A cold start grants every partition at once, and loads differ by one at the most."""
    members = [member(number) for number in range(size)]
    plan = advance(Plan(term=1), facts(members))
    assert plan.version == (1, 1)
    assert {(record.state, record.fence, record.cause) for record in plan.partitions.values()} == {
        ("granted", FENCE, "new")
    }
    assert max(counts(plan, members)) - min(counts(plan, members)) <= 1
    assert advance(plan, facts(members)) is plan


def test_each_logical_queue_is_spread_too() -> None:
    """Among equally loaded members a partition goes to the one with the fewest of its queue."""
    members = [member(number, {"orders": 4, "mails": 4, "thumbs": 4}) for number in range(4)]
    plan = advance(Plan(term=1), facts(members))
    for queue in ("orders", "mails", "thumbs"):
        owners = {record.owner for name, record in plan.partitions.items() if plan.queue_of(name) == queue}
        assert len(owners) == 4


def test_heavy_partitions_are_placed_first() -> None:
    """Weights decide: one heavy partition is worth all the light ones."""
    members = [member(0, {"orders": 6}), member(1, {"orders": 6})]
    plan = advance(Plan(term=1), facts(members, weights={"orders-05": 5.0}))
    heavy = plan.partitions["orders-05"].owner
    assert [name for name, record in plan.partitions.items() if record.owner == heavy] == ["orders-05"]


def test_capacities_divide_the_load() -> None:
    """A member of three times the capacity carries three times as much."""
    members = [member(0, capacity=1.0), member(1, capacity=3.0)]
    assert counts(advance(Plan(term=1), facts(members)), members) == [4, 12]


@pytest.mark.parametrize("capacity", [0, -1, float("inf"), float("nan")])
def test_a_senseless_capacity_is_refused(capacity: float) -> None:
    """Capacity and weight must be numbers that loads can be divided by and summed."""
    with pytest.raises(ValueError, match="capacity"):
        member(0, capacity=capacity)
    with pytest.raises(ValueError, match="weight"):
        facts([member(0)], weights={"orders-00": -1.0 if capacity == 0 else -abs(capacity)})


def test_a_silent_owner_keeps_its_partition() -> None:
    """A member that is neither alive nor proven gone keeps what it owns: absence is not death."""
    plan = holding(Assignment("vm-7~s7", None, FENCE, "new"))
    assert only(advance(plan, facts([one(0)]))) == only(plan)


def test_another_session_proves_nothing() -> None:
    """A new session of the owner's instance does not free what the old session owns."""
    plan = holding(Assignment("vm-0~old", None, FENCE, "new"))
    assert only(advance(plan, facts([one(0)]))) == only(plan)


def test_an_old_release_frees_nothing() -> None:
    """A release of an earlier fence is not a release of this one."""
    plan = holding(Assignment("vm-0~s0", "vm-1~s1", FENCE, "rebalance"), successors=("vm-1~s1",))
    assert advance(plan, facts([one(0, released={"orders-00": FENCE - 1}), one(1)])) is plan


def test_a_release_by_another_frees_nothing() -> None:
    """Only the owner's own release counts."""
    plan = holding(Assignment("vm-0~s0", "vm-1~s1", FENCE, "rebalance"), successors=("vm-1~s1",))
    assert advance(plan, facts([one(0), one(1, released={"orders-00": FENCE})])) is plan


def test_a_released_move_is_finished_under_a_new_fence() -> None:
    """When the owner has released, the next one becomes owner, for the reason of the move."""
    plan = holding(Assignment("vm-0~s0", "vm-1~s1", FENCE, "drain"))
    after = advance(plan, facts([one(0, released={"orders-00": FENCE}), one(1)], balance=False))
    assert only(after) == Assignment("vm-1~s1", None, fence_of(1, 2), "drain")


def test_the_same_owner_gets_a_new_fence() -> None:
    """A partition that its owner has released never returns to it under the old fence."""
    plan = holding(Assignment("vm-0~s0", None, FENCE, "new"))
    after = advance(plan, facts([one(0, released={"orders-00": FENCE})]))
    assert only(after) == Assignment("vm-0~s0", None, fence_of(1, 2), "orphan")


def test_an_orphan_of_nobody_is_free() -> None:
    """A partition whose owner is gone stays in the plan, free and with its fence, until somebody handles it."""
    plan = holding(Assignment("vm-7~s7", None, FENCE, "new"))
    free = advance(plan, facts([member(0, {})], gone={"vm-7~s7"}))
    assert only(free) == Assignment(None, None, FENCE, "orphan")
    assert advance(free, facts([member(0, {})])) is free
    assert only(advance(free, facts([one(0)]))) == Assignment("vm-0~s0", None, fence_of(1, 3), "orphan")


@pytest.mark.parametrize("gone", [True, False])
def test_a_dead_next_is_chosen_again_at_once(gone: bool) -> None:
    """A move whose target is not there goes to another, whether or not its owner still acts."""
    plan = holding(Assignment("vm-0~s0", "vm-7~s7", FENCE, "drain"))
    owner = [] if gone else [one(0, draining=True)]
    after = advance(plan, Facts("vm-1~s1", [*owner, one(1)], gone={"vm-0~s0"} if gone else set()))
    expected = ("vm-1~s1", None, fence_of(1, 2), "orphan") if gone else ("vm-0~s0", "vm-1~s1", FENCE, "drain")
    assert only(after) == Assignment(*expected)


def test_a_move_without_target_is_given_up() -> None:
    """When nobody else can take it, the owner keeps it under its fence; a late release still frees it."""
    plan = holding(Assignment("vm-0~s0", "vm-7~s7", FENCE, "rebalance"))
    kept = advance(plan, facts([one(0)]))
    assert only(kept) == Assignment("vm-0~s0", None, FENCE, "resume")
    late = advance(kept, facts([one(0, released={"orders-00": FENCE})]))
    assert only(late) == Assignment("vm-0~s0", None, fence_of(1, 3), "orphan")


def test_a_drained_member_hands_over_everything() -> None:
    """Whatever a draining member owns moves to others, in one round, and it gets nothing new."""
    members = [member(0), member(1), member(2)]
    plan, _ = settle(Plan(term=1), facts(members))
    draining = facts([replace(members[0], draining=True), *members[1:]])
    asked = advance(plan, draining)
    assert {record.cause for record in asked.partitions.values() if record.owner == "vm-0~s0"} == {"drain"}
    assert all(record.next for record in asked.partitions.values() if record.owner == "vm-0~s0")
    after, _ = settle(plan, draining)
    assert counts(after, members) == [0, 8, 8]
    assert moved(plan, after) == {name for name, record in plan.partitions.items() if record.owner == "vm-0~s0"}


def test_the_last_member_keeps_what_it_drains() -> None:
    """Without anybody else a draining owner keeps its grants until it has left."""
    plan, _ = settle(Plan(term=1), facts([member(0)]))
    draining = facts([member(0, draining=True)])
    assert advance(plan, draining) is plan


def test_an_owner_of_another_version_is_replaced() -> None:
    """An owner that does not handle the queue at the plan's count gives it to one that does."""
    plan = holding(Assignment("vm-0~s0", None, FENCE, "new"))
    after = advance(plan, facts([member(0, {"orders": 2}), one(1)]))
    assert only(after) == Assignment("vm-0~s0", "vm-1~s1", FENCE, "unhandled")


def test_an_owner_that_is_left_out_is_replaced() -> None:
    """A grant that never became active moves to another member, once its owner has released."""
    plan = holding(Assignment("vm-0~s0", None, FENCE, "new"))
    after = advance(plan, facts([one(0), one(1)], barred={"orders-00": {"vm-0~s0"}}))
    assert only(after) == Assignment("vm-0~s0", "vm-1~s1", FENCE, "stalled")
    alone = facts([one(0)], barred={"orders-00": {"vm-0~s0"}})
    assert only(advance(plan, alone)) == only(plan)


def test_force_names_a_fence() -> None:
    """An operator's order overrides the owner of exactly that fence, in favour of another member."""
    plan = holding(Assignment("vm-0~s0", None, FENCE, "new"), successors=("vm-1~s1",))
    members = [one(0), one(1)]
    assert advance(plan, facts(members, forced={("orders-00", FENCE - 1)}, balance=False)) is plan
    after = advance(plan, facts(members, forced={("orders-00", FENCE)}))
    assert only(after) == Assignment("vm-1~s1", None, fence_of(1, 2), "forced")
    assert advance(after, facts(members, forced={("orders-00", FENCE)})) is after


def test_a_forced_owner_does_not_get_it_back_at_once() -> None:
    """An owner that was overridden may still act, so without another member the partition is free for a round."""
    plan = holding(Assignment("vm-0~s0", None, FENCE, "new"))
    after = advance(plan, facts([one(0)], forced={("orders-00", FENCE)}))
    assert only(after) == Assignment(None, None, FENCE, "forced")


def test_the_first_count_wins() -> None:
    """Two versions that bring a queue with different counts: the lowest id's count, granted to its version only."""
    members = [member(2, {"orders": 4}), member(1, {"orders": 2}), member(3, {"orders": 4})]
    plan = advance(Plan(term=1), facts(members))
    assert plan.queues == {"orders": 2}
    assert {record.owner for record in plan.partitions.values()} == {"vm-1~s1"}
    alone = advance(plan, facts([members[0]], gone={"vm-1~s1"}))
    assert alone.queues == {"orders": 2}
    assert {record.state for record in alone.partitions.values()} == {"free"}


@pytest.mark.parametrize("queues", [{"orders": 0}, {"orders": 10**9}, {"Bad Name": 1}, {"orders-07": 1}])
def test_a_senseless_queue_never_enters_the_plan(queues: dict[str, int]) -> None:
    """A damaged status cannot make the leader plan a queue that no store could hold."""
    assert advance(Plan(term=1), facts([member(0, queues), member(1)])).queues == {"orders": 16}


def test_the_plan_is_the_union_of_all_versions() -> None:
    """New code's queue is granted to new code only, whoever leads, and the old queue stays with both."""
    old, new = member(0, {"orders": 4}), member(1, {"orders": 4, "mails": 4})
    plan, _ = settle(Plan(term=1), facts([old, new]))
    mails = {record.owner for name, record in plan.partitions.items() if plan.queue_of(name) == "mails"}
    assert mails == {"vm-1~s1"}
    assert counts(plan, [old, new]) == [4, 4]


def test_a_withheld_queue_is_granted_to_nobody() -> None:
    """While a queue's count is to change, what becomes free stays free, and finished moves end free."""
    plan = holding(
        Assignment("vm-0~s0", None, FENCE, "new"), Assignment("vm-0~s0", "vm-1~s1", FENCE, "drain"), Assignment()
    )
    members = [member(number, {"orders": 3}) for number in range(2)]
    free = {"orders-00": FENCE, "orders-01": FENCE}
    after = advance(plan, facts([replace(members[0], released=free), members[1]], withheld={"orders"}))
    assert {record.state for record in after.partitions.values()} == {"free"}


def test_a_lost_record_waits_for_the_leader() -> None:
    """A partition without a record is granted only when the leader vouches that nobody can act on it."""
    plan = replace(holding(Assignment("vm-0~s0", None, FENCE, "new")), queues={"orders": 2})
    members = [member(number, {"orders": 2}) for number in range(2)]
    assert set(advance(plan, facts(members)).partitions) == {"orders-00"}
    after = advance(plan, facts(members, restored={"orders-01", "orders-00", "orders-77", "other-00"}))
    assert after.partitions == {
        "orders-00": plan.partitions["orders-00"],
        "orders-01": Assignment("vm-1~s1", None, fence_of(1, 2), "new"),
    }


def test_a_cold_member_starts_balancing() -> None:
    """A newcomer gets its part although nobody is overloaded, a few partitions at a time."""
    members = [member(number, {"orders": 200}) for number in range(20)]
    plan, _ = settle(Plan(term=1), facts(members[:-1]))
    assert max(counts(plan, members)) == 11  # within 10 % of the level of 10
    asked = advance(plan, facts(members))
    moving = [record for record in asked.partitions.values() if record.state == "moving"]
    assert {(record.next, record.cause) for record in moving} == {("vm-19~s19", "rebalance")}
    assert 0 < len(moving) <= limit_of(200)
    after, _ = settle(plan, facts(members))
    assert min(counts(after, members)) == 9


def test_nothing_new_is_moved_while_the_share_in_transit_is_moving() -> None:
    """Moves that nobody has finished count against the next round's, and are not moved again."""
    members = [member(number) for number in range(3)]
    plan, _ = settle(Plan(term=1), facts(members[:2]))
    asked = advance(plan, facts(members))
    assert sum(record.state == "moving" for record in asked.partitions.values()) == 1
    assert advance(asked, facts(members)) is asked
    assert advance(asked, obeying(asked, facts(members))) is not asked


def test_a_new_leader_moves_nothing_for_balance_in_its_first_round() -> None:
    """The first round of a term grants orphans and finishes moves, and leaves balance for later."""
    members = [member(number) for number in range(3)]
    plan, _ = settle(Plan(term=1), facts(members[:2]))
    after = advance(replace(plan, term=2), replace(facts(members, balance=False), leader="vm-1~s1"))
    assert after.partitions == plan.partitions
    assert (after.leader, after.version) == ("vm-1~s1", (2, plan.generation + 1))


def test_extras_stay_where_they_are() -> None:
    """Loads that differ by one are balanced, however far that is in per cent."""
    records = [Assignment(f"vm-{owner}~s{owner}", None, FENCE, "new") for owner in (0, 0, 1)]
    plan = holding(*records, successors=("vm-1~s1",))
    assert advance(plan, facts([member(number, {"orders": 3}) for number in range(2)])) is plan


def test_successors_are_sticky_and_never_the_leader() -> None:
    """Living successors keep their rank; leader, drained and dead members lose it; others move up."""
    members = [member(number) for number in range(6)]
    first = advance(Plan(term=1), facts(members)).successors
    assert len(first) == 3
    assert "vm-0~s0" not in first
    lost, *kept = first
    after = advance(
        replace(Plan(term=1), successors=first),
        facts([*(each for each in members if each.id != lost), Candidate("vm-0~other")]),
    ).successors
    assert list(after[:2]) == kept
    assert len(after) == 3
    assert not {lost, "vm-0~s0", "vm-0~other"} & set(after)
    drained = [replace(each, draining=each.id in after) for each in members]
    assert not set(after) & set(advance(Plan(term=1, successors=after), facts(drained)).successors)


@pytest.mark.parametrize("term, kept", [(1, False), (2, True)])
def test_a_hand_over_ends_with_its_term(term: int, kept: bool) -> None:
    """A request to take over a term that has come is dropped; one for the next term stays."""
    plan, _ = settle(Plan(term=1), facts([member(0), member(1)]))
    asked = replace(plan, handover=Handover("vm-1~s1", term))
    after = advance(asked, facts([member(0), member(1)]))
    assert (after.handover is not None) == kept
    assert (after is asked) == kept
