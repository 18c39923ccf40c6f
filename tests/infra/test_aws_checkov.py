"""What a scanner of Terraform has to say about the stack on AWS."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.infra.aws_support import MODULE
from tests.infra.boot_support import infra_environment


def test_checkov_has_no_objection() -> None:
    """checkov finds nothing that is not skipped with a reason, and every skip still skips something."""
    checkov = infra_environment() / "bin" / "checkov"
    told = checked(checkov)
    failed = [f"{it['check_id']} {it['resource']} {it['check_name']}" for it in told["results"]["failed_checks"]]
    assert failed == []
    skipped = {it["check_id"] for it in told["results"]["skipped_checks"]}
    assert skipped == set(re.findall(r"checkov:skip=(\w+):", "".join(p.read_text() for p in MODULE.glob("*.tf"))))


def checked(checkov: Path) -> Any:
    """Return what checkov finds in the module, offline."""
    done = subprocess.run(
        [checkov, "--directory", MODULE, "--framework", "terraform", "--output=json", "--skip-download"],
        env={**os.environ, "HTTPS_PROXY": "http://127.0.0.1:9", "BC_SKIP_MAPPING": "TRUE"},
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)
