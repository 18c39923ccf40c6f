"""One simulated store: documents with versions that are never reused. Deterministic, and safe for threads."""

from __future__ import annotations

import threading  # noqa: TID251 - a lock only: the store is shared, and starts no thread
from bisect import bisect_left, insort
from collections.abc import Callable

from providers.interface import Document, NotFound, Page, Refused, Stamp, Version
from providers.memory.queue import MemoryQueue

PAGE = 1000
"""Stamps on one page of a listing, as on S3."""


class MemoryStore:
    """What all clients of one simulated store share. `now` is its wall clock, in Unix seconds."""

    def __init__(self, *, now: Callable[[], float] = lambda: 0.0, page: int = PAGE) -> None:
        self.lock = threading.RLock()
        self.documents = MemoryDocuments(self.lock, page)
        self.queue = MemoryQueue(self.lock, now)


class MemoryDocuments:
    """`interface.Documents` in a dictionary. Two equal bodies are two versions: versions only count up."""

    def __init__(self, lock: threading.RLock, page: int) -> None:
        self._lock = lock
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
        return None if found.stamp.version == unless else found

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
            return self._write(old.key, body)

    def delete(self, old: Stamp) -> None:
        """See `interface.Documents.delete`."""
        with self._lock:
            self._compare(old)
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
        stamp = Stamp(key, Version(f"v{self._writes}"))
        self._found[key] = Document(stamp, bytes(body))
        return stamp
