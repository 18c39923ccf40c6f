"""Opens clients of one bucket, and of the queues of its region. They share boto3's clients: those are
made for that.

Whoever closes a client closes nothing of another one's; connections end with the process.
"""

from __future__ import annotations

import threading  # noqa: TID251 - a lock only: several threads may open at once

from providers.aws.clients import Clients
from providers.aws.documents import PAGE, S3Documents
from providers.aws.messages import LIMIT
from providers.aws.queue import BATCH, FIFO, SqsQueue
from providers.interface import Capabilities, Client, Documents, Expiry, Host, Lease, NoHost, Queue
from providers.lease_on_documents import LeaseOnDocuments
from providers.options import StoreOptions

CAPABILITIES = Capabilities(
    ordered=False,
    atomic_move=False,
    long_poll=True,
    batch=BATCH,
    limit=LIMIT,
    expiry=Expiry.OBSERVER,
    ordered_suffix=FIFO,
    strict_receipts=False,
    peeks=False,
)


class AwsDriver:
    """`interface.Driver` for `s3://BUCKET[/PREFIX]`; `prefix` is "" or ends in a slash."""

    def __init__(self, bucket: str, prefix: str, options: StoreOptions, *, page: int = PAGE) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.capabilities = CAPABILITIES
        self._bucket, self._prefix, self._options, self._page = bucket, prefix, options, page
        self._lock = threading.Lock()
        self._clients: dict[float, Clients] = {}  # by the total time of a request
        self._queue_urls: dict[str, str] = {}

    def open(self, total: float) -> Client:
        """Open a client. Builds boto3's own when it is the first. Raises Misconfigured."""
        with self._lock:
            if total not in self._clients:
                self._clients[total] = Clients(self._options, total)
            clients = self._clients[total]
        for built in (clients.s3, clients.sqs, clients.polls):
            assert built is not None  # here, and not within the time of somebody's first request
        documents = S3Documents(clients, self._bucket, self._prefix, page=self._page)
        return AwsClient(documents, SqsQueue(clients, self._options.queue_prefix, self._queue_urls))


class AwsClient:
    """One client."""

    def __init__(self, documents: Documents, queue: Queue) -> None:
        self.documents = documents
        self.queue = queue
        self.host: Host = NoHost()

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return LeaseOnDocuments(self.documents, role)

    def close(self) -> None:
        """Nothing of one's own to close: other clients go on using boto3's."""
