"""The variables that the deployment guides tell people to begin with, planned by Terraform."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.infra.azure_terraform import terraform
from tests.unit.docs_support import read
from tests.unit.test_repository import ROOT

VARIABLES = {"aws": ("variables.tf",), "azure": ("variables.tf", "locals.tf")}
"""The files of each stack that need no provider."""


@pytest.mark.parametrize("cloud", VARIABLES)
def test_example(cloud: str, tmp_path: Path) -> None:
    """A stack accepts its guide's example once a digest stands where the guide has an ellipsis, and not before."""
    for name in VARIABLES[cloud]:
        shutil.copy(ROOT / "infra" / cloud / "terraform" / name, tmp_path)
    (example,) = [text for language, text in read(ROOT / f"docs/deploy-{cloud}.md").fenced if language == "hcl"]
    values = tmp_path / "terraform.tfvars"
    tool = terraform(tmp_path)
    values.write_text(example)
    assert "64 hexadecimal digits" in " ".join(tool.run("plan", "-input=false", "-no-color").stderr.split())
    values.write_text(example.replace("sha256:…", "sha256:" + 64 * "0"))
    tool.done("plan", "-input=false")
