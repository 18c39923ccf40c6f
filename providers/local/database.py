"""One connection to the file: transactions, patience for the lock, and SQLite's errors in one table.

Durability: WAL with synchronous=FULL, so that a commit is on disk before it is answered. A process that is killed at
any point leaves a log that the next one reads to the last commit; what was not committed never was.

Waiting: one process writes at a time, for about half a millisecond. A request waits for its turn by asking again every
millisecond or two, and the longer it has waited, the more often, so that everybody gets a turn. SQLite's own handler
does the opposite: it sleeps longer and longer, up to 100 ms, and a busy queue would starve a lease. Patience ends
well within the total time of a request, and then nothing has changed.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.local.creation import prepare

T = TypeVar("T")
Values = Sequence[Any] | Mapping[str, Any]

PATIENCE = 0.75
"""Part of a request's total time that it may wait for the lock; the rest is for the work and the disk."""

FIRST_PAUSE, LAST_PAUSE = 0.002, 0.0005
"""Seconds between two looks at the lock, when a request has just begun to wait and when its patience ends."""

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})

_FIXES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: make the file and its folder writable for this user",
    sqlite3.SQLITE_PERM: "permission denied: make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: make the file and its folder writable for this user",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away, together with its -wal and -shm files, or restore a copy",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: name another file, or move this one away",
    sqlite3.SQLITE_SCHEMA: "its tables are not those of this version: name another file, or move this one away",
}


class Database:
    """One connection, used by one thread at a time. `total` is the time of a request, in seconds."""

    def __init__(self, path: Path, total: float) -> None:
        self._path = path
        self._patience = total * PATIENCE
        deadline = time.monotonic() + self._patience
        with self._errors():
            self._connection = self._patiently(lambda: prepare(path, deadline))
        self._file = _identity(path)

    def close(self) -> None:
        """Close the connection; the last one of all processes tidies the log away."""
        with self._errors():
            self._connection.close()

    def rows(self, statement: str, values: Values = ()) -> list[Any]:
        """Run one statement that only reads, and return its rows. It sees one consistent moment."""
        self._check_file()
        with self._errors():
            return self._patiently(lambda: self._connection.execute(statement, values).fetchall())

    def change(self, statement: str, values: Values = ()) -> int:
        """Run and commit one statement that writes; return how many rows it changed.

        From taking the lock to the commit it is one call into SQLite, without Python's own lock: no thread of this
        process that computes something can make all processes wait.
        """
        self._check_file()
        with self._errors(committing=True):
            return self._patiently(lambda: self._connection.execute(statement, values).rowcount)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection inside one transaction: committed at the end, or, on any error, without effect.

        For what takes several statements; others wait meanwhile.
        """
        self._check_file()
        with self._errors():
            self._patiently(lambda: self._connection.execute("BEGIN IMMEDIATE"))
            try:
                yield self._connection
            except BaseException:
                self._roll_back()
                raise
            with self._errors(committing=True):
                try:
                    self._connection.execute("COMMIT")
                except sqlite3.Error:
                    self._roll_back()
                    raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _check_file(self) -> None:
        """Refuse to go on in a file that others no longer see: they would elect a second leader in another one."""
        if _identity(self._path) != self._file:
            raise Misconfigured(f"{self._path} was deleted or replaced while in use: stop all workers, then start them")

    def _patiently(self, ask: Callable[[], T]) -> T:
        """Ask until the lock is free, or patience ends. What was answered "busy" has had no effect."""
        started = time.monotonic()
        while True:
            try:
                return ask()
            except sqlite3.OperationalError as exc:
                waited = (time.monotonic() - started) / self._patience
                if _primary(exc) not in _BUSY or waited >= 1:
                    raise
            pause = FIRST_PAUSE + (LAST_PAUSE - FIRST_PAUSE) * waited
            time.sleep(pause * (0.5 + random.random()))

    @contextmanager
    def _errors(self, *, committing: bool = False) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            translated = self._translated(exc, committing)
            if translated is None:
                raise
            raise translated from exc

    def _translated(self, exc: sqlite3.Error, committing: bool) -> ProviderError | None:
        """Name SQLite's error by what the caller must do next; None for what can only be a bug of ours."""
        code = _primary(exc)
        if code == sqlite3.SQLITE_ERROR and str(exc).startswith("no such "):  # table, column
            code = sqlite3.SQLITE_SCHEMA
        if code in _BUSY:
            return Unavailable(f"{self._path} is locked by another process")
        if code == sqlite3.SQLITE_IOERR and committing:  # it may be on the disk, or not: only reading back can tell
            return OutcomeUnknown(f"{self._path}: the disk failed while committing ({exc})")
        if code == sqlite3.SQLITE_IOERR:
            return Unavailable(f"{self._path}: the disk failed ({exc})")
        if code in _FIXES:
            return Misconfigured(f"{self._path}: {_FIXES[code]} ({exc})")
        return None


def _primary(exc: sqlite3.Error) -> int | None:
    """Return the primary result code of an error that SQLite raised; None for one that Python's module raised."""
    code = getattr(exc, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise Unavailable(f"{path} cannot be looked at: {exc.strerror}") from exc
    return found.st_dev, found.st_ino
