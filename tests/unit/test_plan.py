"""The plan as a value and as a document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.body import decode, encode
from providers.interface import BadDocument
from tests.unit.planning import NAMES, facts, member, plans, settle
from worker.core.names import partition_names
from worker.core.plan import (
    Assignment,
    Handover,
    Plan,
    fence_of,
    plan_from_fields,
    split_fence,
    with_handover,
    with_partition_count,
)
from worker.core.planner import advance

pairs = st.tuples(st.integers(0, 2**40), st.integers(0, 2**32 - 1))


def stored(plan: Plan) -> dict[str, Any]:
    """Return the plan's fields as the store gives them back."""
    return decode(encode(plan.to_fields()), "plan")


def small() -> Plan:
    """Return a settled plan of two members."""
    return settle(Plan(term=3), facts([member(1), member(2)]))[0]


@given(pairs, pairs)
def test_fences_sort_as_their_pairs(one: tuple[int, int], other: tuple[int, int]) -> None:
    """A fence compares as (term, generation) does, and gives both back."""
    assert (fence_of(*one) < fence_of(*other)) == (one < other)
    assert split_fence(fence_of(*one)) == one


@pytest.mark.parametrize("pair", [(-1, 0), (1, -1), (1, 2**32)])
def test_a_fence_out_of_range_is_refused(pair: tuple[int, int]) -> None:
    """A generation that would spill into the term is an error and never another term's fence."""
    with pytest.raises(ValueError, match="out of range"):
        fence_of(*pair)


def test_states_follow_from_the_names() -> None:
    """No owner is free, an owner is granted, an owner and a next is moving."""
    states = [Assignment().state, Assignment("a~1").state, Assignment("a~1", "b~2").state]
    assert states == ["free", "granted", "moving"]


@given(plans())
def test_a_plan_survives_the_store(plan: Plan) -> None:
    """What is written is read back, with unknown fields and the hand-over."""
    plan = replace(plan, extra={"colour": [1, {"x": None}]}, handover=Handover("vm-1~s1", 9))
    assert plan_from_fields(stored(plan)) == (plan, [])


def test_fields_of_the_document_itself_are_not_carried_along() -> None:
    """Format and nonce belong to the document, so they never end up in `extra`."""
    plan, _ = plan_from_fields({**stored(small()), "nonce": "n", "colour": "red"})
    assert plan.extra == {"colour": "red"}


def test_every_own_field_is_always_written() -> None:
    """A hand-over that was taken back disappears from a document whose fields are merged."""
    asked = with_handover(small(), Handover("vm-1~s1", 4))
    plan, _ = plan_from_fields({**stored(asked), **with_handover(asked, None).to_fields()})
    assert plan.handover is None
    assert plan.version == (3, asked.generation + 1)


def test_an_opened_and_never_published_plan_is_empty() -> None:
    """A document with nothing but a term was sealed by a leader that wrote no plan: it is empty, not damaged."""
    assert plan_from_fields({"format": 1, "nonce": "n", "term": 7}) == (Plan(term=7), [])


@pytest.mark.parametrize(
    "damage",
    [
        {"term": None},
        {"term": "3"},
        {"term": True},
        {"generation": -1},
        {"generation": 2**32},
        {"leader": None},
        {"members": None},
        {"members": {}},
        {"queues": None},
        {"queues": []},
        {"queues": {"orders": 0}},
        {"queues": {"orders": 10**9}},
        {"queues": {"orders": "16"}},
        {"partitions": None},
        {"partitions": []},
    ],
)
def test_a_broken_structure_is_refused(damage: dict[str, Any]) -> None:
    """What holds the records together is never guessed."""
    with pytest.raises(BadDocument, match="plan: "):
        plan_from_fields({**stored(small()), **damage})


@pytest.mark.parametrize("lost", ["generation", "leader", "members", "queues", "partitions"])
def test_a_lost_part_is_refused(lost: str) -> None:
    """A plan of which one part has disappeared is damaged, not empty: empty would mean that all is free."""
    fields = stored(small())
    del fields[lost]
    with pytest.raises(BadDocument):
        plan_from_fields(fields)


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        "vm-1~s1",
        {},
        {"fence": 1},
        {"fence": -1, "cause": "new"},
        {"fence": 2**60, "cause": "new"},
        {"fence": True, "cause": "new"},
        {"fence": 1, "cause": None},
        {"fence": 1, "cause": "new", "owner": 99},
        {"fence": 1, "cause": "new", "owner": -1},
        {"fence": 1, "cause": "new", "owner": True},
        {"fence": 1, "cause": "new", "owner": "vm-1~s1"},
        {"fence": 1, "cause": "new", "next": 0},
    ],
)
def test_one_bad_record_is_reported_and_kept_out(record: Any) -> None:
    """A damaged record never stops the reader, who names it, and the planner leaves its partition to nobody."""
    plan = small()
    fields = stored(plan)
    fields["partitions"]["orders-03"] = record
    read, problems = plan_from_fields(fields)
    assert len(problems) == 1
    assert "'orders-03'" in problems[0]
    assert list(read.missing()) == ["orders-03"]
    assert "orders-03" not in advance(read, facts([member(1), member(2), member(3)])).partitions


