"""What one session owns: follows the plan, runs a consumer per granted partition, and reports what it has released.

    granted to me            start, once no older consumer of mine is left
    moving away, or gone     stop: the running handler finishes, then `released` says the fence
    trust over               revoke: handlers are cancelled, nothing is reported, the session is never used again

`released[partition] = fence` is final: this session never again acts in that partition under that fence or an
older one. The leader may grant the partition to somebody else the moment it reads this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from worker import handlers
from worker.app import QueueSpec
from worker.consumer import Consumer, Share
from worker.core.names import partition_names
from worker.core.plan import Plan
from worker.ports import Ports


@dataclass(frozen=True, slots=True)
class _Owned:
    fence: int
    consumer: Consumer
    task: asyncio.Task[None]


class Ownership:
    """The partitions of one session. Used on the control thread only."""

    def __init__(
        self, me: str, queues: Mapping[str, QueueSpec], ports: Ports, share: Share, changed: Callable[[], None]
    ) -> None:
        self.released: dict[str, int] = {}
        self._me, self._ports, self._share, self._changed = me, ports, share, changed
        self._specs = {
            partition: spec for spec in queues.values() for partition in partition_names(spec.name, spec.partitions)
        }
        self._running: dict[str, _Owned] = {}
        self._idle = asyncio.Event()
        self._plan: Plan | None = None
        self._closed = False
        self._withdrawn: frozenset[str] = frozenset()  # logical queues that are being repartitioned

    @property
    def active(self) -> dict[str, int]:
        """The partitions whose consumer runs, with their fences."""
        return {partition: owned.fence for partition, owned in self._running.items()}

    @property
    def handling(self) -> int:
        """How many handler calls are under way in owned partitions."""
        return sum(owned.consumer.handling for owned in self._running.values())

    @property
    def handling_for(self) -> float:
        """Seconds for which the longest of them has been under way."""
        return max((owned.consumer.handling_for for owned in self._running.values()), default=0.0)

    @property
    def busy(self) -> bool:
        """Whether anything may still act for this session."""
        return bool(self._running)

    def stuck(self, limit: float) -> bool:
        """Say whether some consumer's loop has not turned for `limit` seconds outside a handler."""
        return any(owned.consumer.stuck(limit) for owned in self._running.values())

    def apply(self, plan: Plan) -> None:
        """Follow a plan that is newer than the last one."""
        self._plan = plan
        mine = {name: item for name, item in plan.partitions.items() if item.owner == self._me}
        for name, owned in self._running.items():
            item = mine.get(name)
            if item is None or item.fence != owned.fence or item.next is not None or self._shut(name):
                owned.consumer.stop()
        for name, fence in list(self.released.items()):
            known = plan.partitions.get(name)
            if known is None or known.fence > fence:
                del self.released[name]  # the leader has taken note, and granted it anew
                self._changed()
        for name, item in mine.items():
            if name in self._running or item.fence <= self.released.get(name, -1):
                continue
            if item.next is not None or self._shut(name):
                self.released[name] = item.fence
                self._changed()
            else:
                self._start(name, item.fence)

    def _start(self, partition: str, fence: int) -> None:
        consumer = Consumer(self._specs[partition], partition, fence, self._ports, self._share)
        task = asyncio.create_task(consumer.run())
        self._running[partition] = _Owned(fence, consumer, task)
        self._idle.clear()
        self._ports.events.emit("partition.granted", partition=partition, fence=fence)
        task.add_done_callback(lambda done: self._ended(partition, fence, done))
        self._changed()

    def _ended(self, partition: str, fence: int, task: asyncio.Task[None]) -> None:
        del self._running[partition]
        if not self._running:
            self._idle.set()
        if not task.cancelled() and task.exception() is not None:
            self._ports.events.problem(f"the consumer of {partition} failed: {task.exception()!r}")
        self.released[partition] = fence
        self._ports.events.emit("partition.released", partition=partition, fence=fence)
        self._changed()
        if self._plan is not None:
            self.apply(self._plan)

    def _shut(self, partition: str) -> bool:
        spec = self._specs.get(partition)
        return self._closed or spec is None or spec.name in self._withdrawn

    def withdraw(self, queues: frozenset[str]) -> None:
        """Release these logical queues and take none of them until another set is given."""
        if queues != self._withdrawn:
            self._withdrawn = queues
            if self._plan is not None:
                self.apply(self._plan)

    def close(self) -> None:
        """Release everything, and start nothing more; running handlers finish."""
        self._closed = True
        if self._plan is not None:
            self.apply(self._plan)

    def revoke(self) -> None:
        """Cancel everything: the right to act is over."""
        self._closed = True
        for owned in self._running.values():
            owned.consumer.revoke()

    async def ended(self) -> None:
        """Wait until nothing of this session acts any more."""
        while self._running:
            await handlers.ended(*(owned.task for owned in self._running.values()))
            await self._idle.wait()  # their ends have been noted
