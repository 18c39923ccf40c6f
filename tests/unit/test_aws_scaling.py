"""An EC2 instance and its Auto Scaling group: what is asked of AWS, here moto, and what is made of bad answers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import boto3
import pytest

from providers.aws.host import LIFECYCLE, REBALANCE, SPOT, AwsHost
from providers.aws.scaling import LAUNCHING, TERMINATING
from providers.host import End, Identity, Notice
from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.metadata import MetadataServer
from providers.options import StoreOptions
from tests import fake_metadata as fake
from tests.emulators import AwsEmulator
from tests.fake_metadata import REGION, FakeMetadata
from tests.proxy import WEB_PAGE, Canned, Fault, FaultProxy, Request
from tests.scaling import add_hook, make_group

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

TERMINATED = Notice(f"{LIFECYCLE}=Terminated", End.GONE, LIFECYCLE, None)
JSON = (("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-RequestId", "canned"))
XML = (("Content-Type", "text/xml"), ("x-amzn-RequestId", "canned"))


@dataclass(frozen=True)
class Refusal:
    """An error, which each service words in its own format."""

    code: str
    message: str = "no"
    status: int = 400

    def to_canned(self, asked: str) -> Canned:
        if asked == "PutMetricData":
            told = json.dumps({"__type": self.code, "message": self.message})
            return Canned(self.status, told.encode(), JSON)
        told = (
            f"<ErrorResponse><Error><Code>{self.code}</Code><Message>{self.message}</Message></Error></ErrorResponse>"
        )
        return Canned(self.status, told.encode(), XML)


def operation(request: Request) -> str:
    """Return what a request asks for, whichever protocol the SDK has chosen."""
    named = request.headers.get("x-amz-target", "").rpartition(".")[2] or request.path.rpartition("/")[2]
    return named or parse_qs(request.start.decode())["Action"][0]


def is_for(asked: str, request: Request) -> bool:
    """Say whether a request asks for this operation."""
    return operation(request) == asked


CALLS: dict[str, Callable[[AwsHost], object]] = {
    "DescribeAutoScalingInstances": lambda host: host.identity(),
    "DescribeLifecycleHooks": lambda host: host.identity(),
    "SetInstanceProtection": lambda host: host.protect(True),
    "PutMetricData": lambda host: host.publish_backlog("fleet", 1),
    "RecordLifecycleActionHeartbeat": lambda host: host.hold(TERMINATED),
    "CompleteLifecycleAction": lambda host: host.acknowledge(TERMINATED),
}
"""Every operation that is asked of AWS, and a call that needs it."""


@dataclass
class Rehearsal:
    """One machine of a group in moto, and everything that passes between it and AWS."""

    host: AwsHost
    metadata: FakeMetadata
    way: FaultProxy
    aws: AutoScalingClient
    group: str
    machine: str

    def add_hook(self, name: str = "drain", timeout: int = 90, transition: str = TERMINATING) -> None:
        add_hook(self.aws, self.group, name, timeout, transition)

    def in_group(self) -> bool:
        return bool(self.aws.describe_auto_scaling_instances(InstanceIds=[self.machine])["AutoScalingInstances"])

    def is_protected(self) -> bool:
        (one,) = self.aws.describe_auto_scaling_instances(InstanceIds=[self.machine])["AutoScalingInstances"]
        return one["ProtectedFromScaleIn"]

    def sent(self) -> list[str]:
        """Return the operations since the last look."""
        operations = [operation(passed.request) for passed in self.way.log]
        self.way.log.clear()
        return operations

    def answer(self, asked: str, answer: Canned | Refusal, times: int | None = None) -> None:
        answer = answer.to_canned(asked) if isinstance(answer, Refusal) else answer
        self.way.inject(Fault.ANSWER, when=partial(is_for, asked), answer=answer, times=times)


@pytest.fixture
def rehearsal(moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rehearsal]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "dummy")
    there = boto3.client("autoscaling", endpoint_url=moto_server.url, region_name=REGION)
    with closing(there) as aws, FaultProxy(moto_server.url) as way, FakeMetadata() as metadata:
        monkeypatch.setenv("AWS_ENDPOINT_URL_AUTO_SCALING", way.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", way.url)
        group, [machine] = make_group(aws, 1)
        metadata.say("/latest/meta-data/instance-id", machine)
        # The store's own endpoint and region, which are no business of the machine's group.
        options = StoreOptions(endpoint_url="http://127.0.0.1:9", aws_region="ap-south-1")
        host = AwsHost(MetadataServer(metadata.url, 2.0), options)
        yield Rehearsal(host, metadata, way, aws, group, machine)
        host.close()


# --- who it is ---


def test_identity(rehearsal: Rehearsal) -> None:
    """A machine knows its name, zone and group, in the region that it is in, whatever region its store is in."""
    assert rehearsal.host.identity() == Identity(rehearsal.machine, "eu-central-1a", rehearsal.group)
    [first, *_] = rehearsal.way.log
    assert f"/{REGION}/autoscaling/" in first.request.headers["authorization"]


def test_a_machine_without_a_group(rehearsal: Rehearsal) -> None:
    """A machine in no group has a name, need not be held, and has nothing to complete or to protect."""
    rehearsal.metadata.say("/latest/meta-data/instance-id", "i-0aaaaaaaaaaaaaaaa")
    host = rehearsal.host
    assert host.identity() == Identity("i-0aaaaaaaaaaaaaaaa", "eu-central-1a", None)
    assert host.grace is None
    host.hold(TERMINATED)
    host.acknowledge(TERMINATED)
    host.protect(True)
    assert set(rehearsal.sent()) == {"DescribeAutoScalingInstances"}


def test_the_region_where_the_metadata_tell_none(rehearsal: Rehearsal) -> None:
    """Where the metadata tell no region, the one that was set counts."""
    rehearsal.metadata.hush("/latest/meta-data/placement/region")
    assert rehearsal.host.identity().group is None  # in that region, moto has no such group
    [asked] = rehearsal.way.log
    assert "/ap-south-1/autoscaling/" in asked.request.headers["authorization"]


# --- hooks ---


@pytest.mark.parametrize("timeout, grace", [(30, 10.0), (90, 30.0), (7200, 60.0), (3, 5.0)])
def test_grace(rehearsal: Rehearsal, timeout: int, grace: float) -> None:
    """A heartbeat is due after a third of the shortest timeout, and at least every minute."""
    rehearsal.add_hook("drain", timeout)
    rehearsal.add_hook("backup", 7200)
    rehearsal.add_hook("launch", 12, transition=LAUNCHING)
    rehearsal.host.identity()
    assert rehearsal.host.grace == grace


def test_no_hook(rehearsal: Rehearsal) -> None:
    """A group without a hook keeps no machine waiting: there is nothing to hold and nothing to complete."""
    rehearsal.add_hook("launch", transition=LAUNCHING)
    rehearsal.host.identity()
    assert rehearsal.host.grace is None
    rehearsal.host.hold(TERMINATED)
    rehearsal.host.acknowledge(TERMINATED)
    assert set(rehearsal.sent()) == {"DescribeAutoScalingInstances", "DescribeLifecycleHooks"}
    assert rehearsal.in_group()


def test_held_and_let_go(rehearsal: Rehearsal) -> None:
    """A machine under termination is held by heartbeats, and leaves when every hook has been completed."""
    rehearsal.add_hook("drain")
    rehearsal.add_hook("backup", 45)
    rehearsal.metadata.say(fake.LIFECYCLE, "Terminated")
    [notice] = rehearsal.host.notices()
    rehearsal.host.identity()
    rehearsal.sent()
    rehearsal.host.hold(notice)
    assert rehearsal.sent() == ["DescribeLifecycleHooks", *["RecordLifecycleActionHeartbeat"] * 2]
    assert rehearsal.in_group()
    rehearsal.host.acknowledge(notice)
    asked = [passed.request.start for passed in rehearsal.way.log]
    assert rehearsal.sent() == ["DescribeLifecycleHooks", *["CompleteLifecycleAction"] * 2]
    assert all(b"LifecycleActionResult=CONTINUE" in start for start in asked[1:])
    assert not rehearsal.in_group()


def test_ready(rehearsal: Rehearsal) -> None:
    """A machine that is ready completes the hooks that keep it waiting for that, and no others, as often as told."""
    rehearsal.add_hook("ready", 900, transition=LAUNCHING)
    rehearsal.add_hook("drain")
    rehearsal.host.identity()
    rehearsal.sent()
    rehearsal.host.ready()
    asked = [passed.request.start for passed in rehearsal.way.log]
    assert rehearsal.sent() == ["DescribeLifecycleHooks", "CompleteLifecycleAction"]
    assert b"LifecycleHookName=ready" in asked[1]
    assert b"LifecycleActionResult=CONTINUE" in asked[1]
    rehearsal.host.ready()  # refused, as it waits no longer, which is no error
    rehearsal.host.acknowledge(TERMINATED)
    assert not rehearsal.in_group()


def test_ready_without_a_hook(rehearsal: Rehearsal) -> None:
    """A group that waits for nobody is told nothing."""
    rehearsal.add_hook("drain")
    rehearsal.host.ready()
    assert "CompleteLifecycleAction" not in rehearsal.sent()


def test_an_action_that_is_over(rehearsal: Rehearsal) -> None:
    """Holding and acknowledging what is completed or expired already is no error."""
    rehearsal.add_hook()
    rehearsal.host.acknowledge(TERMINATED)
    assert not rehearsal.in_group()
    rehearsal.host.hold(TERMINATED)
    rehearsal.host.acknowledge(TERMINATED)
    told = [passed.status for passed in rehearsal.way.log if "Lifecycle" in operation(passed.request)]
    assert told == [200, 200, 200, 400, 200, 400]  # described and completed; described and refused, twice


def test_a_hook_that_was_added_later(rehearsal: Rehearsal) -> None:
    """A hook that the group has been given since the machine started counts from the first hold on."""
    rehearsal.host.identity()
    assert rehearsal.host.grace is None
    rehearsal.add_hook("drain", 60)
    rehearsal.host.hold(TERMINATED)
    assert rehearsal.host.grace == 20.0


@pytest.mark.parametrize("cause, end", [(SPOT, End.GONE), (REBALANCE, End.RISK)])
def test_what_waits_for_nobody(rehearsal: Rehearsal, cause: str, end: End) -> None:
    """An interruption or a recommendation is neither held nor acknowledged: nothing is sent for it."""
    rehearsal.add_hook()
    rehearsal.host.hold(Notice(f"{cause}=x", end, cause, None))
    rehearsal.host.acknowledge(Notice(f"{cause}=x", end, cause, None))
    assert rehearsal.sent() == []


# --- protection and backlog ---


def test_protection(rehearsal: Rehearsal) -> None:
    """Protection is set and taken away, and nothing is sent where nothing changes."""
    host = rehearsal.host
    host.protect(False)
    assert rehearsal.sent() == ["DescribeAutoScalingInstances"]
    host.protect(True)
    host.protect(True)
    assert rehearsal.sent() == ["SetInstanceProtection"]
    assert rehearsal.is_protected()
    host.protect(False)
    assert rehearsal.sent() == ["SetInstanceProtection"]
    assert not rehearsal.is_protected()


def test_protection_of_an_earlier_process(rehearsal: Rehearsal) -> None:
    """What an earlier process has protected and not given up is given up by the next one that is idle."""
    rehearsal.aws.set_instance_protection(
        InstanceIds=[rehearsal.machine], AutoScalingGroupName=rehearsal.group, ProtectedFromScaleIn=True
    )
    rehearsal.host.identity()
    rehearsal.host.protect(False)
    assert not rehearsal.is_protected()


def test_protection_out_of_service(rehearsal: Rehearsal) -> None:
    """A machine on its way in or out cannot be protected now: that is said, and sent again when it is asked again."""
    said = f"The instance {rehearsal.machine} is not in InService or EnteringStandby or Standby."
    rehearsal.answer("SetInstanceProtection", Refusal("ValidationError", said), times=1)
    with pytest.raises(Unavailable, match="not in InService"):
        rehearsal.host.protect(True)
    rehearsal.host.protect(True)
    assert rehearsal.is_protected()


def test_protection_whose_answer_is_lost(rehearsal: Rehearsal) -> None:
    """After a lost answer the group is asked what is true, and sent only what is not."""
    rehearsal.way.inject(Fault.CUT_ANSWER, when=partial(is_for, "SetInstanceProtection"), times=1)
    with pytest.raises(OutcomeUnknown):
        rehearsal.host.protect(True)
    assert rehearsal.is_protected()
    rehearsal.sent()
    rehearsal.host.protect(True)
    assert rehearsal.sent() == ["DescribeAutoScalingInstances"]


def test_backlog(rehearsal: Rehearsal, moto_server: AwsEmulator) -> None:
    """The backlog is one figure for each fleet, none included, in the machine's region."""
    fleet = f"fleet-{secrets.token_hex(4)}"
    for messages in (0, 4125):
        rehearsal.host.publish_backlog(fleet, messages)
    assert rehearsal.sent() == ["PutMetricData"] * 2
    with closing(boto3.client("cloudwatch", endpoint_url=moto_server.url, region_name=REGION)) as cloudwatch:
        metrics = cloudwatch.list_metrics(Namespace="CloudWorker", MetricName="Backlog")["Metrics"]
    assert [{"Name": "Fleet", "Value": fleet}] in [metric["Dimensions"] for metric in metrics]


