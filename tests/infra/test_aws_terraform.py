"""The stack on AWS against a provider that invents AWS's answers: what would be made, and what a machine would get.

Nothing is asked of anybody. The runs and their variables are in the module's own tests/unit.tftest.hcl.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections.abc import Mapping

import pytest

from tests.infra.aws_support import EXAMPLE, MODULE, State, Terraform
from tests.infra.boot_support import SCRIPT, awslogs, command, units, written
from worker.settings import Settings, load_settings

ENVIRONMENT = "/etc/cloud-worker/worker.env"


def user_data(state: State) -> str:
    """Return what cloud-init gets."""
    return gzip.decompress(base64.b64decode(state.one("aws_launch_template.this")["user_data"])).decode()


def given_settings(state: State) -> dict[str, str]:
    """Return the worker's environment on a machine."""
    lines = written(user_data(state))[ENVIRONMENT].text.splitlines()
    return dict(line.split("=", 1) for line in lines if line)


def load(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Load settings as a worker does that has this environment, and nothing of ours."""
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_it_is_formatted(aws_module: Terraform) -> None:
    """`terraform fmt` would change nothing."""
    assert aws_module.ok("fmt", "-check", "-recursive", "-diff") == ""


def test_it_is_valid(aws_module: Terraform) -> None:
    """The schema of the real provider accepts the module, without a warning."""
    told = json.loads(aws_module.ok("validate", "-json"))
    assert (told["valid"], told["diagnostics"]) == (True, [])


def test_it_refuses_what_cannot_work(aws_module: Terraform) -> None:
    """The module's own tests of refusals pass."""
    assert "0 failed" in aws_module.ok("test", "-no-color", "-filter=tests/refusals.tftest.hcl")


def test_the_example_says_what_must_be_said() -> None:
    """The example names every variable without a default, and no variable that does not exist."""
    text = (MODULE / "variables.tf").read_text()
    blocks = dict(re.findall(r'(?ms)^variable "(\w+)" \{\n(.*?)^\}', text))
    required = {name for name, block in blocks.items() if not re.search(r"(?m)^  default ", block)}
    said = set(re.findall(r"(?m)^(\w+) +=", (MODULE / EXAMPLE).read_text()))
    assert required <= said <= set(blocks)


def test_the_readme_has_every_knob_and_output() -> None:
    """The README's tables name exactly the module's variables and outputs."""
    readme = (MODULE / "README.md").read_text()
    for file, kind in (("variables.tf", "variable"), ("outputs.tf", "output")):
        named = re.findall(rf'(?m)^{kind} "(\w+)"', (MODULE / file).read_text())
        section = readme.partition(f"## {kind.capitalize()}s")[2].partition("\n## ")[0]
        assert re.findall(r"(?m)^\| `(\w+)` \|", section) == named


@pytest.mark.parametrize("run", ["defaults", "another"])
def test_a_machine_gets_what_the_outputs_say(aws_runs: Mapping[str, State], run: str) -> None:
    """The worker's environment on a machine is the output's, and what the units add to it."""
    state = aws_runs[run]
    units_own = {"WORKER_STOP_GRACE": "90", "WORKER_ADMIN_PORT": "8080"}
    assert given_settings(state) == {**state.output("worker_environment"), **units_own}


@pytest.mark.parametrize("run", ["defaults", "another"])
def test_a_worker_takes_its_environment(
    aws_runs: Mapping[str, State], run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker starts with the environment that a machine has: every setting exists, and all fit together."""
    state = aws_runs[run]
    settings = load(given_settings(state), monkeypatch)
    assert settings.store == state.output("store")
    assert (settings.host, settings.host_notice) == ("aws", 300.0 if run == "defaults" else None)
    assert (settings.fleet, settings.app, settings.aws_region) == ("orders", "jobs:app", "eu-central-1")
    assert settings.queue_prefix == ("" if run == "defaults" else "staging-")


def test_the_boot_units_are_filled(aws_defaults: State) -> None:
    """A machine pulls the image by its digest with its role, logs to the log group, and has the script as it is."""
    text = user_data(aws_defaults)
    unit = units(text)["cloud-worker.service"]
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/cloud-worker@sha256:" + "4f" * 32
    assert command(unit, "ExecStartPre")[-3:] == ["--login=aws", "--client-id=", image]
    run = command(unit, "ExecStart")
    assert (run[-1], "--stop-timeout=90" in run) == (image, True)
    assert set(awslogs(aws_defaults.output("log_destination")).split()) <= set(run)
    assert written(text)["/usr/local/lib/cloud-worker/pull_image.py"].text == SCRIPT.read_text()


def test_an_image_elsewhere_needs_no_sign_in(aws_another: State) -> None:
    """An image outside ECR is pulled without a sign-in, and the role may then do nothing in ECR."""
    unit = units(user_data(aws_another))["cloud-worker.service"]
    assert "--login=none" in command(unit, "ExecStartPre")
    statements = aws_another.one("data.aws_iam_policy_document.worker")["statement"]
    assert [action for it in statements for action in it["actions"] if action.startswith("ecr:")] == []


def test_machines_are_hardened(aws_defaults: State) -> None:
    """Metadata need a token and go no further than the machine, disks are encrypted, and nothing comes in."""
    machine = aws_defaults.one("aws_launch_template.this")
    (metadata,), ((disk,),) = machine["metadata_options"], [one["ebs"] for one in machine["block_device_mappings"]]
    assert (metadata["http_tokens"], metadata["http_put_response_hop_limit"]) == ("required", 1)
    assert (disk["volume_type"], disk["encrypted"]) == ("gp3", "true")
    assert machine["network_interfaces"] == []
    assert aws_defaults.all("aws_vpc_security_group_ingress_rule") == []
    assert "ingress" not in "".join(path.read_text() for path in MODULE.glob("*.tf"))
    assert "--network=host" in command(units(user_data(aws_defaults))["cloud-worker.service"], "ExecStart")


def test_queues_are_what_the_outputs_say(aws_another: State) -> None:
    """Every queue of the output is made, in order where its name says so, and nothing is redriven by SQS itself."""
    queues = aws_another.all("aws_sqs_queue")
    assert sorted(it["name"] for it in queues) == aws_another.output("queue_names")
    assert all(it["fifo_queue"] is it["name"].endswith(".fifo") for it in queues)
    assert aws_another.all("aws_sqs_queue_redrive_policy") == []
