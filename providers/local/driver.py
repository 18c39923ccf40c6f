"""Opens clients of one SQLite file: each has a connection of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from providers.interface import Capabilities, Client, Documents, Expiry, Lease, Queue
from providers.lease_on_documents import LeaseOnDocuments
from providers.local.creation import check_place
from providers.local.database import Database
from providers.local.documents import PAGE, SqliteDocuments
from providers.local.mounts import MOUNTS
from providers.local.queue import SqliteQueue

CAPABILITIES = Capabilities(
    ordered=True,
    atomic_move=True,
    long_poll=False,
    batch=100,  # about a millisecond: nobody waits long behind another process's batch
    limit=1024 * 1024,  # far more than the clouds take; SQLite itself would take more
    expiry=Expiry.OBSERVER,
)


class SqliteDriver:
    """A store in the file at `path`. `now` and `mounts` are the wall clock and the table of mounts, for tests."""

    def __init__(
        self, path: str | Path, *, now: Callable[[], float] = time.time, mounts: Path = MOUNTS, page: int = PAGE
    ) -> None:
        self.path = Path(path).absolute()
        self.url = f"sqlite:///{self.path}"
        self.capabilities = CAPABILITIES
        self._now = now
        self._mounts = mounts
        self._page = page

    def open(self, total: float) -> Client:
        """Open a connection; the file is created if it is missing. Raises Misconfigured, Unavailable."""
        check_place(self.path, mounts=self._mounts)
        return SqliteClient(Database(self.path, total), now=self._now, page=self._page)


class SqliteClient:
    """One connection to the file, used by one thread at a time."""

    def __init__(self, database: Database, *, now: Callable[[], float], page: int) -> None:
        self._database = database
        self.documents: Documents = SqliteDocuments(database, page=page)
        self.queue: Queue = SqliteQueue(database, now=now)

    def lease(self, role: str) -> Lease:
        """Return the lease of one role."""
        return LeaseOnDocuments(self.documents, role)

    def close(self) -> None:
        """Close the connection. Raises Unavailable, Misconfigured when the file is beyond help."""
        self._database.close()
