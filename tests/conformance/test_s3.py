"""The AWS driver passes the suite: S3 on SeaweedFS with SQS on moto.

moto's S3 is asked for the shape of its API only.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator

import boto3
import pytest

from providers.aws import AwsDriver
from providers.conformance import (
    AnswersSuite,
    DocumentsSuite,
    Harness,
    LeaseSuite,
    OrderSuite,
    PortableSuite,
    QueueSuite,
    TermsSuite,
)
from providers.conformance.races import claim_races
from providers.interface import Driver
from providers.options import StoreOptions
from tests.emulators import BUCKET, AwsEmulator

ROUNDS = 20
"""Races for one lease in the test; `scripts/must_show.py` runs sixty."""


class AwsHarness(Harness):
    """One prefix of one bucket, and queues with a prefix of their own. Their clocks cannot be moved."""

    total = 20.0  # SeaweedFS takes seconds for sixteen writers of one object

    def __init__(self, s3: str, sqs: str, *, bucket: str = BUCKET, region: str = "us-east-1") -> None:
        super().__init__()
        self._prefix = f"t{secrets.token_hex(4)}"
        self._bucket = bucket
        self._options = StoreOptions(
            endpoint_url=s3, queue_endpoint_url=sqs, queue_prefix=f"{self._prefix}-", aws_region=region
        )

    def driver(self) -> Driver:
        return AwsDriver(self._bucket, f"{self._prefix}/", self._options, page=5)

    def url(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def options(self) -> StoreOptions:
        return self._options


class FifoHarness(AwsHarness):
    """Queues whose names ask for order."""

    queue = "conformance-orders-00.fifo"
    dead = "conformance-orders-dlq.fifo"


class ShapeHarness(AwsHarness):
    """moto's own S3: its check and its write are two steps."""

    atomic_writes = False


def signed_in(monkeypatch: pytest.MonkeyPatch, server: AwsEmulator) -> None:
    """Give this process the server's credentials, and no others."""
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def harness(seaweedfs: AwsEmulator, moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    signed_in(monkeypatch, seaweedfs)
    harness = AwsHarness(seaweedfs.url, moto_server.url)
    yield harness
    harness.close()


class TestDocuments(DocumentsSuite):
    """Objects in SeaweedFS."""


class TestLease(LeaseSuite):
    """The lease on them."""

    def test_sixteen_claim_at_once(self, harness: Harness) -> None:
        """Of sixteen clients that claim one lease at once, round after round, exactly one wins each."""
        assert claim_races(harness, rounds=ROUNDS) == [1] * ROUNDS


class TestTerms(TermsSuite):
    """Its terms."""


class TestQueue(QueueSuite):
    """Queues in moto."""


class TestPortable(PortableSuite):
    """The provider over all of it."""


class TestAnswers(AnswersSuite):
    """Answers that do not come."""


class TestFifo(OrderSuite):
    """Queues of moto whose name ends in `.fifo`."""

    @pytest.fixture
    def harness(
        self, seaweedfs: AwsEmulator, moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Harness]:
        signed_in(monkeypatch, seaweedfs)
        harness = FifoHarness(seaweedfs.url, moto_server.url)
        yield harness
        harness.close()

    def test_groups(self, harness: Harness) -> None:
        """Messages of one key wait for one another, and not for those of another key."""
        queue = harness.client().queue
        queue.ensure(harness.queue)
        queue.send(harness.queue, [b"a1", b"a2", b"b1"], ["customer a", "customer a", "b"])
        first = queue.receive(harness.queue, 1, 30.0)
        second = queue.receive(harness.queue, 10, 30.0)
        assert [one.body for one in (*first, *second)] == [b"a1", b"b1"]
        queue.delete(harness.queue, first[0].receipt)
        assert [one.body for one in queue.receive(harness.queue, 10, 30.0)] == [b"a2"]


class TestShape(DocumentsSuite):
    """Objects in moto: what S3's API looks like, without its atomicity."""

    @pytest.fixture
    def harness(self, moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
        signed_in(monkeypatch, moto_server)
        boto3.client("s3", endpoint_url=moto_server.url, region_name="us-east-1").create_bucket(Bucket=BUCKET)
        harness = ShapeHarness(moto_server.url, moto_server.url)
        yield harness
        harness.close()


def test_no_sdk_of_another_cloud() -> None:
    """Whoever uses AWS does not import Azure's SDK."""
    script = "import sys, providers.aws; print([m for m in sys.modules if m.split('.')[0] == 'azure'])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
