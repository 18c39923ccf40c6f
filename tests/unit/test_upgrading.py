"""UPGRADING.md as a program: a repository made from the template is upgraded by the commands that the page shows."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_repository import ROOT
from worker import __version__

PAGE = (ROOT / "UPGRADING.md").read_text()

OLD = {
    ".template-version": "0.1.0\n",
    ".env.example": "WORKER_STORE=\n",
    "worker/kept.py": "old\n",
    "worker/gone.py": "old\n",
    "providers/kept.py": "old\n",
    "jobs/__init__.py": "sample\n",
    "infra/aws/terraform/main.tf": "".join(f"line {number}\n" for number in range(20)),
    "infra/aws/terraform/production.tfvars": 'name = "sample"\n',
    "infra/azure/bicep/main.bicepparam": "param name = 'sample'\n",
    "Dockerfile": "FROM old\n",
}
NEW = {
    **OLD,
    ".template-version": "0.2.0\n",
    ".env.example": "WORKER_STORE=\nWORKER_NEW=\n",
    "worker/kept.py": "new\n",
    "providers/kept.py": "new\n",
    "providers/added.py": "new\n",
    "jobs/__init__.py": "another sample\n",
    "infra/aws/terraform/main.tf": OLD["infra/aws/terraform/main.tf"].replace("line 1\n", "line one\n"),
    "infra/aws/terraform/production.tfvars": 'name = "another"\n',
    "infra/azure/bicep/main.bicepparam": "param name = 'another'\n",
    "docs/added.md": "new\n",
}
del NEW["worker/gone.py"]
MINE = {
    "worker/kept.py": "patched, against the advice\n",
    "jobs/__init__.py": "mine\n",
    "jobs/shop.py": "mine\n",
    "infra/aws/terraform/main.tf": OLD["infra/aws/terraform/main.tf"].replace("line 18\n", "line eighteen\n"),
    "infra/aws/terraform/production.tfvars": 'name = "mine"\n',
    "infra/azure/bicep/main.bicepparam": "param name = 'mine'\n",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, as nobody in particular."""
    identity = {f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {**os.environ, **identity, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    command = ["git", "-c", "init.defaultBranch=main", "-c", "commit.gpgSign=false", *arguments]
    return subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def commit(folder: Path, files: dict[str, str], *, tag: str | None = None) -> None:
    """Make a folder hold these files and no others that git knows, as a commit."""
    for name in git(folder, "ls-files").splitlines():
        (folder / name).unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "a state")
    if tag:
        git(folder, "tag", tag)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A repository with no history in common with the template, made from its release 0.1.0 and changed since."""
    template, mine = tmp_path / "template", tmp_path / "mine"
    for folder in (template, mine):
        folder.mkdir()
        git(folder, "init", "--quiet")
    commit(template, OLD, tag="v0.1.0")
    commit(template, NEW, tag="v0.2.0")
    commit(mine, OLD)
    git(mine, "remote", "add", "template", str(template))
    return mine


def upgrade(folder: Path) -> int:
    """Run what the page shows; return its exit code."""
    (commands,) = re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE)
    assert "new=v0.2.0 " in commands
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands], cwd=folder, env=env, check=False
    ).returncode


def found(folder: Path) -> dict[str, str]:
    """Return a repository's files."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_an_upgrade_replaces_merges_and_leaves_alone(mine: Path) -> None:
    """The template's folders become the new release's, the user's stay, and the rest has the changes of both sides."""
    commit(mine, {**OLD, **MINE})
    (mine / ".env").write_text("WORKER_STORE=mine\n")
    assert upgrade(mine) == 0
    merged = NEW["infra/aws/terraform/main.tf"].replace("line 18\n", "line eighteen\n")
    yours = {
        name: text for name, text in MINE.items() if name.startswith("jobs/") or name.endswith((".tfvars", "param"))
    }
    assert found(mine) == {
        **NEW,
        **yours,
        "infra/aws/terraform/main.tf": merged,
        ".env": "WORKER_STORE=mine\n",
    }


def test_a_conflict_is_shown(mine: Path) -> None:
    """Where both sides have changed the same line, the upgrade says so and leaves both in the file."""
    commit(mine, {**OLD, ".env.example": "WORKER_STORE=\nWORKER_MINE=\n"})
    assert upgrade(mine) != 0
    text = (mine / ".env.example").read_text()
    assert "<<<<<<<" in text
    assert "WORKER_MINE=" in text
    assert "WORKER_NEW=" in text


def test_the_template_says_its_version() -> None:
    """.template-version names the release whose code is in worker/."""
    assert (ROOT / ".template-version").read_text() == f"{__version__}\n"
