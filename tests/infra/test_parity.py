"""The three stacks have the same knobs, defaults and outputs, and infra/README.md has them too."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2
import pytest

from tests.infra.bicep_deployment import HERE, Deployment, Template, deploy
from tests.infra.bicep_files import BICEP, parse
from tests.infra.bicep_schema import PLAIN
from tests.infra.bicep_syntax import Expression
from tests.infra.bicep_values import evaluate

INFRA = Path(__file__).resolve().parents[2] / "infra"
README = (INFRA / "README.md").read_text()

AWS, AZURE = INFRA / "aws" / "terraform", INFRA / "azure" / "terraform"

REQUIRED = "–"
"""What stands for the default of a knob that has none."""

AZURE_ONLY = {"registry_id", "zones", "operator_ips", "ssh_public_key"}
BICEP_ONLY = {"capacity"}


@dataclass(frozen=True)
class Knob:
    """What a stack can be told."""

    type: Any  # "string", "number", "bool", [of what], {"*": of what}, {name: of what}
    default: Any = REQUIRED
    null: bool = False  # whether null means something, rather than the default


def camel(name: str) -> str:
    """Return a name of Terraform as Bicep spells it."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


# --- Terraform ---


def blocks(folder: Path, file: str, kind: str) -> dict[str, Any]:
    """Return the blocks of one kind in a file, by their names."""
    read: Any = hcl2.loads((folder / file).read_text())
    return {name.strip('"'): body for block in read[kind] for name, body in block.items()}


def terraform_type(text: str) -> Any:
    """Return what a type of Terraform is."""
    text = text.removeprefix("${").removesuffix("}") if text.startswith("${") else text
    if found := re.fullmatch(r"(map|list)\((.*)\)", text):
        inner = terraform_type(found[2])
        return {"*": inner} if found[1] == "map" else [inner]
    if found := re.fullmatch(r"object\(\{(.*)\}\)", text):
        return dict(re.findall(r"(\w+) = (?:optional\()?(\w+)", found[1]))
    assert text in ("string", "number", "bool"), text
    return text


def terraform_default(body: dict[str, Any]) -> Any:
    """Return a variable's default, an object's own defaults included."""
    if "default" not in body:
        return REQUIRED
    inner = {name: json.loads(value) for name, value in re.findall(r"(\w+) = optional\(\w+, (\d+)\)", body["type"])}
    given = plain(body["default"])
    return {**inner, **given} if isinstance(given, dict) else given


def plain(value: Any) -> Any:
    """Return a value without the quotation marks that python-hcl2 leaves on strings."""
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str) and value.startswith('"'):
        return json.loads(value)
    return None if value == "null" else value


def terraform(folder: Path) -> dict[str, Knob]:
    """Return the knobs of a stack in Terraform."""
    return {
        name: Knob(terraform_type(body["type"]), terraform_default(body), body.get("nullable") is not False)
        for name, body in blocks(folder, "variables.tf", "variable").items()
    }


# --- Bicep ---


def bicep_type(template: Template, kind: Expression) -> Any:
    """Return what a type of Bicep is, in Terraform's words."""
    match kind[0]:
        case "nullable":
            return bicep_type(template, kind[1])
        case "array":
            return [bicep_type(template, kind[1])]
        case "obj":
            return {key[1]: bicep_type(template, one) for key, one, _ in kind[1]}
        case "one of":
            return "string"
    known = {"int": "number", "string": "string", "bool": "bool"}
    return known[kind[1]] if kind[1] in known else bicep_type(template, template.type_of(kind[1]))


def bicep() -> dict[str, Knob]:
    """Return the knobs of the stack in Bicep."""
    template = Template(BICEP / "main.bicep", PLAIN, HERE, Deployment())
    found = {}
    for one in parse(BICEP / "main.bicep"):
        if one.kind == "param" and one.type is not None:
            null = one.type[0] == "nullable"
            default = evaluate(one.value, template) if one.value is not None else None if null else REQUIRED
            found[one.name] = Knob(bicep_type(template, one.type), default, null)
    return found


