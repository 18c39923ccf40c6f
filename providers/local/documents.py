"""Documents in a table. Keys compare by bytes, so that a listing is in the same order everywhere."""

from __future__ import annotations

import secrets

from providers.interface import Document, NotFound, Page, Refused, Stamp, Version
from providers.local.database import Database

PAGE = 1000
"""Stamps on one page of a listing, as on S3."""


class SqliteDocuments:
    """`interface.Documents` in one SQLite file. Every write draws a new version."""

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        self._database = database
        self._page = page

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """See `interface.Documents.read`."""
        rows = self._database.rows("SELECT version, body FROM documents WHERE key = ?", (key,))
        if not rows:
            raise NotFound(f"there is no document {key}")
        [(version, body)] = rows
        return None if version == unless else Document(Stamp(key, Version(version)), bytes(body))

    def create(self, key: str, body: bytes) -> Stamp:
        """See `interface.Documents.create`."""
        stamp = Stamp(key, _version())
        if not self._database.change(
            "INSERT INTO documents (key, version, body) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
            (key, stamp.version, body),
        ):
            raise Refused(f"{key} exists already")
        return stamp

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        """See `interface.Documents.replace`."""
        stamp = Stamp(old.key, _version())
        if not self._database.change(
            "UPDATE documents SET version = ?, body = ? WHERE key = ? AND version = ?",
            (stamp.version, body, old.key, old.version),
        ):
            raise Refused(f"{old.key} has changed or is gone")
        return stamp

    def delete(self, old: Stamp) -> None:
        """See `interface.Documents.delete`."""
        if not self._database.change("DELETE FROM documents WHERE key = ? AND version = ?", (old.key, old.version)):
            raise Refused(f"{old.key} has changed or is gone")

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        """See `interface.Documents.list`."""
        start, compare = (prefix, ">=") if after is None or after < prefix else (after, ">")
        rows = self._database.rows(
            f"SELECT key, version FROM documents WHERE key {compare} ? ORDER BY key LIMIT ?", (start, self._page + 1)
        )
        found = [Stamp(key, Version(version)) for key, version in rows if key.startswith(prefix)]  # they stand together
        stamps = found[: self._page]
        return Page(stamps, stamps[-1].key if len(found) > self._page else None)


def _version() -> Version:
    return Version(secrets.token_hex(8))
