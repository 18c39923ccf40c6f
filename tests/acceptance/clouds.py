"""Fleets on emulated clouds: where each is, how it is reached through proxies that a test can turn against it."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from providers.azure.driver import API_VERSION
from providers.body import decode
from providers.connect import connect
from providers.interface import BadDocument, NotFound
from providers.options import StoreOptions
from providers.provider import Provider
from tests.acceptance.support import ROOT, send, worker
from tests.emulators import ACCOUNT, BUCKET, AwsEmulator, AzureEmulator
from tests.proxy import FaultProxy, Request
from worker.core.bounds import Bound, bounds
from worker.core.timings import Timings, leader_timings, member_timings
from worker.dev.fleet import LocalFleet

T = TypeVar("T")

DRAIN = 20.0
"""Seconds that an instance of a test may take to drain."""


@dataclass(frozen=True)
class Venue:
    """One store of a test's own, and the settings of the instances that meet there."""

    name: str
    store: str
    lease: float
    options: StoreOptions
    env: Mapping[str, str]
    documents: FaultProxy
    queues: FaultProxy
    is_renewal: Callable[[Request], bool]
    overwrite: Callable[[str, bytes], None]
    """Writes over a document by its key, as somebody in the portal would: nothing is compared, a lease is broken."""
    floor: float
    """Seconds that a killed leader holds up the fleet at the least, by protocol: its lease, less one renew interval."""

    @property
    def leader(self) -> Timings:
        """The leader's timings here."""
        return leader_timings(self.lease)

    @property
    def member(self) -> Timings:
        """A member's timings here."""
        return member_timings(self.leader)

    @property
    def bounds(self) -> Mapping[str, Bound]:
        """What `worker bounds` prints for this lease."""
        return {bound.name: bound for bound in bounds(self.leader, self.member, drain_timeout=DRAIN)}

    @contextmanager
    def fleet(self, folder: Path, app: str = "plain", *, count: int = 3) -> Iterator[LocalFleet]:
        """Run a fleet here; its history is left in the folder for whoever looks for a failure."""
        fleet = LocalFleet(
            self.store,
            count=count,
            app=f"tests.acceptance.apps.{app}:app",
            env={**self.env, "ACTS_FOLDER": str(folder)},
            cwd=ROOT,
        )
        try:
            with fleet:
                yield fleet
        finally:
            (folder / "events.jsonl").write_text("".join(event.to_line() + "\n" for event in fleet.history))

    @property
    def reached(self) -> dict[str, Any]:
        """The settings of a command here."""
        return {**self.env, "WORKER_STORE": self.store}

    def worker(
        self, folder: Path, *arguments: str, app: str = "plain", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one `worker` command here and return how it ended."""
        return worker(folder, *arguments, app=app, stdin=stdin, **self.reached)

    def send(self, folder: Path, count: int, first: int = 0) -> None:
        """Send so many items to the app `plain`, as a user would."""
        bodies = [{"number": number} for number in range(first, first + count)]
        send(folder, "items", bodies, app="plain", env=self.reached)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of the documents that start so: of the first page."""

        async def listed(provider: Provider) -> list[str]:
            return [stamp.key for stamp in await provider.documents.list(prefix)]

        result: list[str] = self.ask(listed)
        return result

    def ask(self, question: Callable[[Provider], Any]) -> Any:
        """Ask the store something, past the proxies' faults only if there are none; in a patient way."""

        async def whole() -> Any:
            provider = connect(self.store, total=20.0, options=self.options)
            try:
                await provider.prepare()
                return await question(provider)
            finally:
                await provider.close()

        return asyncio.run(whole())

    def fields(self, key: str) -> dict[str, Any]:
        """Return a document's fields; {} while it is not there, or is garbage."""

        async def read(provider: Provider) -> dict[str, Any]:
            try:
                found = await provider.documents.read(key)
                return decode(found.body if found else b"", key)
            except (NotFound, BadDocument):
                return {}

        result: dict[str, Any] = self.ask(read)
        return result


@contextmanager
def azure_venue(server: AzureEmulator) -> Iterator[Venue]:
    """A container of its own on Azurite, and a lease of 15 seconds: the shortest that Azure has."""
    name = f"v{secrets.token_hex(4)}"
    with (
        BlobServiceClient.from_connection_string(server.connection_string, api_version=API_VERSION) as service,
        FaultProxy(server.blob_url) as blobs,
        FaultProxy(server.queue_url) as queues,
    ):
        container = service.create_container(name)

        def overwrite(key: str, body: bytes) -> None:
            blob = container.get_blob_client(key)
            try:
                blob.upload_blob(body, overwrite=True)
            except HttpResponseError:  # "there is currently a lease on the blob"
                BlobLeaseClient(blob).break_lease(lease_break_period=0)
                blob.upload_blob(body, overwrite=True)

        env = {
            "WORKER_AZURE_CONNECTION_STRING": server.connection_string,
            "WORKER_ENDPOINT_URL": blobs.url,
            "WORKER_QUEUE_ENDPOINT_URL": queues.url,
            "WORKER_QUEUE_PREFIX": f"{name}-",
            "WORKER_DRAIN_TIMEOUT": str(DRAIN),
        }
        options = StoreOptions(blobs.url, queues.url, f"{name}-", azure_connection_string=server.connection_string)
        lease = 15.0
        yield Venue(
            "azurite",
            f"azure://{ACCOUNT}/{name}",
            lease,
            options,
            env,
            blobs,
            queues,
            is_renewal=_renews_blob,
            overwrite=overwrite,
            floor=lease - lease / 5,
        )
        blobs.clear()


@contextmanager
def s3_venue(buckets: AwsEmulator, messages: AwsEmulator) -> Iterator[Venue]:
    """A prefix of its own on SeaweedFS, queues on moto, and a lease of 5 seconds."""
    name = f"v{secrets.token_hex(4)}"
    with FaultProxy(buckets.url) as objects, FaultProxy(messages.url) as queues:
        env = {
            **buckets.env,
            "WORKER_ENDPOINT_URL": objects.url,
            "WORKER_QUEUE_ENDPOINT_URL": queues.url,
            "WORKER_QUEUE_PREFIX": f"{name}-",
            "WORKER_AWS_REGION": buckets.region,
            "WORKER_LEASE": "5",
            "WORKER_DRAIN_TIMEOUT": str(DRAIN),
        }
        options = StoreOptions(objects.url, queues.url, f"{name}-", buckets.region)
        lease = 5.0
        floor = leader_timings(lease).patience - lease / 5

        def overwrite(key: str, body: bytes) -> None:
            client = boto3.client("s3", endpoint_url=buckets.url, region_name=buckets.region)
            client.put_object(Bucket=BUCKET, Key=f"{name}/{key}", Body=body)
            client.close()

        yield Venue(
            "s3",
            f"s3://{BUCKET}/{name}",
            lease,
            options,
            env,
            objects,
            queues,
            is_renewal=_writes_lease,
            overwrite=overwrite,
            floor=floor,
        )


def _renews_blob(request: Request) -> bool:
    return request.headers.get("x-ms-lease-action") == "renew"


def _writes_lease(request: Request) -> bool:
    """A renewal is a write over the lease; so is a claim, but only the holder writes once per renew interval."""
    return request.method == "PUT" and request.path.endswith("/leases/leader") and "if-match" in request.headers
