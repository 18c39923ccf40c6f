"""From a URL to a provider."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from providers.connect import LONGEST_PREFIX, connect, driver_for
from providers.interface import Misconfigured
from providers.local import SqliteDriver
from providers.options import StoreOptions


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


@pytest.mark.parametrize(
    "url",
    [
        *("azure://account", "azure://account/", "azure://ac/container", "azure://Account/container"),
        *("azure://account/co", "azure://account/Container", "azure://account/a--b", "azure://account/-ab"),
        *("s3://", "s3://ab", "s3://Bucket", "s3://a_bucket", "s3://ab..cd", "s3://.abc", "s3://abc-", "s3:///key"),
        *("s3://" + "x" * 64, "azure://account/" + "x" * 64),
    ],
)
def test_no_place(url: str) -> None:
    """A cloud's URL whose account, container or bucket cannot be one is refused, with what can."""
    with pytest.raises(Misconfigured, match=r"write (azure|s3)://.* lower-case letters"):
        driver_for(url)


@pytest.mark.parametrize("url", ["s3://abc", "s3://my.logs-2026", "azure://abc/abc", "azure://account/a-b-c"])
def test_a_place(url: str) -> None:
    """A name that can be a container's or a bucket's is taken as it is."""
    assert driver_for(url).url == url


@pytest.mark.parametrize("store", ["azure://account/container", "s3://bucket"])
def test_the_longest_prefix(store: str) -> None:
    """A prefix that leaves no room for the keys below it is refused before anything is sent, with its length."""
    assert driver_for(f"{store}/{'x' * LONGEST_PREFIX}").url.endswith("x")
    with pytest.raises(Misconfigured, match="a prefix of 257 characters, and 256 is the limit"):
        driver_for(f"{store}/{'x' * 257}")


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
