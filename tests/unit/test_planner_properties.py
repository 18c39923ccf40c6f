"""The planner's laws, on drawn plans and facts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from providers.body import decode, encode
from tests.unit.planning import PARTITIONS, QUEUES, counts, facts, limit_of, member, moved, settle, worlds
from worker.core.names import partition_names
from worker.core.plan import Assignment, Cause, Plan, plan_from_fields
from worker.core.planner import Candidate, Facts, advance

T = TypeVar("T")
seeds = st.integers(0, 2**32)


def freed(name: str, record: Assignment, facts: Facts) -> bool:
    """Say, from first principles, whether the owner of a record may lose it."""
    if record.owner is None or record.owner in facts.gone or (name, record.fence) in facts.forced:
        return True
    return any(each.id == record.owner and each.released.get(name, -1) >= record.fence for each in facts.candidates)


def shuffled(plan: Plan, facts: Facts, seed: int) -> tuple[Plan, Facts]:
    """Return the same values in another order."""
    draw = random.Random(seed)

    def mix(items: Mapping[str, T]) -> dict[str, T]:
        pairs = list(items.items())
        draw.shuffle(pairs)
        return dict(pairs)

    members = list(facts.candidates)
    draw.shuffle(members)
    again = [replace(each, queues=mix(each.queues), released=mix(each.released)) for each in members]
    return (
        replace(plan, queues=mix(plan.queues), partitions=mix(plan.partitions)),
        replace(facts, candidates=again, weights=mix(facts.weights), barred=mix(facts.barred)),
    )


@given(worlds())
def test_ownership_moves_only_with_proof(world: tuple[Plan, Facts]) -> None:
    """An owner changes only after release, proof or force, every new grant has a greater fence, and nothing is lost."""
    plan, facts = world
    after = advance(plan, facts)
    for name, old in plan.partitions.items():
        new = after.partitions[name]
        assert new.fence >= old.fence
        if new.fence != old.fence:
            assert freed(name, old, facts)
            assert new.owner is not None
            assert new.fence == plan.next_fence
        elif new.owner != old.owner:
            assert freed(name, old, facts)
            assert new.owner is None


@given(worlds())
def test_an_owner_that_is_gone_owns_nothing(world: tuple[Plan, Facts]) -> None:
    """What may be taken is taken in the same round: no state waits for an event that has already happened."""
    plan, facts = world
    after = advance(plan, facts)
    for name, old in plan.partitions.items():
        if old.owner is not None and freed(name, old, facts):
            assert after.partitions[name].owner is None or after.partitions[name].fence == plan.next_fence
    alive = {each.id for each in facts.candidates if each.id not in facts.gone and not each.draining}
    assert all(record.next is None or record.next in alive for record in after.partitions.values())


@given(worlds())
def test_grants_go_to_those_who_handle_them(world: tuple[Plan, Facts]) -> None:
    """A new owner or next is alive, not draining, not barred, and handles the queue at the plan's count."""
    plan, facts = world
    after = advance(plan, facts)
    members = {each.id: each for each in facts.candidates if each.id not in facts.gone}
    for name, new in after.partitions.items():
        old = plan.partitions.get(name, Assignment())
        queue = after.queue_of(name)
        assert queue is not None
        for chosen in {new.owner if new.fence != old.fence else None, new.next} - {None}:
            assert chosen is not None
            assert members[chosen].queues[queue] == after.queues[queue]
            assert not members[chosen].draining
            assert chosen not in facts.barred.get(name, ())
            assert queue not in facts.withheld
        assert new.next is None or new.next != new.owner or old.next == old.owner


@given(worlds())
def test_an_orphan_waits_only_for_want_of_members(world: tuple[Plan, Facts]) -> None:
    """A partition is free after a round only if nobody may have it."""
    plan, facts = world
    after = advance(plan, facts)
    for name, record in after.partitions.items():
        queue = name.rpartition("-")[0]
        if record.owner is None and queue not in facts.withheld:
            able = {
                each.id
                for each in facts.candidates
                if not each.draining and each.id not in facts.gone and each.queues.get(queue) == after.queues[queue]
            }
            old = plan.partitions.get(name, Assignment())
            shunned = set(facts.barred.get(name, ()))
            if (name, old.fence) in facts.forced:
                shunned.add(old.owner or "")
            assert able <= shunned


