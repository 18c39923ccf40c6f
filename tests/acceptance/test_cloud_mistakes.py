"""What can be wrong about a cloud before anything runs: one exit code and one clear line each, and nothing starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.clouds import azure_venue, s3_venue
from tests.acceptance.support import environment
from tests.emulators import ACCOUNT, BUCKET, KEY, READER, AwsEmulator, AzureEmulator
from tests.proxy import WEB_PAGE, Fault

STORE, CONFIGURATION = 4, 3


def refused(folder: Path, **env: str | None) -> tuple[int, str]:
    """Start an instance that must not start; return its exit code and the one line that it says."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "run"],
        env=environment(folder, WORKER_APP="tests.acceptance.apps.plain:app", WORKER_ADMIN_PORT="0", **env),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    assert '"instance.started"' not in done.stderr
    assert KEY not in done.stderr
    return done.returncode, lines[0]


def test_wrong_container(azurite: AzureEmulator, tmp_path: Path) -> None:
    """A container that is not there is named, with what to do."""
    code, line = refused(
        tmp_path,
        WORKER_STORE=f"azure://{ACCOUNT}/nowhere",
        WORKER_AZURE_CONNECTION_STRING=azurite.connection_string,
    )
    assert code == STORE
    assert "there is no such container: create it, or correct WORKER_STORE" in line


def test_wrong_account(azurite: AzureEmulator, tmp_path: Path) -> None:
    """An account that is not the connection string's is told so, naming both."""
    code, line = refused(
        tmp_path,
        WORKER_STORE="azure://another/fleet",
        WORKER_AZURE_CONNECTION_STRING=azurite.connection_string,
    )
    assert code == CONFIGURATION
    assert "'another'" in line
    assert f"'{ACCOUNT}'" in line


def test_wrong_key(azurite: AzureEmulator, tmp_path: Path) -> None:
    """A key that the account does not know is told as that (Azurite says "denied", Azure that nobody signed in)."""
    wrong = azurite.connection_string.replace(KEY, "d3Jvbmc=")
    code, line = refused(tmp_path, WORKER_STORE=f"azure://{ACCOUNT}/fleet", WORKER_AZURE_CONNECTION_STRING=wrong)
    assert code == STORE
    assert "a wrong key" in line


def test_wrong_bucket(moto_server: AwsEmulator, tmp_path: Path) -> None:
    """A bucket that is not there is named, with what to do (SeaweedFS would make one for whoever may)."""
    with s3_venue(moto_server, moto_server) as venue:
        code, line = refused(tmp_path, **{**venue.env, "WORKER_STORE": "s3://no-such-bucket"})
    assert code == STORE
    assert "s3://no-such-bucket" in line
    assert "correct WORKER_STORE" in line


@pytest.mark.parametrize(
    "gone, told",
    [
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "no usable AWS credentials"),
        (["AWS_SECRET_ACCESS_KEY"], "missing: AWS_SECRET_ACCESS_KEY"),
    ],
    ids=["none", "half"],
)
def test_missing_credentials(
    seaweedfs: AwsEmulator, moto_server: AwsEmulator, tmp_path: Path, gone: list[str], told: str
) -> None:
    """Without credentials that is said, and with half of them which variable is missing."""
    none = {"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_CONFIG_FILE": "/nonexistent", **dict.fromkeys(gone)}
    with s3_venue(seaweedfs, moto_server) as venue:
        code, line = refused(tmp_path, **{**venue.env, "WORKER_STORE": venue.store, **none})
    assert code == STORE
    assert told in line


def test_reading_only(seaweedfs: AwsEmulator, moto_server: AwsEmulator, tmp_path: Path) -> None:
    """Credentials that may only read are told which permission is missing, on what."""
    with s3_venue(seaweedfs, moto_server) as venue:
        reader = {"AWS_ACCESS_KEY_ID": READER[0], "AWS_SECRET_ACCESS_KEY": READER[1], "WORKER_STORE": venue.store}
        code, line = refused(tmp_path, **{**venue.env, **reader})
    assert code == STORE
    assert "s3:PutObject on arn:aws:s3:::cloud-worker" in line


def test_no_region(seaweedfs: AwsEmulator, tmp_path: Path) -> None:
    """Without a region the setting is named, and no cloud is asked."""
    code, line = refused(
        tmp_path,
        **{**seaweedfs.env, "AWS_REGION": None, "AWS_DEFAULT_REGION": None, "AWS_CONFIG_FILE": "/nonexistent"},
        WORKER_STORE=f"s3://{BUCKET}",
    )
    assert code == STORE
    assert "WORKER_AWS_REGION" in line


@pytest.mark.parametrize("cloud", ["azurite", "s3"])
def test_not_a_store_at_all(request: pytest.FixtureRequest, tmp_path: Path, cloud: str) -> None:
    """A web server that answers everything with a page is told apart from a store."""
    if cloud == "azurite":
        place = azure_venue(request.getfixturevalue("azurite"))
    else:
        place = s3_venue(request.getfixturevalue("seaweedfs"), request.getfixturevalue("moto_server"))
    with place as venue:
        venue.documents.inject(Fault.ANSWER, answer=WEB_PAGE)
        code, line = refused(tmp_path, **{**venue.env, "WORKER_STORE": venue.store})
        assert venue.documents.url.split("/")[2] in line
    assert code == STORE
    assert "correct the endpoint" in line


def test_nobody_there(tmp_path: Path, azurite: AzureEmulator) -> None:
    """An endpoint where nobody listens is given one lease's time, and then told as unreachable."""
    with azure_venue(azurite) as venue:
        venue.documents.refuse()
        code, line = refused(tmp_path, **{**venue.env, "WORKER_STORE": venue.store})
    assert code == STORE
    assert "cannot be reached" in line
