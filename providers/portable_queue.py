"""The queues of a portable provider: sending is cut into batches, and moving works on every store."""

from __future__ import annotations

from collections.abc import Sequence

from providers.interface import (
    Capabilities,
    Depth,
    NotFound,
    OutcomeUnknown,
    Received,
    Refused,
    Unavailable,
)
from providers.portable import Ask

HEADROOM = 8 * 1024
"""Bytes that `send` keeps free, so that a message still fits its dead-letter queue together with its error."""


class PortableQueue:
    """`interface.Queue`, awaited; sending is cut into batches, and `move` works on every store."""

    def __init__(self, ask: Ask, capabilities: Capabilities) -> None:
        self._ask = ask
        self._capabilities = capabilities

    @property
    def limit(self) -> int:
        """Largest body of a message that the store takes, in bytes. `send` takes HEADROOM less."""
        return self._capabilities.limit

    async def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """Create the queue if it is missing; make it ordered if asked. See `interface.Queue.ensure`."""
        return await self._ask("queue", "queue.ensure", lambda c: c.queue.ensure(queue, ordered=ordered), changes=True)

    async def send_one(self, queue: str, body: bytes, key: str | None = None) -> str:
        """Append one message and return its id. See `send`."""
        return (await self.send(queue, [body], [key]))[0]

    async def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> list[str]:
        """Append messages, in order, and return their ids. `keys`: one for each body, or none at all.

        Raises ValueError, before anything is sent, for a body above `limit` - HEADROOM; NotFound for a queue that
        does not exist; OutcomeUnknown when some were sent and then one batch failed.
        """
        most = self.limit - HEADROOM
        for body in bodies:
            if len(body) > most:
                raise ValueError(f"a message for {queue!r} has {len(body)} bytes, and {most} is the limit of {queue!r}")
        if keys and len(keys) != len(bodies):
            raise ValueError(f"{len(keys)} keys for {len(bodies)} messages")
        sent: list[str] = []
        for start in range(0, len(bodies), self._capabilities.batch):
            cut = slice(start, start + self._capabilities.batch)
            try:
                sent += await self._send(queue, bodies[cut], keys[cut])
            except (Unavailable, NotFound, Refused) as exc:
                if not sent:
                    raise
                raise OutcomeUnknown(
                    f"{len(sent)} of {len(bodies)} messages were sent to {queue!r}; then: {exc}"
                ) from exc
        return sent

    async def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> list[Received]:
        """Take up to `limit` messages and hide them for `hide_for` seconds; wait up to `wait` for the first."""
        wait = wait if self._capabilities.long_poll else 0.0
        return list(
            await self._ask(
                "poll" if wait > 0 else "queue",
                "queue.receive",
                lambda c: c.queue.receive(queue, limit, hide_for, wait),
                changes=True,
                wait=wait,
            )
        )

    async def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """Hide a message for `hide_for` seconds from now and return its new receipt. Raises Refused when stale."""
        return await self._ask(
            "queue", "queue.extend", lambda c: c.queue.extend(queue, receipt, hide_for), changes=True
        )

    async def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """Make a message visible again after `delay` seconds. Raises Refused when the receipt is stale."""
        return await self._ask("queue", "queue.release", lambda c: c.queue.release(queue, receipt, delay), changes=True)

    async def delete(self, queue: str, receipt: str) -> None:
        """Delete a received message. Raises Refused when the receipt is stale."""
        return await self._ask("queue", "queue.delete", lambda c: c.queue.delete(queue, receipt), changes=True)

    async def move(self, queue: str, received: Received, to: str, body: bytes, key: str | None = None) -> str:
        """Take a received message out of `queue` and put `body` into `to`; return the new message's id.

        One transaction where the store has them. Elsewhere it is sent there first and deleted here second: if that
        fails, it exists twice, which Refused (the receipt is stale) or OutcomeUnknown tells, and it is never lost.
        """
        if len(body) > self.limit:
            raise ValueError(f"a message for {to!r} has {len(body)} bytes, and {self.limit} is the limit of the store")
        if self._capabilities.atomic_move:
            return await self._ask(
                "queue", "queue.move", lambda c: c.queue.move(queue, received.receipt, to, body, key), changes=True
            )
        [moved] = await self._send(to, [body], [key])
        try:
            await self.delete(queue, received.receipt)
        except Unavailable as exc:
            raise OutcomeUnknown(f"message {received.id} is in {to!r} now, and still in {queue!r}: {exc}") from exc
        return moved

    async def forward(self, queue: str, received: Received, to: str, body: bytes, key: str | None = None) -> bool:
        """Do the part of `move` that must come first; say whether deleting it here is left to the caller.

        For who moves many: `delete_many` then takes fewer requests. Raises as `move` does.
        """
        if self._capabilities.atomic_move:
            await self.move(queue, received, to, body, key)
            return False
        await self._send(to, [body], [key])
        return True

    async def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """Delete received messages, in as few requests as the store can. When it raises, some of them may be left."""
        return await self._ask("queue", "queue.delete", lambda c: c.queue.delete_many(queue, receipts), changes=True)

    async def peek(self, queue: str, limit: int) -> list[Received]:
        """Look at up to `limit` visible messages without hiding them or counting an attempt."""
        return list(await self._ask("queue", "queue.peek", lambda c: c.queue.peek(queue, limit), changes=False))

    async def depth(self, queue: str) -> Depth:
        """Count what the queue holds. Raises NotFound."""
        return await self._ask("queue", "queue.depth", lambda c: c.queue.depth(queue), changes=False)

    async def retention(self, queue: str) -> float | None:
        """Return the seconds for which the store keeps an undeleted message; None: for ever. Raises NotFound."""
        return await self._ask("queue", "queue.retention", lambda c: c.queue.retention(queue), changes=False)

    async def _send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None]) -> Sequence[str]:
        return await self._ask("queue", "queue.send", lambda c: c.queue.send(queue, bodies, keys), changes=True)


__all__ = ["HEADROOM", "PortableQueue"]
