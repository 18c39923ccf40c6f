"""Opens clients of one container and of the queues of its account, each with connections of its own."""

from __future__ import annotations

import logging
from typing import Any

from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueClient, QueueServiceClient

from providers.azure.credentials import Access
from providers.azure.documents import PAGE, BlobDocuments
from providers.azure.lease import BlobLease
from providers.azure.queue import LIMIT, StorageQueue
from providers.interface import Capabilities, Client, Documents, Expiry, Host, Lease, NoHost, Queue
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
        return AzureClient(
            blobs, QueueServiceClient(self._access.queue_url, **once), self._container, self._prefix, self
        )

    def documents_of(self, container: Any) -> BlobDocuments:
        """Return the documents in a client's container."""
        return BlobDocuments(container, self._prefix, page=self._page)

    def queues_of(self, service: QueueServiceClient) -> StorageQueue:
        """Return the queues of a client's account."""
        known: dict[str, QueueClient] = {}

        def client_of(name: str) -> QueueClient:
            if name not in known:
                known[name] = service.get_queue_client(name)
            return known[name]

        return StorageQueue(client_of, self._queue_prefix)

    def fetch_token(self) -> None:
        """Make sure that there is a token that holds."""
        self._access.fetch_token()


class AzureClient:
    """One client: two connections, of the blobs and of the queues."""

    def __init__(
        self, blobs: BlobServiceClient, queues: QueueServiceClient, container: str, prefix: str, driver: AzureDriver
    ) -> None:
        self._blobs, self._queues, self._driver, self._prefix = blobs, queues, driver, prefix
        self._container = blobs.get_container_client(container)
        self._documents = driver.documents_of(self._container)
        self.documents: Documents = self._documents
        self.queue: Queue = driver.queues_of(queues)
        self.host: Host = NoHost()

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return BlobLease(self._container, self._prefix, self._documents, role, self._driver.fetch_token)

    def close(self) -> None:
        """Close both connections."""
        self._blobs.close()
        self._queues.close()
