"""One simulated store: documents with versions that are never reused. Deterministic, and safe for threads.

Whether it keeps leases itself is a matter of the driver's capabilities; where nobody asks for one, nothing is leased.
"""

from __future__ import annotations

import math
import threading  # noqa: TID251 - a lock only: the store is shared, and starts no thread
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import replace

from providers.interface import Document, NotFound, Page, Refused, Stamp, Version
from providers.memory.leases import MemoryLeases
from providers.memory.queue import MemoryQueue

PAGE = 1000
"""Stamps on one page of a listing, as on S3."""


class MemoryStore:
    """What all clients of one simulated store share. `now` is its clock, in Unix seconds.

    `date` is the time that it tells in its answers, cut to whole seconds; by default it tells none.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = lambda: 0.0,
        date: Callable[[], float] | None = None,
        page: int = PAGE,
    ) -> None:
        self.date = date
        self.lock = threading.RLock()
        self.leases = MemoryLeases(self.lock, now)
        self.documents = MemoryDocuments(self.lock, self.leases, self.time, page)
        self.queue = MemoryQueue(self.lock, now)

    def time(self) -> float | None:
        """Return what an answer of now says about the store's wall clock."""
        return None if self.date is None else float(math.floor(self.date()))


class MemoryDocuments:
    """`interface.Documents` in a dictionary. Two equal bodies are two versions: versions only count up."""

    def __init__(
        self, lock: threading.RLock, leases: MemoryLeases, time: Callable[[], float | None], page: int
    ) -> None:
        self._lock = lock
        self._leases = leases
        self._time = time
        self._page = page
        self._writes = 0
        self._keys: list[str] = []  # sorted
        self._found: dict[str, Document] = {}

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """See `interface.Documents.read`."""
        with self._lock:
            found = self._found.get(key)
        if found is None:
            raise NotFound(f"there is no document {key}")
        if found.stamp.version == unless:
            return None
        return replace(found, stamp=replace(found.stamp, store_time=self._time()))

    def create(self, key: str, body: bytes) -> Stamp:
        """See `interface.Documents.create`."""
        with self._lock:
            if key in self._found:
                raise Refused(f"{key} exists already")
            insort(self._keys, key)
            return self._write(key, body)

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        """See `interface.Documents.replace`."""
        with self._lock:
            self._compare(old)
            self._leases.check_write(old.key)
            return self._write(old.key, body)

    def delete(self, old: Stamp) -> None:
        """See `interface.Documents.delete`."""
        with self._lock:
            self._compare(old)
            self._leases.check_write(old.key)
            self._leases.written(old.key)
            del self._found[old.key]
            del self._keys[bisect_left(self._keys, old.key)]

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        """See `interface.Documents.list`."""
        with self._lock:
            start = bisect_left(self._keys, prefix if after is None else max(prefix, after + "\0"))
            keys = self._keys[start : start + self._page + 1]
            keys = [key for key in keys if key.startswith(prefix)]  # those that do stand together
            stamps = [self._found[key].stamp for key in keys[: self._page]]
        return Page(stamps, stamps[-1].key if len(keys) > self._page else None)

    def _compare(self, old: Stamp) -> None:
        found = self._found.get(old.key)
        if found is None:
            raise Refused(f"{old.key} is gone")
        if found.stamp != old:
            raise Refused(f"{old.key} has changed")

    def _write(self, key: str, body: bytes) -> Stamp:
        self._writes += 1
        self._leases.written(key)
        stamp = Stamp(key, Version(f"v{self._writes}"))
        self._found[key] = Document(stamp, bytes(body))
        return replace(stamp, store_time=self._time())