@given(worlds(), seeds)
def test_the_plan_is_a_function_of_its_inputs(world: tuple[Plan, Facts], seed: int) -> None:
    """The order in which members, partitions and queues are listed changes nothing."""
    assert advance(*shuffled(*world, seed)) == advance(*world)


@given(worlds())
def test_a_change_is_a_new_generation(world: tuple[Plan, Facts]) -> None:
    """A round returns the very same plan, or one that differs and has the next generation; counts never change."""
    plan, facts = world
    after = advance(plan, facts)
    if after is plan:
        return
    assert after.version == (plan.term, plan.generation + 1)
    assert replace(after, generation=plan.generation) != plan
    assert dict(plan.queues).items() <= dict(after.queues).items()
    new = {
        name
        for queue in after.queues.keys() - plan.queues.keys()
        for name in partition_names(queue, after.queues[queue])
    }
    assert new <= after.partitions.keys() - plan.partitions.keys() <= new | facts.restored
    assert plan_from_fields(decode(encode(after.to_fields()), "plan")) == (after, [])


@given(worlds())
def test_balance_moves_few(world: tuple[Plan, Facts]) -> None:
    """At most 5 % move once balance has had its say, none moved already, and after a loss half as many as were lost."""
    plan, facts = world
    after = advance(plan, facts)
    chosen, orphans = set(), 0
    for name, old in plan.partitions.items():
        new = after.partitions[name]
        orphans += new.owner is not None and new.fence != old.fence and new.owner != old.next
        if new.next not in (None, old.next) and new.cause == Cause.REBALANCE and old.state == "granted":
            chosen.add(name)
    moving = sum(record.state == "moving" for record in after.partitions.values())
    assert not chosen or (facts.balance and moving <= limit_of(len(after.partitions)))
    assert not orphans or len(chosen) <= orphans // 2


versions = st.sampled_from([QUEUES, QUEUES, {"beta": 4}, {"gamma": 6, "alpha": 1}])


@st.composite
def fleets(draw: st.DrawFn, capacities: tuple[float, ...] = (1.0,)) -> list[Candidate]:
    """Draw living members of several versions; every fleet has sessions of its own."""
    life = draw(st.integers(0, 2**32))
    return [
        replace(member(number, draw(versions), capacity=draw(st.sampled_from(capacities))), id=f"vm-{number}~{life}")
        for number in range(draw(st.integers(1, 7)))
    ]


def gains(plan: Plan, facts: Facts) -> list[str]:
    """Return, by trying every partition, the moves that the rules would still ask for."""
    weigh = {name: max(1, round(facts.weights.get(name, 1.0) * 1000)) for name in plan.partitions}
    load = Counter({each.id: 0 for each in facts.candidates})
    for name, record in plan.partitions.items():
        if record.owner is not None:
            load[record.owner] += weigh[name]
    share = {each.id: load[each.id] / each.capacity for each in facts.candidates}
    level = load.total() / sum(each.capacity for each in facts.candidates)
    found = []
    for name, record in plan.partitions.items():
        able = [each for each in facts.candidates if each.queues.get(name.rpartition("-")[0])]
        if record.owner is None:
            continue
        target = min(able, key=lambda each: ((load[each.id] + 1000) / each.capacity, share[each.id]))
        due = share[record.owner] > level * 1.1 or share[target.id] < level * 0.9
        if due and (load[target.id] + weigh[name]) / target.capacity < share[record.owner]:
            found.append(name)
    return found


weights = st.dictionaries(st.sampled_from(PARTITIONS), st.sampled_from([0.1, 1, 3, 7]))


