"""The knobs of the stack on AWS: what is refused at plan, with which sentence, and the queues that follow from them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import jobs
from tests.infra.aws_support import EXAMPLE, MODULE, Terraform
from worker.app import App
from worker.core.names import dead_letter_queue, partition_names
from worker.settings import Settings, variable

DIGEST = "sha256:" + "4f" * 32
GOOD: dict[str, Any] = {"name": "orders", "location": "eu-central-1", "image": f"ghcr.io/team/cloud-worker@{DIGEST}"}

PARTITIONS = "whole number from 1 to 1000"
QUEUE = "use 3 to 50 lower-case letters"
OWN = "have variables of their own"
SECRET = "workers sign in with the machine's role"

HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"name": "Orders"}, 'name is "Orders": use 3 to 16 lower-case letters'),
    ({"name": "or"}, "use 3 to 16 lower-case letters"),
    ({"name": "orders-"}, "use 3 to 16 lower-case letters"),
    ({"name": "a--b"}, "use 3 to 16 lower-case letters"),
    ({"name": "7orders"}, "use 3 to 16 lower-case letters"),
    ({"name": "a" * 17}, "use 3 to 16 lower-case letters"),
    ({"name": "orders\nexit"}, "use 3 to 16 lower-case letters"),
    ({"location": "westeurope"}, "name an AWS region"),
    ({"image": "ghcr.io/team/cloud-worker:latest"}, "a tag may name another image tomorrow"),
    ({"image": f"cloud-worker@{DIGEST}"}, "with the registry's host"),
    ({"image": f"ghcr.io/team/cloud-worker@{DIGEST} --privileged"}, "64 hexadecimal digits"),
    ({"instance_type": "t3 small"}, "name an EC2 instance type"),
    ({"instances": {"min": 3, "max": 2}}, "min 3, max 2: use whole numbers with 0 <= min <= max"),
    ({"instances": {"min": -1}}, "use whole numbers with 0 <= min <= max"),
    ({"instances": {"min": 0, "max": 0}}, "1 <= max"),
    ({"instances": {"max": 2.5}}, "use whole numbers"),
    ({"queues": {"orders": {"partitions": 0}}}, f"orders = 0: partitions are a {PARTITIONS}"),
    ({"queues": {"orders": {"partitions": 10_000}}}, f"orders = 10000: partitions are a {PARTITIONS}"),
    ({"queues": {"orders": {"partitions": 1.5}}}, PARTITIONS),
    ({"queues": {"Orders": {"partitions": 1}}}, QUEUE),
    ({"queues": {"orders-dlq": {"partitions": 1}}}, QUEUE),
    ({"queues": {"orders-07": {"partitions": 1}}}, QUEUE),
    ({"queues": {"orders-07.fifo": {"partitions": 1}}}, QUEUE),
    ({"queues": {"a" * 51: {"partitions": 1}}}, QUEUE),
    ({"queues": {"or": {"partitions": 1}}}, QUEUE),
    ({"queues": {f"queue-q{n}": {"partitions": 1} for n in range(41)}}, "has 41 queues: one fleet may have 40"),
    ({"queue_prefix": "staging"}, "ending in a hyphen"),
    ({"queue_prefix": "a" * 20 + "-"}, "use up to 20"),
    ({"app": "jobs"}, "use module:attribute"),
    ({"app": "jobs:app\nWORKER_STORE=memory:"}, "use module:attribute"),
    ({"lease_seconds": 4}, "lease_seconds is 4: on AWS it may be 5 to 60"),
    ({"lease_seconds": 61, "stop_grace_seconds": 180}, "lease_seconds is 61"),
    ({"drain_seconds": 0}, "drain_seconds is 0: use a positive number"),
    ({"drain_seconds": 71}, "stop_grace_seconds is 90, but a drain takes up to 91: drain_seconds (71)"),
    ({"stop_grace_seconds": 90.5}, "use a whole number of seconds"),
    ({"stop_grace_seconds": 271}, "notice_seconds is 300, but a machine takes up to 301 to stop: stop_grace_seconds"),
    ({"notice_seconds": 59, "drain_seconds": 1, "stop_grace_seconds": 21}, "whole number from 60 to 7200, or null"),
    ({"notice_seconds": 7201}, "whole number from 60 to 7200"),
    ({"admin_port": 0}, "use a whole number from 1024 to 65535"),
    ({"admin_port": 80}, "use a whole number from 1024 to 65535"),
    ({"backlog_per_instance": 0}, "use a positive number of messages"),
    ({"environment": {"PATH": "/"}}, "names of settings are WORKER_ and capital letters"),
    ({"environment": {"WORKER_LOG_LEVEL": "info\nWORKER_STORE=memory:"}}, "values have no newline"),
    ({"environment": {"WORKER_ADMIN_TOKEN": "secret"}}, SECRET),
    ({"environment": {"WORKER_AZURE_CONNECTION_STRING": "secret"}}, SECRET),
    *(
        ({"environment": {f"WORKER_{name}": "15"}}, OWN)
        for name in ("STORE", "FLEET", "LEASE", "STOP_GRACE", "ADMIN_PORT", "HOST", "HOST_NOTICE", "DRAIN_TIMEOUT")
    ),
    ({"subnet_ids": ["vpc-0123"]}, "name each subnet once, by its id"),
    ({"subnet_ids": ["subnet-0123", "subnet-0123"]}, "name each subnet once"),
    ({"log_retention_days": 31}, "CloudWatch Logs keeps 1, 3, 5"),
]

FITTING: list[dict[str, Any]] = [
    {},
    {"name": "a-b-c-d-e-f-g-h9"},
    {"instances": {"min": 0}},
    {"queues": {}},
    {"queues": {"ledger.fifo": {"partitions": 1000}}, "queue_prefix": "staging-"},
    {"lease_seconds": 5, "drain_seconds": 0.5, "stop_grace_seconds": 8, "notice_seconds": 60},
    {"lease_seconds": 7.5},
    {"drain_seconds": 70},  # and 20 are 90
    {"stop_grace_seconds": 270},  # and 30 are 300
    {"stop_grace_seconds": 7000, "drain_seconds": 6000, "notice_seconds": None},
    {"spot": True},
    {"environment": {"WORKER_LOG_LEVEL": "debug"}},
]


@pytest.fixture(scope="module")
def knobs(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The variables, and the queues' names that follow from them, without anything that needs a provider."""
    folder = tmp_path_factory.mktemp("knobs")
    for name in ("variables.tf", "locals.names.tf"):
        shutil.copy(MODULE / name, folder)
    (folder / "outputs.tf").write_text('output "queue_names" {\n  value = local.queue_names\n}\n')
    return Terraform(folder)


