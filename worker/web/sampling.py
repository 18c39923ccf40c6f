"""How much waits in the queues: each instance samples the partitions that it owns, the leader what has no other owner.

Once a minute: one request for each partition, by its owner, and two (the intake and the dead letters) for each
logical queue, by the leader. So the leader's requests do not grow with partitions, and nobody counts a queue twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from providers.interface import Depth, ProviderError
from worker.core.names import dead_letter_queue
from worker.supervisor import Supervisor

EVERY = 60.0
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What some queues held. `oldest_age` in seconds, None when they were empty or the store cannot tell."""

    messages: int = 0
    oldest_age: float | None = None

    def plus(self, depth: Depth) -> Sample:
        """Return the sample with one more queue in it."""
        ages = [age for age in (self.oldest_age, depth.oldest_age) if age is not None]
        return Sample(self.messages + depth.visible + depth.hidden, max(ages, default=None))


class Samples:
    """The latest samples, by logical queue and part: `partitions`, `intake`, `dead`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.latest: dict[tuple[str, str], Sample] = {}
        self._supervisor = supervisor

    async def keep(self) -> None:
        """Sample until cancelled. Control thread."""
        while True:
            self.latest = await self._take()
            renew = self._supervisor.ports.leader.renew  # what nothing is owned yet may be soon
            await self._supervisor.ports.clock.sleep(EVERY if self.latest else renew)

    async def _take(self) -> dict[tuple[str, str], Sample]:
        taken: dict[tuple[str, str], Sample] = {}
        for queue, part, name in self._wanted():
            try:
                depth = await self._supervisor.ports.provider.queue.depth(name)
            except ProviderError:
                continue  # the next sample tells; whoever works on this queue reports what is wrong with it
            taken[queue, part] = taken.get((queue, part), Sample()).plus(depth)
        return taken

    def _wanted(self) -> list[tuple[str, str, str]]:
        """Return what is this instance's to sample: logical queue, part, physical queue."""
        session, plan = self._supervisor.member.session, self._supervisor.member.board.plan
        wanted = []
        if session is not None and plan is not None:
            owned = [(plan.queue_of(name), name) for name in session.ownership.active]
            wanted += [(queue, "partitions", name) for queue, name in owned if queue is not None]
        if self._supervisor.elector.acting:
            for spec in self._supervisor.app.queues.values():
                wanted.append((spec.name, "intake", spec.name))
                wanted.append((spec.name, "dead", dead_letter_queue(spec.name)))
        return wanted
