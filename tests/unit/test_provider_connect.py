"""From a URL to a provider, and the probe of a store that only pretends to compare."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from providers.connect import connect, driver_for, probe
from providers.interface import Client, Documents, Misconfigured, Stamp, Unavailable
from providers.local import SqliteDriver
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import MemoryClient
from providers.options import StoreOptions
from providers.provider import Provider


def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes name a file in the working directory, four an absolute one."""
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///data/store.db", f"sqlite:///{tmp_path}/data/store.db"):
        driver = driver_for(url)
        assert isinstance(driver, SqliteDriver)
        assert driver.path == tmp_path / "data" / "store.db"
        assert driver.url == f"sqlite:///{tmp_path}/data/store.db"


def test_nothing_is_touched_before_the_first_request(tmp_path: Path) -> None:
    """Connecting alone creates no file."""
    connect(f"sqlite:///{tmp_path}/store.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["", "store.db", "/var/store.db", "postgres://db", "redis://h", "SQLITE:///x", "s3"])
def test_no_store(url: str) -> None:
    """A URL that names no store is refused with the forms that do."""
    with pytest.raises(Misconfigured, match=r"sqlite:///relative.*azure://ACCOUNT/CONTAINER.*s3://BUCKET"):
        driver_for(url)


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite:", "sqlite:///", "sqlite://", "sqlite:x.db", "sqlite://host/x.db", "sqlite:////var/"),
        *("sqlite:///:memory:", "sqlite:///x.db?mode=ro", "sqlite:///x.db#1", "sqlite:///x\n.db", "memory:name"),
    ],
)
def test_no_file(url: str) -> None:
    """A SQLite URL without one plain file name is refused, and says what is wrong."""
    with pytest.raises(Misconfigured, match=r"sqlite:|memory"):
        driver_for(url)


def test_endpoint_without_cloud(tmp_path: Path) -> None:
    """An endpoint is refused where there is none: a setting that does nothing misleads."""
    with pytest.raises(Misconfigured, match="endpoint"):
        connect(f"sqlite:///{tmp_path}/x.db", options=StoreOptions(endpoint_url="http://127.0.0.1:1"))


@pytest.mark.parametrize("url", ["redis://user:hunter2@host/0", "redis://host/0?password=hunter2"])
def test_secrets(url: str) -> None:
    """What may be a secret in a URL is not repeated in an error."""
    with pytest.raises(Misconfigured) as told:
        driver_for(url)
    assert "hunter2" not in str(told.value)


def test_no_driver_is_imported_unasked() -> None:
    """Asking for one store imports no other one's driver or SDK."""
    script = (
        "import sys; from providers.connect import driver_for; driver_for('memory:');"
        "print([m for m in sys.modules if m in ('sqlite3', 'boto3', 'azure', 'providers.local')])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout.strip() == "[]"


def _pretending(**broken: Any) -> Provider:
    """Return a provider of a store some of whose conditions are ignored."""
    store = MemoryStore()

    class Pretending(MemoryDriver):
        def open(self, total: float) -> Client:
            client = MemoryClient(store)
            client.documents = _Pretender(client.documents, **broken)
            return client

    return Provider(Pretending(store))


class _Pretender:
    """Documents whose create or replace looks at nothing."""

    def __init__(self, inner: Documents, *, create: bool = False, replace: bool = False) -> None:
        self.read, self.list, self.delete = inner.read, inner.list, inner.delete
        self._inner = inner
        self._create, self._replace = create, replace

    def create(self, key: str, body: bytes) -> Stamp:
        return self._over(key, body) if self._create else self._inner.create(key, body)

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        return self._over(old.key, body) if self._replace else self._inner.replace(old, body)

    def _over(self, key: str, body: bytes) -> Stamp:
        while True:
            page = self._inner.list(key)
            try:
                if not page.stamps:
                    return self._inner.create(key, body)
                return self._inner.replace(page.stamps[0], body)
            except Exception:
                continue


@pytest.mark.parametrize("broken, told", [("create", "creating a document that exists"), ("replace", "newer version")])
def test_probe_refuses(broken: str, told: str) -> None:
    """A store that accepts conditions and ignores them is refused, named, before anybody relies on it."""
    with pytest.raises(Misconfigured, match=rf"memory: ignores conditions.*{told}"):
        asyncio.run(probe(_pretending(**{broken: True})))


def test_probe_refuses_a_race() -> None:
    """A store that compares, but not while another one writes, is caught by the race."""
    store = MemoryStore()
    writes = 0

    class Racy(_Pretender):
        def replace(self, old: Stamp, body: bytes) -> Stamp:
            nonlocal writes
            writes += b"race" in body
            return self._over(old.key, body) if b"race" in body and writes <= 2 else self._inner.replace(old, body)

    class RacyDriver(MemoryDriver):
        def open(self, total: float) -> Client:
            client = MemoryClient(store)
            client.documents = Racy(client.documents)
            return client

    with pytest.raises(Misconfigured, match="writers at once"):
        asyncio.run(probe(Provider(RacyDriver(store))))


def test_probe_passes_other_errors_on() -> None:
    """A store that cannot be reached now is Unavailable, not misconfigured."""

    class Down(MemoryDriver):
        def open(self, total: float) -> Client:
            raise Unavailable("connection refused")

    with pytest.raises(Unavailable, match="connection refused"):
        asyncio.run(probe(Provider(Down())))
