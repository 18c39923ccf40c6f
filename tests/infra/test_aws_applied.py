"""The stack on AWS, applied to an emulator; a fleet run on exactly what came out of it; and all of it destroyed.

moto has the bucket, the queues, the group and its machines, and the metrics. Only the documents lie elsewhere, in a
bucket of the same name on SeaweedFS: moto checks and writes in two steps, which the workers' probe rightly refuses, and
takes a policy's denials for unconditional. A server of ours stands for the metadata service of each machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from jobs.demo import audit
from jobs.feed import routes
from providers.connect import connect
from tests import emulators
from tests.emulators import AwsEmulator
from tests.fake_metadata import IDENTITY, INSTANCE_ID, LIFECYCLE, FakeMetadata
from tests.infra import moto_plus
from tests.infra.aws_support import Terraform, stack
from tests.infra.boot_support import infra_environment
from tests.support import require
from tests.waiting import until
from worker.dev.fleet import LocalFleet, named
from worker.dev.history import check
from worker.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
ROWS = 5366

GIVEN: Mapping[str, Any] = {
    "name": "flights",
    "location": REGION,
    "image": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/cloud-worker@sha256:" + "4f" * 32,
    "queues": {"routes": {"partitions": 16}},  # as jobs/ declares them
    "queue_prefix": "test-",
    "lease_seconds": 5,
    "backlog_per_instance": 500,
}

EMULATED = """
provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
"""
"""What the provider must know of an emulator, merged into the module's own block."""

WORKING = 240.0
"""Seconds in which all rows are handled: on an idle machine it takes a quarter of that."""


@dataclass(frozen=True)
class Applied:
    """What Terraform has left behind in moto."""

    terraform: Terraform
    aws: AwsEmulator

    def client(self, service: str) -> Any:
        """Return a client of moto's, as an operator has one."""
        return boto3.client(  # type: ignore[call-overload]  # the service is a variable
            service,
            endpoint_url=self.aws.url,
            region_name=REGION,
            aws_access_key_id=self.aws.access_key,
            aws_secret_access_key=self.aws.secret_key,
        )

    def ask(self, service: str, question: Callable[[Any], Any]) -> Any:
        """Ask moto something."""
        client = self.client(service)
        try:
            return question(client)
        finally:
            client.close()

    def output(self, name: str) -> Any:
        """Return an output of the stack."""
        return json.loads(self.terraform.ok("output", "-json", name))

    def machines(self) -> list[str]:
        """Return the group's machines."""
        groups = self.ask("autoscaling", lambda it: it.describe_auto_scaling_groups())["AutoScalingGroups"]
        return [machine["InstanceId"] for group in groups for machine in group["Instances"]]

    def left(self) -> list[str]:
        """Return whatever of what the stack is made of is still there."""
        vpcs = self.ask("ec2", lambda it: it.describe_vpcs())["Vpcs"]
        roles = self.ask("iam", lambda it: it.list_roles())["Roles"]
        groups = self.ask("logs", lambda it: it.describe_log_groups())["logGroups"]
        return [
            *self.ask("sqs", lambda it: it.list_queues()).get("QueueUrls", []),
            *(one["Name"] for one in self.ask("s3", lambda it: it.list_buckets())["Buckets"]),
            *self.machines(),
            *(one["VpcId"] for one in vpcs if not one["IsDefault"]),
            *(one["RoleName"] for one in roles),
            *(one["logGroupName"] for one in groups),
        ]


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[Applied]:
    """The stack, applied to a moto of its own."""
    infra_environment()
    require((absent := emulators.missing()) is None, str(absent))
    module = stack(tmp_path)
    (module.folder / "emulated_override.tf").write_text(EMULATED)
    (module.folder / "given.auto.tfvars.json").write_text(json.dumps(GIVEN))
    with emulators.moto(Path(moto_plus.__file__)) as aws:
        terraform = Terraform(module.folder, {"AWS_ENDPOINT_URL": aws.url})
        terraform.ok("apply", "-auto-approve", "-no-color")
        yield Applied(terraform, aws)


@contextmanager
def documents(bucket: str) -> Iterator[AwsEmulator]:
    """Run an S3 server whose conditions hold against races, with a bucket of this name."""
    with emulators.seaweedfs() as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        yield server


def environment(applied: Applied, server: AwsEmulator) -> dict[str, str]:
    """Return what the machines' workers have: the output to the letter, and the way to the emulators."""
    told: dict[str, str] = applied.output("worker_environment")
    emulated = {
        **server.env,
        "AWS_ENDPOINT_URL": applied.aws.url,  # Auto Scaling, CloudWatch
        "WORKER_ENDPOINT_URL": server.url,
        "WORKER_QUEUE_ENDPOINT_URL": applied.aws.url,
    }
    assert emulated.keys() & told.keys() == set()
    del emulated["AWS_REGION"], emulated["AWS_DEFAULT_REGION"]  # they are told
    return {**told, **emulated}