# --- what goes wrong ---


@pytest.mark.parametrize(
    "asked, scope",
    [
        ("autoscaling:DescribeAutoScalingInstances", "*"),
        ("autoscaling:DescribeLifecycleHooks", "*"),
        ("autoscaling:RecordLifecycleActionHeartbeat", "GROUP"),
        ("autoscaling:CompleteLifecycleAction", "GROUP"),
        ("autoscaling:SetInstanceProtection", "GROUP"),
        ("cloudwatch:PutMetricData", "*"),
    ],
)
def test_permissions(rehearsal: Rehearsal, asked: str, scope: str) -> None:
    """Where a permission is missing, the error names it, and what to give it on."""
    rehearsal.add_hook()
    arn = f"arn:aws:autoscaling:{REGION}:*:autoScalingGroup:*:autoScalingGroupName/{rehearsal.group}"
    name = asked.partition(":")[2]
    rehearsal.answer(name, Refusal("AccessDenied", "you may not", 403))
    error = fails(rehearsal, name, CALLS[name], Misconfigured)
    assert f"it needs {asked} on {scope.replace('GROUP', arn)} (" in str(error)


@pytest.mark.parametrize(
    "answer, kind",
    [
        (Refusal("Throttling", "Rate exceeded"), Unavailable),
        (Refusal("ResourceContention"), Unavailable),
        (Refusal("InternalFailure", status=500), OutcomeUnknown),
        (Refusal("ExpiredToken", status=403), Misconfigured),
        (Refusal("InvalidAction"), Misconfigured),
        (Refusal("PreconditionFailed", status=412), Misconfigured),
        (WEB_PAGE, Misconfigured),
        (Canned(200, b"<a/>"), Misconfigured),
        (Canned(404, b"<html>", (("Content-Type", "text/html"),)), Misconfigured),
    ],
)
def test_bad_answers(rehearsal: Rehearsal, answer: Canned | Refusal, kind: type[ProviderError]) -> None:
    """Every bad answer is one of the errors that a host may raise, in one line, after one request."""
    rehearsal.add_hook()
    for asked, call in CALLS.items():
        rehearsal.answer(asked, answer)
        fails(rehearsal, asked, call, kind)
        rehearsal.way.clear()


