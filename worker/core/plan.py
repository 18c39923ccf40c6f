"""The plan: the leader's document of who owns which partition. Values, and their form in the store.

    free      nobody owns the partition; the next grant may go to anyone
    granted   `owner` acts on it, under `fence`
    moving    `owner` still acts, and is asked to release; `next` takes over when it has

The plan has one author, the leader of `term`, and only grows: in (term, generation), and per partition in `fence`.
Nothing else about a partition is stored; everything else follows from these four fields.

In the store, `owner` and `next` are indices into one table of member ids: a plan of ten thousand partitions is read
by every member whenever it changes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from providers.interface import BadDocument
from worker.core.names import FIFO, partition_name, partition_names

MOST_PARTITIONS: Final = 10_000
"""Partitions of one logical queue that a document may ask for: damage must not make a leader build a huge plan."""

_HALF: Final = 32
"""Bits of the generation within a fence: a plan that changes once a second lasts for 136 years."""

_FIELDS: Final = frozenset(
    {
        "format", "nonce", "term", "generation", "leader", "successors", "queues", "members", "partitions", "handover",
    }
)  # fmt: skip


class Cause(enum.StrEnum):
    """Why a partition is where it is; a newer version's plan may hold others, so the field is a plain string."""

    NEW = "new"  # never had an owner
    ORPHAN = "orphan"  # its owner died, left or released it of its own will
    REBALANCE = "rebalance"
    DRAIN = "drain"  # its owner is being drained
    UNHANDLED = "unhandled"  # its owner does not handle the queue at the plan's partition count
    STALLED = "stalled"  # its owner never became active on it and is left out for a while
    FORCED = "forced"  # an operator overrode its owner
    RESUME = "resume"  # a move was given up; the owner keeps it


def fence_of(term: int, generation: int) -> int:
    """Return (term, generation) as one integer that sorts as the pair does."""
    if term < 0 or not 0 <= generation < 1 << _HALF:
        raise ValueError(f"no fence for term {term}, generation {generation}: one of them is out of range")
    return term << _HALF | generation


def split_fence(fence: int) -> tuple[int, int]:
    """Return the (term, generation) of the plan that granted a partition under this fence."""
    return fence >> _HALF, fence & ((1 << _HALF) - 1)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where one partition is. `owner` and `next` are member ids: they name a session, never just an instance."""

    owner: str | None = None
    next: str | None = None
    fence: int = 0  # of the last grant, even when the partition is free; 0 when it was never granted
    cause: str = Cause.NEW

    @property
    def state(self) -> Literal["free", "granted", "moving"]:
        """What the two names say."""
        if self.owner is None:
            return "free"
        return "granted" if self.next is None else "moving"


@dataclass(frozen=True, slots=True)
class Handover:
    """The leader asks member `to` to get ready to take over as leader of `term`."""

    to: str
    term: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of the plan. Read-only: its mappings must never be changed in place."""

    term: int = 0
    generation: int = 0
    leader: str = ""
    successors: tuple[str, ...] = ()
    queues: Mapping[str, int] = field(default_factory=dict)
    partitions: Mapping[str, Assignment] = field(default_factory=dict)
    handover: Handover | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of a newer version, carried along

    @property
    def version(self) -> tuple[int, int]:
        """What must have grown before a member applies this plan."""
        return self.term, self.generation

    @property
    def next_fence(self) -> int:
        """The fence of whatever the next generation grants: above every fence that this plan holds."""
        return fence_of(self.term, self.generation + 1)

    def queue_of(self, partition: str) -> str | None:
        """Return the logical queue of a partition, or None when no queue of the plan has a partition of that name."""
        fifo = FIFO if partition.endswith(FIFO) else ""
        stem, _, number = partition.removesuffix(fifo).rpartition("-")
        queue = stem + fifo
        count = self.queues.get(queue)
        if count is None or not (number.isascii() and number.isdecimal()):
            return None
        index = int(number)
        return queue if index < count and partition_name(queue, index, count) == partition else None

    def missing(self) -> Iterator[str]:
        """Yield the partitions of the plan's queues that have no record: it was unreadable, and nobody knows the owner.

        The planner leaves them alone until the leader vouches that nobody can act on them (`Facts.restored`).
        """
        for queue, count in self.queues.items():
            yield from (name for name in partition_names(queue, count) if name not in self.partitions)

    def to_fields(self) -> dict[str, Any]:
        """Return the fields of the document. Every own field is there, so that merging over an older plan clears it."""
        ids = {name for record in self.partitions.values() for name in (record.owner, record.next) if name is not None}
        members = sorted(ids)
        index = {name: number for number, name in enumerate(members)}
        partitions: dict[str, dict[str, Any]] = {}
        for name, record in self.partitions.items():
            fields = partitions[name] = {"fence": record.fence, "cause": str(record.cause)}
            if record.owner is not None:
                fields["owner"] = index[record.owner]
            if record.next is not None:
                fields["next"] = index[record.next]
        return {
            **self.extra,
            "term": self.term,
            "generation": self.generation,
            "leader": self.leader,
            "successors": list(self.successors),
            "queues": dict(self.queues),
            "members": members,
            "partitions": partitions,
            "handover": None if self.handover is None else {"to": self.handover.to, "term": self.handover.term},
        }


