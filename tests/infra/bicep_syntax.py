"""Bicep's expressions, as far as infra/azure/bicep uses them: from text to trees. `bicep_files` reads the statements.

No package registry has Bicep's compiler. This reads what the compiler would, is as strict about new lines, and refuses
the rest; tree-sitter's grammar, which is not ours, has to accept every file as well. (Its trees are of no use here: it
lets a lambda end too early.) Types are trees of the same kind as values: `{ *: queueType }[]` reads like one.
"""

from __future__ import annotations

import re
from typing import Any

Expression = tuple[Any, ...]
"""`("bin", "+", left, right)` and the like: `Parser` says which there are."""

BINARY = [["??"], ["||"], ["&&"], ["==", "!=", "=~", "!~"], ["<=", "<", ">=", ">"], ["+", "-"], ["*", "/", "%"]]
"""Operators from the loosest to the tightest; all of them bind to the left."""

ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "'": "'", "\\": "\\", "$": "$"}

LITERALS = {"true": True, "false": False, "null": None}


class Parser:
    """Reads one file. Every method leaves `at` behind what it has read."""

    def __init__(self, text: str, name: str = "text") -> None:
        self.text, self.at, self.name = text, 0, name

    # --- characters ---

    def fail(self, wanted: str) -> SyntaxError:
        """Return the error that names the line."""
        line = self.text.count("\n", 0, self.at) + 1
        return SyntaxError(f"{self.name}:{line}: {wanted} wanted, not {self.text[self.at : self.at + 30]!r}")

    def blanks(self, *, lines: bool = False) -> None:
        """Skip blanks and comments, and new lines where they mean nothing."""
        pattern = r"(?:[ \t]|//[^\n]*" + (r"|\n)*" if lines else ")*")
        self.at = re.compile(pattern).match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too

    def took(self, sign: str, *, lines: bool = False) -> bool:
        """Take a sign, if it comes next."""
        before = self.at
        self.blanks(lines=lines)
        if self.text.startswith(sign, self.at):
            self.at += len(sign)
            return True
        self.at = before
        return False

    def take(self, sign: str, *, lines: bool = False) -> None:
        """Take a sign, or raise SyntaxError."""
        if not self.took(sign, lines=lines):
            self.blanks(lines=lines)
            raise self.fail(repr(sign))

    def word(self) -> str | None:
        """Take an identifier, if one comes next."""
        self.blanks()
        found = re.compile(r"[A-Za-z_]\w*").match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def identifier(self) -> str:
        """Take an identifier, or raise SyntaxError."""
        found = self.word()
        if found is None:
            raise self.fail("a name")
        return found

    # --- expressions ---

    def expression(self) -> Expression:
        """Read one: ("tern", condition, yes, no) or what `binary` reads."""
        condition = self.binary(0)
        before = self.at
        self.blanks(lines=True)
        if not re.compile(r"\?(?![?.])").match(self.text, self.at):
            self.at = before
            return condition
        self.at += 1
        yes = self.expression()
        self.take(":", lines=True)
        return ("tern", condition, yes, self.expression())

    def binary(self, level: int) -> Expression:
        """Read ("bin", operator, left, right)."""
        if level == len(BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while True:
            self.blanks()
            sign = next((one for one in BINARY[level] if self.text.startswith(one, self.at)), None)
            if sign is None:
                return left
            self.at += len(sign)
            left = ("bin", sign, left, self.binary(level + 1))

    def unary(self) -> Expression:
        """Read ("un", operator, operand)."""
        for sign in "!-":
            if self.took(sign):
                return ("un", sign, self.unary())
        return self.postfix(self.primary())

    def postfix(self, value: Expression) -> Expression:
        """Read ("member", of, name, safe), ("index", of, at), ("array", of) for `of[]` of a type."""
        while True:
            if self.took("["):
                if self.took("]"):
                    value = ("array", value)
                    continue
                value = ("index", value, self.expression())
                self.take("]")
            elif self.text.startswith((".?", "."), self.at):
                safe = self.text.startswith(".?", self.at)
                self.at += 2 if safe else 1
                value = ("member", value, self.identifier(), safe)
            else:
                return value

    def primary(self) -> Expression:
        """Read what stands alone: ("lit", value), ("str", parts), ("name", name), ("call", name, arguments), …"""
        self.blanks()
        number = re.compile(r"\d+").match(self.text, self.at)
        if number:
            self.at = number.end()
            return ("lit", int(number[0]))
        if self.text.startswith("'", self.at):
            return self.string()
        if self.took("{"):
            return self.object()
        if self.took("["):
            return self.array()
        if self.text.startswith("(", self.at):
            return self.parenthesis()
        name = self.identifier()
        if self.took("=>"):
            self.blanks(lines=True)
            return ("lambda", (name,), self.expression())
        if name in LITERALS:
            return ("lit", LITERALS[name])
        return ("call", name, self.items(")")) if self.took("(") else ("name", name)

    def parenthesis(self) -> Expression:
        """Read a lambda of several parameters, or what parentheses hold; `'a' | 'b'` of a type is ("one of", …)."""
        several = re.compile(r"\(\s*(\w+(?:\s*,\s*\w+)*)\s*\)\s*=>").match(self.text, self.at)
        if several:
            self.at = several.end()
            self.blanks(lines=True)
            return ("lambda", tuple(re.split(r"\s*,\s*", several[1])), self.expression())
        self.take("(")
        self.blanks(lines=True)
        choices = [self.expression()]
        while re.compile(r"[ \t]*\|(?!\|)").match(self.text, self.at):
            self.take("|")
            choices.append(self.expression())
        self.take(")", lines=True)
        return choices[0] if len(choices) == 1 else ("one of", *choices)

    def items(self, end: str) -> list[Expression]:
        """Read expressions up to a bracket; in an array a new line parts them as a comma does."""
        found: list[Expression] = []
        while not self.took(end, lines=True):
            if found:
                before = self.at
                self.blanks(lines=end == "]")
                if not self.took(",") and (end != "]" or "\n" not in self.text[before : self.at]):
                    raise self.fail("a comma")
            self.blanks(lines=True)
            found.append(self.expression())
        return found

    def array(self) -> Expression:
        """Read ("arr", items), or ("for", names, over, body)."""
        self.blanks(lines=True)
        if not re.compile(r"for\b").match(self.text, self.at):
            return ("arr", self.items("]"))
        self.identifier()
        names = self.loop_names()
        if self.identifier() != "in":
            raise self.fail("in")
        over = self.expression()
        self.take(":")
        body = self.expression()
        self.take("]", lines=True)
        return ("for", names, over, body)

    def loop_names(self) -> tuple[str, ...]:
        """Read the name of a loop's item, or in parentheses its name and that of its index."""
        if not self.took("("):
            return (self.identifier(),)
        item = self.identifier()
        self.take(",")
        index = self.identifier()
        self.take(")")
        return (item, index)

    def object(self) -> Expression:
        """Read ("obj", [(key, value, decorators), …])."""
        found: list[tuple[Expression, Expression, dict[str, list[Expression]]]] = []
        while not self.took("}", lines=True):
            before = self.at
            self.blanks(lines=True)
            if found and not self.took(",") and "\n" not in self.text[before : self.at]:
                raise self.fail("a comma")
            decorators = self.decorators()
            self.blanks(lines=True)
            if self.took("*"):
                key: Expression = ("lit", "*")
            else:
                key = self.string() if self.text.startswith("'", self.at) else ("lit", self.identifier())
            self.take(":")
            found.append((key, self.expression(), decorators))
        return ("obj", found)

    def string(self) -> Expression:
        """Read ("str", parts), a part being text or an expression."""
        self.take("'")
        parts: list[str | Expression] = [""]
        while not self.text.startswith("'", self.at):
            sign = self.text[self.at : self.at + 1]
            if sign in ("", "\n") or (sign == "\\" and self.text[self.at + 1] not in ESCAPES):
                raise self.fail("a string's end")
            if self.text.startswith("${", self.at):
                self.at += 2
                parts += [self.expression(), ""]
                self.take("}")
                continue
            escaped = sign == "\\"
            parts[-1] = str(parts[-1]) + (ESCAPES[self.text[self.at + 1]] if escaped else sign)
            self.at += 2 if escaped else 1
        self.at += 1
        return ("str", parts)

    # --- what stands above something, and types ---

    def decorators(self) -> dict[str, list[Expression]]:
        """Read the decorators above something."""
        found: dict[str, list[Expression]] = {}
        while self.took("@", lines=True):
            name = self.identifier()
            self.take("(")
            found[name] = self.items(")")
        return found

    def type(self) -> Expression:
        """Read a type; ("nullable", type) for one with a question mark."""
        self.blanks()
        plain = re.compile(r"[a-z]\w*", re.IGNORECASE).match(
            self.text, self.at
        )  # before `=>` it is no lambda's parameter
        kind = self.postfix(("name", self.identifier()) if plain else self.primary())
        return ("nullable", kind) if self.took("?") else kind
