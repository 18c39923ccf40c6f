"""Clients of one simulated store. Faults are injected outside: in the lane, or by the conformance suite's wrapper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from providers.interface import Capabilities, Client, Documents, Expiry, Lease, Queue
from providers.lease_on_documents import LeaseOnDocuments
from providers.memory.native import NativeLease
from providers.memory.store import MemoryStore

LIMIT = 256 * 1024
"""Bytes of a message: what most stores take, so that a test meets the limit that a fleet will meet."""

CAPABILITIES = Capabilities(
    ordered=True, atomic_move=True, long_poll=False, batch=1000, limit=LIMIT, expiry=Expiry.OBSERVER
)

KEEPS_LEASES = replace(CAPABILITIES, expiry=Expiry.STORE)
"""Of a store that keeps leases itself."""

_LEASES: Mapping[Expiry, Callable[[MemoryStore, Documents, str], Lease]] = {
    Expiry.OBSERVER: lambda store, documents, role: LeaseOnDocuments(documents, role),
    Expiry.STORE: NativeLease,
}


class MemoryDriver:
    """Opens clients of `store`. Lesser `capabilities` make the portable provider take the way of lesser stores."""

    def __init__(self, store: MemoryStore | None = None, *, capabilities: Capabilities = CAPABILITIES) -> None:
        self.url = "memory:"
        self.capabilities = capabilities
        self.store = MemoryStore() if store is None else store

    def open(self, total: float) -> Client:
        """Return a client. Nothing here takes time, so `total` bounds nothing."""
        return MemoryClient(self.store, self.capabilities.expiry)


class MemoryClient:
    """One client of a simulated store: they all see the same, at once."""

    def __init__(self, store: MemoryStore, expiry: Expiry = Expiry.OBSERVER) -> None:
        self._store, self._expiry = store, expiry
        self.documents: Documents = store.documents
        self.queue: Queue = store.queue

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return _LEASES[self._expiry](self._store, self.documents, role)

    def close(self) -> None:
        """Nothing to close."""
