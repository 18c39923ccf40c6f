"""The stack on Azure against the policies of checkov, offline."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.infra.azure_terraform import STACK, checkov, text_of_stack


def test_checkov_finds_nothing(tmp_path: Path) -> None:
    """The policies of checkov find nothing but what is skipped, each skip with its reason, and each skip is needed."""
    found = checkov(STACK, tmp_path)
    assert found["failed_checks"] == []
    skipped = {it["check_id"]: it["check_result"]["suppress_comment"] for it in found["skipped_checks"]}
    assert all(skipped.values())
    assert set(skipped) == set(re.findall(r"#checkov:skip=(\w+)", text_of_stack()))


def test_checkov_finds_what_is_wrong(tmp_path: Path) -> None:
    """An account that takes older TLS and shows its blobs to everybody is found."""
    copy = tmp_path / "stack"
    shutil.copytree(STACK, copy, ignore=shutil.ignore_patterns(".terraform*"))
    text = (copy / "main.store.tf").read_text()
    text = text.replace('"TLS1_2"', '"TLS1_0"').replace("items_to_be_public   = false", "items_to_be_public   = true")
    (copy / "main.store.tf").write_text(text)
    failed = {it["check_id"] for it in checkov(copy, tmp_path)["failed_checks"]}
    assert failed >= {"CKV_AZURE_44", "CKV_AZURE_190"}
