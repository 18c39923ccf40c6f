"""The planner: from the plan and the facts to the next plan. Pure, and the only author of partitions' records.

Law 1. A partition changes hands only after its owner's release of that very fence, after proof that the owner
       cannot act, or by an operator's order that names the fence. Absence and silence are not proof.
Law 2. Every grant has a new fence, even to the same owner: whatever was said about the old one is spent.
Law 3. A member is granted only what it handles, at the plan's partition count; the count of a queue is set by
       whoever brings the queue first, and changed by an operator only.
Law 4. What need not move stays. Nothing under way is moved again, and when nothing is due, the plan is the same.

keep      owners that live; and moves under way, finished once the owner has released
place     what has no owner or must leave its owner: heaviest first, least loaded member first
improve   best-fit moves from hot to cold, few at a time (`worker.core.balance`)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final, NamedTuple

from worker.core.balance import UNIT, Pool, Seat, Table, improve, load_of
from worker.core.facts import Candidate, Facts
from worker.core.names import BadName, check_queue_name, partition_names
from worker.core.plan import MOST_PARTITIONS, Assignment, Cause, Plan

IN_TRANSIT: Final = 20
"""For balance, at most one partition in this many is moving at any time (at least one): 5 %."""

SUCCESSORS: Final = 3
"""Ranks in the plan. The first two watch the lease closely; the third is there when one of them has just died."""

_EMPTY: Final[frozenset[str]] = frozenset()
_FRESH: Final = Assignment()


def advance(plan: Plan, facts: Facts) -> Plan:
    """Return the next plan: one generation on, or the very same object when nothing is due."""
    return _Round(plan, facts).run()


class _Wanted(NamedTuple):
    """A partition that needs a member. They are served in the order of the first two fields."""

    rank: int  # -load
    name: str
    queue: str
    now: Assignment
    cause: str
    acting: bool  # its owner goes on until it has released
    shunned: AbstractSet[str]


class _Round:
    """One round. `changed` collects the records that differ from the plan's."""

    def __init__(self, plan: Plan, facts: Facts) -> None:
        self.plan = plan
        self.facts = facts
        self.present = {member.id: member for member in facts.candidates if member.id not in facts.gone}
        able = [member for member in self.present.values() if not member.draining]
        self.queues, fresh = _union(plan, able)
        self.table = Table(((member.id, member.capacity, member.queues) for member in able), self.queues)
        self.changed: dict[str, Assignment] = {}
        for queue, count in fresh.items():
            self.changed.update((name, _FRESH) for name in partition_names(queue, count) if name not in plan.partitions)
        for name in facts.restored:
            if name not in plan.partitions and plan.queue_of(name) is not None:
                self.changed[name] = _FRESH
        self.fence = plan.next_fence
        self.wanted: list[_Wanted] = []
        self.transit = 0  # partitions moving
        self.orphans = 0  # partitions granted this round because they had lost their owner

    def run(self) -> Plan:
        self._keep()
        self._place()
        if self.facts.balance:
            self._improve()
        plan = self.plan
        successors = _successors(plan, self.facts, self.table.seats)
        handover = plan.handover if plan.handover and plan.handover.term > plan.term else None
        if (
            not self.changed
            and len(self.queues) == len(plan.queues)
            and (self.facts.leader, successors, handover) == (plan.leader, plan.successors, plan.handover)
        ):
            return plan
        return replace(
            plan,
            generation=plan.generation + 1,
            leader=self.facts.leader,
            successors=successors,
            queues=self.queues,
            partitions={**plan.partitions, **self.changed},
            handover=handover,
        )

    def _keep(self) -> None:
        """Sort the plan's partitions: stays, moves on, or needs a member. Adds up what each seat carries."""
        facts, seats, pools, present = self.facts, self.table.seats, self.table.pools, self.present
        gone, barred, forced, weights = facts.gone, facts.barred, facts.forced, facts.weights
        for name in self.changed:
            queue = name.rpartition("-")[0]
            if name in weights or name in barred:
                self._want(name, queue, _FRESH, _FRESH.cause)
            else:  # the same, without a call: a cold start has thousands
                self.wanted.append(_Wanted(-UNIT, name, queue, _FRESH, _FRESH.cause, False, _EMPTY))
        for name, now in self.plan.partitions.items():
            queue = name.rpartition("-")[0]
            pool = pools.get(queue)
            owner = now.owner
            if pool is None:
                continue
            if owner is None:
                self._want(name, queue, now, now.cause)
                continue
            member = present.get(owner)
            override = bool(forced) and (name, now.fence) in forced
            ended = owner in gone or (member is not None and member.released.get(name, -1) >= now.fence)
            if ended or override:
                self._succeed(name, queue, pool, now, Cause.FORCED if override and not ended else None)
            elif now.next is not None:
                heir = self._heir(name, queue, pool, now)
                if heir is None:
                    self._want(name, queue, now, now.cause, acting=True)
                else:
                    heir.take(queue, load_of(weights[name]) if name in weights else UNIT)
                    self.transit += 1
            elif member is not None:
                seat = seats.get(owner)
                if seat is None:
                    self._want(name, queue, now, Cause.DRAIN, acting=True)
                elif seat.kind not in pool.kinds:
                    self._want(name, queue, now, Cause.UNHANDLED, acting=True)
                elif barred and owner in barred.get(name, _EMPTY):
                    self._want(name, queue, now, Cause.STALLED, acting=True)
                else:
                    seat.take(queue, load_of(weights[name]) if name in weights else UNIT)

    def _succeed(self, name: str, queue: str, pool: Pool, now: Assignment, forced: str | None) -> None:
        """The owner can act no more: its heir follows, or the partition is an orphan."""
        heir = self._heir(name, queue, pool, now)
        if heir is None:
            # Overridden, the owner may still act: it must not get the partition back before it has noticed.
            shunned = frozenset({now.owner}) if forced and now.owner is not None else _EMPTY
            self._want(name, queue, now, forced or Cause.ORPHAN, shunned=shunned)
        else:
            heir.take(queue, self._load(name))
            self.changed[name] = Assignment(heir.id, None, self.fence, forced or now.cause)

    def _heir(self, name: str, queue: str, pool: Pool, now: Assignment) -> Seat | None:
        """Return the seat that a move under way leads to, if it can still lead there."""
        heir = self.table.seats.get(now.next) if now.next is not None else None
        if heir is None or heir.kind not in pool.kinds or queue in self.facts.withheld:
            return None
        return None if heir.id in self.facts.barred.get(name, _EMPTY) else heir

    def _want(
        self,
        name: str,
        queue: str,
        now: Assignment,
        cause: str,
        acting: bool = False,
        shunned: AbstractSet[str] = _EMPTY,
    ) -> None:
        if name in self.facts.barred:
            shunned |= self.facts.barred[name]
        self.wanted.append(_Wanted(-self._load(name), name, queue, now, cause, acting, shunned))

    def _place(self) -> None:
        """Find a member for each partition that wants one."""
        pools, withheld, changed, fence = self.table.pools, self.facts.withheld, self.changed, self.fence
        grants: dict[tuple[str, str], Assignment] = {}  # one value for all that a member gets for one reason
        for want in sorted(self.wanted):
            rank, name, queue, now, cause, acting, shunned = want
            seat = None if queue in withheld else pools[queue].choose(name, queue, self.queues[queue], shunned)
            if seat is not None:
                seat.take(queue, -rank)
            if acting:
                self._divert(want, seat)
            elif seat is not None:
                key = seat.id, cause
                if key not in grants:
                    grants[key] = Assignment(seat.id, None, fence, cause)
                changed[name] = grants[key]
                if now is not _FRESH:
                    self.orphans += 1
            elif now.owner is not None:
                changed[name] = Assignment(None, None, now.fence, cause)

    def _divert(self, want: _Wanted, seat: Seat | None) -> None:
        """Send a partition whose owner still acts to another member, or let the owner keep it when there is no better.

        To keep it is safe although the owner may be releasing already: the record keeps its fence, so a release that
        arrives later ends this very grant, and the partition gets an owner under a new one.
        """
        now = want.now
        if seat is not None and seat.id != now.owner:
            self.changed[want.name] = Assignment(now.owner, seat.id, now.fence, want.cause)
            self.transit += 1
            return
        if now.next is not None:
            self.changed[want.name] = Assignment(now.owner, None, now.fence, Cause.RESUME)
        if seat is None and now.owner in self.table.seats:
            self.table.seats[now.owner].take(want.queue, -want.rank)

    def _improve(self) -> None:
        """Move for balance: few at a time, and together with orphans at most half as many as those."""
        plan, facts, seats = self.plan, self.facts, self.table.seats
        limit = max(1, (len(plan.partitions) + len(self.changed)) // IN_TRANSIT) - self.transit
        if self.orphans:
            limit = min(limit, self.orphans // 2)
        smallest = min(map(load_of, facts.weights.values()), default=UNIT)
        if limit <= 0 or not self.table.uneven(min(UNIT, smallest)):
            return
        held: defaultdict[str, list[str]] = defaultdict(list)
        for name, now in plan.partitions.items():
            queue = name.rpartition("-")[0]
            if now.owner not in seats or now.next is not None or name in self.changed:
                continue
            if queue in self.table.pools and queue not in facts.withheld:
                held[now.owner].append(name)
        for name, target in improve(self.table, held, limit, self._load, facts.barred):
            self.changed[name] = replace(plan.partitions[name], next=target.id, cause=Cause.REBALANCE)

    def _load(self, name: str) -> int:
        weight = self.facts.weights.get(name)
        return UNIT if weight is None else load_of(weight)


def _union(plan: Plan, members: Sequence[Candidate]) -> tuple[Mapping[str, int], dict[str, int]]:
    """Return all queues, and those that are new: with the count that the lowest member id declares."""
    declared: dict[str, int] = {}
    last: Mapping[str, int] = plan.queues
    for member in sorted(members, key=lambda member: member.id):
        if member.queues == last:
            continue  # the usual case: one version
        last = member.queues
        for queue, count in last.items():
            if queue not in plan.queues and queue not in declared and _sane(queue, count):
                declared[queue] = count
    fresh = {queue: declared[queue] for queue in sorted(declared)}
    return ({**plan.queues, **fresh} if fresh else plan.queues), fresh


def _sane(queue: str, count: int) -> bool:
    try:
        check_queue_name(queue)
    except BadName:
        return False
    return 1 <= count <= MOST_PARTITIONS


def _successors(plan: Plan, facts: Facts, seats: Mapping[str, Seat]) -> tuple[str, ...]:
    """Rank who leads next: those already ranked stay, then others by hash. Never another session of the leader's.

    Whoever runs the newest release goes before all others, so that an upgrade changes leaders once.
    """
    here = facts.leader.partition("~")[0]
    ranks = [member for member in plan.successors if member in seats and member.partition("~")[0] != here]
    if len(ranks) < SUCCESSORS or not facts.newest >= seats.keys():
        others = (seat for seat in seats.values() if seat.id not in ranks and seat.id.partition("~")[0] != here)
        ranks += [seat.id for seat in sorted(others, key=lambda seat: (seat.tie, seat.id))]
    return tuple(sorted(ranks, key=lambda member: member not in facts.newest)[:SUCCESSORS])


__all__ = ["IN_TRANSIT", "SUCCESSORS", "Candidate", "Facts", "advance"]
