"""What the tests of infra/azure/terraform share: Terraform offline, with a provider that knows Azure's schema only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.infra.azurerm_schema import read_schema
from tests.infra.boot_support import DIGEST, infra_environment, on_this_machine

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "infra" / "azure" / "terraform"
SERVER = Path(__file__).parent / "azurerm_server.py"

GIVEN: dict[str, Any] = {
    "name": "orders",
    "location": "westeurope",
    "image": f"myacr.azurecr.io/team/cloud-worker@{DIGEST}",
}
"""The variables that have no default."""


def text_of_stack() -> str:
    """Return all of the stack's own files, one after the other."""
    return "\n".join(path.read_text() for path in sorted(STACK.glob("*.tf")))


def types(kind: str) -> list[str]:
    """Return the types that the stack uses: of a `resource`, or of `data`."""
    return sorted(set(re.findall(rf'(?m)^{kind} "(azurerm_\w+)"', text_of_stack())))


def only(monkeypatch: pytest.MonkeyPatch, settings: Mapping[str, str]) -> None:
    """Have the runtime see these settings and no others."""
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@dataclass(frozen=True)
class Terraform:
    """Terraform in one folder, which reaches nothing but a mirror of plugins."""

    folder: Path
    settings: Path

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        quiet = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": str(self.settings)}
        return subprocess.run(
            [str(shutil.which("terraform")), *words],
            cwd=self.folder,
            input=stdin,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *words: str, stdin: str = "") -> str:
        """Run one command that must succeed, and return what it prints."""
        ended = self.run(*words, stdin=stdin)
        assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def value(self, expression: str) -> Any:
        """Return what an expression is in this folder's configuration."""
        return json.loads(json.loads(self.done("console", stdin=f"jsonencode({expression})\n")))

    def refusals(self, **variables: Any) -> list[str]:
        """Plan with these variables besides those that have no default, and return the sentences that refuse them."""
        (self.folder / "terraform.tfvars.json").write_text(json.dumps({**GIVEN, **variables}))
        ended = self.run("plan", "-input=false", "-json")
        messages = [json.loads(line) for line in ended.stdout.splitlines()]
        found = [it["diagnostic"] for it in messages if it["@level"] == "error"]
        assert bool(found) == bool(ended.returncode), ended.stdout + ended.stderr
        return [str(it["detail"]).partition("\n\nThis was checked by")[0] for it in found]


def terraform(folder: Path, mirror: Path | None = None) -> Terraform:
    """Return Terraform for a folder, with the plugins of a mirror alone."""
    on_this_machine(shutil.which("terraform"), "needs terraform: https://developer.hashicorp.com/terraform/install")
    settings = folder / "cli.tfrc"
    source = f'\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n' if mirror else ""
    settings.write_text(
        f'disable_checkpoint = true\nprovider_installation {{{source}\n  direct {{\n    exclude = ["*/*/*"]\n  }}\n}}\n'
    )
    return Terraform(folder, settings)


def without_resources(folder: Path) -> Terraform:
    """Return Terraform for the variables and what follows from them alone: it needs no provider."""
    for name in ("variables.tf", "locals.tf"):
        shutil.copy(STACK / name, folder)
    (folder / "terraform.tfvars.json").write_text(json.dumps(GIVEN))
    return terraform(folder)


def whole(folder: Path) -> Terraform:
    """Return Terraform for a copy of the stack, beside a copy of infra/boot, with the served provider."""
    environment = infra_environment()
    copy = folder / "infra" / "azure" / "terraform"
    shutil.copytree(STACK, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    shutil.copytree(ROOT / "infra" / "boot", folder / "infra" / "boot")
    (site_packages,) = environment.glob("lib/python*/site-packages")
    schema = read_schema(site_packages, types("resource"), types("data"))
    described = folder / "schema.json"
    described.write_text(json.dumps(asdict(schema)))
    plugin = folder.joinpath(
        *("mirror/registry.terraform.io/hashicorp/azurerm", schema.version, _platform()),
        f"terraform-provider-azurerm_v{schema.version}",
    )
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f'#!/bin/sh\nexec "{environment}/bin/python" "{SERVER}" "{described}"\n')
    plugin.chmod(0o755)
    return terraform(copy, folder / "mirror")


def _platform() -> str:
    machine = os.uname().machine
    return f"{os.uname().sysname.lower()}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


@dataclass(frozen=True)
class State:
    """What one run of a test has made: the resources by their addresses, and the outputs."""

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any]


def states(told: str) -> Iterator[tuple[str, State]]:
    """Return the state after each run of `terraform test -json -verbose`, by the run's name."""
    for line in told.splitlines():
        message = json.loads(line)
        if message["type"] == "test_state":
            state = message["test_state"]
            yield (
                message["@testrun"],
                State(
                    {it["address"]: it["values"] for it in state["root_module"]["resources"]},
                    {name: it["value"] for name, it in state["outputs"].items()},
                ),
            )


def checkov(folder: Path, home: Path) -> dict[str, Any]:
    """Return what checkov finds in a folder of Terraform, offline: its failed and its skipped checks."""
    ended = subprocess.run(
        [
            infra_environment() / "bin" / "checkov",
            *("--directory", folder, "--framework", "terraform"),
            *("--skip-path", "examples"),  # there it would judge names by how far it can compute them
            *("--skip-download", "--compact", "--output", "json"),
        ],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    results: dict[str, Any] = json.loads(ended.stdout)["results"]
    return results
