"""Waiting, from outside, until an order has been carried out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from worker.admin.status import Lead, LeaseStatus
from worker.admin.watcher import Watcher
from worker.clock import Clock
from worker.errors import NoLeader, WorkerError


async def known_lease(watcher: Watcher, clock: Clock, *, every: float) -> LeaseStatus:
    """Watch the lease until it is known whether somebody leads: for one lease at the most.

    A live leader renews before our eyes within a renew interval; a dead one is known by what its lease does not do.
    """
    while True:
        lease = await watcher.lease()
        if lease.led is not None or (lease.state is Lead.HANDED and lease.still > lease.duration):
            return lease
        await clock.sleep(every)


async def next_leader(watcher: Watcher, clock: Clock, term: int, *, within: float, every: float) -> LeaseStatus:
    """Wait until a later term than `term` has a holder. Raises WorkerError or NoLeader when it takes too long."""
    deadline = clock.now() + within
    while True:
        lease = await watcher.lease()
        if lease.term > term and lease.state in (Lead.LEADING, Lead.SILENT):
            return lease
        if clock.now() > deadline:
            if lease.term == term and lease.state in (Lead.LEADING, Lead.SILENT):
                raise WorkerError(f"{lease.instance} has not stepped down from term {term} within {within:.0f} s")
            raise NoLeader(f"term {term} is over, and nobody has opened the next one within {within:.0f} s")
        await clock.sleep(every)


@dataclass(frozen=True, slots=True)
class Drained:
    """What has become of sessions that were told to drain: member ids."""

    left: list[str]  # in good order, by their own word
    silent: list[str]  # without a word: killed, or cut off, and for so long that they cannot act any more
    instead: list[str]  # newer sessions of the same instances, which nobody has told to drain


async def drained(watcher: Watcher, clock: Clock, ids: Collection[str], *, within: float, every: float) -> Drained:
    """Wait until none of these sessions can act any more, and tell why. Raises WorkerError when it takes too long."""
    deadline = clock.now() + within
    while True:
        status = await watcher.look(depths=False)
        there = [member.id for member in status.members if member.id in ids and member.here]
        if not there:
            left = {member.id for member in status.members if member.state == "left"}
            instances = {id.rpartition("~")[0] for id in ids}
            return Drained(
                left=[id for id in ids if id in left],
                silent=[id for id in ids if id not in left],
                instead=[one.id for one in status.members if one.instance in instances and one.here],
            )
        if clock.now() > deadline:
            raise WorkerError(f"{', '.join(there)} has not left within {within:.0f} s")
        await clock.sleep(every)
