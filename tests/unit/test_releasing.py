"""What the workflows run besides make: release notes, and the wait for a fleet's new machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_repository import ROOT

PROGRAM = """#!{python}
import json, pathlib, sys
told = pathlib.Path({told!r})
answers = json.loads(told.read_text())
name = next(one for one in answers if one in sys.argv)
answer = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
told.write_text(json.dumps(answers))
if answer == "not found":
    sys.exit("ERROR: (NotFound) there is no such thing")
print(json.dumps(answer))
"""


@dataclass
class Cloud:
    """A cloud's command line that answers as it is told: by subcommand, one answer after another, the last for ever."""

    folder: Path
    name: str

    def says(self, **answers: list[Any]) -> None:
        """Tell it what to answer."""
        told = self.folder / "answers.json"
        told.write_text(json.dumps({name.replace("_", "-"): answer for name, answer in answers.items()}))
        program = self.folder / {"aws": "aws", "azure": "az"}[self.name]
        program.write_text(PROGRAM.format(python=sys.executable, told=str(told)))
        program.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script against it."""
        command = [sys.executable, str(ROOT / "scripts" / "rollout.py"), arguments[0], self.name, *arguments[1:]]
        env = {**os.environ, "PATH": str(self.folder)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    def wait(self, mark: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Wait for a group's machines, without pauses."""
        return self.run("wait", "a-group", f"--mark={mark}", "--pause=0", *more)


@pytest.fixture
def aws(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path, "aws")


@pytest.fixture
def azure(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path, "azure")


def refresh(number: int, status: str) -> dict[str, Any]:
    return {"InstanceRefreshes": [{"InstanceRefreshId": f"refresh-{number}", "Status": status}]}


def upgrade(day: int, code: str) -> dict[str, Any]:
    status = {"startTime": f"2026-01-{day:02}T00:00:00+00:00", "code": code}
    return {"runningStatus": status, "progress": {"pendingInstanceCount": 1}}


def test_a_group_before_its_first_apply_has_no_mark(aws: Cloud, azure: Cloud) -> None:
    """Nobody is asked about a group that does not exist yet."""
    for cloud in (aws, azure):
        done = cloud.run("mark", "")
        assert (done.returncode, done.stdout) == (0, "\n")


def test_a_refresh_is_waited_for(aws: Cloud) -> None:
    """The wait lasts until the refresh that came after the mark has succeeded."""
    aws.says(describe_instance_refreshes=[refresh(1, "Successful")])
    mark = aws.run("mark", "a-group").stdout.strip()
    assert mark == "refresh-1"
    aws.says(
        describe_instance_refreshes=[refresh(2, state) for state in ("Pending", "InProgress", "Baking", "Successful")]
    )
    done = aws.wait(mark)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["Pending", "InProgress", "Baking", "Successful"]


@pytest.mark.parametrize("state", ["Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"])
def test_a_refresh_that_fails_is_a_failure(aws: Cloud, state: str) -> None:
    """A refresh that has not brought the new machines, rolled back or not, fails the deployment."""
    aws.says(describe_instance_refreshes=[refresh(2, "InProgress"), refresh(2, state)])
    done = aws.wait("refresh-1")
    assert done.returncode == 1
    assert f"::error::the replacement has ended as {state}" in done.stdout


@pytest.mark.parametrize("answer", [{"InstanceRefreshes": []}, refresh(1, "Failed")])
def test_nothing_to_refresh(aws: Cloud, answer: dict[str, Any]) -> None:
    """An apply that changes no machine is done at once, whatever became of an earlier refresh."""
    aws.says(describe_instance_refreshes=[answer])
    assert aws.wait("refresh-1" if answer["InstanceRefreshes"] else "").returncode == 0


def test_a_refresh_without_end(aws: Cloud) -> None:
    """The wait has an end, and says what it has waited for."""
    aws.says(describe_instance_refreshes=[refresh(2, "InProgress")])
    done = aws.wait("refresh-1", "--timeout=0")
    assert done.returncode == 1
    assert "not done after 0 s: InProgress" in done.stdout


def test_an_upgrade_that_has_not_begun_is_waited_for(azure: Cloud) -> None:
    """While machines are of the old model, an earlier upgrade's end is not taken for this one's."""
    azure.says(get_latest=[upgrade(1, "Completed")], list_instances=[[True]])
    mark = azure.run("mark", "a-group").stdout.strip()
    azure.says(
        get_latest=[upgrade(1, "Completed"), upgrade(2, "RollingForward"), upgrade(2, "Completed")],
        list_instances=[[False, False], [True, False], [True, True]],
    )
    done = azure.wait(mark)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["Completed", "RollingForward", "Completed"]


def test_the_first_upgrade_of_a_set(azure: Cloud) -> None:
    """A set that was never upgraded is done when its machines are of its model, and fails with its first upgrade."""
    azure.says(get_latest=["not found"], show=[{}], list_instances=[[True, True]])
    assert azure.run("mark", "a-group").stdout == "\n"
    assert azure.wait("").returncode == 0
    azure.says(get_latest=["not found", upgrade(1, "Faulted")], show=[{}], list_instances=[[False]])
    done = azure.wait("")
    assert done.returncode == 1
    assert "ended as Faulted: pendingInstanceCount: 1" in done.stdout


def test_a_set_that_is_gone(azure: Cloud) -> None:
    """A set that cannot be asked about is a failure, not one without upgrades."""
    azure.says(get_latest=["not found"], show=["not found"], list_instances=[[]])
    assert azure.wait("").returncode != 0


def test_release_notes(tmp_path: Path) -> None:
    """A tag's notes are its section of the changelog, and a tag that does not fit code and changelog is refused."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (tmp_path / "worker").mkdir()
    (folder / "release_notes.py").write_text((ROOT / "scripts" / "release_notes.py").read_text())
    (tmp_path / "worker" / "__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / ".template-version").write_text("1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n- Later.\n\n## [1.2.0] - 2026-02-03\n\n### Added\n\n- This.\n\n"
        "## [1.1.0] - 2026-01-02\n\n- That.\n"
    )

    def run(tag: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(folder / "release_notes.py"), tag]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("v1.2.0").stdout == "### Added\n\n- This.\n"
    assert "a tag is v and three numbers" in run("1.2.0").stderr
    assert "worker/__init__.py says 1.2.0, the tag 1.1.0" in run("v1.1.0").stderr
    (tmp_path / ".template-version").write_text("1.1.0\n")
    assert ".template-version says 1.1.0" in run("v1.2.0").stderr
    (tmp_path / ".template-version").write_text("1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("## [1.2.0]\n\n- Undated.\n")
    done = run("v1.2.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no section" in done.stderr
