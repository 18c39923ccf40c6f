"""Looks at a fleet again and again, and tells what has changed before its eyes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, Depth, Expiry, LeaseView, NotFound, Stamp, Version
from providers.provider import Provider
from worker.admin.control import read_control
from worker.admin.routing import read_plan
from worker.admin.status import Lead, LeaseStatus, MemberStatus, PartitionStatus, QueueStatus, Status
from worker.clock import Clock
from worker.core.intents import Control, Drain, Force, Order, Pause, Repartition, StepDown
from worker.core.names import dead_letter_queue, partition_name, partition_names
from worker.core.plan import MOST_PARTITIONS, Plan
from worker.core.roster import patience_told
from worker.core.timings import RHO

AT_ONCE = 4
"""Requests under way at a time: as many as the provider has threads for one kind, so that none waits overdue."""


@dataclass(slots=True)
class _Watched:
    """One version of one object, and since when it has been seen unchanged."""

    version: Version | None
    since: float
    changes: int = 0


@dataclass(slots=True)
class _Memory:
    """What earlier looks have shown."""

    lease: _Watched | None = None
    beats: dict[str, _Watched] = field(default_factory=dict)
    members: dict[str, tuple[Version, MemberStatus]] = field(default_factory=dict)


class Watcher:
    """One observer of one fleet."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider, self._clock = provider, clock
        self._memory = _Memory()

    async def look(self, *, depths: bool = True) -> Status:
        """Read everything once. What cannot be understood is a problem of its own; store errors are raised."""
        view, (plan, problems), (control, more), (members, odd) = await asyncio.gather(
            self._provider.lease("leader").observe(), read_plan(self._provider), self._control(), self._members()
        )
        problems = [*problems, *more, *odd]
        lease = self._lease(view)
        if lease.problem is not None:
            problems.append(lease.problem)
        partitions = _partitions(plan)
        counted: dict[str, Depth] = {}
        queues = _queues(plan, members)
        if depths:
            names = [partition.name for partition in partitions]
            counted = await self.depths([*names, *queues, *(dead_letter_queue(queue) for queue in queues)])
        return Status(
            fleet=view.fleet,
            lease=lease,
            plan_term=plan.term if plan is not None else None,
            generation=plan.generation if plan is not None else None,
            successors=list(plan.successors) if plan is not None else [],
            members=members,
            partitions=[_with_depth(partition, counted.get(partition.name)) for partition in partitions],
            queues=[_queue_status(name, count, control, counted) for name, count in sorted(queues.items())],
            orders=[
                {"id": intent.id, **intent.to_fields()}
                for intent in control.intents
                if _stands(intent.order, view.term, plan, members)
            ],
            problems=problems,
            leader=plan.leader if plan is not None and plan.term == view.term else None,
        )

    async def lease(self) -> LeaseStatus:
        """Look at the lease alone."""
        return self._lease(await self._provider.lease("leader").observe())

    async def depths(self, queues: list[str]) -> dict[str, Depth]:
        """Count several physical queues; one that does not exist is left out."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(queue: str) -> Depth | None:
            async with gate:
                try:
                    return await self._provider.queue.depth(queue)
                except NotFound:
                    return None

        found = await asyncio.gather(*(one(queue) for queue in queues))
        return {queue: depth for queue, depth in zip(queues, found, strict=True) if depth is not None}

    # --- one by one ---

    def _lease(self, view: LeaseView) -> LeaseStatus:
        now = self._clock.now()
        seen = self._memory.lease
        if seen is None:
            seen = self._memory.lease = _Watched(view.version, now)
        elif seen.version != view.version:
            seen.version, seen.since, seen.changes = view.version, now, seen.changes + 1
        still = now - seen.since
        problem = f"the lease cannot be understood: {view.garbled}" if view.garbled else None
        state = self._lead(view, seen, still)
        return LeaseStatus(state, view.term, view.instance, view.holder, view.duration, still, problem)

    def _lead(self, view: LeaseView, seen: _Watched, still: float) -> Lead:
        if view.garbled:
            return Lead.DAMAGED
        if view.version is None:
            return Lead.ABSENT
        if view.holder is None:
            return Lead.VACANT
        if view.free:
            return Lead.EXPIRED  # nobody gave it up: the store itself says that it has run out
        if view.handed:
            return Lead.HANDED
        if self._provider.capabilities.expiry is Expiry.STORE:
            return Lead.LEADING  # the store itself says that it is held
        if still > view.duration * (1 + RHO):
            return Lead.EXPIRED
        return Lead.LEADING if seen.changes else Lead.SILENT

    async def _control(self) -> tuple[Control, list[str]]:
        try:
            _, control = await read_control(self._provider)
        except BadDocument as exc:
            return Control(), [str(exc)]
        return control, list(control.problems)

    async def _members(self) -> tuple[list[MemberStatus], list[str]]:
        stamps, beats = await asyncio.gather(
            self._provider.documents.list("members/"), self._provider.documents.list("beats/")
        )
        self._note_beats(beats)
        known = self._memory.members
        stale = [stamp for stamp in stamps if known.get(stamp.key, (None,))[0] != stamp.version]
        for start in range(0, len(stale), AT_ONCE):
            part = stale[start : start + AT_ONCE]
            for stamp, member in zip(part, await asyncio.gather(*(self._member(item) for item in part)), strict=True):
                if member is None:
                    known.pop(stamp.key, None)
                else:
                    known[stamp.key] = (stamp.version, member)
        keys = {stamp.key for stamp in stamps}
        self._memory.members = {key: value for key, value in known.items() if key in keys}
        found = [self._judged(member) for _, member in self._memory.members.values()]
        odd = [f"members/{member.id} cannot be read" for member in found if member.state == "unreadable"]
        return sorted(found, key=lambda member: member.id), odd

    async def _member(self, stamp: Stamp) -> MemberStatus | None:
        id = stamp.key.removeprefix("members/")
        instance, _, session = id.rpartition("~")
        try:
            document = await self._provider.documents.read(stamp.key)
            fields = decode(document.body, stamp.key) if document is not None else {}
        except NotFound:
            return None
        except BadDocument:
            return MemberStatus(id, instance, session, "unreadable")
        return _member_status(id, instance, session, fields)

    def _note_beats(self, stamps: list[Stamp]) -> None:
        now, before = self._clock.now(), self._memory.beats
        self._memory.beats = {}
        for stamp in stamps:
            id = stamp.key.removeprefix("beats/")
            seen = before.get(id)
            same = seen is not None and seen.version == stamp.version
            self._memory.beats[id] = seen if seen is not None and same else _Watched(stamp.version, now)

    def _judged(self, member: MemberStatus) -> MemberStatus:
        beat = self._memory.beats.get(member.id)
        if beat is None:
            return member
        still = self._clock.now() - beat.since
        lapsed = member.here and still > member.patience
        return replace(member, still=still, state="lapsed" if lapsed else member.state)


def _member_status(id: str, instance: str, session: str, fields: Mapping[str, Any]) -> MemberStatus:
    def text(name: str) -> str | None:
        value = fields.get(name)
        return None if value is None else str(value)

    def number(name: str) -> int | None:
        value = fields.get(name)
        return value if isinstance(value, int) else None

    queues, active = fields.get("queues"), fields.get("active")
    return MemberStatus(
        id=id,
        instance=instance,
        session=session,
        state=text("state") or "unreadable",
        partitions=len(active) if isinstance(active, dict) else 0,
        queues={name: count for name, count in queues.items() if type(count) is int and 1 <= count <= MOST_PARTITIONS}
        if isinstance(queues, dict)
        else {},
        version=text("version"),
        pid=number("pid"),
        host=text("host"),
        at=text("at"),
        patience=patience_told(fields.get("patience")),
    )


def _stands(order: Order, term: int, plan: Plan | None, members: list[MemberStatus]) -> bool:
    """Say whether an order can still be carried out; one that was stays in the document for a day."""
    match order:
        case StepDown():
            return order.term >= term
        case Drain():
            return any(member.session == order.session and member.here for member in members)
        case Repartition():
            return plan is None or plan.queues.get(order.queue) == order.old
        case Force():
            record = plan.partitions.get(order.partition) if plan is not None else None
            return plan is None or (record is not None and record.fence == order.fence and record.owner is not None)
        case Pause():
            return True


def _queues(plan: Plan | None, members: list[MemberStatus]) -> dict[str, int]:
    """Return every logical queue and its partitions: the plan's word counts, members know of others."""
    found = {name: count for member in members if member.here for name, count in member.queues.items()}
    return {**found, **(dict(plan.queues) if plan is not None else {})}


