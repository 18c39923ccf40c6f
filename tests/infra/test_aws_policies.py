"""Who may do what on AWS: the machines exactly what the drivers call, and nobody what would break the protocol."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from botocore import xform_name

from providers import aws
from providers.aws.scaling import NAMESPACE
from providers.lease_record import PREFIX as LEASES
from providers.probe import PROBES
from tests.infra import boot_support
from tests.infra.aws_support import MODULE, State
from worker.core.names import dead_letter_queue, partition_names

SERVICES = ("s3", "sqs", "autoscaling", "cloudwatch")
"""What the drivers have clients of."""

NEEDS = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
}
"""The permission of an operation, where it is not called as the operation is."""

WITHHELD = {"sqs:CreateQueue"}
"""What the drivers call and machines may not do: the stack makes every queue, and a misspelt one must not appear."""

PULL = {"ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"}
"""What `aws ecr get-login-password` and `docker pull` ask of ECR."""


PLAIN = {"can_paginate", "close", "exceptions", "meta"}
"""What a client has besides operations, and asks nothing of AWS."""


def operations(source: str | None = None) -> set[str]:
    """Return every operation of AWS that the drivers call, by their source: `sqs:ReceiveMessage`.

    Fails where a client is used in a way that does not tell which operation is meant: `get_paginator`, `upload_file`, …
    """
    known: dict[str, str] = {}
    unclear: set[str] = set()
    session: Any = boto3.session.Session(region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    for service in SERVICES:
        client = session.client(service)
        names = {xform_name(name): f"{service}:{name}" for name in client.meta.service_model.operation_names}
        known |= names
        unclear |= {name for name in dir(client) if not name.startswith("_")} - names.keys() - PLAIN
    (folder,) = aws.__path__
    sources = [source] if source else [path.read_text() for path in Path(folder).rglob("*.py")]
    nodes = [node for text in sources for node in ast.walk(ast.parse(text))]
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    indirect = {"getattr", "resource"} & {node.id for node in nodes if isinstance(node, ast.Name)}
    assert not (called & unclear) | indirect, "say which operation is meant: call it"
    return {known[name] for name in called & known.keys()}


def allowed(state: State) -> dict[str, set[str]]:
    """Return what the machines may do, and on which resources."""
    found: dict[str, set[str]] = {}
    documents = [
        state.one("data.aws_iam_policy_document.worker"),
        *state.all("data.aws_iam_policy_document.queues"),
    ]
    for statement in (one for document in documents for one in document["statement"]):
        assert statement["effect"] in (None, "Allow")
        for action in statement["actions"]:
            found.setdefault(action, set()).update(statement["resources"])
    return found


def test_the_drivers_call_what_is_known() -> None:
    """The operations are read from the drivers' source: those of documents, queues, the group and the metric."""
    found = operations()
    assert {one.partition(":")[0] for one in found} == set(SERVICES)
    assert {"s3:PutObject", "sqs:ReceiveMessage", "autoscaling:CompleteLifecycleAction"} <= found
    assert found >= NEEDS.keys() | WITHHELD


@pytest.mark.parametrize(
    "call",
    [
        'client.get_paginator("list_objects_v2")',
        'client.get_waiter("object_exists")',
        'client.upload_file("a", "b", "c")',
        'client.generate_presigned_url("get_object")',
        'getattr(client, "put_object")(Bucket="b")',
    ],
)
def test_a_call_that_hides_its_operation_is_refused(call: str) -> None:
    """What the role must allow cannot be read off such a call, so none may be in the drivers."""
    assert operations('client.put_object(Bucket="b")') == {"s3:PutObject"}
    with pytest.raises(AssertionError, match="which operation"):
        operations(call)


def test_machines_may_do_what_the_drivers_call_and_nothing_else(aws_defaults: State) -> None:
    """The role allows what the drivers, the pull and the log need: nothing is missing, and nothing is more."""
    needed = {NEEDS.get(one, one) for one in operations()} - WITHHELD
    logs = set(re.findall(r"`(logs:\w+)`", boot_support.README))
    assert len(logs) == 2
    assert set(allowed(aws_defaults)) == needed | PULL | logs


def test_machines_reach_only_what_is_the_fleets(aws_defaults: State) -> None:
    """Each action is allowed on the fleet's own resources, and on all only where AWS knows no narrower one."""
    on = allowed(aws_defaults)
    assert {action for action, resources in on.items() if "*" in resources} == {
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DescribeLifecycleHooks",
        "cloudwatch:PutMetricData",
        "ecr:GetAuthorizationToken",
    }
    (metric,) = [
        it["condition"]
        for it in aws_defaults.one("data.aws_iam_policy_document.worker")["statement"]
        if "cloudwatch:PutMetricData" in it["actions"]
    ]
    assert metric == [{"test": "StringEquals", "values": [NAMESPACE], "variable": "cloudwatch:namespace"}]
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        assert on[action] == {"arn:aws:s3:::the-bucket/fleet/*"}
    assert on["ecr:BatchGetImage"] == {"arn:aws:ecr:eu-west-1:123456789012:repository/team/cloud-worker"}
    group = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:*:autoScalingGroupName/"
    assert on["autoscaling:SetInstanceProtection"] == {group + aws_defaults.output("group")}


