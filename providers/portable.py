"""The parts of a portable provider: documents, leases, queues and the host, each call awaited and bounded in time.

Built by `providers.provider.Provider`, whose `ask` sends one request in a lane. What a driver lacks is made up for
here, once: following pages, cutting batches, moving a message without transactions. Nothing here retries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from providers.interface import (
    Bid,
    Capabilities,
    Client,
    Depth,
    Document,
    Grant,
    Heir,
    Identity,
    LeaseView,
    NotFound,
    Notice,
    OutcomeUnknown,
    Page,
    Received,
    Refused,
    Stamp,
    Unavailable,
    Version,
)

T = TypeVar("T")

HEADROOM = 8 * 1024
"""Bytes that `send` keeps free, so that a message still fits its dead-letter queue together with its error."""

LONGEST_KEY = 512
"""Bytes of UTF-8. Azure and S3 take about a thousand, and the fleet's prefix comes on top."""


class Ask(Protocol):
    """Sends one request: `Provider.ask`."""

    async def __call__(
        self, lane: str, operation: str, function: Callable[[Client], T], *, changes: bool, wait: float = 0.0
    ) -> T: ...


def check_key(key: str) -> str:
    """Return a document's key, or raise ValueError: what every store keeps apart, and none rewrites on the way."""
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"document key {key!r}: parts between slashes must not be empty, '.' or '..'")
    if any(part.endswith(".") for part in parts) or "\\" in key or not key.isprintable():
        raise ValueError(f"document key {key!r}: no backslash, no unprintable character, no part that ends in a dot")
    if len(key.encode()) > LONGEST_KEY:
        raise ValueError(f"document key {key[:40]!r}… has {len(key.encode())} bytes, and {LONGEST_KEY} is the limit")
    return key


class PortableDocuments:
    """`interface.Documents`, awaited; `list` follows the pages."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """Return the document, or None when its version is still `unless`. Raises NotFound."""
        check_key(key)
        return await self._ask(
            "documents", "documents.read", lambda c: c.documents.read(key, unless=unless), changes=False
        )

    async def create(self, key: str, body: bytes) -> Stamp:
        """Write a document that does not exist yet. Raises Refused when it does."""
        check_key(key)
        return await self._ask("documents", "documents.create", lambda c: c.documents.create(key, body), changes=True)

    async def replace(self, old: Stamp, body: bytes) -> Stamp:
        """Write over exactly the version in `old`. Raises Refused when it is another one, or gone."""
        return await self._ask("documents", "documents.replace", lambda c: c.documents.replace(old, body), changes=True)

    async def delete(self, old: Stamp) -> None:
        """Delete exactly the version in `old`. Raises Refused when it is another one, or gone."""
        return await self._ask("documents", "documents.delete", lambda c: c.documents.delete(old), changes=True)

    async def list(self, prefix: str) -> list[Stamp]:
        """Return the stamps of all documents whose key starts with `prefix`, in key order: a request per page.

        Documents written meanwhile may or may not be in it; those that were there all the time are.
        """
        stamps: list[Stamp] = []
        after: str | None = None
        while True:
            page = await self._page(prefix, after)
            stamps += page.stamps
            if page.after is None:
                return stamps
            if after is not None and page.after <= after:
                raise RuntimeError(f"the driver of {prefix!r} lists in circles: {page.after!r} after {after!r}")
            after = page.after

    async def _page(self, prefix: str, after: str | None) -> Page:
        return await self._ask(
            "documents", "documents.list", lambda c: c.documents.list(prefix, after=after), changes=False
        )


class PortableLease:
    """`interface.Lease`, awaited. Its calls have clients of their own."""

    def __init__(self, ask: Ask, capabilities: Capabilities, role: str) -> None:
        self.role = role
        self.expiry = capabilities.expiry
        self._ask = ask

    async def observe(self) -> LeaseView:
        """Look. An absent object is a view without a version; a garbled one is a view that says why."""
        return await self._ask("lease", "lease.observe", lambda c: c.lease(self.role).observe(), changes=False)

    async def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """Take the lease if it is still exactly as in `view`. See `interface.Lease.claim`."""
        return await self._ask("lease", "lease.claim", lambda c: c.lease(self.role).claim(view, bid), changes=True)

    async def renew(self, grant: Grant, nonce: str) -> Grant:
        """Extend one's own grant. Raises Refused when it is no longer one's own, or `grant` is spent."""
        return await self._ask("lease", "lease.renew", lambda c: c.lease(self.role).renew(grant, nonce), changes=True)

    async def resign(self, grant: Grant, nonce: str) -> None:
        """Give up one's own grant; object and term survive. Raises Refused when it is not one's own."""
        return await self._ask("lease", "lease.resign", lambda c: c.lease(self.role).resign(grant, nonce), changes=True)

    async def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """Name the heir as holder, in the next term. The heir acts only after its own `accept`."""
        return await self._ask(
            "lease", "lease.hand_over", lambda c: c.lease(self.role).hand_over(grant, to, nonce), changes=True
        )

    async def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """Take a lease that names `bid.session` as heir, in the term of `view`. Raises Refused otherwise."""
        return await self._ask(
            "lease", "lease.accept", lambda c: c.lease(self.role).accept(view, bid, token), changes=True
        )


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


class PortableHost:
    """`interface.Host`, awaited."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def identity(self) -> Identity | None:
        """Say what the cloud calls this machine, or None when nobody knows."""
        return await self._ask("host", "host.identity", lambda c: c.host.identity(), changes=False)

    async def notice(self) -> Notice | None:
        """Return the planned end of this machine, if one is announced."""
        return await self._ask("host", "host.notice", lambda c: c.host.notice(), changes=False)

    async def acknowledge(self, notice: Notice) -> None:
        """Tell the cloud that this machine is ready to go."""
        return await self._ask("host", "host.acknowledge", lambda c: c.host.acknowledge(notice), changes=True)

    async def protect(self, protected: bool) -> None:
        """Ask the cloud to spare this machine when it scales in, or stop asking."""
        return await self._ask("host", "host.protect", lambda c: c.host.protect(protected), changes=True)

    async def publish_backlog(self, messages: int) -> None:
        """Publish the fleet's backlog for autoscaling. Only the leader calls it."""
        return await self._ask("host", "host.publish_backlog", lambda c: c.host.publish_backlog(messages), changes=True)


__all__ = [
    "HEADROOM",
    "LONGEST_KEY",
    "Ask",
    "PortableDocuments",
    "PortableHost",
    "PortableLease",
    "PortableQueue",
    "check_key",
]
