"""The SQLite store's file: what can be wrong with it is said in one line, and many processes may create it at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from providers.interface import Client, Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.local import SqliteDriver
from providers.local.creation import SCHEMA
from providers.local.database import Database
from providers.local.mounts import network_filesystem

LONG = 30.0
NOBODY = 65534


@contextmanager
def opened(path: Path, total: float = LONG) -> Iterator[Client]:
    """Open the store and close it again."""
    client = SqliteDriver(path).open(total)
    try:
        yield client
    finally:
        client.close()


def refused(path: Path, *, error: type[ProviderError] = Misconfigured) -> str:
    """Return the one line with which opening and writing the store is refused; it names the file."""
    with pytest.raises(error) as told, opened(path, 0.4) as client:
        client.documents.create("plan", b"{}")
    line = str(told.value)
    assert str(path) in line
    assert "\n" not in line
    return line


@contextmanager
def without_rights() -> Iterator[None]:
    """Be somebody who may not do everything, as a worker should be."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that everybody can reach."""
    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
    return tmp_path


# --- places --------------------------------------------------------------------------------------------------------


def test_folder_is_created(tmp_path: Path) -> None:
    """The last folder of the path is created if it is missing."""
    with opened(tmp_path / "data" / "store.db") as client:
        client.documents.create("plan", b"{}")
    assert (tmp_path / "data" / "store.db").is_file()


def test_missing_parent(tmp_path: Path) -> None:
    """A path whose folder's parent is missing is more likely mistyped: it is refused, naming the folder."""
    assert "cannot create the folder" in refused(tmp_path / "not" / "there" / "store.db")
    assert not (tmp_path / "not").exists()


def test_folder_is_a_file(tmp_path: Path) -> None:
    """A path through a file is refused."""
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(tmp_path / "file" / "store.db")


def test_path_is_a_folder(tmp_path: Path) -> None:
    """A path that names a folder is refused."""
    assert "is a folder" in refused(tmp_path)


def test_path_is_a_pipe(tmp_path: Path) -> None:
    """A path that names a pipe is refused instead of hanging."""
    os.mkfifo(tmp_path / "pipe")
    assert "special file" in refused(tmp_path / "pipe")


def test_unwritable_folder(folder: Path) -> None:
    """A folder in which SQLite could not keep its log is refused, even for a file that exists."""
    with opened(folder / "store.db"):
        pass
    (folder / "store.db").chmod(0o666)
    folder.chmod(0o555)
    with without_rights():
        assert "not writable" in refused(folder / "store.db")
        assert "not writable" in refused(folder / "other.db")
    folder.chmod(0o755)


def test_unwritable_parent(folder: Path) -> None:
    """A folder that may not be created is refused."""
    folder.chmod(0o555)
    with without_rights():
        assert "cannot create the folder" in refused(folder / "data" / "store.db")
    folder.chmod(0o755)


def test_read_only_file(folder: Path) -> None:
    """A file that may only be read is refused."""
    with opened(folder / "store.db"):
        pass
    (folder / "store.db").chmod(0o444)
    folder.chmod(0o777)
    with without_rights():
        assert "not readable and writable" in refused(folder / "store.db")


# --- contents ------------------------------------------------------------------------------------------------------


def test_empty_file(tmp_path: Path) -> None:
    """A file of no bytes, as `touch` makes it, becomes a store."""
    (tmp_path / "store.db").touch()
    with opened(tmp_path / "store.db") as client:
        client.documents.create("plan", b"{}")


def test_not_a_database(tmp_path: Path) -> None:
    """A file that is no database is refused and left as it is."""
    path = tmp_path / "store.db"
    path.write_bytes(b"once upon a time\n" * 1000)
    assert "not a SQLite database" in refused(path)
    assert path.read_bytes() == b"once upon a time\n" * 1000


