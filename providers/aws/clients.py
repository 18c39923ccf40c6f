"""boto3's clients: one of S3 and two of SQS for a driver, shared by all its threads, which clients may be; and one each
of Auto Scaling and of CloudWatch for a host. Each is built when it is first needed.

Retries are off: what is sent twice without anybody's knowledge is refused the second time by its own first success.
The second client of SQS is for long polls, whose answers take longer than any other.
"""

from __future__ import annotations

import os
import threading  # noqa: TID251 - a lock only: several threads may be the first to ask
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url, validate_region_name

from providers.interface import Misconfigured
from providers.options import StoreOptions

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

LONGEST_POLL = 20
"""Seconds: what SQS can be asked to wait for."""

CONNECTIONS = 256
"""More than there are threads: nobody waits for somebody else's connection."""

ELSEWHERE = "us-east-1"
"""The region of servers that have none: they only want their requests signed for one."""


def check(options: StoreOptions) -> None:
    """Refuse endpoints and a region that no client takes. Raises Misconfigured; asks nobody."""
    for url in (options.endpoint_url, options.queue_endpoint_url):
        if url is not None and not (is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)):
            raise Misconfigured(f"no server can be at {url!r}: correct the endpoint")
    region = _region(options)
    try:
        validate_region_name(region or ELSEWHERE)
    except BotoCoreError as exc:
        raise Misconfigured(f"there is no AWS region {region!r}: set WORKER_AWS_REGION, or correct AWS_REGION") from exc


def _region(options: StoreOptions) -> str | None:
    """Look where a region may be named: in our setting, in AWS's variables, in the profile. Raises Misconfigured."""
    # AWS_REGION is what containers and functions are given; botocore itself reads AWS_DEFAULT_REGION only.
    named = options.aws_region or os.environ.get("AWS_REGION")  # noqa: TID251 - AWS's own variable
    try:
        return named or botocore.session.get_session().get_config_variable("region")
    except BotoCoreError as exc:
        raise Misconfigured(f"AWS configuration: {exc}") from exc


class Clients:
    """Builds each client when it is first needed, once, whichever thread asks."""

    def __init__(self, options: StoreOptions, total: float) -> None:
        self._options, self._total = options, total
        self._lock = threading.Lock()
        self._session: boto3.Session | None = None
        self._built: dict[str, Any] = {}

    @property
    def s3(self) -> S3Client:
        """The client for documents."""
        client: S3Client = self._get("s3", "s3", self._total, self._options.endpoint_url)
        return client

    @property
    def sqs(self) -> SQSClient:
        """The client for everything about queues that is answered at once."""
        client: SQSClient = self._get("sqs", "sqs", self._total, self._queues)
        return client

    @property
    def polls(self) -> SQSClient:
        """The client for receives that wait."""
        client: SQSClient = self._get("polls", "sqs", LONGEST_POLL + self._total, self._queues)
        return client

    @property
    def autoscaling(self) -> AutoScalingClient:
        """The client for a machine's group, where AWS or its own variables say: never at a store's endpoint."""
        client: AutoScalingClient = self._get("autoscaling", "autoscaling", self._total, None)
        return client

    @property
    def cloudwatch(self) -> CloudWatchClient:
        """The client for the metric that the group goes by, likewise."""
        client: CloudWatchClient = self._get("cloudwatch", "cloudwatch", self._total, None)
        return client

    @property
    def _queues(self) -> str | None:
        return self._options.queue_endpoint_url or self._options.endpoint_url

    @property
    def region(self) -> str:
        """The region that requests are signed for. Raises Misconfigured when there is none."""
        found = _region(self._options)
        if found:
            return found
        if self._options.endpoint_url:
            return ELSEWHERE
        raise Misconfigured("no AWS region: set WORKER_AWS_REGION to the region of the bucket and the queues")

    def close(self) -> None:
        """Close all connections. The clients stay: they connect again when they are used again."""
        with self._lock:
            for client in self._built.values():
                client.close()

    def _get(self, name: str, service: str, read: float, endpoint: str | None) -> Any:
        with self._lock:  # sessions are not safe for threads, the clients that they make are
            if name not in self._built:
                self._built[name] = self._build(service, read, endpoint)
            return self._built[name]

    def _build(self, service: str, read: float, endpoint: str | None) -> Any:
        region = self.region
        try:
            if self._session is None:
                self._session = boto3.Session(region_name=region)
            client: Any = self._session.client(
                service, endpoint_url=endpoint, config=_config(self._total, read, endpoint)
            )  # type: ignore[call-overload]  # the service is a variable
        except (BotoCoreError, ValueError) as exc:
            raise Misconfigured(f"AWS configuration: {' '.join(str(exc).split())}") from exc
        client.meta.events.register("before-call.s3", _once)
        return client


def _once(params: dict[str, Any], **_: Any) -> None:
    """Make one call one request and one answer, whatever botocore would add for the sake of large bodies.

    It would look for the bucket in other regions, where the error says more; and before it sends a body it would wait
    for "100 Continue": a second on the way to servers that never say so, a round trip on the way to the others.
    """
    params["context"].setdefault("s3_redirect", {})["redirected"] = True
    params["headers"].pop("Expect", None)


def _config(connect: float, read: float, endpoint: str | None) -> Config:
    """Return a configuration that the environment cannot change."""
    return Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=connect,
        read_timeout=read,
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint else "auto"},
        user_agent_extra="cloud-worker",
        tcp_keepalive=True,
    )
