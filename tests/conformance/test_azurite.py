"""The Azure driver passes the suite on Azurite: blobs, native leases, Storage Queues."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from providers.azure import AzureDriver
from providers.azure.driver import API_VERSION
from providers.azure.lease import lease_id
from providers.body import decode
from providers.conformance import (
    AnswersSuite,
    DocumentsSuite,
    Harness,
    LeaseSuite,
    PortableSuite,
    QueueSuite,
    TermsSuite,
)
from providers.conformance.lease import ROLE, nonce, take
from providers.conformance.races import claim_races
from providers.interface import Driver, Refused
from providers.options import StoreOptions
from tests.emulators import AzureEmulator
from tests.waiting import until

ROUNDS = 60


class AzuriteHarness(Harness):
    """A container of its own, and queues with a prefix of their own."""

    def __init__(self, server: AzureEmulator) -> None:
        super().__init__()
        name = f"t{secrets.token_hex(4)}"
        self._account, self._name = server.account, name
        self._options = StoreOptions(azure_connection_string=server.connection_string, queue_prefix=f"{name}-")
        self._service = BlobServiceClient.from_connection_string(server.connection_string, api_version=API_VERSION)
        self._container = self._service.create_container(name)

    def driver(self) -> Driver:
        return AzureDriver(self._account, self._name, "fleet/", self._options, page=5)

    def url(self) -> str:
        return f"azure://{self._account}/{self._name}/fleet"

    def options(self) -> StoreOptions:
        return self._options

    def expire(self, role: str, duration: float) -> None:
        """Break the lease: to run out it would take fifteen seconds each time. One test below lets it."""
        lease = BlobLeaseClient(self._container.get_blob_client(f"fleet/leases/{role}"))
        if self._state(role) == "leased":
            lease.break_lease(0)

    def write_lease(self, role: str, body: bytes) -> None:
        """Write over the record, as somebody would who has first broken the lease."""
        self.expire(role, 0)
        blob = self._container.get_blob_client(f"fleet/leases/{role}")
        try:
            fields = json.loads(body)
            metadata = {name: json.dumps(value) for name, value in fields.items()}
        except (ValueError, AttributeError, RecursionError):
            blob.upload_blob(body, overwrite=True)  # whoever uploads over it takes the record away
        else:
            blob.upload_blob(b"", overwrite=True, metadata=metadata)

    def lease_fields(self, role: str) -> dict[str, Any]:
        found = self._container.get_blob_client(f"fleet/leases/{role}").get_blob_properties().metadata
        fields = {name: json.loads(value) for name, value in found.items()}
        return decode(json.dumps(fields).encode(), role)

    def delete_lease(self, role: str) -> None:
        self.expire(role, 0)
        self._container.get_blob_client(f"fleet/leases/{role}").delete_blob()

    def close(self) -> None:
        super().close()
        self._container.delete_container()
        self._service.close()

    def _state(self, role: str) -> str:
        return str(self._container.get_blob_client(f"fleet/leases/{role}").get_blob_properties().lease.state)


@pytest.fixture
def harness(azurite: AzureEmulator) -> Iterator[Harness]:
    harness = AzuriteHarness(azurite)
    yield harness
    harness.close()


class TestDocuments(DocumentsSuite):
    """Blobs."""


class TestLease(LeaseSuite):
    """The lease on one of them."""

    def test_sixteen_claim_at_once(self, harness: Harness) -> None:
        """Of sixteen clients that claim one lease at once, round after round, exactly one wins each."""
        assert claim_races(harness, rounds=ROUNDS) == [1] * ROUNDS

    @pytest.mark.slow
    def test_really_expired(self, harness: Harness) -> None:
        """A lease that nobody renews is free after its duration, by the store's clock, and not before."""
        lease = harness.client().lease(ROLE)
        stale = take(lease, "a")
        with pytest.raises(Refused):
            take(lease, "b")
        view = until(lambda: view if (view := lease.observe()).free else None, 20, "the lease to run out")
        assert (view.term, view.holder) == (1, "a")
        assert take(lease, "b").term == 2
        with pytest.raises(Refused):
            lease.renew(stale, nonce())

    def test_renewals_leave_no_trace(self, harness: Harness) -> None:
        """A renewal is a lease operation: version, nonce and record stay as they were, so it costs no write."""
        lease = harness.client().lease(ROLE)
        grant = take(lease, "a")
        before = lease.observe()
        for _ in range(3):
            grant = lease.renew(grant, nonce())
        assert lease.observe() == before
        assert grant.version == before.version
        assert grant.store_time is not None

    def test_lease_id(self, harness: Harness) -> None:
        """The lease is held under an id of its session's own, which no other session has."""
        grant = take(harness.client().lease(ROLE), "a")
        assert grant.proof == lease_id("a")
        assert uuid.UUID(grant.proof).version == 5
        assert lease_id("a") != lease_id("b")

    def test_nobody_writes_over_a_held_lease(self, harness: Harness) -> None:
        """While somebody holds the lease, a write without its id is refused by the store, whatever it compares."""
        lease = harness.client().lease(ROLE)
        take(lease, "a")
        assert isinstance(harness, AzuriteHarness)
        blob = harness._container.get_blob_client(f"fleet/leases/{ROLE}")
        with pytest.raises(HttpResponseError):
            blob.upload_blob(b"mine", overwrite=True)
        assert lease.observe().holder == "a"


class TestTerms(TermsSuite):
    """Its terms."""


class TestQueue(QueueSuite):
    """Storage Queues."""


class TestPortable(PortableSuite):
    """The provider over all of it."""


class TestAnswers(AnswersSuite):
    """Answers that do not come."""


def test_no_sdk_of_another_cloud() -> None:
    """Whoever uses Azure does not import AWS's SDK, nor the identity library before somebody signs in with it."""
    script = (
        "import sys, providers.azure; print([m for m in ('boto3', 'botocore', 'azure.identity') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
