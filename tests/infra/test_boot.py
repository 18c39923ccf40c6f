"""The cloud-init template, rendered for both clouds: what Terraform and Bicep make of it, and what a machine has."""

from __future__ import annotations

import ast
import base64
import gzip
import json
import os
import re
import shutil
import subprocess
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import tree_sitter
import tree_sitter_bicep
import yaml

from tests.infra.boot_support import (
    AWKWARD,
    BOOT,
    CLOUDS,
    PLACEHOLDER,
    README,
    SCRIPT,
    TEMPLATE,
    environment,
    on_this_machine,
    render,
    units,
    values,
    written,
)
from worker.errors import ConfigurationError
from worker.settings import SECRETS, Settings, load_settings, variable

ENVIRONMENT = "/etc/cloud-worker/worker.env"
AWS_LIMIT = 16 * 1024  # bytes of user data, unpacked or not, before base64
AZURE_LIMIT = 64 * 1024  # bytes of custom data, with base64


def fenced(language: str) -> list[str]:
    """Return the README's blocks of code in one language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", README)


def terraform(folder: Path, expression: str) -> Any:
    """Return what Terraform makes of an expression, offline, in a folder with its variables."""
    program = shutil.which("terraform")
    on_this_machine(program, "needs terraform: https://developer.hashicorp.com/terraform/install")
    (folder / "cli.tfrc").write_text("disable_checkpoint = true\n")
    quiet = {"TF_CLI_CONFIG_FILE": str(folder / "cli.tfrc"), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    done = subprocess.run(
        [str(program), "console"],
        cwd=folder,
        input=f"base64encode(jsonencode({expression}))\n",
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(base64.b64decode(json.loads(done.stdout)))


def module(folder: Path, given: dict[str, object]) -> Path:
    """Make a Terraform module around the README's block, where the real ones are: two folders below infra's."""
    made = folder / "infra" / "aws" / "terraform"
    made.mkdir(parents=True)
    (folder / "infra" / "boot").symlink_to(BOOT)
    (local, rule) = fenced("terraform")
    variables = [
        f'variable "{name}" {{\n{rule if name == "environment" else ""}}}'
        for name in re.findall(r"var\.([a-z_]+)", local)
    ]
    (made / "main.tf").write_text("\n".join([local, *variables]))
    (made / "terraform.tfvars.json").write_text(json.dumps(given))
    return made


@pytest.mark.parametrize("cloud", CLOUDS)
def test_terraform_renders_the_same(cloud: str, tmp_path: Path) -> None:
    """The README's Terraform block renders byte for byte what these tests check, awkward settings included."""
    settings = dict(sorted({**AWKWARD, "WORKER_STORE": "s3://bucket/fleet"}.items()))
    filled = values(cloud, environment=environment(settings))
    given = {name: value for name, value in filled.items() if name != "pull_image"}
    made = module(tmp_path, {**given, "environment": settings})
    assert terraform(made, "local.user_data") == render(filled)


@pytest.mark.parametrize(
    "wrong",
    [
        {"WORKER_FLEET": "two\nlines"},
        {"WORKER_FLEET": "carriage\rreturn"},
        {"worker_fleet": "x"},
        {"PATH": "/"},
        {"WORKER_STOP_GRACE": "10"},
        {"WORKER_ADMIN_PORT": "1"},
        *[{variable(name): "x"} for name in sorted(SECRETS)],
    ],
    ids=str,
)
def test_the_rule_for_the_map_refuses(wrong: dict[str, str], tmp_path: Path) -> None:
    """The README's validation accepts a map of settings, and refuses one with a newline, a secret or a stranger."""
    (_, rule) = fenced("terraform")
    (condition,) = re.findall(r"(?s)condition = (.*?)\n  error_message", rule)
    for settings, accepted in ((AWKWARD, True), ({**AWKWARD, **wrong}, False)):
        folder = tmp_path / str(accepted)
        folder.mkdir()
        (folder / "main.tf").write_text(f'variable "environment" {{}}\nlocals {{\n  accepted = {condition}\n}}\n')
        (folder / "terraform.tfvars.json").write_text(json.dumps({"environment": settings}))
        assert terraform(folder, "local.accepted") is accepted


@pytest.mark.parametrize("cloud", CLOUDS)
def test_replacing_renders_the_same(cloud: str) -> None:
    """Plain replacement, one placeholder after another and in any order, as Bicep has it, gives the same text."""
    filled = values(cloud, environment=environment(AWKWARD))
    for names in (sorted(filled), sorted(filled, reverse=True)):
        text = reduce(lambda text, name: text.replace(f"${{{name}}}", filled[name]), names, TEMPLATE)
        assert text == render(filled)


def test_only_placeholders_are_special() -> None:
    """Nothing in the template but its placeholders means anything to Terraform or to Bicep."""
    rest = PLACEHOLDER.sub("", TEMPLATE)
    assert [mark for mark in ("${", "%{", "$$", "%%") if mark in rest] == []


def test_the_readme_names_every_placeholder() -> None:
    """The README's table and its two examples name exactly the template's placeholders."""
    wanted = set(PLACEHOLDER.findall(TEMPLATE))
    assert set(re.findall(r"(?m)^\| `([a-z_]+)` \|", README)) == wanted
    (local, _), (bicep,) = fenced("terraform"), fenced("bicep")
    assert set(re.findall(r"(?m)^    ([a-z_]+) +=", local)) == wanted
    assert set(re.findall(r"(?m)^  ([a-z_]+):", bicep)) == wanted


