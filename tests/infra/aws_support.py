"""What the tests of infra/aws share: Terraform, offline and on a copy, and the states in which it leaves the stack."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.infra.boot_support import on_this_machine

INFRA = Path(__file__).resolve().parents[2] / "infra"
MODULE = INFRA / "aws" / "terraform"
EXAMPLE = Path("examples", "default", "terraform.tfvars")
PROVIDER = Path("registry.terraform.io", "hashicorp", "aws")

PLACES = (Path.home() / ".terraform.d/plugins", Path("/usr/local/share/terraform/plugins"), *Path("/opt").glob("*"))
"""Where a machine may keep providers, for Terraform not to download them."""

NOWHERE = "http://127.0.0.1:9"
"""In place of AWS: what is asked by mistake is refused on this machine."""


@dataclass(frozen=True)
class Terraform:
    """Terraform in a folder, which finds its providers on this machine and reaches nobody outside it."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, and return how it ended."""
        return subprocess.run(
            [terraform(), *arguments],
            cwd=self.folder,
            env={**os.environ, **QUIET, "TF_CLI_CONFIG_FILE": str(self._configuration), **self.env},
            capture_output=True,
            text=True,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        """Run one command that must succeed, and return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @cached_property
    def _configuration(self) -> Path:
        path = self.folder / "cli.tfrc"
        mirror = f'filesystem_mirror {{ path = "{found}" }}' if (found := mirrored()) else ""
        path.write_text(f"disable_checkpoint = true\nprovider_installation {{\n  {mirror}\n}}\n")
        return path


QUIET = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ENDPOINT_URL": NOWHERE,
    "CHECKPOINT_DISABLE": "1",
    "TF_IN_AUTOMATION": "1",
    "TF_INPUT": "0",
}


def terraform() -> str:
    """Return the program, or skip."""
    program = shutil.which("terraform")
    on_this_machine(program, "needs terraform: https://developer.hashicorp.com/terraform/install")
    return str(program)


def mirrored() -> Path | None:
    """Return the folder on this machine that Terraform may take the AWS provider from."""
    named = os.environ.get("WORKER_TEST_TERRAFORM_MIRROR")
    places = [Path(named)] if named else PLACES
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


def stack(folder: Path) -> Terraform:
    """Copy the module and what it reads, and initialise it; skip where Terraform or the provider is missing."""
    terraform()
    wanted = "needs the AWS provider: `terraform providers mirror` into the folder WORKER_TEST_TERRAFORM_MIRROR names"
    on_this_machine(mirrored(), wanted)
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__")
    for name in ("aws", "boot"):
        shutil.copytree(INFRA / name, folder / "infra" / name, ignore=ignored)
    made = Terraform(folder / "infra" / "aws" / "terraform")
    made.ok("init", "-backend=false")
    return made


@dataclass(frozen=True)
class State:
    """The resources, data and outputs of a stack after one run."""

    told: Mapping[str, Any]

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return what is known of all resources of one type, or of one name: `aws_sqs_queue`, `data.TYPE.NAME`."""
        return [one["values"] for one in self._resources if one["address"].startswith((f"{kind}.", f"{kind}["))]

    def one(self, address: str) -> dict[str, Any]:
        """Return what is known of one resource."""
        (found,) = [one["values"] for one in self._resources if one["address"] == address]
        values: dict[str, Any] = found
        return values

    def output(self, name: str) -> Any:
        """Return an output."""
        return self.told["outputs"][name]["value"]

    @property
    def _resources(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.told["root_module"]["resources"]
        return found


def states(lines: str) -> dict[str, State]:
    """Return the state after each run, by its name, from what `terraform test -json -verbose` printed."""
    told = [json.loads(line) for line in lines.splitlines()]
    found = {one["@testrun"]: one["test_state"] for one in told if one["type"] == "test_state"}
    return {run: State({part: told[part] for part in ("root_module", "outputs")}) for run, told in found.items()}