def test_a_bad_name_in_the_table_spoils_only_its_own_records() -> None:
    """A member id that is none is reported once per partition that it owns; the others stay."""
    fields = stored(small())
    fields["members"][0] = 7
    read, problems = plan_from_fields(fields)
    assert len(problems) == len(read.partitions) == 8


@pytest.mark.parametrize("name", ["orders-16", "orders-3", "orders-003", "orders", "other-00", "orders-٠٣", ""])
def test_a_record_of_no_queue_is_kept_out(name: str) -> None:
    """Only names that the plan's own queues give are partitions."""
    plan = small()
    fields = stored(plan)
    fields["partitions"][name] = {"fence": 0, "cause": "new"}
    read, problems = plan_from_fields(fields)
    assert read == plan
    assert len(problems) == 1


@pytest.mark.parametrize(
    "damage", [{"successors": None}, {"successors": [1]}, {"handover": 3}, {"handover": {"to": 1}}]
)
def test_damage_beside_the_records_is_reported(damage: dict[str, Any]) -> None:
    """Successors and hand-over are hints: without them the plan still holds."""
    plan, problems = plan_from_fields({**stored(small()), **damage})
    assert len(problems) == 1
    assert len(plan.partitions) == 16


@given(st.sampled_from([1, 2, 9, 10, 11, 99, 100, 101, 1000]))
def test_partitions_know_their_queue(count: int) -> None:
    """Every partition leads back to its logical queue, whatever the width of its number."""
    plan = Plan(queues={"orders": count, "orders-fast": 2})
    assert {plan.queue_of(name) for name in partition_names("orders", count)} == {"orders"}
    assert plan.queue_of("orders-fast-01") == "orders-fast"
    assert plan.queue_of(f"orders-{count}") is None


def test_ten_thousand_partitions_stay_small() -> None:
    """The document of 10,000 partitions on 1,000 instances stays well under 1.5 MB, even with the longest names."""
    members = [f"{number:064d}~{number:016x}" for number in range(1000)]
    queue = "q" * 50
    names = partition_names(queue, 10_000)
    fence = fence_of(10_000, 1_000_000)
    partitions = {
        name: Assignment(members[at % 1000], members[at % 999], fence, "rebalance") for at, name in enumerate(names)
    }
    plan = Plan(10_000, 1_000_000, members[0], tuple(members[:3]), {queue: 10_000}, partitions)
    size = len(encode(plan.to_fields()))
    assert size < 1_400_000
    typical = {name.replace(queue, "orders"): replace(record, next=None) for name, record in partitions.items()}
    assert len(encode(replace(plan, queues={"orders": 10_000}, partitions=typical).to_fields())) < 800_000


# --- another partition count ------------------------------------------------------------------------------------


def freed(plan: Plan) -> Plan:
    """Return the plan after everybody has left."""
    return advance(plan, facts([member(9, {})], gone=set(NAMES)))


def test_another_count_takes_free_partitions_only() -> None:
    """A queue of which any partition has an owner, or an unreadable record, keeps its count."""
    plan = small()
    with pytest.raises(ValueError, match=r"orders-00.* and 13 more may still have an owner"):
        with_partition_count(plan, "orders", 8)
    free = freed(plan)
    records = {name: record for name, record in free.partitions.items() if name != "orders-05"}
    with pytest.raises(ValueError, match="orders-05"):
        with_partition_count(replace(free, partitions=records), "orders", 8)


@pytest.mark.parametrize("count", [8, 32, 200])
def test_another_count_keeps_fences_growing(count: int) -> None:
    """After a repartition the queue has exactly its new partitions, and no fence has fallen."""
    free = freed(small())
    plan = with_partition_count(free, "orders", count)
    assert plan.generation == free.generation + 1
    assert list(plan.partitions) == partition_names("orders", count)
    assert all(
        record.fence >= free.partitions[name].fence
        for name, record in plan.partitions.items()
        if name in free.partitions
    )
    granted = advance(plan, facts([member(5, {"orders": count})]))
    assert {record.fence for record in granted.partitions.values()} == {plan.next_fence}
    assert advance(plan, facts([member(5)])).partitions == plan.partitions  # the old count is handled no more


@pytest.mark.parametrize("queue, count", [("other", 4), ("orders", 0), ("orders", 10**6)])
def test_an_impossible_count_is_refused(queue: str, count: int) -> None:
    """A queue that the plan does not have, and a count that no plan can have, are named."""
    with pytest.raises(ValueError, match=queue):
        with_partition_count(small(), queue, count)


def test_the_same_count_changes_nothing() -> None:
    """Asking for the count that a queue has is no change, whoever owns its partitions."""
    plan = small()
    assert with_partition_count(plan, "orders", 16) is plan
