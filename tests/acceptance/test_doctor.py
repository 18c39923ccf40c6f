"""Stores that cannot be trusted, and `worker doctor` on real ones."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.clouds import azure_venue
from tests.acceptance.support import all_owned, fleet_of, worker
from tests.emulators import BUCKET, READER, AwsEmulator, AzureEmulator
from tests.naive_s3 import naive_s3

CREDENTIALS: dict[str, Any] = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "us-east-1",
}

PATIENT = {"WORKER_LEASE": "60"}
"""T is 8 s: what an emulator on a busy machine keeps. The doctor is to say that a store is slow, but not in a test."""


@pytest.fixture
def naive() -> Iterator[dict[str, Any]]:
    """The settings of a store that accepts conditions and ignores them."""
    with naive_s3() as url:
        yield {"WORKER_STORE": "s3://bucket/fleet", "WORKER_ENDPOINT_URL": url, **CREDENTIALS}


@pytest.fixture
def s3(seaweedfs: AwsEmulator, moto_server: AwsEmulator) -> dict[str, Any]:
    """The settings of a prefix on SeaweedFS and of queues on moto."""
    name = f"d{secrets.token_hex(4)}"
    return {
        **seaweedfs.env,
        **PATIENT,
        "WORKER_STORE": f"s3://{BUCKET}/{name}",
        "WORKER_ENDPOINT_URL": seaweedfs.url,
        "WORKER_QUEUE_ENDPOINT_URL": moto_server.url,
        "WORKER_QUEUE_PREFIX": f"{name}-",
    }


@pytest.fixture
def azure(azurite: AzureEmulator) -> Iterator[dict[str, Any]]:
    """The settings of a container on Azurite, and of its queues."""
    with azure_venue(azurite) as venue:
        yield {**venue.env, **PATIENT, "WORKER_STORE": venue.store}


def examined(folder: Path, env: dict[str, Any], *arguments: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Run the doctor; return its exit code, what it says of each check, and all of its output."""
    done = worker(folder, "doctor", "--json", *arguments, app="three", **env)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["exit_code"] == done.returncode
    return done.returncode, {one["check"]: one for one in found["checks"]}, done.stdout


def bad(found: dict[str, dict[str, str]], *allowed: str) -> dict[str, dict[str, str]]:
    """Return what is neither ok nor one of the statuses that are allowed."""
    return {name: one for name, one in found.items() if one["status"] not in ("ok", *allowed)}


def test_run_refuses_a_store_that_ignores_conditions(tmp_path: Path, naive: dict[str, Any]) -> None:
    """`worker run` ends with 3 and one line on a server that accepts conditions and ignores them."""
    done = worker(tmp_path, "run", app="three", **naive)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: WORKER_STORE: s3://bucket/fleet ignores conditions: it allowed creating a document")


def test_doctor_names_a_store_that_ignores_conditions(tmp_path: Path, naive: dict[str, Any]) -> None:
    """`worker doctor` ends with 3 on such a server, and says which condition was ignored."""
    code, found, _ = examined(tmp_path, naive)
    assert code == 3
    assert found["conditions"]["status"] == "failed"
    assert "ignores conditions: it allowed creating a document that exists" in found["conditions"]["what"]
    assert found["claim race"]["status"] == "skipped"


def test_doctor_on_sqlite(tmp_path: Path) -> None:
    """On SQLite all is well but for queues that the first instance will create, and a second doctor says the same."""
    for _ in range(2):
        code, found, _ = examined(tmp_path, {"WORKER_LEASE": "15"})
        assert code == 0
        assert bad(found, "skipped").keys() == {"queues"}
        assert "orders, orders-00, orders-01 and 2 more" in found["queues"]["what"]


def test_doctor_beside_a_fleet(tmp_path: Path) -> None:
    """Beside a working fleet all is well, and the fleet does not notice: nobody is deposed, nothing is handled."""
    with fleet_of(tmp_path, "three") as fleet:
        all_owned(fleet, 3)
        mark = fleet.mark()
        code, found, said = examined(tmp_path, {})
        assert code == 0, said
        assert bad(found, "skipped") == {}
        assert "belongs to fleet" in found["fleet"]["what"]
        changes = fleet.events("leader.lost", "leader.elected", "instance.killed", "message.handled", since=mark)
        assert [(event.name, event.instance) for event in changes] == []


@pytest.mark.timeout(120)
def test_doctor_on_azure(tmp_path: Path, azure: dict[str, Any]) -> None:
    """On Azure's emulator every permission is tried, native leases included, and all is well."""
    code, found, said = examined(tmp_path, azure)
    assert code == 0, said
    assert bad(found, "warning").keys() == {"retention", "machine"}, said  # no queue is there yet
    assert "AccountKey" not in said


@pytest.mark.timeout(120)
def test_doctor_on_s3(tmp_path: Path, s3: dict[str, Any]) -> None:
    """On S3 and SQS every permission is tried, and all is well."""
    code, found, said = examined(tmp_path, s3)
    assert code == 0, said
    assert bad(found, "warning").keys() == {"retention", "renewal latency", "machine"}, said


def test_doctor_without_permission_to_write(tmp_path: Path, s3: dict[str, Any]) -> None:
    """Where documents can be read only, the doctor ends with 3 and names the permission that is missing."""
    code, found, said = examined(tmp_path, {**s3, "AWS_ACCESS_KEY_ID": READER[0], "AWS_SECRET_ACCESS_KEY": READER[1]})
    assert code == 3, said
    assert "s3:PutObject" in found["documents.create"]["what"]
    assert "s3:PutObject" in found["lease.claim"]["what"]
    assert found["conditions"]["what"] == "because of 'documents.create'"


@pytest.mark.parametrize(
    "env, told",
    [
        ({"WORKER_STORE": "s3://no-such-bucket"}, "no such bucket"),
        ({"WORKER_ENDPOINT_URL": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "credentials are not accepted"),
    ],
)
def test_doctor_of_a_store_that_cannot_be_reached(
    tmp_path: Path, s3: dict[str, Any], env: dict[str, Any], told: str
) -> None:
    """What keeps a worker from the store ends the doctor with 4, and everything that needs the store is skipped."""
    code, found, said = examined(tmp_path, {**s3, **env})
    assert code == 4, said
    assert told in found["reach"]["what"]
    assert bad(found, "skipped").keys() == {"reach"}