@contextmanager
def fleet(env: Mapping[str, str], machines: list[str]) -> Iterator[tuple[LocalFleet, dict[str, FakeMetadata]]]:
    """Run a worker on each of the group's machines."""
    with ExitStack() as stacked:
        made = LocalFleet(env["WORKER_STORE"], count=len(machines), app=env["WORKER_APP"], env=env, cwd=ROOT)
        metadata: dict[str, FakeMetadata] = {}
        for (name, instance), id in zip(made.instances.items(), machines, strict=True):
            metadata[name] = stacked.enter_context(FakeMetadata())
            metadata[name].say(INSTANCE_ID, id)
            metadata[name].say(IDENTITY, json.dumps({"instanceId": id, "region": REGION}))
            instance.env.update({"WORKER_HOST_URL": metadata[name].url})
        with made:
            yield made, metadata


def send(applied: Applied, env: Mapping[str, str]) -> None:
    """Send every row: half as a producer that knows the intake's name only, half as `worker send` does, by its key."""
    rows = list(routes())
    assert len(rows) == ROWS
    intake = next(name for name in applied.output("queue_names") if name.endswith("routes"))

    def plainly(sqs: Any) -> None:
        url = sqs.get_queue_url(QueueName=intake)["QueueUrl"]
        known = rows[::2]
        for start in range(0, len(known), 10):
            batch = enumerate(known[start : start + 10])
            entries = [{"Id": str(number), "MessageBody": json.dumps(row)} for number, row in batch]
            assert not sqs.send_message_batch(QueueUrl=url, Entries=entries).get("Failed")

    applied.ask("sqs", plainly)
    sent = subprocess.run(
        [sys.executable, "-m", "worker", "send", "routes", "--file", "-", "--format", "jsonl"],
        input="".join(json.dumps(row) + "\n" for row in rows[1::2]),
        env={**os.environ, **env, "WORKER_HOST": "none"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr


def audited(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Compare every airport's flights in the store with the file, as the demo does."""
    with monkeypatch.context() as patched:
        for name, value in env.items():
            patched.setenv(name, value)
        settings = load_settings()

        async def ask() -> str:
            provider = connect(settings.need_store(), total=10.0, options=settings.store_options)
            try:
                await provider.prepare()
                return await audit(provider)
            finally:
                await provider.close()

        return asyncio.run(ask())


def published(applied: Applied) -> list[float]:
    """Return the backlog as the group's scaling policy would read it: by the very metric that the policy names."""
    (policy,) = applied.ask("autoscaling", lambda it: it.describe_policies())["ScalingPolicies"]
    tracked = policy["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]["Metrics"]
    (metric,) = [one["MetricStat"]["Metric"] for one in tracked if one["Id"] == "backlog"]
    now = datetime.now(UTC)
    told = applied.ask(
        "cloudwatch",
        lambda it: it.get_metric_statistics(
            **metric,
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Maximum"],
        ),
    )
    return [point["Maximum"] for point in told["Datapoints"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_fleet_runs_on_what_was_applied(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second plan changes nothing, a fleet counts every row on what was made, and a destroy leaves nothing."""
    monkeypatch.delenv("WORKER_TEST_INFRA")  # no setting of a worker's
    assert applied.terraform.run("plan", "-detailed-exitcode", "-no-color").returncode == 0

    bucket = applied.output("store").removeprefix("s3://").partition("/")[0]
    assert [one["Name"] for one in applied.ask("s3", lambda it: it.list_buckets())["Buckets"]] == [bucket]
    machines = applied.machines()
    assert len(machines) == 2

    with documents(bucket) as server:
        env = environment(applied, server)
        with fleet(env, machines) as (running, metadata):
            leader = running.wait_for(named("leader.elected"), 60).instance
            started = time.monotonic()
            send(applied, env)
            running.wait_until(lambda: running.instances[leader].handled >= 500, WORKING, "a tenth of the rows")
            scale_in(applied, running, metadata[leader], leader, machines)
            running.wait_until(lambda: not check(running.history, sent=ROWS).problems, WORKING, "every row handled")
            print(f"{ROWS} rows and a scale-in of the leader: {time.monotonic() - started:.0f} s")
            until(lambda: published(applied), 90, "the backlog in CloudWatch")
        assert audited(env, monkeypatch).startswith(f"{ROWS:,} messages")

    applied.ask("s3", lambda it: leave_a_lease(it, bucket))
    applied.terraform.ok("destroy", "-auto-approve", "-no-color")
    assert applied.terraform.ok("state", "list") == ""
    assert applied.left() == []


def leave_a_lease(s3: Any, bucket: str) -> None:
    """Leave a lease in moto's own bucket, as a fleet does. Past its policy, whose conditions moto does not look at."""
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="fleet/leases/leader", Body=b"{}")
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)


def scale_in(applied: Applied, running: LocalFleet, told: FakeMetadata, leader: str, machines: list[str]) -> None:
    """Take the leader's machine away, as the group would: its worker drains and completes the stack's hook."""
    mark = running.mark()
    told.say(LIFECYCLE, "Terminated")
    running.wait_for(named("host.acknowledged", instance=leader), 120, since=mark)
    gone = machines[list(running.instances).index(leader)]
    until(lambda: gone not in applied.machines(), 20, "the machine has left its group")
    assert running.events("instance.killed", since=mark) == []
