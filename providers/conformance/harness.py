"""What the suite needs to know of a driver: how to open it on an empty store, and what its store can be made to do."""

from __future__ import annotations

import abc
import time
from typing import Any

from providers.body import decode
from providers.interface import Client, Driver, Expiry, NotFound, ProviderError
from providers.options import PLAIN, StoreOptions


class Harness(abc.ABC):
    """One test's way to one empty store. Only `driver` must be given; the rest has defaults for plain stores.

    `total` is the time, in seconds, in which the store answers one request even on a busy test machine.
    """

    total: float = 5.0

    queue: str = "conformance-orders-00"
    dead: str = "conformance-orders-dlq"
    """The queues of a test. A store that orders by name has a second harness, with names that it orders."""

    conditional_delete: bool = True
    """Whether the store compares, in one step, the version that a delete names; not all that speak S3 do."""

    atomic_writes: bool = True
    """Whether check and write are one step. Where they are two (moto), nothing may be elected, and no race is run."""

    documents_per_listing: int = 12
    """How many documents make more than one page, where that is a number that a test can write."""

    def __init__(self) -> None:
        self._opened: list[Client] = []

    @abc.abstractmethod
    def driver(self) -> Driver:
        """Return a driver of this test's store: every call one of the same store, empty when the test began."""

    def url(self) -> str | None:
        """Return a URL under which `providers.connect` finds the same store in another process; None if there is none.

        Tests that kill a process are skipped without it.
        """
        return None

    def options(self) -> StoreOptions:
        """Return what `url` needs besides."""
        return PLAIN

    def elapse(self, seconds: float) -> None:
        """Let time pass for the store. Override it where the store's clock can be moved: waiting is slow."""
        time.sleep(seconds)

    def expire(self, role: str, duration: float) -> None:
        """Let the lease of `role` run out. Where observers decide, a claim needs no more than their decision."""
        if self.driver().capabilities.expiry is Expiry.STORE:
            self.elapse(duration + 1.0)

    def write_lease(self, role: str, body: bytes) -> None:
        """Put `body` in the place of the lease's record, as somebody would who knows nothing of leases."""
        documents = self.client().documents
        try:
            found = documents.read(f"leases/{role}")
        except NotFound:
            documents.create(f"leases/{role}", body)
        else:
            assert found is not None
            documents.replace(found.stamp, body)

    def lease_fields(self, role: str) -> dict[str, Any]:
        """Return the fields of the lease's record as they are stored."""
        found = self.client().documents.read(f"leases/{role}")
        assert found is not None
        return decode(found.body, role)

    def delete_lease(self, role: str) -> None:
        """Delete the lease object, as somebody would who cleans up too much."""
        documents = self.client().documents
        found = documents.read(f"leases/{role}")
        assert found is not None
        documents.delete(found.stamp)

    def client(self) -> Client:
        """Open a client that is closed after the test."""
        client = self.driver().open(self.total)
        self._opened.append(client)
        return client

    def close(self) -> None:
        """Close what the test has opened. Call it in the fixture, after the test."""
        for client in self._opened:
            try:
                client.close()
            except ProviderError:  # a test may leave a store that does not answer any more
                continue