def test_a_read_of_nothing_says_so(aws_defaults: State) -> None:
    """Listing has no condition, which the read of a missing document would not meet: it would be denied."""
    statements = aws_defaults.one("data.aws_iam_policy_document.worker")["statement"]
    (lists,) = [it for it in statements if "s3:ListBucket" in it["actions"]]
    assert (lists["resources"], lists["condition"]) == (["arn:aws:s3:::the-bucket"], [])


@pytest.mark.parametrize("run", ["defaults", "another"])
def test_machines_reach_all_queues_and_no_others(aws_runs: Mapping[str, State], run: str) -> None:
    """The patterns of the role match every queue of the fleet, and no queue of a name that is only similar."""
    state = aws_runs[run]
    patterns = {re.escape(one).replace(r"\*", ".*") for one in allowed(state)["sqs:SendMessage"]}

    def reached(name: str) -> bool:
        arn = f"arn:aws:sqs:eu-central-1:123456789012:{name}"
        return any(re.fullmatch(pattern, arn) for pattern in patterns)

    assert [name for name in state.output("queue_names") if not reached(name)] == []
    similar = ("orders2", "orders.fifo", "my-orders-00", *partition_names("others", 2), dead_letter_queue("others"))
    assert [name for name in similar if reached(name)] == []


def test_a_policy_holds_the_longest_names(aws_defaults: State) -> None:
    """As many queues of the longest names as go into one policy fit into it, in the partition of the longest name."""
    (chunk,) = re.findall(r"chunklist\(keys\(var\.queues\), (\d+)\)", (MODULE / "main.identity.tf").read_text())
    (document,) = aws_defaults.all("data.aws_iam_policy_document.queues")
    (statement,) = document["statement"]
    longest = "arn:aws-us-gov:sqs:ap-southeast-1:123456789012:" + "p" * 20 + "q" * 50 + "-*.fifo"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "Queues", "Effect": "Allow", "Action": statement["actions"], "Resource": [longest] * 2 * int(chunk)}
        ],
    }
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144


def test_the_bucket_keeps_the_protocol(aws_defaults: State) -> None:
    """Writes without a condition are denied to all in the fleet's prefix, and so is the end of a lease."""
    statements = {it["sid"]: it for it in aws_defaults.one("data.aws_iam_policy_document.store")["statement"]}
    prefix = "arn:aws:s3:::the-bucket/fleet"
    assert aws_defaults.output("store").endswith("/fleet")
    for it in statements.values():
        assert it["effect"] == "Deny"
        assert it["principals"] == [{"identifiers": ["*"], "type": "*"}]
    writes = statements["ConditionalWritesOnly"]
    assert (writes["actions"], writes["resources"]) == (["s3:PutObject"], [f"{prefix}/*"])
    assert {(it["test"], it["variable"], *it["values"]) for it in writes["condition"]} == {
        ("Null", "s3:if-match", "true"),
        ("Null", "s3:if-none-match", "true"),
        ("Bool", "s3:ObjectCreationOperation", "true"),
    }
    stay = statements["LeasesStay"]
    assert set(stay["actions"]) == {"s3:DeleteObject", "s3:DeleteObjectVersion"}
    assert (stay["resources"], stay["condition"]) == ([f"{prefix}/{LEASES}*"], [])


def test_nothing_goes_unencrypted(aws_defaults: State) -> None:
    """What comes without TLS is denied to all, by the bucket and by each queue, and messages are encrypted."""
    bucket = aws_defaults.one("data.aws_iam_policy_document.store")
    (tls,) = [it for it in bucket["statement"] if it["sid"] == "TlsOnly"]
    assert tls["condition"] == [{"test": "Bool", "values": ["false"], "variable": "aws:SecureTransport"}]
    assert tls["resources"] == ["arn:aws:s3:::the-bucket", "arn:aws:s3:::the-bucket/*"]
    for queue in aws_defaults.all("aws_sqs_queue"):
        (statement,) = json.loads(queue["policy"])["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*")
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert statement["Resource"] == f"arn:aws:sqs:eu-central-1:123456789012:{queue['name']}"
        assert queue["sqs_managed_sse_enabled"] is True


def test_nothing_of_the_fleet_expires(aws_defaults: State) -> None:
    """The bucket forgets the probe's objects and parts of uploads, and nothing that elects or assigns."""
    rules = aws_defaults.one("aws_s3_bucket_lifecycle_configuration.store")["rule"]
    expiring = [it["filter"][0]["prefix"] for it in rules if it["expiration"]]
    assert expiring == [f"fleet/{PROBES}"]
    assert aws_defaults.all("aws_s3_bucket_versioning") == []
