"""Bicep's statements: what a file of infra/azure/bicep declares."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.infra.bicep_syntax import Expression, Parser

BICEP = Path(__file__).resolve().parents[2] / "infra" / "azure" / "bicep"
FILES = sorted(BICEP.rglob("*.bicep"))


@dataclass(frozen=True)
class Statement:
    """One declaration."""

    kind: str  # metadata, param, var, type, func, resource, module, output, import
    name: str = ""
    decorators: dict[str, list[Expression]] = field(default_factory=dict)
    type: Expression | None = None  # of a resource or a module: the text that says what it is
    value: Expression | None = None
    names: tuple[str, ...] = ()  # of an import: what is imported; of a func: its parameters
    existing: bool = False

    @property
    def description(self) -> str:
        """What its decorator says of it."""
        text = self.decorators.get("description", [("str", [""])])[0]
        return str(text[1][0])


class FileParser(Parser):
    """Reads one file."""

    def statements(self) -> list[Statement]:
        """Read the whole file."""
        found: list[Statement] = []
        while True:
            self.blanks(lines=True)
            if self.at == len(self.text):
                return found
            decorators = self.decorators()
            self.blanks(lines=True)
            found.append(self.statement(decorators))
            self.blanks()
            if self.at < len(self.text) and self.text[self.at] != "\n":
                raise self.fail("the end of the line")

    def statement(self, decorators: dict[str, list[Expression]]) -> Statement:
        """Read one statement."""
        kind = self.identifier()
        if kind == "import":
            self.take("{")
            names = tuple(str(key[1]) for key in self.items("}"))
            if self.identifier() != "from":
                raise self.fail("from")
            return Statement(kind, "", decorators, names=names, value=self.expression())
        name = self.identifier()
        if kind == "func":
            return self.function(decorators, name)
        type_, existing, value = None, False, None
        if kind in ("resource", "module"):
            type_ = self.string()
            existing = self.took("existing")
            self.take("=")
            value = self.condition()
        elif kind in ("param", "output"):
            type_ = self.type()
            value = self.expression() if self.took("=") else None
        elif kind in ("var", "metadata", "type"):
            self.take("=")
            value = self.type() if kind == "type" else self.expression()
        else:
            raise self.fail("a statement")
        return Statement(kind, name, decorators, type_, value, existing=existing)

    def condition(self) -> Expression:
        """Read ("if", condition, body), or a body alone."""
        self.blanks()
        if not re.compile(r"if\b").match(self.text, self.at):
            return self.expression()
        self.identifier()
        return ("if", self.parenthesis(), self.expression())

    def function(self, decorators: dict[str, list[Expression]], name: str) -> Statement:
        """Read what follows a function's name."""
        self.take("(")
        names: list[str] = []
        while not self.took(")"):
            if names:
                self.take(",")
            names.append(self.identifier())
            self.type()
        result = self.type()
        self.take("=>")
        self.blanks(lines=True)
        return Statement("func", name, decorators, result, self.expression(), tuple(names))


@cache
def parse(path: Path) -> list[Statement]:
    """Read a file, once."""
    return FileParser(path.read_text(), path.name).statements()