def _partitions(plan: Plan | None) -> list[PartitionStatus]:
    if plan is None:
        return []
    found = []
    for queue, count in sorted(plan.queues.items()):
        for name in partition_names(queue, count):
            record = plan.partitions.get(name)
            owner = record.owner if record is not None else None
            heir = record.next if record is not None else None
            state = "free" if owner is None else "moving" if heir is not None else "granted"
            found.append(PartitionStatus(name, queue, state, owner, heir, record.fence if record is not None else None))
    return found


def _with_depth(partition: PartitionStatus, depth: Depth | None) -> PartitionStatus:
    return partition if depth is None else replace(partition, visible=depth.visible, hidden=depth.hidden)


def _queue_status(name: str, count: int, control: Control, depths: Mapping[str, Depth]) -> QueueStatus:
    parts = [depths[part] for part in (partition_name(name, i, count) for i in range(count)) if part in depths]
    intake, dead = depths.get(name), depths.get(dead_letter_queue(name))
    ages = [depth.oldest_age for depth in parts if depth.oldest_age is not None]
    return QueueStatus(
        name=name,
        partitions=count,
        paused=name in control.paused,
        visible=sum(depth.visible for depth in parts) if parts else None,
        hidden=sum(depth.hidden for depth in parts) if parts else None,
        oldest_age=max(ages, default=None),
        intake=None if intake is None else intake.visible + intake.hidden,
        dead=None if dead is None else dead.visible + dead.hidden,
    )
