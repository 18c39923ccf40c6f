"""A fleet's documents in a memory store, written as its instances would, for tests of what an operator sees."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from providers.body import decode, encode
from providers.interface import Bid, Grant, NotFound
from providers.memory import MemoryDriver, MemoryStore
from providers.provider import Provider
from worker.core.plan import Assignment, Plan
from worker.core.roster import patience
from worker.core.timings import leader_timings, member_timings

T = TypeVar("T")

PATIENCE = patience(member_timings(leader_timings(15)))
"""Seconds for which its members may act, unless a test says otherwise."""


@dataclass
class FakeClock:
    """A clock that only sleeping moves. `on_sleep` is what the rest of the world does meanwhile."""

    time: float = 1000.0
    tokens: int = 0
    on_sleep: Callable[[], Awaitable[object]] | None = None
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return 1_700_000_000 + self.time

    def random(self) -> float:
        return 0.5

    def token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept.append(seconds)
        if self.on_sleep is not None:
            await self.on_sleep()
        await asyncio.sleep(0)


class Sample:
    """One store, and the hand that writes what instances would."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(now=self.clock.wall)
        self.provider = Provider(MemoryDriver(self.store))

    async def put(self, key: str, fields: dict[str, Any] | bytes) -> None:
        """Write a document, whatever was there."""
        body = fields if isinstance(fields, bytes) else encode({"nonce": self.clock.token(), **fields})
        try:
            document = await self.provider.documents.read(key)
        except NotFound:
            await self.provider.documents.create(key, body)
            return
        assert document is not None
        await self.provider.documents.replace(document.stamp, body)

    async def get(self, key: str) -> dict[str, Any]:
        """Return a document's fields."""
        document = await self.provider.documents.read(key)
        assert document is not None
        return decode(document.body, key)

    async def lead(self, instance: str = "i-1", term: int = 7, fleet: str = "default") -> Grant:
        """Take the lease, whoever has it, as `instance`."""
        lease = self.provider.lease("leader")
        bid = Bid(f"{instance}-session", instance, fleet, term, 15.0, self.clock.token())
        return await lease.claim(await lease.observe(), bid)

    async def member(self, instance: str, session: str = "s1", state: str = "ready", **fields: Any) -> str:
        """Write a member's status and beat; return its id."""
        id = f"{instance}~{session}"
        said = {"state": state, "queues": {"orders": 2}, "active": {}, "patience": PATIENCE}
        await self.put(f"members/{id}", {**said, **fields})
        await self.beat(id)
        return id

    async def beat(self, id: str) -> None:
        """Let a member's beat change."""
        await self.put(f"beats/{id}", {"beat": self.clock.token()})

    async def plan(self, owners: dict[str, str | None], *, count: int = 2, term: int = 7) -> None:
        """Write the plan of a queue `orders`."""
        records = {name: Assignment(owner=owner, fence=1) for name, owner in owners.items()}
        plan = Plan(term=term, generation=3, leader="i-1~s1", queues={"orders": count}, partitions=records)
        await self.put("plan", plan.to_fields())


def run(test: Callable[[Sample], Awaitable[T]]) -> T:
    """Run a test's body over a fresh sample."""

    async def whole() -> T:
        sample = Sample()
        try:
            return await test(sample)
        finally:
            await sample.provider.close()

    return asyncio.run(whole())