# --- the README ---


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, their cells as they stand."""
    (section,) = re.findall(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", README)
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def cell(text: str) -> Any:
    """Return the default that a cell tells."""
    return text if text in ("", REQUIRED) else json.loads(text.strip("`"))


def test_aws_and_azure_have_the_same_knobs() -> None:
    """The knobs of AWS are those of Azure in type, default and null, but for the machines' size and Azure's own."""
    aws, azure = terraform(AWS), terraform(AZURE)
    assert azure.keys() - aws.keys() == AZURE_ONLY
    assert aws.keys() - azure.keys() == set()
    assert {name for name, knob in aws.items() if knob != azure[name]} == {"instance_type"}


def test_bicep_has_the_knobs_of_terraform() -> None:
    """The knobs of Bicep are those of Terraform for Azure in type and default, in camel case, and one of its own."""
    azure = {camel(name): knob for name, knob in terraform(AZURE).items()}
    both = bicep()
    assert both.keys() - azure.keys() == BICEP_ONLY
    assert azure.keys() - both.keys() == set()
    for name, knob in azure.items():
        assert (both[name].type, both[name].default) == (knob.type, knob.default), name
    assert {name for name, knob in azure.items() if knob.null != both[name].null} == {"noticeSeconds"}


def test_the_outputs_are_the_same() -> None:
    """All three stacks have the same outputs, in the same order."""
    aws, azure = (list(blocks(folder, "outputs.tf", "output")) for folder in (AWS, AZURE))
    assert aws == azure
    assert [one.name for one in parse(BICEP / "main.bicep") if one.kind == "output"] == [camel(name) for name in azure]


def test_the_table_tells_all_knobs() -> None:
    """The README's table has every knob of all three stacks with its defaults, in the order of the files."""
    aws, azure, ours = terraform(AWS), terraform(AZURE), bicep()
    rows = [[name.strip("`") for name in row[:2]] + row[2:] for row in table("Knobs")]
    assert [row[0] for row in rows if row[0]] == list(azure)
    assert [row[1] for row in rows] == list(ours)
    for name, other, on_aws, on_azure, meaning in rows:
        assert meaning
        if not name:
            assert other in BICEP_ONLY
            continue
        assert other == camel(name)
        assert cell(on_azure) == azure[name].default, name
        assert cell(on_aws) == (aws[name].default if name in aws else ""), name


def test_the_table_tells_all_outputs() -> None:
    """The README's table has every output by both its names."""
    names = [[name.strip("`") for name in row[:2]] for row in table("Outputs")]
    assert names == [[name, camel(name)] for name in blocks(AZURE, "outputs.tf", "output")]


def test_the_settings_are_the_same() -> None:
    """Machines of all three stacks get the same settings, but for the one that says how to find one's cloud."""

    def set_by(path: Path) -> set[str]:
        return set(re.findall(r"\b(WORKER_[A-Z_]+) += ", path.read_text()))

    aws, azure = set_by(AWS / "locals.tf"), set_by(AZURE / "main.boot.tf")
    assert aws - azure == {"WORKER_AWS_REGION"}
    assert azure - aws == {"WORKER_AZURE_CLIENT_ID"}
    assert set(deploy(**PLAIN, queuePrefix="shop-").outputs["workerEnvironment"]) == azure


@pytest.mark.parametrize(
    "text, kind",
    [
        ("string", "string"),
        ("${list(string)}", ["string"]),
        ("${map(object({partitions = number}))}", {"*": {"partitions": "number"}}),
        ("${object({min = optional(number, 2), max = optional(number, 10)})}", {"min": "number", "max": "number"}),
    ],
)
def test_types_are_read(text: str, kind: Any) -> None:
    """A type of Terraform is read as what it is."""
    assert terraform_type(text) == kind
