"""The Bicep files as they stand: read by a grammar that is not ours, typed and described, of types that Azure has."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

from tests.infra.bicep_deployment import deploy
from tests.infra.bicep_files import BICEP, FILES, FileParser, Statement, parse
from tests.infra.bicep_schema import LIST, PLAIN, all_resources, problems

GRAMMAR = Language(tree_sitter_bicep.language())
PARAMETERS = BICEP / "main.bicepparam"

API = {
    "Microsoft.Authorization/policyAssignments": "2024-04-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Compute/virtualMachineScaleSets": "2024-11-01",
    "Microsoft.ContainerRegistry/registries": "2025-11-01",
    "Microsoft.Insights/autoscalesettings": "2022-10-01",
    "Microsoft.Insights/dataCollectionRules": "2024-03-11",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2024-11-30",
    "Microsoft.Network/natGateways": "2025-05-01",
    "Microsoft.Network/networkSecurityGroups": "2025-05-01",
    "Microsoft.Network/publicIPAddresses": "2025-01-01",
    "Microsoft.Network/virtualNetworks": "2025-05-01",
    "Microsoft.OperationalInsights/workspaces": "2025-07-01",
    "Microsoft.Storage/storageAccounts": "2025-06-01",
    "Microsoft.Storage/storageAccounts/blobServices": "2025-06-01",
    "Microsoft.Storage/storageAccounts/blobServices/containers": "2025-06-01",
    "Microsoft.Storage/storageAccounts/queueServices": "2025-06-01",
    "Microsoft.Storage/storageAccounts/queueServices/queues": "2025-06-01",
}
"""The API versions that the files use, each read in Azure's own modules or types in November 2026."""

FILE_NAMES = [str(path.relative_to(BICEP)) for path in FILES]


def faults(text: str) -> list[str]:
    """Return the lines that tree-sitter's grammar stumbles over."""

    def within(node: Node) -> list[str]:
        own = [f"{node.start_point[0] + 1}: {node.type}"] if node.type == "ERROR" or node.is_missing else []
        return own + [fault for child in node.children for fault in within(child)]

    return within(Parser(GRAMMAR).parse(text.encode()).root_node)


def declared(path: Path, kind: str) -> list[Statement]:
    """Return a file's declarations of one kind."""
    return [one for one in parse(path) if one.kind == kind]


@pytest.mark.parametrize("path", FILES, ids=FILE_NAMES)
def test_a_grammar_reads_it(path: Path) -> None:
    """Tree-sitter's grammar of Bicep reads every file without an error, and finds one where a bracket is missing."""
    text = path.read_text()
    assert faults(text) == []
    assert faults(text[: text.rindex("}")]) or faults(text[: text.rindex(")")])


@pytest.mark.parametrize(
    "text", ["var a = [1 2]", "var a = {b: 1 c: 2}", "var a = 'x", "var a = b\n  + c", "let a = 1"]
)
def test_our_reader_is_strict(text: str) -> None:
    """The reader that the other tests stand on refuses what Bicep refuses."""
    with pytest.raises(SyntaxError, match=r"text:[12]: "):
        FileParser(text).statements()


@pytest.mark.parametrize("path", FILES, ids=FILE_NAMES)
def test_everything_is_described(path: Path) -> None:
    """Every file has a name and a description, and so have its parameters, outputs, functions and types."""
    metadata = {one.name for one in declared(path, "metadata")}
    assert metadata == {"name", "description"}
    for one in parse(path):
        if one.kind in ("param", "output", "func", "type"):
            assert re.search(r"[.`]$", one.description), f"{path.name}: {one.name}: {one.description!r}"


def test_parameters_have_types_that_say_something() -> None:
    """No parameter of the stack is a bare object, an untyped list, or a text whose length nobody looks at."""
    for one in declared(BICEP / "main.bicep", "param"):
        assert one.type not in (("name", "object"), ("name", "array")), one.name


def test_every_file_is_used() -> None:
    """Every file of the folder is the stack itself, one of its modules, or imported by one of them."""
    referred = [
        (path.parent / tree[1][0]).resolve()
        for path in FILES
        for one in parse(path)
        for tree in (one.value if one.kind == "import" else one.type if one.kind == "module" else None,)
        if tree is not None
    ]
    assert {*referred, BICEP / "main.bicep"} == set(FILES)


def test_types_and_versions() -> None:
    """The resources have exactly the types and the API versions that were looked up."""
    found = {tuple(str(one.type[1][0]).split("@")) for path in FILES for one in declared(path, "resource") if one.type}
    assert found == set(API.items())


def test_azure_knows_every_property() -> None:
    """Every property that is set exists in Azure's types, with a value of its kind, and none that is required lacks."""
    listed = json.loads(LIST.read_text())["types"]
    assert listed.keys() == API.keys()
    made = [one for one in all_resources() if not one.existing]
    assert {one.type for one in made} == API.keys() - {"Microsoft.ContainerRegistry/registries"}
    assert [fault for one in made for fault in problems(one.body, listed[one.type]["body"], one.type)] == []


@pytest.mark.parametrize(
    "where, value, fault",
    [
        ("properties.orchestrationmode", "Flexible", "unknown"),
        ("properties.orchestrationMode", 1, "is no string"),
        ("properties.upgradePolicy.mode", "Rollin", "is none of"),
        ("properties.zoneBalance", "false", "is no bool"),
        ("properties.virtualMachineProfile.extensionProfile.extensions", {}, "no list"),
        ("location", None, "lacks location"),
    ],
)
def test_a_wrong_property_is_found(where: str, value: Any, fault: str) -> None:
    """The list of properties finds a misspelt name, a wrong value, a wrong kind, and what is missing."""
    kind = "Microsoft.Compute/virtualMachineScaleSets"
    body = copy.deepcopy(deploy(**PLAIN).only(kind).body)
    *path, last = where.split(".")
    inner = body
    for name in path:
        inner = inner[name]
    inner[last] = value
    if value is None:
        del inner[last]
    (found,) = problems(body, json.loads(LIST.read_text())["types"][kind]["body"], "set")
    assert fault in found


def test_the_list_says_where_it_comes_from() -> None:
    """Every type of the list has its source with a date, and the API version of it, which is not after ours."""
    for kind, one in json.loads(LIST.read_text())["types"].items():
        assert re.search(r", (read )?20\d\d-\d\d-\d\d$", one["source"])
        assert one["api"] <= API[kind]


def test_the_example_is_a_deployment() -> None:
    """The example of parameters names our template and gives it what deploys, in lines of three kinds."""
    lines = PARAMETERS.read_text().splitlines()
    known = re.compile(r"(?P<using>using 'main\.bicep')|param (?P<name>\w+) = (?P<value>.+)|(?P<note>//.*)?")
    found = [known.fullmatch(line) for line in lines]
    assert [line for line, one in zip(lines, found, strict=True) if one is None] == []
    assert len([one for one in found if one and one["using"]]) == 1
    given = {one["name"]: FileParser(one["value"]).expression() for one in found if one and one["name"]}
    values = {name: _plain(tree) for name, tree in given.items()}
    assert deploy(**values).outputs["queueNames"]


def _plain(tree: Any) -> Any:
    """Return what a literal of the example says."""
    match tree[0]:
        case "str":
            return "".join(tree[1])
        case "obj":
            return {key[1] if key[0] == "lit" else _plain(key): _plain(value) for key, value, _ in tree[1]}
        case "arr":
            return [_plain(one) for one in tree[1]]
    assert tree[0] == "lit"
    return tree[1]