def test_lost_answers(rehearsal: Rehearsal) -> None:
    """An answer that does not come is unknown for what changes something, and else unavailable."""
    rehearsal.add_hook()
    for asked, call in CALLS.items():
        rehearsal.way.inject(Fault.CUT_ANSWER, when=partial(is_for, asked))
        fails(rehearsal, asked, call, OutcomeUnknown)
        rehearsal.way.clear()


def fails(
    rehearsal: Rehearsal, asked: str, call: Callable[[AwsHost], object], kind: type[ProviderError]
) -> ProviderError:
    """Call, see exactly this error after one such request, and return it; for a question, unknown is unavailable."""
    rehearsal.sent()
    with pytest.raises(ProviderError) as raised:
        call(rehearsal.host)
    expected = Unavailable if kind is OutcomeUnknown and asked.startswith("Describe") else kind
    assert type(raised.value) is expected, (asked, raised.value)
    assert str(raised.value).isprintable()
    assert rehearsal.sent().count(asked) == 1
    return raised.value


def test_aws_cannot_be_reached(rehearsal: Rehearsal) -> None:
    """Without a way to AWS nothing has happened, and the machine's own notices are known all the same."""
    rehearsal.way.refuse()
    with pytest.raises(Unavailable, match="cannot be reached"):
        rehearsal.host.publish_backlog("fleet", 1)
    rehearsal.metadata.say(fake.LIFECYCLE, "Terminated")
    assert rehearsal.host.notices() == [TERMINATED]


def test_no_credentials(rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a role is told so."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Misconfigured, match="give the machine a role"):
        rehearsal.host.identity()