def test_another_programs_database(tmp_path: Path) -> None:
    """Another program's database is refused and left as it is."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("CREATE TABLE customers (id INTEGER)")
    assert "another program's database" in refused(path)
    with closing(sqlite3.connect(path)) as theirs:
        assert theirs.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_newer_tables(tmp_path: Path) -> None:
    """A store whose tables a newer version has made is refused, and says "upgrade"."""
    path = tmp_path / "store.db"
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    line = refused(path)
    assert f"version {SCHEMA + 1}" in line
    assert "upgrade" in line


def test_missing_table(tmp_path: Path) -> None:
    """A store from which somebody has dropped a table is refused."""
    path = tmp_path / "store.db"
    with opened(path):
        pass
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DROP TABLE documents")
    assert "not those of this version" in refused(path)


@pytest.mark.parametrize("page", [0, 1])
def test_damaged_file(tmp_path: Path, page: int) -> None:
    """A damaged file is refused wherever the damage is, and says what to do."""
    path = tmp_path / "store.db"
    with opened(path) as client:
        for n in range(200):
            client.documents.create(f"state/{n}", b"x" * 500)
    raw = bytearray(path.read_bytes())
    raw[page * 4096 + 100 : page * 4096 + 4096] = b"\xff" * 3996
    path.write_bytes(raw)
    assert "damaged" in refused(path)


def test_full_disk(tmp_path: Path) -> None:
    """A full disk is told as such, what was there is kept, and writing goes on when there is space again."""
    path = tmp_path / "store.db"
    database = Database(path, LONG)
    [(pages,)] = database.rows("PRAGMA page_count")
    database.rows(f"PRAGMA max_page_count = {pages + 1}")
    insert = "INSERT INTO documents (key, version, body) VALUES (?, 'v', ?)"
    database.change(insert, ("small", b"1"))
    with pytest.raises(Misconfigured, match="disk is full") as told:
        database.change(insert, ("large", b"x" * 100_000))
    assert str(path) in str(told.value)
    with pytest.raises(Misconfigured, match="disk is full"), database.transaction() as connection:
        connection.execute(insert, ("larger", b"x" * 100_000))
    assert database.rows("SELECT key FROM documents") == [("small",)]
    database.rows("PRAGMA max_page_count = 1000000")
    database.change(insert, ("large", b"x" * 100_000))
    database.close()


def test_failing_disk(tmp_path: Path) -> None:
    """A disk that fails while committing leaves the outcome unknown; one that fails before has changed nothing."""
    database = Database(tmp_path / "store.db", LONG)

    def fail() -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR | (4 << 8)
        raise error

    with pytest.raises(OutcomeUnknown, match="while committing"), database._errors(committing=True):
        fail()
    with pytest.raises(Unavailable, match="disk failed"), database._errors():
        fail()
    database.close()


def test_deleted_while_open(tmp_path: Path) -> None:
    """A file that is deleted or replaced while in use is refused: others would elect a leader in a new one."""
    path = tmp_path / "store.db"
    with opened(path) as client:
        client.documents.create("plan", b"{}")
        path.rename(tmp_path / "away.db")
        for _ in range(2):
            with pytest.raises(Misconfigured, match="deleted or replaced while in use"):
                client.documents.read("plan")
            with pytest.raises(Misconfigured, match="deleted or replaced while in use"):
                client.documents.create("other", b"{}")
            with opened(path):
                pass


# --- locks ---------------------------------------------------------------------------------------------------------


def test_locked_file(tmp_path: Path) -> None:
    """While another process holds the lock a write is Unavailable within its time, and reads go on."""
    path = tmp_path / "store.db"
    with opened(path, 0.4) as client, closing(sqlite3.connect(path, isolation_level=None)) as other:
        stamp = client.documents.create("plan", b"1")
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(Unavailable, match="locked by another process"):
            client.documents.replace(stamp, b"2")
        assert time.monotonic() - started < LONG
        found = client.documents.read("plan")
        assert found is not None
        assert found.stamp == stamp
        other.execute("ROLLBACK")
        client.documents.replace(stamp, b"2")


def test_exclusively_locked_file(tmp_path: Path) -> None:
    """A file that another process has locked for itself cannot be opened, read or written now: Unavailable."""
    path = tmp_path / "store.db"
    with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO queues (name, ordered) VALUES ('x', 0)")
        other.execute("COMMIT")
        assert "locked" in refused(path, error=Unavailable)
    with opened(path) as client:
        client.documents.create("plan", b"{}")


def test_waiting_for_the_lock(tmp_path: Path) -> None:
    """A write that finds the file locked goes on as soon as the lock is free."""
    path = tmp_path / "store.db"
    with opened(path) as client, closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Event()
        patiently = client._database._patiently  # type: ignore[attr-defined]  # to see that it waits

        def busy(ask: Callable[[], object]) -> object:
            def asked() -> object:
                try:
                    return ask()
                except sqlite3.OperationalError:
                    waiting.set()
                    raise

            return patiently(asked)

        client._database._patiently = busy  # type: ignore[attr-defined]  # as above
        writer = threading.Thread(target=client.documents.create, args=("plan", b"{}"))
        writer.start()
        assert waiting.wait(LONG)
        other.execute("ROLLBACK")
        writer.join(LONG)
        assert client.documents.read("plan") is not None


# --- creation ------------------------------------------------------------------------------------------------------


def test_sixteen_threads_create(tmp_path: Path) -> None:
    """Sixteen clients that open a missing file at once all get a working store, and the same one: twenty times."""
    for round_ in range(20):
        path = tmp_path / f"{round_}.db"
        barrier = threading.Barrier(16)
        problems: list[BaseException] = []

        def start(path: Path = path, barrier: threading.Barrier = barrier, to: list[BaseException] = problems) -> None:
            try:
                barrier.wait(LONG)
                with opened(path) as client:
                    client.documents.create(f"members/{threading.get_ident()}", b"{}")
            except BaseException as exc:
                to.append(exc)

        threads = [threading.Thread(target=start) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert problems == []
        with opened(path) as client:
            assert len(client.documents.list("members/").stamps) == 16


START = """
import sys
from pathlib import Path
from providers.local import SqliteDriver
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
client = SqliteDriver(Path(sys.argv[1])).open(10.0)
client.documents.create("members/" + sys.argv[2], b"{}")
client.close()
"""


def test_sixteen_processes_create(tmp_path: Path) -> None:
    """Sixteen processes that start on a missing file at once all get a working store, and the same one."""
    path = tmp_path / "store.db"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(path), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(16)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, errors = child.communicate(timeout=LONG)
        assert (child.returncode, errors) == (0, "")
    with opened(path) as client:
        assert len(client.documents.list("members/").stamps) == 16


def test_half_created_file(tmp_path: Path) -> None:
    """A file whose creator was killed between two steps is finished by the next process."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
    with opened(path) as client:
        client.documents.create("plan", b"{}")