@pytest.mark.parametrize("cloud", CLOUDS)
def test_it_fits_into_user_data(cloud: str) -> None:
    """What is handed over fits with room for two kilobytes of settings: zipped on AWS, as it is on Azure."""
    settings = {f"WORKER_SETTING_{number}": os.urandom(16).hex() for number in range(43)}
    text = render(values(cloud, environment=environment(settings))).encode()
    assert len(gzip.compress(text)) < AWS_LIMIT
    assert len(base64.b64encode(text)) < AZURE_LIMIT


@pytest.mark.parametrize("cloud", CLOUDS)
def test_it_is_a_cloud_config(cloud: str) -> None:
    """The rendered text is YAML with the header and the keys that cloud-init knows, and starts the worker unawaited."""
    text = render(values(cloud))
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    assert config.keys() == {"write_files", "runcmd"}
    assert config["runcmd"][-1] == ["systemctl", "enable", "--now", "--no-block", "cloud-worker.service"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_cloud_init_accepts_it(cloud: str, tmp_path: Path) -> None:
    """The schema of cloud-init itself accepts the rendered text, and refuses it with a key misspelt."""
    program = shutil.which("cloud-init")
    on_this_machine(program, "needs cloud-init, which comes with a system only: apt-get install cloud-init")

    def code(text: str) -> int:
        path = tmp_path / "user-data"
        path.write_text(text)
        checked = [str(program), "schema", "--config-file", str(path)]
        return subprocess.run(checked, capture_output=True, check=False).returncode

    assert code(render(values(cloud))) == 0
    assert code(render(values(cloud)).replace("permissions:", "permission:")) != 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_environment_is_for_root_only(cloud: str) -> None:
    """The worker's environment is one file that nobody but root may read."""
    files = written(render(values(cloud)))
    assert files[ENVIRONMENT].mode == 0o600
    assert [path for path, it in files.items() if "WORKER_STORE" in it.text and path != ENVIRONMENT] == []


def test_the_environment_holds_what_was_given() -> None:
    """Each setting arrives in the file to the letter, on a line of its own, and ours come last, where they win."""
    lines = written(render(values("azure", environment=environment(AWKWARD))))[ENVIRONMENT].text.split("\n")
    ours = ["WORKER_STOP_GRACE=120", "WORKER_ADMIN_PORT=8080"]
    assert [line for line in lines if line] == [*(f"{name}={value}" for name, value in AWKWARD.items()), *ours]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("grace, accepted", [("80", True), ("79", False)])
def test_the_worker_accepts_its_machine(
    cloud: str, grace: str, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file holds are settings that the worker starts with, unless the stop grace is too short for a drain."""
    for line in written(render(values(cloud, stop_grace=grace)))[ENVIRONMENT].text.split("\n"):
        if line:
            monkeypatch.setenv(*line.split("=", 1))
    if accepted:
        assert load_settings().stop_grace == float(grace)
        return
    with pytest.raises(ConfigurationError, match="WORKER_STOP_GRACE=79"):
        load_settings()


def test_bicep_can_read_the_example() -> None:
    """The README's Bicep block has no error of syntax, and a broken one has."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))
    (block,) = fenced("bicep")
    assert not parser.parse(block.encode()).root_node.has_error
    assert parser.parse(block.replace("reduce(", "reduce((").encode()).root_node.has_error


def test_a_file_without_a_last_newline_keeps_its_last_line() -> None:
    """A map whose last line has no newline does not run into the lines that follow."""
    bare = base64.b64encode(b"WORKER_FLEET=orders").decode()
    lines = written(render(values("azure", environment=bare)))[ENVIRONMENT].text.split("\n")
    assert lines[:2] == ["WORKER_FLEET=orders", "WORKER_STOP_GRACE=120"]


def test_no_secret_is_in_the_template() -> None:
    """The template holds no secret setting, and the README tells to leave out each that there is."""
    names = {variable(name) for name in SECRETS}
    assert [name for name in names if name in TEMPLATE or f"`{name}`" not in README] == []


def test_every_setting_exists() -> None:
    """Every WORKER_ variable that the README's examples and the template name is a setting."""
    named = set(re.findall(r"\bWORKER_[A-Z_]+\b", TEMPLATE + README)) - {"WORKER_NAME"}
    assert named - {variable(name) for name in Settings.model_fields} == set()


def test_the_script_arrives_as_it_is() -> None:
    """The machine gets pull_image.py byte for byte where the unit runs it, in a Python as old as the machines'."""
    files = written(render(values("aws")))
    (path,) = [path for path in files if path.endswith("/pull_image.py")]
    assert files[path].text == SCRIPT.read_text()
    assert path in units(render(values("aws")))["cloud-worker.service"]
    ast.parse(files[path].text, feature_version=(3, 9))


def test_updates_neither_reboot_nor_replace_the_engine() -> None:
    """Unattended updates may not reboot, and the engine's packages and services are out of their reach."""
    files = written(render(values("azure")))
    apt = files["/etc/apt/apt.conf.d/90cloud-worker"].text
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in apt
    (listed,) = re.findall(r"Package-Blacklist \{(.*?)\}", apt)
    for package in ("docker.io", "docker-ce", "containerd", "containerd.io", "runc"):
        assert [one for one in re.findall(r'"(.*?)"', listed) if re.match(one, package)], package
    (pattern,) = re.findall(r"qr\((.*)\)\} = 0;", files["/etc/needrestart/conf.d/90-cloud-worker.conf"].text)
    for service in ("docker.service", "containerd.service", "cloud-worker.service"):
        assert re.search(pattern, service), service
