"""A machine's Auto Scaling group: what it says of the machine, its hooks at start and end, protection; the backlog.

The names that are sent here are AWS's own: the group's and the hooks' come from one of its answers just before. So what
it then calls invalid (`ValidationError`, the one code that it has) is a moment that has passed, not a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from providers.aws.clients import Clients
from providers.aws.errors import Request, check_answer, code_of, translated
from providers.interface import Misconfigured, NotFound, Refused, Unavailable

if TYPE_CHECKING:
    from botocore.client import ClientMeta

TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
"""The transition whose hooks keep a machine waiting before it is taken away."""

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
"""The transition whose hooks keep a new machine waiting before its group counts on it."""

USUAL_TIMEOUT = 3600
"""Seconds: a hook's heartbeat timeout where nobody has chosen one."""

NAMESPACE = "CloudWorker"
METRIC = "Backlog"


@dataclass(frozen=True, slots=True)
class Membership:
    """What the group says of one machine."""

    group: str
    protected: bool  # from scale-in


@dataclass(frozen=True, slots=True)
class Hook:
    """One that keeps the machine waiting, for `timeout` seconds from its start or from the last heartbeat."""

    name: str
    timeout: int


class Scaling:
    """What one machine asks of Auto Scaling. Each call is one request, and raises what `providers.host` allows."""

    def __init__(self, clients: Clients, machine: str) -> None:
        self._clients, self.machine = clients, machine

    def membership(self) -> Membership | None:
        """Ask which group the machine is in; None: in none."""
        client = self._clients.autoscaling
        asked = _request(client.meta, "DescribeAutoScalingInstances", self.machine)
        with _answered(asked):
            answer = client.describe_auto_scaling_instances(InstanceIds=[self.machine])
        check_answer(asked, answer, "AutoScalingInstances")
        for one in answer["AutoScalingInstances"]:
            if one.get("InstanceId") == self.machine and one.get("AutoScalingGroupName"):
                return Membership(one["AutoScalingGroupName"], bool(one.get("ProtectedFromScaleIn")))
        return None

    def hooks(self, group: str, transition: str) -> list[Hook]:
        """Ask which hooks keep a machine of this group waiting in this transition."""
        client = self._clients.autoscaling
        asked = _request(client.meta, "DescribeLifecycleHooks", group)
        with _answered(asked):
            answer = client.describe_lifecycle_hooks(AutoScalingGroupName=group)
        check_answer(asked, answer, "LifecycleHooks")
        return [
            Hook(one["LifecycleHookName"], one.get("HeartbeatTimeout") or USUAL_TIMEOUT)
            for one in answer["LifecycleHooks"]
            if one.get("LifecycleTransition") == transition and one.get("LifecycleHookName")
        ]

    def heartbeat(self, group: str, hook: Hook) -> None:
        """Start the hook's timeout anew. Does nothing where it does not keep the machine waiting (any more)."""
        client = self._clients.autoscaling
        with _answered(_request(client.meta, "RecordLifecycleActionHeartbeat", self.machine, group)), _passed():
            client.record_lifecycle_action_heartbeat(
                AutoScalingGroupName=group, LifecycleHookName=hook.name, InstanceId=self.machine
            )

    def complete(self, group: str, hook: Hook) -> None:
        """Let the machine go on, into the group or to its end. Does nothing where the hook does not keep it waiting."""
        client = self._clients.autoscaling
        with _answered(_request(client.meta, "CompleteLifecycleAction", self.machine, group)), _passed():
            client.complete_lifecycle_action(
                AutoScalingGroupName=group,
                LifecycleHookName=hook.name,
                InstanceId=self.machine,
                LifecycleActionResult="CONTINUE",
            )

    def protect(self, group: str, protected: bool) -> None:
        """Protect the machine from scale-in, or not. Raises Unavailable while it is on its way in, or out."""
        client = self._clients.autoscaling
        asked = _request(client.meta, "SetInstanceProtection", self.machine, group)
        with _answered(asked):
            try:
                client.set_instance_protection(
                    AutoScalingGroupName=group, InstanceIds=[self.machine], ProtectedFromScaleIn=protected
                )
            except ClientError as exc:
                if not _is_invalid(exc):
                    raise
                raise Unavailable(f"{asked.what}: not in this state of the machine ({_said(exc)})") from exc

    def publish_backlog(self, fleet: str, messages: int) -> None:
        """Publish the metric that the group's size follows."""
        client = self._clients.cloudwatch
        asked = _request(client.meta, "PutMetricData", f"{NAMESPACE}/{METRIC}")
        with _answered(asked):
            answer = client.put_metric_data(
                Namespace=NAMESPACE,
                MetricData=[
                    {
                        "MetricName": METRIC,
                        "Dimensions": [{"Name": "Fleet", "Value": fleet}],
                        "Value": messages,
                        "Unit": "Count",
                    }
                ],
            )
        check_answer(asked, answer["ResponseMetadata"], "RequestId")  # there is nothing else in it


def _request(meta: ClientMeta, operation: str, what: str, group: str | None = None) -> Request:
    """Say what is asked, and which permission it needs; those about a group are given on it, the others on all."""
    service = "cloudwatch" if operation == "PutMetricData" else "autoscaling"
    scope = "*"
    if group is not None:
        owned = f"arn:{meta.partition}:autoscaling:{meta.region_name}:*:autoScalingGroup"
        scope = f"{owned}:*:autoScalingGroupName/{group}"
    return Request(
        what=f"{operation} of {what}",
        endpoint=meta.endpoint_url,
        changes=not operation.startswith("Describe"),
        needs=f"{service}:{operation} on {scope}",
        region=meta.region_name,
    )


@contextmanager
def _answered(request: Request) -> Iterator[None]:
    """Translate what botocore raises in this block, into what a host may raise: nothing here is compared or missing."""
    try:
        with translated(request):
            yield
    except (NotFound, Refused) as exc:
        raise Misconfigured(f"{exc}: this is not what {request.endpoint} should answer; correct the endpoint") from exc
    except (KeyError, ValueError) as exc:  # of botocore's parser, which expects of XML that it is the right XML
        raise Misconfigured(
            f"{request.what}: what {request.endpoint} answers is not of this API: correct the endpoint"
        ) from exc


@contextmanager
def _passed() -> Iterator[None]:
    """Take it for done that there is no such lifecycle action: completed already, run out, or its hook is gone."""
    try:
        yield
    except ClientError as exc:
        if not _is_invalid(exc):
            raise


def _is_invalid(error: ClientError) -> bool:
    return code_of(error)[0] == "ValidationError"


def _said(error: ClientError) -> str:
    return " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:300]
