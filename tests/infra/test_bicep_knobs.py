"""The knobs of the Bicep stack: what they accept, what they refuse with which words, and the names that follow."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.azure_terraform import only
from tests.infra.bicep_deployment import deploy
from tests.infra.bicep_files import BICEP, parse
from tests.infra.bicep_schema import PLAIN
from tests.infra.bicep_values import Refused
from worker.core.names import BadName, check_queue_name, dead_letter_queue, partition_names
from worker.errors import ConfigurationError
from worker.settings import SECRETS, load_settings, variable

SUBNET = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
REGISTRY = "/subscriptions/s/resourceGroups/r/providers/Microsoft.ContainerRegistry/registries/myacr"


def refusal(**knobs: Any) -> str:
    """Return what a deployment with these knobs is refused with; nothing if it is not."""
    try:
        deploy(**{**PLAIN, **knobs})
    except Refused as exc:
        return str(exc)
    return ""


def one_queue(partitions: Any, name: str = "orders") -> dict[str, Any]:
    return {"queues": {name: {"partitions": partitions}}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    *[({"name": name}, "3 to 16 lower-case letters") for name in ("Orders", "a--b", "orders-", "7up")],
    *[({"name": name}, "Length(") for name in ("ab", "o" * 17)],
    ({"location": "West Europe"}, "short name of a region"),
    ({"image": "myacr.azurecr.io/cloud-worker:latest"}, "A tag may name another image tomorrow"),
    ({"image": f"cloud-worker@sha256:{'4f' * 32}"}, "use REGISTRY/NAME@sha256:"),
    ({"image": f"myacr.azurecr.io/cloud-worker@sha256:{'4F' * 32}"}, "64 hexadecimal digits"),
    ({"image": f"myacr.azurecr.io/cloud worker@sha256:{'4f' * 32}"}, "use REGISTRY/NAME@sha256:"),
    ({"instanceType": "t3.small"}, "such as Standard_B2s"),
    ({"instances": {"min": 3, "max": 2}}, "Given: min 3, max 2"),
    ({"instances": {"min": 0, "max": 4}}, "no leader to publish the backlog"),
    ({"instances": {"min": 1}}, "instances.max"),
    ({"instances": {"min": 1, "max": 1001}}, "@maxValue(1000)"),
    (one_queue(0), "queues.orders.partitions: 0 breaks @minValue(1)"),
    (one_queue(10_000), "queues.orders.partitions: 10000 breaks @maxValue(1000)"),
    (one_queue("2"), "is no int"),
    (one_queue(1, "orders.fifo"), "Given: orders.fifo."),
    ({"queues": {f"queue-q{number}": {"partitions": 1} for number in range(41)}}, "at most 40 logical queues"),
    ({"queuePrefix": "a" * 19 + "-", **one_queue(1, "o" * 50)}, "63 characters"),
    ({"queuePrefix": "shop"}, "ending in a hyphen"),
    ({"app": "jobs"}, "module:attribute"),
    *[({"leaseSeconds": lease}, f"leaseSeconds: {lease} breaks") for lease in (5, 14, 61)],
    ({"drainSeconds": 0}, "drainSeconds: 0 breaks"),
    ({"drainSeconds": 400}, "90 s are too short for drainSeconds, 400 s, and the 20 s"),
    ({"drainSeconds": 400, "stopGraceSeconds": 420}, "300 s must be at least 30 s more than stopGraceSeconds, 420 s"),
    ({"drainSeconds": 200, "stopGraceSeconds": 271}, "300 s must be at least 30 s more than stopGraceSeconds, 271 s"),
    ({"spot": True}, "gives Spot machines no terminate notification"),
    *[({"noticeSeconds": notice}, "whole minutes from 300 to 900") for notice in (240, 330)],
    ({"noticeSeconds": 960}, "noticeSeconds: 960 breaks"),
    *[({"adminPort": port}, "adminPort: ") for port in (0, 80, 65536)],
    ({"backlogPerInstance": 0}, "backlogPerInstance: 0 breaks"),
    *[({"environment": {name: "x"}}, f"Wrong: {name}") for name in ("PATH", "WORKER_", "WORKER_app")],
    ({"environment": {"WORKER_LOG_LEVEL": "info\nWORKER_APP=evil:app"}}, "Wrong: WORKER_LOG_LEVEL"),
    ({"environment": {"WORKER_STORE": "azure://other/fleet"}}, "sets WORKER_STORE itself"),
    *[({"environment": {variable(name): "x"}}, f"{variable(name)} is a secret") for name in sorted(SECRETS)],
    ({"environment": {"WORKER_CONCURRENCY": "10", "WORKER_IDLE_POLL": "x" * 48_000}}, "Azure takes 65536"),
    ({"subnetIds": [SUBNET, SUBNET + "2"]}, "@maxLength(1)"),
    ({"subnetIds": ["subnet-0123"]}, "resource id of a subnet"),
    ({"logRetentionDays": 7}, "logRetentionDays: 7 breaks"),
    ({"registryId": "myacr.azurecr.io"}, "resource id of a container registry"),
    ({"zones": ["4"]}, "is not one of its values"),
    ({"zones": ["1", "1"]}, "each once, or none"),
    ({"operatorIps": ["203.0.113.7/32"]}, "write the address alone"),
    ({"operatorIps": ["everybody"]}, "IPv4"),
    ({"sshPublicKey": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "public key in the format of OpenSSH"),
    ({"capacity": -1}, "capacity: -1 breaks"),
    *[({name: None}, f"{name}: None is no str") for name in PLAIN],
]


@pytest.mark.parametrize("knobs, words", REFUSED, ids=lambda it: str(it)[:60])
def test_the_deployment_refuses(knobs: dict[str, Any], words: str) -> None:
    """What a fleet could not live with is refused before anything is made, with the reason."""
    assert words in refusal(**knobs)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """A deployment with several mistakes is refused with a sentence for each."""
    said = refusal(spot=True, drainSeconds=400, queuePrefix="shop", environment={"PATH": "/"})
    for words in ("Spot machines", "too short for drainSeconds", "queuePrefix: ", "Wrong: PATH"):
        assert words in said


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"spot": True, "noticeSeconds": 0},
        {"noticeSeconds": 900, "stopGraceSeconds": 870, "drainSeconds": 850},
        {"drainSeconds": 200, "stopGraceSeconds": 270},
        {"instances": {"min": 0, "max": 0}},
        {"queues": {}},
        {"queues": {f"queue-q{number}": {"partitions": 10} for number in range(40)}},
        {"queuePrefix": "shop-", "environment": {"WORKER_CONCURRENCY": "10", "WORKER_FOO_BAR": '${x} "$y" #z'}},
        {"subnetIds": [SUBNET], "zones": [], "operatorIps": ["203.0.113.7", "198.51.100.0/24"]},
        {"leaseSeconds": 60, "stopGraceSeconds": 140},
        {"leaseSeconds": None, "queues": None, "spot": None},  # null is the default
        {"registryId": REGISTRY, "sshPublicKey": "ssh-ed25519 AAAAC3Nz somebody@somewhere"},
        {"image": f"127.0.0.1:5000/team/cloud-worker@sha256:{'4f' * 32}"},
    ],
    ids=lambda it: str(it)[:60],
)
def test_the_deployment_accepts(knobs: dict[str, Any]) -> None:
    """What a fleet can live with is not refused."""
    assert refusal(**knobs) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("ab", "abc", "o" * 50, "o" * 51, "a-b", "a--b", "-ab", "ab-", "a1b", "1ab", "Abc", "a_b", "a.b"),
        *("ab-7", "ab-7x", "ab-x7", "ab7", "ab-dlq", "dlq", "a-dlq-b", "abdlq"),
    ],
)
def test_queues_are_named_by_the_runtime_s_rule(name: str) -> None:
    """The stack accepts a queue's name exactly if the runtime does."""
    try:
        check_queue_name(name)
        accepted = True
    except BadName:
        accepted = False
    assert (refusal(**one_queue(1, name)) == "") is accepted


