"""How much waits in the queues: each instance samples the partitions that it owns, the leader what has no other owner.

Once a minute: each partition by its owner; by the leader, for each logical queue, the intake (or the queue itself,
when it is shared) and the dead letters. So the leader's requests do not grow with partitions, and one at a time is
under way. What is no longer this instance's to sample is no longer shown, so that nobody counts a queue twice.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from providers.interface import Depth, ProviderError
from worker.core.names import dead_letter_queue
from worker.supervisor import Supervisor

EVERY = 60.0
"""Seconds between two samples of one queue."""

Part = Literal["partitions", "intake", "shared", "dead"]


class Place(NamedTuple):
    """A physical queue, and what it is a part of."""

    queue: str  # logical
    part: Part
    name: str


class Samples:
    """The latest samples of what is this instance's to sample. Control thread only."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._taken: dict[Place, tuple[float, Depth | None]] = {}  # when, and what; None where it could not be told

    @property
    def latest(self) -> dict[Place, Depth]:
        """What was found."""
        found = ((place, self._taken.get(place, (0.0, None))[1]) for place in self._mine())
        return {place: depth for place, depth in found if depth is not None}

    async def keep(self) -> None:
        """Sample until cancelled. What has just become this instance's is sampled soon."""
        while True:
            await self._take_due()
            await self._supervisor.ports.clock.sleep(self._supervisor.ports.leader.renew)

    async def _take_due(self) -> None:
        clock, mine = self._supervisor.ports.clock, self._mine()
        self._taken = {place: self._taken[place] for place in mine if place in self._taken}
        for place in mine:
            if place in self._taken and clock.now() - self._taken[place][0] < EVERY:
                continue
            try:
                depth = await self._supervisor.ports.provider.queue.depth(place.name)
            except ProviderError:
                depth = None  # whoever works on this queue reports what is wrong with it
            self._taken[place] = clock.now(), depth

    def _mine(self) -> list[Place]:
        member = self._supervisor.member
        mine: list[Place] = []
        if member.session is not None and member.board.plan is not None:
            owned = [(member.board.plan.queue_of(name), name) for name in member.session.ownership.active]
            mine += [Place(queue, "partitions", name) for queue, name in owned if queue is not None]
        if self._supervisor.elector.acting:
            for spec in self._supervisor.app.queues.values():
                mine.append(Place(spec.name, "shared" if spec.mode == "shared" else "intake", spec.name))
                mine.append(Place(spec.name, "dead", dead_letter_queue(spec.name)))
        return mine