def plan_from_fields(fields: Mapping[str, Any]) -> tuple[Plan, list[str]]:
    """Return the plan that a document holds, and one sentence per part of it that was kept out.

    Raises BadDocument when what holds the parts together is broken: to guess there could make two owners. A document
    with nothing but a term was opened by its leader and never published: an empty plan.
    """
    term = _number(fields, "term")
    extra = {name: value for name, value in fields.items() if name not in _FIELDS}
    if not fields.keys() & {"generation", "leader", "queues", "partitions", "members"}:
        return Plan(term=term, extra=extra), []
    leader, members = fields.get("leader"), fields.get("members")
    if not isinstance(leader, str):
        raise BadDocument(f"plan: leader is {leader!r}, not the id of a member")
    if not isinstance(members, list):
        raise BadDocument("plan: members is not a list of member ids")
    problems: list[str] = []
    plan = Plan(
        term=term,
        generation=_number(fields, "generation"),
        leader=leader,
        successors=_successors(fields.get("successors"), problems),
        queues=_queues(fields.get("queues")),
        handover=_handover(fields.get("handover"), problems),
        extra=extra,
    )
    records = fields.get("partitions")
    if not isinstance(records, dict):
        raise BadDocument("plan: partitions is not an object")
    ceiling = fence_of(plan.term, plan.generation)
    partitions: dict[str, Assignment] = {}
    for name, record in records.items():
        try:
            if plan.queue_of(name) is None:
                raise ValueError("no queue of the plan has such a partition")
            partitions[name] = _assignment(record, members, ceiling)
        except ValueError as exc:
            problems.append(f"plan: partition {name!r} is kept out: {exc}")
    return replace(plan, partitions=partitions), problems


def with_handover(plan: Plan, handover: Handover | None) -> Plan:
    """Return the next plan, which asks a successor to get ready, or takes the request back."""
    return replace(plan, handover=handover, generation=plan.generation + 1)


def with_partition_count(plan: Plan, queue: str, count: int) -> Plan:
    """Return the next plan, in which a queue has another number of partitions: an operator's wish, never code's.

    Every partition of the queue must be free: a key would otherwise have an owner in the old count and another in
    the new one. Raises ValueError, naming what is in the way. Messages in partitions that disappear are the caller's
    to move first. A name that stays keeps its fence, so that fences only grow.
    """
    before = plan.queues.get(queue)
    if before is None:
        raise ValueError(f"the plan has no queue {queue!r}")
    if not 1 <= count <= MOST_PARTITIONS:
        raise ValueError(f"queue {queue!r}: {count} partitions must be from 1 to {MOST_PARTITIONS}")
    if count == before:
        return plan
    old = {name: plan.partitions.get(name) for name in partition_names(queue, before)}
    taken = [name for name, record in old.items() if record is None or record.owner is not None]
    if taken:
        more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
        raise ValueError(
            f"queue {queue!r} keeps {before} partitions: {', '.join(taken[:3])}{more} may still have an owner"
        )
    kept = {name: record for name, record in plan.partitions.items() if name not in old}
    fresh = {name: Assignment(fence=_last_fence(old.get(name))) for name in partition_names(queue, count)}
    return replace(
        plan, generation=plan.generation + 1, queues={**plan.queues, queue: count}, partitions={**kept, **fresh}
    )


def _last_fence(record: Assignment | None) -> int:
    return 0 if record is None else record.fence


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value < 1 << _HALF:
        raise BadDocument(f"plan: {name} is {value!r}, not a number from 0 to 2^{_HALF}-1")
    return value


def _queues(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise BadDocument("plan: queues is not an object")
    for name, count in value.items():
        if type(count) is not int or not 1 <= count <= MOST_PARTITIONS:
            raise BadDocument(f"plan: queue {name!r} has {count!r} partitions, not 1 to {MOST_PARTITIONS}")
    return value


def _successors(value: Any, problems: list[str]) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    problems.append(f"plan: successors are ignored: {value!r:.60} is not a list of member ids")
    return ()


def _handover(value: Any, problems: list[str]) -> Handover | None:
    if value is None:
        return None
    if isinstance(value, dict) and isinstance(value.get("to"), str) and type(value.get("term")) is int:
        return Handover(value["to"], value["term"])
    problems.append(f"plan: the hand-over is ignored: {value!r:.60} does not name a member and a term")
    return None


def _assignment(record: Any, members: list[Any], ceiling: int) -> Assignment:
    if not isinstance(record, dict):
        raise ValueError(f"{record!r:.60} is not an object")
    fence, cause = record.get("fence"), record.get("cause")
    if type(fence) is not int or not 0 <= fence <= ceiling:
        raise ValueError(f"fence {fence!r:.60} is not one that this plan can have granted")
    if not isinstance(cause, str):
        raise ValueError(f"cause {cause!r:.60} is not a word")
    owner, heir = _member(record.get("owner"), members), _member(record.get("next"), members)
    if owner is None and heir is not None:
        raise ValueError("it is moving, and has no owner")
    return Assignment(owner, heir, fence, cause)


def _member(index: Any, members: list[Any]) -> str | None:
    if index is None:
        return None
    if type(index) is not int or not 0 <= index < len(members):
        raise ValueError(f"{index!r:.60} is not the place of a member in this plan")
    name = members[index]
    if not isinstance(name, str) or "~" not in name:
        raise ValueError(f"{name!r:.60} is not a member id")
    return name
