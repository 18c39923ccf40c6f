"""The AWS driver on servers that a developer names; nobody needs to have one, CI included.

WORKER_TEST_MINIO                                  a MinIO binary, or the URL of a running MinIO
WORKER_TEST_S3_ENDPOINT, WORKER_TEST_SQS_ENDPOINT  any S3-compatible server, and any SQS-compatible one,
                                                   signed in to by the usual AWS_ variables; the bucket is
                                                   WORKER_TEST_S3_BUCKET, or is made
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from providers.aws.errors import code_of
from providers.conformance import DocumentsSuite, Harness, LeaseSuite, PortableSuite, QueueSuite, TermsSuite
from tests.conformance.test_s3 import AwsHarness, signed_in
from tests.emulators import BUCKET, AwsEmulator

OWN = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
"""The developer's own credentials, which other tests do not see."""

on_minio = pytest.mark.skipif("WORKER_TEST_MINIO" not in os.environ, reason="WORKER_TEST_MINIO names no MinIO")
on_named = pytest.mark.skipif(
    not {"WORKER_TEST_S3_ENDPOINT", "WORKER_TEST_SQS_ENDPOINT"} <= set(os.environ),
    reason="WORKER_TEST_S3_ENDPOINT and WORKER_TEST_SQS_ENDPOINT name no servers",
)


class OnMinio:
    """A harness on MinIO, its queues on moto."""

    @pytest.fixture
    def harness(
        self, minio: AwsEmulator, moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Harness]:
        signed_in(monkeypatch, minio)
        make_bucket(minio.url, BUCKET)
        harness = AwsHarness(minio.url, moto_server.url)
        harness.conditional_delete = False
        yield harness
        harness.close()


class OnNamedServers:
    """A harness on the servers that a developer names."""

    @pytest.fixture
    def harness(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
        s3, sqs = os.environ["WORKER_TEST_S3_ENDPOINT"], os.environ["WORKER_TEST_SQS_ENDPOINT"]
        region = OWN.get("AWS_REGION") or OWN.get("AWS_DEFAULT_REGION") or "us-east-1"
        for name, value in OWN.items():
            monkeypatch.setenv(name, value)
        bucket = os.environ.get("WORKER_TEST_S3_BUCKET") or BUCKET
        make_bucket(s3, bucket)
        harness = AwsHarness(s3, sqs, bucket=bucket, region=region)
        harness.conditional_delete = compares_deletes(s3, bucket)
        yield harness
        harness.close()


def make_bucket(endpoint: str, bucket: str) -> None:
    """Create the bucket if it is missing."""
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    client.close()


def compares_deletes(endpoint: str, bucket: str) -> bool:
    """Say whether the server compares the version that a delete names: some ignore it, and some do not know it."""
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    where: Any = {"Bucket": bucket, "Key": f"compared-{secrets.token_hex(4)}"}
    client.put_object(**where, Body=b"1")
    try:
        client.delete_object(**where, IfMatch='"another"')
    except ClientError as exc:
        client.delete_object(**where)
        return code_of(exc)[1] == 412
    finally:
        client.close()
    return False


if "WORKER_TEST_MINIO" in os.environ:

    class TestMinioDocuments(OnMinio, DocumentsSuite):
        """Objects in MinIO."""

    class TestMinioLease(OnMinio, LeaseSuite):
        """The lease on them."""

    class TestMinioTerms(OnMinio, TermsSuite):
        """Its terms."""


if {"WORKER_TEST_S3_ENDPOINT", "WORKER_TEST_SQS_ENDPOINT"} <= set(os.environ):

    class TestNamedDocuments(OnNamedServers, DocumentsSuite):
        """Objects in a server of a developer's choice."""

    class TestNamedLease(OnNamedServers, LeaseSuite):
        """The lease on them."""

    class TestNamedTerms(OnNamedServers, TermsSuite):
        """Its terms."""

    class TestNamedQueue(OnNamedServers, QueueSuite):
        """Queues in a server of a developer's choice."""

    class TestNamedPortable(OnNamedServers, PortableSuite):
        """The provider over all of it."""


@on_minio
def test_minio_was_asked() -> None:
    """Where a MinIO is named, the suites above have run on it."""
    assert "TestMinioLease" in globals()


@on_named
def test_named_servers_were_asked() -> None:
    """Where servers are named, the suites above have run on them."""
    assert "TestNamedLease" in globals()
