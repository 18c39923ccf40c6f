"""Opens clients of one bucket, and of the queues of its region. They share boto3's clients: those are
made for that.

Their connections are closed with the last client that uses them. They themselves stay: building them takes half a
second, and signing in may take longer, which must not happen within the time of a request.
"""

from __future__ import annotations

import threading  # noqa: TID251 - a lock only: several threads may open at once
from collections.abc import Callable

from providers.aws.clients import Clients, check
from providers.aws.documents import PAGE, S3Documents
from providers.aws.messages import BATCH, LIMIT
from providers.aws.queue import FIFO, SqsQueue
from providers.interface import Capabilities, Client, Documents, Expiry, Lease, Queue
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
    longest_hidden=43_200.0,  # 12 h, counted from the receive, however often it is extended
)


class AwsDriver:
    """`interface.Driver` for `s3://BUCKET[/PREFIX]`; `prefix` is "" or ends in a slash.

    Raises Misconfigured for an endpoint or a region that cannot be one.
    """

    def __init__(self, bucket: str, prefix: str, options: StoreOptions, *, page: int = PAGE) -> None:
        check(options)
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.capabilities = CAPABILITIES
        self._bucket, self._prefix, self._options, self._page = bucket, prefix, options, page
        self._lock = threading.Lock()
        self._clients: dict[float, tuple[Clients, int]] = {}  # by the total time of a request, and how many use them
        self._queue_urls: dict[str, str] = {}

    def open(self, total: float) -> Client:
        """Open a client. Builds boto3's own when it is the first. Raises Misconfigured."""
        with self._lock:
            clients, users = self._clients.get(total) or (Clients(self._options, total), 0)
            for built in (clients.s3, clients.sqs, clients.polls):
                assert built is not None  # here, and not within the time of somebody's first request
            self._clients[total] = clients, users + 1
        documents = S3Documents(clients, self._bucket, self._prefix, page=self._page)
        queue = SqsQueue(clients, self._options.queue_prefix, self._queue_urls)
        return AwsClient(documents, queue, lambda: self._closed(total))

    def _closed(self, total: float) -> None:
        with self._lock:
            clients, users = self._clients[total]
            self._clients[total] = clients, users - 1
            if users == 1:
                clients.close()


class AwsClient:
    """One client. `closed` is called when nobody uses it any more."""

    def __init__(self, documents: Documents, queue: Queue, closed: Callable[[], None]) -> None:
        self.documents = documents
        self.queue = queue
        self._close = closed

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return LeaseOnDocuments(self.documents, role)

    def close(self) -> None:
        """Give up boto3's clients; whoever is last closes their connections."""
        self._close()