@settings(max_examples=60)
@given(
    st.one_of(
        st.tuples(fleets(), fleets(), weights),
        st.tuples(fleets((1.0, 0.5, 2.0)), fleets((1.0, 0.5, 2.0)), st.just({})),
    )
)
def test_every_fleet_settles(change: tuple[list[Candidate], list[Candidate], dict[str, float]]) -> None:
    """From any fleet to any other, planning ends, all that anybody handles is owned, and no move is left to make."""
    before, now, weights = change
    assume({each.id for each in before}.isdisjoint(each.id for each in now))  # a session never changes what it handles
    plan, _ = settle(Plan(term=1), facts(before))
    kept = before[: len(before) // 2]
    now = [*kept, *now[len(kept) :]]
    around = facts(now, gone={each.id for each in before} - {each.id for each in now}, weights=weights)
    after, _ = settle(plan, around)
    for name, record in after.partitions.items():
        able = {each.id for each in now if each.queues.get(name.rpartition("-")[0])}
        assert record.state == ("granted" if able else "free")
        assert record.owner is None or record.owner in able
    assert gains(after, around) == []


@settings(max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.sampled_from([1, 5, 16, 60]))
def test_a_uniform_fleet_is_balanced(sizes: list[int], partitions: int) -> None:
    """Members of one kind end within 10 % of one another's mean, or one partition apart."""
    plan = Plan(term=1)
    alive: list[Candidate] = []
    for size in sizes:
        gone = {each.id for each in alive[size:]}
        alive = [member(number, {"orders": partitions}) for number in range(size)]
        plan, _ = settle(plan, facts(alive, gone=gone | {f"vm-{number}~s{number}" for number in range(size, 12)}))
    loads, level = counts(plan, alive), partitions / len(alive)
    spread = max(loads) - min(loads)
    assert spread <= 1 or (min(loads) >= level * 0.9 and max(loads) <= level * 1.1)


@settings(max_examples=60)
@given(st.integers(2, 30), st.sampled_from([2, 16, 60, 200]), st.data())
def test_a_crash_moves_half_as_many_again_at_the_most(size: int, partitions: int, data: st.DataObject) -> None:
    """After a crash its orphans move, and of what others own half as many at the most, until all is settled."""
    members = [member(number, {"orders": partitions}) for number in range(size)]
    plan, _ = settle(Plan(term=1), facts(members[: data.draw(st.integers(1, size), "before the last join")]))
    plan, _ = settle(plan, facts(members))
    ids = [each.id for each in members]
    crashed = set(data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=size - 1, unique=True), "crashed"))
    orphans = {name for name, record in plan.partitions.items() if record.owner in crashed}
    alive = [each for each in members if each.id not in crashed]
    assume(alive)
    after, _ = settle(plan, facts(alive, gone=crashed))
    assert orphans <= moved(plan, after)
    assert len(moved(plan, after)) <= len(orphans) * 1.5


@settings(max_examples=40)
@given(fleets(), st.data())
def test_a_drain_moves_only_what_is_drained(members: list[Candidate], data: st.DataObject) -> None:
    """A drained member ends with nothing that anybody else handles, and takes nothing while it drains."""
    plan, _ = settle(Plan(term=1), facts(members))
    drained = data.draw(st.sampled_from(members))
    around = facts([replace(each, draining=each is drained) for each in members])
    asked = advance(plan, around)
    for name, record in asked.partitions.items():
        if record.owner == drained.id:
            queue = name.rpartition("-")[0]
            others = [each for each in members if each is not drained and each.queues.get(queue) == plan.queues[queue]]
            assert (record.next is not None) == bool(others)
        assert record.next != drained.id
    after, _ = settle(plan, around)
    assert all(
        plan.partitions[name].owner == drained.id
        for name, record in after.partitions.items()
        if record.owner == drained.id
    )


@given(worlds(), st.integers(1, 5))
def test_a_new_term_grants_above_all_old_fences(world: tuple[Plan, Facts], later: int) -> None:
    """Whatever the old leader granted, the new leader's grants have greater fences."""
    plan, facts = world
    after = advance(replace(plan, term=plan.term + later), facts)
    highest = max((record.fence for record in plan.partitions.values()), default=0)
    fences = {record.fence for name, record in after.partitions.items() if record != plan.partitions.get(name)}
    assert all(fence > highest for fence in fences if fence == replace(plan, term=plan.term + later).next_fence)
