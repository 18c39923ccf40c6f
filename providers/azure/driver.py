"""Opens clients of one container and of the queues of its account, each with connections of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from providers.azure.credentials import Access
from providers.azure.documents import PAGE, BlobDocuments
from providers.azure.lease import BlobLease
from providers.azure.queue import LIMIT, StorageQueue
from providers.interface import Capabilities, Client, Documents, Expiry, Lease, Queue
from providers.options import StoreOptions

API_VERSION = "2025-11-05"
"""Of Azure's REST API, the same in production and on the emulator, whatever the SDK would choose."""

ONE_PIECE = 128 * 1024 * 1024
"""Bytes up to which the SDK writes or reads a blob in one request: more than any document has."""

CAPABILITIES = Capabilities(
    ordered=False, atomic_move=False, long_poll=False, batch=1, limit=LIMIT, expiry=Expiry.STORE
)

logging.getLogger("azure").addHandler(logging.NullHandler())  # stderr is for events; who wants its logs configures them


class AzureDriver:
    """`interface.Driver` for `azure://ACCOUNT/CONTAINER[/PREFIX]`; `prefix` is "" or ends in a slash."""

    def __init__(self, account: str, container: str, prefix: str, options: StoreOptions, *, page: int = PAGE) -> None:
        self.url = f"azure://{account}/{container}/{prefix}".rstrip("/")
        self.capabilities = CAPABILITIES
        self._container, self._prefix, self._page = container, prefix, page
        self._queue_prefix = options.queue_prefix
        self._access = Access(account, options)

    def open(self, total: float) -> Client:
        """Open a client, signed in. Raises Misconfigured, Unavailable."""
        self._access.fetch_token()
        once = {
            "credential": self._access.credential,
            "api_version": API_VERSION,
            "retry_total": 0,
            "retry_connect": 0,
            "retry_read": 0,
            "retry_status": 0,
            "retry_to_secondary": False,
            "permit_redirects": False,
            "connection_timeout": total,
            "read_timeout": total,
            "user_agent": "cloud-worker",
        }
        blobs = BlobServiceClient(
            self._access.blob_url, max_single_put_size=ONE_PIECE, max_single_get_size=ONE_PIECE, **once
        )
        queues = QueueServiceClient(self._access.queue_url, **once)
        container = blobs.get_container_client(self._container)
        documents = BlobDocuments(container, self._prefix, page=self._page)
        queue = StorageQueue(cache(queues.get_queue_client), self._queue_prefix)

        def lease(role: str) -> Lease:
            return BlobLease(container, self._prefix, documents, role, self._access.fetch_token)

        return AzureClient(documents, queue, lease, (blobs, queues))


class AzureClient:
    """One client: two connections, of the blobs and of the queues."""

    def __init__(
        self,
        documents: Documents,
        queue: Queue,
        lease: Callable[[str], Lease],
        connections: tuple[BlobServiceClient, QueueServiceClient],
    ) -> None:
        self.documents, self.queue = documents, queue
        self._lease, self._connections = lease, connections

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return self._lease(role)

    def close(self) -> None:
        """Close both connections."""
        for connection in self._connections:
            connection.close()
