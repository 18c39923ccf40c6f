"""The knobs of the stack on Azure: what they accept, what they refuse with which words, and the names that follow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.azure_terraform import STACK, Terraform, only, without_resources
from worker.core.names import BadName, check_queue_name, dead_letter_queue, partition_names
from worker.errors import ConfigurationError
from worker.settings import SECRETS, load_settings, variable


@pytest.fixture
def stack(tmp_path: Path) -> Terraform:
    """Return Terraform for the variables alone."""
    return without_resources(tmp_path)


def one_queue(partitions: Any, name: str = "orders") -> dict[str, Any]:
    return {"queues": {name: {"partitions": partitions}}}


SUBNET = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/s"

REFUSED: list[tuple[dict[str, Any], str]] = [
    *[({"name": name}, "3 to 16 lower-case letters") for name in ("ab", "Orders", "a--b", "orders-", "7up", "o" * 17)],
    ({"location": "West Europe"}, "short name of a region"),
    ({"image": "myacr.azurecr.io/cloud-worker:latest"}, "A tag may name another image tomorrow"),
    ({"instance_type": "t3.small"}, "such as Standard_B2s"),
    ({"instances": {"min": 3, "max": 2}}, "Given: min 3, max 2"),
    ({"instances": {"min": 1.5, "max": 2}}, "whole numbers"),
    ({"instances": {"min": 0, "max": 4}}, "no leader to publish the backlog"),
    (one_queue(0), "from 1 to 1000. Given: orders with 0."),
    (one_queue(10_000), "from 1 to 1000. Given: orders with 10000."),
    (one_queue(2.5), "from 1 to 1000. Given: orders with 2.5."),
    (one_queue(1, "orders.fifo"), "Given: orders.fifo."),
    (
        {"queues": {f"queue-q{number}": {"partitions": 1} for number in range(41)}},
        "at most 40 logical queues. Given: 41",
    ),
    ({"queue_prefix": "a" * 19 + "-", **one_queue(1, "o" * 50)}, "63 characters"),
    ({"queue_prefix": "shop"}, "ending in a hyphen"),
    ({"app": "jobs"}, "module:attribute"),
    *[({"lease_seconds": lease}, f"from 15 to 60. Given: {lease}") for lease in (5, 14, 61, 15.5)],
    ({"drain_seconds": 0}, "at least 1"),
    ({"drain_seconds": 400}, "90 s are too short for drain_seconds, 400 s, and the 20 s"),
    (
        {"drain_seconds": 400, "stop_grace_seconds": 420},
        "300 s must be at least 30 s more than stop_grace_seconds, 420 s",
    ),
    ({"spot": True}, "gives Spot machines no terminate notification"),
    *[({"notice_seconds": notice}, "whole minutes from 300 to 900") for notice in (240, 960, 330)],
    ({"admin_port": 0}, "from 1024 to 65535"),
    ({"admin_port": 80}, "from 1024 to 65535"),
    ({"backlog_per_instance": 0}, "at least 1"),
    ({"environment": {"PATH": "/"}}, "Wrong: PATH"),
    ({"environment": {"WORKER_LOG_LEVEL": "info\nWORKER_APP=evil:app"}}, "Wrong: WORKER_LOG_LEVEL"),
    ({"environment": {"WORKER_STORE": "azure://other/fleet"}}, "sets these itself, from its resources"),
    *[({"environment": {variable(name): "x"}}, "are secrets") for name in sorted(SECRETS)],
    ({"subnet_ids": [SUBNET, SUBNET + "2"]}, "one subnet"),
    ({"subnet_ids": ["subnet-0123"]}, "resource id of a subnet"),
    ({"log_retention_days": 7}, "30 to 730 days"),
    ({"registry_id": "myacr.azurecr.io"}, "resource id of a container registry"),
    ({"zones": ["4"]}, "each once, or none"),
    ({"zones": ["1", "1"]}, "each once, or none"),
    ({"operator_ips": ["203.0.113.7/32"]}, "write the address alone"),
    ({"operator_ips": ["everybody"]}, "IPv4"),
    ({"operator_ips": ["300.0.113.7"]}, "IPv4"),
    ({"ssh_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "public key in OpenSSH"),
    *[({name: None}, "null") for name in ("name", "location", "image")],
]


@pytest.mark.parametrize("variables, words", REFUSED, ids=lambda it: str(it)[:60])
def test_the_plan_refuses(variables: dict[str, Any], words: str, stack: Terraform) -> None:
    """What a fleet could not live with is refused at the plan, once, with a sentence that helps."""
    (sentence,) = [said for said in stack.refusals(**variables) if words in said]
    assert sentence.endswith(".")


ACCEPTED: list[dict[str, Any]] = [
    {},
    {"spot": True, "notice_seconds": None},
    {"notice_seconds": 900, "stop_grace_seconds": 870, "drain_seconds": 850},
    {"instances": {"min": 0, "max": 0}},
    {"queues": {}},
    {"queues": {f"queue-q{number}": {"partitions": 10} for number in range(40)}},
    {"queue_prefix": "shop-", "environment": {"WORKER_CONCURRENCY": "10", "WORKER_FOO_BAR": '${x} "$y" #z'}},
    {"subnet_ids": [SUBNET], "zones": [], "operator_ips": ["203.0.113.7", "198.51.100.0/24"]},
    {"lease_seconds": 60, "stop_grace_seconds": 140},
    {"lease_seconds": None, "queues": None, "spot": None},  # null is the default
]


@pytest.mark.parametrize("variables", ACCEPTED, ids=lambda it: str(it)[:60])
def test_the_plan_accepts(variables: dict[str, Any], stack: Terraform) -> None:
    """What a fleet can live with is not refused."""
    assert stack.refusals(**variables) == []


def test_queues_are_named_by_the_runtime_s_rule(stack: Terraform) -> None:
    """The stack refuses exactly those names of queues that the runtime refuses."""
    names = [
        *("ab", "abc", "o" * 50, "o" * 51, "a-b", "a--b", "-ab", "ab-", "a1b", "1ab", "Abc", "a_b", "a.b"),
        *("ab-7", "ab-7x", "ab-x7", "ab7", "ab-dlq", "dlq", "a-dlq-b", "abdlq"),
    ]
    (sentence,) = stack.refusals(queues={name: {"partitions": 1} for name in names})
    given = sentence.removesuffix(".").partition("Given: ")[2].split(", ")
    assert given == sorted(name for name in names if not _named(name))


def _named(name: str) -> bool:
    try:
        check_queue_name(name)
    except BadName:
        return False
    return True


@pytest.mark.parametrize("prefix", ["", "a-", "shop-", "a-b-", "a1-", "shop", "-", "1-", "a--", "A-", "a" * 20 + "-"])
def test_the_prefix_goes_by_the_runtime_s_rule(prefix: str, stack: Terraform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack accepts a prefix of the queues exactly if the runtime does."""
    only(monkeypatch, {"WORKER_STORE": "azure://account/fleet", "WORKER_QUEUE_PREFIX": prefix})
    assert (stack.refusals(queue_prefix=prefix) == []) is _starts()