def plan(knobs: Terraform, given: dict[str, Any]) -> tuple[int, str, Path]:
    """Plan with these variables; return the exit code, what was said in one line, and where the plan is."""
    (knobs.folder / "given.tfvars.json").write_text(json.dumps({**GOOD, **given}))
    made = knobs.folder / "plan"
    done = knobs.run("plan", "-no-color", "-lock=false", "-var-file=given.tfvars.json", f"-out={made}")
    return done.returncode, re.sub(r"[\s│]+", " ", done.stdout + done.stderr), made


@pytest.mark.parametrize("given, sentence", HOSTILE, ids=[json.dumps(given)[:60] for given, _ in HOSTILE])
def test_what_cannot_work_is_refused(knobs: Terraform, given: dict[str, Any], sentence: str) -> None:
    """A plan with a variable that cannot work fails with a sentence that says what would do."""
    code, said, _ = plan(knobs, given)
    assert code == 1
    assert sentence in said
    assert "Invalid value for variable" in said
    assert "Error in function call" not in said


@pytest.mark.parametrize("given", FITTING, ids=[json.dumps(given)[:60] for given in FITTING])
def test_what_can_work_is_not_refused(knobs: Terraform, given: dict[str, Any]) -> None:
    """Values at the edge of what can work are planned."""
    code, said, _ = plan(knobs, given)
    assert code == 0, said


def test_queues_are_named_as_the_runtime_names_them(knobs: Terraform) -> None:
    """Intakes, partitions and dead-letter queues are named as the runtime names them, at every width and in order."""
    counts = {"one": 1, "ten": 10, "hundred": 100, "more-than-that": 101, "all-there-may-be": 1000, "ledger.fifo": 11}
    code, said, made = plan(
        knobs,
        {"queues": {name: {"partitions": count} for name, count in counts.items()}, "queue_prefix": "staging-"},
    )
    assert code == 0, said
    named = json.loads(knobs.ok("show", "-json", str(made)))["planned_values"]["outputs"]["queue_names"]["value"]
    wanted = [
        f"staging-{physical}"
        for name, count in counts.items()
        for physical in (name, *partition_names(name, count), dead_letter_queue(name))
    ]
    assert named == sorted(wanted)


def test_an_app_finds_all_its_queues(knobs: Terraform) -> None:
    """What the app declares is what the stack makes, when `queues` says the same."""
    app = App()
    app.queue("invoices", partitions=3)(lambda message: None)
    app.queue("thumbs", mode="shared")(lambda message: None)
    queues = {name: {"partitions": max(1, spec.partitions)} for name, spec in app.queues.items()}
    _, _, made = plan(knobs, {"queues": queues})
    named = json.loads(knobs.ok("show", "-json", str(made)))["planned_values"]["outputs"]["queue_names"]["value"]
    assert {name for spec in app.queues.values() for name in spec.physical} <= set(named)


def test_the_example_has_the_queues_of_the_sample_app(knobs: Terraform) -> None:
    """The example's plan makes every queue that the app in jobs/ declares, and no other."""
    made = knobs.folder / "plan"
    knobs.ok("plan", "-lock=false", f"-var-file={MODULE / EXAMPLE}", f"-out={made}")
    named = json.loads(knobs.ok("show", "-json", str(made)))["planned_values"]["outputs"]["queue_names"]["value"]
    assert named == sorted(name for spec in jobs.app.queues.values() for name in spec.physical)


def test_every_setting_that_is_named_exists() -> None:
    """Every WORKER_ variable in the module is a setting of the runtime."""
    text = "".join(path.read_text() for path in MODULE.glob("*.tf"))
    named = set(re.findall(r"\bWORKER_[A-Z_]+\b", text))
    assert named <= {variable(name) for name in Settings.model_fields} | {"WORKER_"}
