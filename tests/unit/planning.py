"""What the planner's tests share: fleets, drawn worlds, and owners that obey at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hypothesis import strategies as st

from worker.core.names import partition_names
from worker.core.plan import Assignment, Cause, Plan, fence_of
from worker.core.planner import IN_TRANSIT, Candidate, Facts, advance

QUEUES = {"alpha": 1, "beta": 4, "gamma": 6}
NAMES = [f"vm-{number}~s{number}" for number in range(6)]
PARTITIONS = [name for queue, count in QUEUES.items() for name in partition_names(queue, count)]


def member(number: int, queues: Mapping[str, int] | None = None, **more: object) -> Candidate:
    """Return one member, which handles `orders` in 16 partitions unless told otherwise."""
    fields: dict[str, object] = {"queues": {"orders": 16} if queues is None else queues, **more}
    return Candidate(f"vm-{number}~s{number}", **fields)  # type: ignore[arg-type]  # tests name real fields


def facts(members: Iterable[Candidate], **more: object) -> Facts:
    """Return facts in which the first member leads."""
    members = list(members)
    return Facts(members[0].id if members else "vm-x~x", members, **more)  # type: ignore[arg-type]  # as above


def obeying(plan: Plan, facts: Facts) -> Facts:
    """Return the facts once every owner has released what the plan asks of it."""
    released: dict[str, dict[str, int]] = defaultdict(dict)
    for name, record in plan.partitions.items():
        if record.owner is not None and record.next is not None:
            released[record.owner][name] = record.fence
    return replace(facts, candidates=[replace(each, released=released[each.id]) for each in facts.candidates])


def settle(plan: Plan, facts: Facts) -> tuple[Plan, int]:
    """Plan until nothing is due, and return the plan and the number of rounds; fails when that takes too long."""
    partitions = max(sum({**plan.queues, **each.queues}[queue] for queue in each.queues) for each in facts.candidates)
    partitions = max(partitions, len(plan.partitions), 1)
    bound = 10 + 4 * partitions // limit_of(partitions)
    for rounds in range(bound):
        after = advance(plan, obeying(plan, facts))
        if after is plan:
            return plan, rounds
        plan = after
    raise AssertionError(f"{partitions} partitions did not settle in {bound} rounds")


def limit_of(partitions: int) -> int:
    """How many partitions may be moving for balance."""
    return max(1, partitions // IN_TRANSIT)


def counts(plan: Plan, members: Iterable[Candidate]) -> list[int]:
    """Return how many partitions each member owns."""
    owned = Counter(record.owner for record in plan.partitions.values())
    return [owned[each.id] for each in members]


def moved(before: Plan, after: Plan) -> set[str]:
    """Return the partitions that have another owner."""
    return {name for name, record in after.partitions.items() if before.partitions[name].owner != record.owner}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a plan in any state that a history may have left, with records missing here and there."""
    term, generation = draw(st.integers(1, 5)), draw(st.integers(0, 9))
    owners = st.sampled_from([None, *NAMES])
    queues = {queue: QUEUES[queue] for queue in draw(st.sets(st.sampled_from(sorted(QUEUES))))}
    partitions = {}
    for queue, count in queues.items():
        for name in partition_names(queue, count):
            if draw(st.integers(0, 30)) == 0:
                continue
            owner = draw(owners)
            partitions[name] = Assignment(
                owner,
                draw(owners) if owner is not None and draw(st.booleans()) else None,
                draw(st.integers(0, 1)) if owner is None else fence_of(term, draw(st.integers(0, generation))),
                draw(st.sampled_from(list(Cause))),
            )
    successors = tuple(draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)))
    return Plan(term, generation, draw(st.sampled_from(NAMES)), successors, queues, partitions)


@st.composite
def candidates(draw: st.DrawFn, plan: Plan) -> list[Candidate]:
    """Draw who is alive: of several versions, draining or not, with releases of past and present fences."""
    versions: list[dict[str, int]] = [QUEUES, {"alpha": 1}, {"beta": 4, "gamma": 6}, {**QUEUES, "beta": 3}, {}]
    found = []
    for name in draw(st.permutations(draw(st.lists(st.sampled_from(NAMES), unique=True)))):
        released = {}
        for partition in draw(st.sets(st.sampled_from(PARTITIONS), max_size=6)):
            record = plan.partitions.get(partition)
            released[partition] = draw(st.sampled_from([0, 1, record.fence if record else 2]))
        found.append(
            Candidate(
                name,
                draw(st.sampled_from(versions)),
                draw(st.sampled_from([0.5, 1.0, 1.0, 3.0])),
                released,
                draw(st.integers(0, 4)) == 0,
            )
        )
    return found


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, Facts]:
    """Draw a plan and the facts of one round."""
    plan = draw(plans())
    some = st.sets(st.sampled_from(PARTITIONS), max_size=4)
    forced = set()
    for name in draw(some):
        record = plan.partitions.get(name, Assignment())
        forced.add((name, record.fence + draw(st.integers(-1, 1))))
    return plan, Facts(
        leader=draw(st.sampled_from(NAMES)),
        candidates=draw(candidates(plan)),
        gone=draw(st.sets(st.sampled_from(NAMES), max_size=2)),
        weights=draw(st.dictionaries(st.sampled_from(PARTITIONS), st.sampled_from([0, 0.3, 1, 2.5, 10]))),
        barred={name: draw(st.sets(st.sampled_from(NAMES), max_size=3)) for name in draw(some)},
        forced=forced,
        withheld=draw(st.sets(st.sampled_from(sorted(QUEUES)), max_size=1)),
        restored=draw(some),
        balance=draw(st.booleans()),
    )
