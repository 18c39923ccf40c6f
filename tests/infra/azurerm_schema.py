"""The schema of Terraform's provider for Azure, read from its Python bindings: names, types, what is required, nesting.

The bindings (`cdktn-provider-azurerm`) are generated from the schema of one version of the provider, so that it can be
had back from them without the provider itself, which Python's packages do not bring. What is lost: which strings an
argument takes, which arguments exclude each other, and whether a list is a set. So a name, a type, a missing argument
and a misplaced block are found here, and a wrong value only by Azure.

The bindings are parsed and never imported: they weigh a hundred megabytes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = "cdktn_provider_azurerm"

META = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners", "timeouts", "alias"}
"""What the bindings add to every resource: Terraform's own words."""

NO_ATTRIBUTES = {"timeouts", "fqn", "internal_value", "cdktn_object", "is_empty", "size"}
"""Properties of the bindings that are no attributes."""

DEEPEST = 4
"""Levels of what a provider answers in nested lists of objects: more are never referred to."""

Type = Any
"""As Terraform's protocol writes one: "string", ["list", "string"], ["object", {"name": "string"}]."""


@dataclass(frozen=True)
class Attribute:
    """One argument, or one value that the provider answers."""

    type: Type
    required: bool = False
    optional: bool = False
    computed: bool = False


@dataclass(frozen=True)
class Block:
    """A resource, or a block in one; `most` 0 is any number."""

    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    least: int = 0
    most: int = 0


@dataclass(frozen=True)
class Schema:
    """What one provider offers."""

    version: str
    provider: Block
    resources: Mapping[str, Block]
    data: Mapping[str, Block]


class NoSuchType(LookupError):
    """The provider has no resource or data source of this name."""


def read_schema(site_packages: Path, resources: Iterable[str], data: Iterable[str]) -> Schema:
    """Return the schema of these types, by their names in a configuration. Raises NoSuchType."""
    bindings = site_packages / PACKAGE
    provider = Bindings(bindings, "provider")
    (source,) = re.findall(r"/azurerm/([0-9.]+)/docs", provider.source[:200_000])[:1]
    return Schema(
        version=source,
        provider=provider.block("AzurermProviderConfig"),
        resources={name: _whole(bindings, name.removeprefix("azurerm_"), name) for name in resources},
        data={name: _whole(bindings, f"data_{name}", name) for name in data},
    )


def _whole(bindings: Path, module: str, name: str) -> Block:
    if not (bindings / module / "__init__.py").is_file():
        raise NoSuchType(f"{name}: the provider has no such type")
    found = Bindings(bindings, module)
    main = found.main()
    whole = found.block(f"{main}Config", answered=main)
    whole.attributes["id"] = Attribute("string", optional=True, computed=True)
    return whole


class Bindings:
    """One module of the bindings: a class for the type itself, one for each of its blocks, and their companions."""

    def __init__(self, bindings: Path, module: str) -> None:
        self.source = (bindings / module / "__init__.py").read_text()
        self._classes = {node.name: node for node in ast.parse(self.source).body if isinstance(node, ast.ClassDef)}

    def main(self) -> str:
        """Return the class of the resource or data source itself: the one with a configuration."""
        (name,) = (name for name in self._classes if f"{name}Config" in self._classes)
        return name

    def block(self, name: str, *, answered: str = "", least: int = 0, most: int = 1) -> Block:
        """Return what a class of arguments describes, with what is answered besides."""
        made = Block(least=least, most=most)
        for argument, annotation, required in self._arguments(name):
            if argument in META:
                continue
            inner = next((word for word in re.findall(r"\w+", annotation) if word in self._classes), None)
            if inner is None:
                made.attributes[argument] = Attribute(_type(annotation), required=required, optional=not required)
            else:
                many = 0 if "typing.Sequence" in annotation else 1
                made.blocks[argument] = self.block(inner, least=int(required), most=many)
        for attribute, type in self._answers(answered or f"{name}OutputReference", DEEPEST):
            if attribute not in made.attributes and attribute not in made.blocks:
                made.attributes[attribute] = Attribute(type, computed=True)
        return made

    def _arguments(self, name: str) -> Iterable[tuple[str, str, bool]]:
        for node in self._classes[name].body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                    plain = argument.arg.rstrip("_")  # in_, from_: words of Python's own
                    yield plain, ast.unparse(argument.annotation or ast.Constant("")), default is None

    def _answers(self, name: str, depth: int) -> Iterable[tuple[str, Type]]:
        for node in self._classes[name].body if name in self._classes else ():
            if not isinstance(node, ast.FunctionDef) or node.returns is None or not _is_property(node):
                continue
            if node.name.endswith("_input") or node.name in NO_ATTRIBUTES:
                continue
            annotation = ast.unparse(node.returns).strip("'\"")
            inner = re.fullmatch(r"(\w+?)(?:List|OutputReference)", annotation)
            if inner is None or f"{inner[1]}OutputReference" not in self._classes:
                yield node.name, _type(annotation)
            elif depth:
                yield (
                    node.name,
                    ["list", ["object", dict(self._answers(f"{inner[1]}OutputReference", depth - 1))]],
                )


def _is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(it, ast.Attribute) and it.attr == "property" for it in node.decorator_list)


def _type(annotation: str) -> Type:
    """Return the type that an annotation of Python's stands for, `dynamic` where there is none."""
    if "Map" in annotation:
        values = annotation.partition("Mapping[builtins.str,")[2]
        return ["map", _plain(values) or "string"]
    plain = _plain(annotation)
    if plain is None:
        return "dynamic"
    return ["list", plain] if "typing.Sequence" in annotation or "typing.List" in annotation else plain


def _plain(annotation: str) -> str | None:
    # A flag is bool or IResolvable, a number jsii.Number: a string is what names neither.
    for word, type in (("jsii.Number", "number"), ("builtins.bool", "bool"), ("builtins.str", "string")):
        if word in annotation:
            return type
    return None
