"""The parts of a portable provider: documents, leases, queues and the host, each call awaited and bounded in time.

Built by `providers.provider.Provider`, whose `ask` sends one request in a lane. What a driver lacks is made up for
here, once: following pages, cutting batches, moving a message without transactions. Nothing here retries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from providers.interface import (
    Bid,
    Capabilities,
    Client,
    Document,
    Grant,
    Heir,
    LeaseView,
    Page,
    Stamp,
    Version,
)

T = TypeVar("T")

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


__all__ = [
    "LONGEST_KEY",
    "Ask",
    "PortableDocuments",
    "PortableLease",
    "check_key",
]