def test_restored_copy(tmp_path: Path) -> None:
    """A copy that SQLite has made of a store is a store, with the same durability."""
    with opened(tmp_path / "store.db") as client:
        client.documents.create("plan", b"{}")
    with closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        raw.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    database = Database(tmp_path / "copy.db", LONG)
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    assert database.rows("SELECT key FROM documents") == [("plan",)]
    database.close()


def test_durability_is_set(tmp_path: Path) -> None:
    """Every connection commits to the disk (synchronous=FULL) through a log that readers do not wait for (WAL)."""
    database = Database(tmp_path / "store.db", LONG)
    assert database.rows("PRAGMA synchronous") == [(2,)]
    assert database.rows("PRAGMA journal_mode") == [("wal",)]
    database.close()


# --- network file systems ------------------------------------------------------------------------------------------

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/export /mnt/nfs nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/nfs/local xfs rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
user@host:/ /mnt/ssh fuse.sshfs rw 0 0
s3fs /mnt/s3 fuse.s3fs rw 0 0
overlay /mnt/rootless fuse.fuse-overlayfs rw 0 0
drvfs /mnt/c 9p rw 0 0
tmpfs /tmp tmpfs rw 0 0
systemd-1 /mnt/auto autofs rw 0 0
server:/auto /mnt/auto nfs rw 0 0
broken line
"""


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/srv/store", None),
        ("/tmp", None),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/deep/er", "nfs4"),
        ("/mnt/nfsother", None),
        ("/mnt/nfs/local/x", None),
        ("/mnt/with space/x", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/mnt/s3/x", "fuse.s3fs"),
        ("/mnt/rootless", None),
        ("/mnt/c/Users", "9p"),
        ("/mnt/auto/x", "nfs"),
    ],
)
def test_network_filesystems(tmp_path: Path, path: str, kind: str | None) -> None:
    """The mount that a folder really lies on says whether another machine may have it open too."""
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_filesystem(Path(path), mounts=tmp_path / "mounts") == kind


def test_sandbox_root(tmp_path: Path) -> None:
    """A sandbox's own root is local, whatever carries it; a root on NFS is not."""
    (tmp_path / "sandbox").write_text("none / 9p rw 0 0\n")
    assert network_filesystem(Path("/data"), mounts=tmp_path / "sandbox") is None
    (tmp_path / "diskless").write_text("server:/root / nfs rw 0 0\n")
    assert network_filesystem(Path("/data"), mounts=tmp_path / "diskless") == "nfs"
    assert network_filesystem(Path("/data"), mounts=tmp_path / "no-such-table") is None


def test_network_filesystem_is_refused(tmp_path: Path) -> None:
    """A store on a network file system is refused before a file is created, naming the file, the type and the fix."""
    (tmp_path / "mounts").write_text(f"server:/export {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(Misconfigured, match=r"store\.db is on a network file system \(nfs4\).*local disk"):
        SqliteDriver(tmp_path / "store.db", mounts=tmp_path / "mounts").open(LONG)
    assert not (tmp_path / "store.db").exists()
