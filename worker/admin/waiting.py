"""Waiting, from outside, until an order has been carried out."""

from __future__ import annotations

from collections.abc import Collection

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


async def drained(watcher: Watcher, clock: Clock, ids: Collection[str], *, within: float, every: float) -> None:
    """Wait until these sessions have left, or have been silent for so long that they cannot act any more."""
    deadline = clock.now() + within
    while True:
        status = await watcher.look(depths=False)
        there = [member.id for member in status.members if member.id in ids and member.here]
        if not there:
            return
        if clock.now() > deadline:
            raise WorkerError(f"{', '.join(there)} has not left within {within:.0f} s")
        await clock.sleep(every)