def test_the_physical_queues_are_the_runtime_s(stack: Terraform) -> None:
    """The stack makes the intake, the partitions and the dead-letter queue by the names that the runtime uses."""
    counts = (1, 9, 10, 11, 99, 100, 101, 999, 1000)
    queues = {f"queue-q{count}x": count for count in counts}
    assert (
        stack.refusals(queues={name: {"partitions": count} for name, count in queues.items()}, queue_prefix="shop-")
        == []
    )
    wanted = [
        f"shop-{queue}"
        for name, count in queues.items()
        for queue in (name, dead_letter_queue(name), *partition_names(name, count))
    ]
    assert sorted(stack.value("local.queue_names")) == sorted(wanted)


@pytest.mark.parametrize(
    "lease, drain, grace, notice",
    [
        *((15, 60, 80, 300), (15, 61, 80, 300), (15, 60, 90, None)),
        *((16, 60, 81, 300), (16, 60, 82, 300), (60, 60, 139, 300), (60, 60, 140, 300)),
        *((15, 800, 820, 840), (15, 800, 820, 900)),
    ],
)
def test_the_arithmetic_is_the_runtime_s(
    lease: int, drain: int, grace: int, notice: int | None, stack: Terraform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the plan lets pass, the runtime starts with; what it refuses, but for its own 30 s, the runtime refuses."""
    given = {"LEASE": lease, "DRAIN_TIMEOUT": drain, "STOP_GRACE": grace, "HOST_NOTICE": notice}
    settings = {f"WORKER_{name}": str(seconds) for name, seconds in given.items() if seconds is not None}
    only(monkeypatch, {"WORKER_STORE": "azure://account/fleet", **settings})
    refusals = stack.refusals(lease_seconds=lease, drain_seconds=drain, stop_grace_seconds=grace, notice_seconds=notice)
    assert [said for said in refusals if "at least 30 s" not in said] == [] if _starts() else refusals != []


def _starts() -> bool:
    try:
        load_settings()
    except ConfigurationError:
        return False
    return True


def test_what_the_stack_sets_is_refused_in_the_map(stack: Terraform) -> None:
    """Each setting that the stack or the template sets, and no other, is refused in `environment`."""
    boot = (STACK / "main.boot.tf").read_text()
    sets = {*re.findall(r"(?m)^    (WORKER_\w+) +=", boot), "WORKER_STOP_GRACE", "WORKER_ADMIN_PORT"}
    assert set(stack.value("local.own_settings")) == sets


def test_every_knob_is_described() -> None:
    """Every variable and every output has a type or a value, and a description of one or more sentences."""
    for file, kind in (("variables.tf", "variable"), ("outputs.tf", "output")):
        blocks = re.findall(rf'(?ms)^{kind} "(\w+)" \{{\n(.*?)^\}}', (STACK / file).read_text())
        assert blocks
        for name, body in blocks:
            (said,) = re.findall(r'(?m)^  description += "(.*)"$', body)
            assert said.endswith("."), name
            assert re.search(r"(?m)^  (type|value) +=", body), name


def test_the_readme_has_every_knob_and_file() -> None:
    """The README's tables have every variable with its default, in the file's order, and every file of the stack."""
    readme = (STACK / "README.md").read_text()
    blocks = re.findall(r'(?ms)^variable "(\w+)" \{\n(.*?)^\}', (STACK / "variables.tf").read_text())
    defaults = [(name, "".join(re.findall(r"(?m)^  default += (.*)$", body))) for name, body in blocks]
    assert re.findall(r"(?m)^\| `(\w+)` \| (?:`(.*?)` )?\|", readme) == defaults
    files = {path.name for path in STACK.glob("*.tf")} - {"terraform.tf"}
    assert set(re.findall(r"`([\w.]+\.tf)`", readme)) == files


def test_every_knob_is_refused_once() -> None:
    """Every variable that can be wrong is in the list of what is refused."""
    knobs = set(re.findall(r'(?m)^variable "(\w+)"', (STACK / "variables.tf").read_text()))
    assert knobs - {name for variables, _ in REFUSED for name in variables} == {"tags"}
