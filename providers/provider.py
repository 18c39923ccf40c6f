"""The portable provider over a driver: async, a total time for every request, and counting. Written once.

Nothing here retries, and nothing decides: whoever calls knows what an error means to it. Requests run in lanes by
kind, so that a lease call never queues behind anything else, and an acknowledgement never behind a long poll.

Used by one event loop at a time; several providers may exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from providers.interface import (
    BadDocument,
    Bid,
    Call,
    Client,
    Depth,
    Document,
    Driver,
    Grant,
    Heir,
    Identity,
    LeaseView,
    Misconfigured,
    NotFound,
    Notice,
    OutcomeUnknown,
    Page,
    ProviderError,
    Received,
    Refused,
    Stamp,
    Unavailable,
    Version,
)
from providers.lanes import Lane, ThreadLane

T = TypeVar("T")

SLOTS = {"lease": 2, "documents": 4, "queue": 4, "poll": 64, "host": 1}
"""Requests at the same time, by lane; a thread starts only when it is needed. "poll" is `receive` with a wait."""

HEADROOM = 8 * 1024
"""Bytes that `send` keeps free, so that a message still fits its dead-letter queue together with its error."""

LONGEST_KEY = 512
"""Bytes of UTF-8. Azure and S3 take about a thousand, and the fleet's prefix comes on top."""

_OUTCOMES: tuple[tuple[type[ProviderError], str], ...] = (
    (NotFound, "not_found"),
    (Refused, "refused"),
    (Unavailable, "unavailable"),
    (OutcomeUnknown, "outcome_unknown"),
    (Misconfigured, "misconfigured"),
    (BadDocument, "bad_document"),
)


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


class Provider:
    """A store, opened through its driver. `total` is the most time, in seconds, that one request may take.

    `lane(driver, name)` replaces the threads (a simulation does); `on_call` hears of every finished request, on the
    event loop. Every method of its parts raises the errors of `providers.interface`.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        total: float = 2.0,
        lane: Callable[[Driver, str], Lane] | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        if not 0 < total < float("inf"):
            raise ValueError(f"total is {total} s: it must be a positive number of seconds")
        self.driver = driver
        self.url = driver.url
        self.capabilities = driver.capabilities
        self.total = total
        self.documents = PortableDocuments(self)
        self.queue = PortableQueue(self)
        self.host = PortableHost(self)
        self._open_lane = lane
        self._on_call = on_call
        self._lanes: dict[str, Lane] = {}

    def lease(self, role: str) -> PortableLease:
        """Return the lease of one role, stored under `leases/<role>`."""
        return PortableLease(self, role)

    async def close(self) -> None:
        """Close all connections. Requests that are overdue are left to end by themselves."""
        for lane in self._lanes.values():
            lane.close()

    async def ask(
        self, lane: str, operation: str, function: Callable[[Client], T], *, changes: bool, wait: float = 0.0
    ) -> T:
        """Send one request in a lane and count it: what the parts of this class are made of.

        `wait` is what the store itself was asked to wait for, in seconds; it comes on top of the total.
        """
        if lane not in self._lanes:
            self._lanes[lane] = self._open_lane(self.driver, lane) if self._open_lane else self._threads(lane)
        started = time.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._lanes[lane].call(operation, function, total=self.total + wait, changes=changes)
            outcome = "ok"
        except Exception as exc:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(exc, kind)), "error")
            raise
        finally:
            if self._on_call is not None:
                self._on_call(Call(operation, outcome, time.monotonic() - started))
        return answer

    def _threads(self, lane: str) -> Lane:
        return ThreadLane(self.driver, self.total, slots=SLOTS[lane], name=f"store-{lane}")


class PortableDocuments:
    """`interface.Documents`, awaited; `list` follows the pages."""

    def __init__(self, provider: Provider) -> None:
        self._ask = provider.ask

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

    def __init__(self, provider: Provider, role: str) -> None:
        self.role = role
        self.expiry = provider.capabilities.expiry
        self._ask = provider.ask

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

    def __init__(self, provider: Provider) -> None:
        self._ask = provider.ask
        self._capabilities = provider.capabilities

    @property
    def limit(self) -> int:
        """Largest body of a message that the store takes, in bytes. `send` takes HEADROOM less."""
        return self._capabilities.limit

    async def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """Create the queue if it is missing; make it ordered if asked. See `interface.Queue.ensure`."""
        return await self._ask("queue", "queue.ensure", lambda c: c.queue.ensure(queue, ordered=ordered), changes=True)

    async def send_one(self, queue: str, body: bytes) -> str:
        """Append one message and return its id. See `send`."""
        return (await self.send(queue, [body]))[0]

    async def send(self, queue: str, bodies: Sequence[bytes]) -> list[str]:
        """Append messages, in order, and return their ids.

        Raises ValueError, before anything is sent, for a body above `limit` - HEADROOM; NotFound for a queue that
        does not exist; OutcomeUnknown when some were sent and then one batch failed.
        """
        most = self.limit - HEADROOM
        for body in bodies:
            if len(body) > most:
                raise ValueError(f"a message for {queue!r} has {len(body)} bytes, and {most} is the limit of {queue!r}")
        sent: list[str] = []
        for start in range(0, len(bodies), self._capabilities.batch):
            batch = bodies[start : start + self._capabilities.batch]
            try:
                sent += await self._send(queue, batch)
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

    async def move(self, queue: str, received: Received, to: str, body: bytes) -> str:
        """Take a received message out of `queue` and put `body` into `to`; return the new message's id.

        One transaction where the store has them. Elsewhere it is sent there first and deleted here second: if that
        fails, it exists twice, which Refused (the receipt is stale) or OutcomeUnknown tells, and it is never lost.
        """
        if len(body) > self.limit:
            raise ValueError(f"a message for {to!r} has {len(body)} bytes, and {self.limit} is the limit of the store")
        if self._capabilities.atomic_move:
            return await self._ask(
                "queue", "queue.move", lambda c: c.queue.move(queue, received.receipt, to, body), changes=True
            )
        [moved] = await self._send(to, [body])
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

    async def _send(self, queue: str, bodies: Sequence[bytes]) -> Sequence[str]:
        return await self._ask("queue", "queue.send", lambda c: c.queue.send(queue, bodies), changes=True)


class PortableHost:
    """`interface.Host`, awaited."""

    def __init__(self, provider: Provider) -> None:
        self._ask = provider.ask

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
    "SLOTS",
    "Lane",
    "PortableDocuments",
    "PortableHost",
    "PortableLease",
    "PortableQueue",
    "Provider",
    "ThreadLane",
    "check_key",
]
