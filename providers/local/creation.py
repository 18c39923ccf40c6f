"""The file itself: what can be wrong with it before it is opened, and how exactly one of many starters creates it.

Nothing here opens the file other than through SQLite: closing any other handle on it would drop the locks that this
process's connections hold (POSIX locks belong to the process).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from providers.interface import Misconfigured, Unavailable
from providers.local.mounts import MOUNTS, network_filesystem

APPLICATION = 0x436C576B
"""SQLite's application id: "ClWk". A file with tables and without it belongs to somebody else."""

SCHEMA = 1
"""Version of the tables below. A newer one is refused: this version would misunderstand it."""

_TABLES = (
    # The version is drawn anew for every write, so that it is never reused: not for an equal body, not after the
    # file was restored from a copy.
    "CREATE TABLE documents (key TEXT PRIMARY KEY, version TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, ordered INTEGER NOT NULL)",
    # visible_at: Unix seconds; 0 for a message that nobody has received yet.
    """CREATE TABLE messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        enqueued_at REAL NOT NULL,
        visible_at REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        receipt TEXT
    )""",
    "CREATE INDEX messages_by_visibility ON messages (queue, visible_at)",
    "CREATE INDEX messages_by_number ON messages (queue)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)

_LOCK_PAUSE = 0.005
"""Seconds between two looks at the folder's lock while another process creates the file."""


def check_place(path: Path, *, mounts: Path = MOUNTS) -> None:
    """Raise Misconfigured, in one line with the fix, if a store cannot or must not live at `path`.

    The last folder of the path is created if it is missing.
    """
    folder = path.parent
    if not folder.exists():
        try:
            folder.mkdir(exist_ok=True)
        except OSError as exc:
            raise Misconfigured(f"{path}: cannot create the folder {folder} ({exc.strerror}): create it first") from exc
    if not folder.is_dir():
        raise Misconfigured(f"{path}: {folder} is not a folder: name another file")
    if not _may(folder, os.W_OK | os.X_OK):
        raise Misconfigured(f"{path}: the folder {folder} is not writable for this user: SQLite keeps its log there")
    if path.exists():
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise Misconfigured(f"{path} is a {'folder' if stat.S_ISDIR(mode) else 'special file'}: name a file")
        if not _may(path, os.R_OK | os.W_OK):
            raise Misconfigured(f"{path} is not readable and writable for this user: change its permissions")
    found = network_filesystem(folder, mounts=mounts)
    if found is not None:
        raise Misconfigured(
            f"{path} is on a network file system ({found}), where SQLite's locks do not hold: "
            "use a local disk, or azure:// or s3:// for more than one machine"
        )


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def prepare(path: Path, deadline: float) -> sqlite3.Connection:
    """Return a connection to the file at `path`, created if it was missing. `deadline` is on the monotonic clock.

    Raises sqlite3.Error (busy, full, corrupt, …), Misconfigured for a file that is not ours, Unavailable.
    """
    connection = _connect(path)
    try:
        with _transaction(connection, "DEFERRED"):
            blank = _is_blank(connection, path)
        [journal] = connection.execute("PRAGMA journal_mode").fetchone()
        if blank or journal != "wal":  # a copy made by VACUUM INTO has lost the mode
            with _folder_lock(path.parent, deadline):
                _create(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # check_same_thread: one thread at a time is the provider's rule, and one that hangs is closed by nobody.
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _is_blank(connection: sqlite3.Connection, path: Path) -> bool:
    """Say whether the file has no tables yet. Raises Misconfigured for another program's, or a newer version's.

    Asked inside a transaction: the answers must be of one moment, and another process may be creating the tables.
    """
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [schema] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == APPLICATION:
        if schema > SCHEMA:
            raise Misconfigured(
                f"{path} has tables of version {schema}, and this version knows up to {SCHEMA}: upgrade this worker"
            )
        return False
    if application or schema or tables:
        raise Misconfigured(f"{path} is another program's database: name another file")
    return True


def _create(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables, unless another process has done so meanwhile. Killed half-way, it leaves a blank file."""
    [journal] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise Misconfigured(f"{path} is on a file system that cannot keep SQLite's shared log: use a local disk")
    with _transaction(connection, "EXCLUSIVE"):
        if _is_blank(connection, path):
            for statement in _TABLES:
                connection.execute(statement)


@contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def _folder_lock(folder: Path, deadline: float) -> Iterator[None]:
    """Hold the folder's lock: turning a file to WAL is the one step that SQLite cannot queue for by itself."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process has been creating a store in {folder} for too long") from None
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(handle)