@pytest.mark.parametrize("prefix", ["", "a-", "shop-", "a-b-", "a1-", "shop", "-", "1-", "a--", "A-", "a" * 20 + "-"])
def test_the_prefix_goes_by_the_runtime_s_rule(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack accepts a prefix of the queues exactly if the runtime does."""
    only(monkeypatch, {"WORKER_STORE": "azure://account/fleet", "WORKER_QUEUE_PREFIX": prefix})
    assert (refusal(queuePrefix=prefix) == "") is _starts()


def test_the_physical_queues_are_the_runtime_s() -> None:
    """The stack makes the intake, the partitions and the dead-letter queue by the names that the runtime uses."""
    queues = {f"queue-q{count}x": count for count in (1, 9, 10, 11, 99, 100, 101, 999, 1000)}
    made = deploy(**PLAIN, queues={name: {"partitions": count} for name, count in queues.items()}, queuePrefix="shop-")
    wanted = [
        f"shop-{queue}"
        for name, count in queues.items()
        for queue in (name, dead_letter_queue(name), *partition_names(name, count))
    ]
    assert sorted(made.outputs["queueNames"]) == sorted(wanted)
    queued = [one.name.split("/")[-1] for one in made.of("Microsoft.Storage/storageAccounts/queueServices/queues")]
    assert sorted(queued) == sorted(wanted)


@pytest.mark.parametrize(
    "lease, drain, grace, notice",
    [
        *((15, 60, 80, 300), (15, 61, 80, 300), (15, 60, 90, 0)),
        *((16, 60, 81, 300), (16, 60, 82, 300), (60, 60, 139, 300), (60, 60, 140, 300)),
        *((15, 800, 820, 840), (15, 800, 820, 900)),
    ],
)
def test_the_arithmetic_is_the_runtime_s(
    lease: int, drain: int, grace: int, notice: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the deployment lets pass, the runtime starts with; what it calls too short, the runtime refuses."""
    given = {"LEASE": lease, "DRAIN_TIMEOUT": drain, "STOP_GRACE": grace, "HOST_NOTICE": notice}
    settings = {f"WORKER_{name}": str(seconds) for name, seconds in given.items() if seconds}
    only(monkeypatch, {"WORKER_STORE": "azure://account/fleet", **settings})
    said = refusal(leaseSeconds=lease, drainSeconds=drain, stopGraceSeconds=grace, noticeSeconds=notice)
    if _starts():
        assert said == "" or said.startswith("noticeSeconds: ")
    else:
        assert "too short" in said


def _starts() -> bool:
    try:
        load_settings()
    except ConfigurationError:
        return False
    return True


def test_every_knob_is_refused_once() -> None:
    """Every parameter that can be wrong is in the list of what is refused."""
    knobs = {one.name for one in parse(BICEP / "main.bicep") if one.kind == "param"}
    assert knobs - {name for given, _ in REFUSED for name in given} == {"tags"}
