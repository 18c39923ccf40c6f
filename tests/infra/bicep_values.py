"""What Bicep's expressions come to: its operators, and those of its functions that infra/azure/bicep calls.

Written from the language's reference. `guid` and `uniqueString` are hashes of our own of the same shape, as nobody has
published theirs. What is not here is refused, not guessed.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.infra.bicep_syntax import Expression

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
"""Of `uniqueString`: 13 of these 32."""

SUBSCRIPTION = "00000000-0000-0000-0000-00000000feed"
GROUP = "fleet-group"


class Refused(Exception):
    """The deployment is refused: what `fail()` or a parameter's type says."""


class Names:
    """What a name stands for at one place: a lambda's parameters, then whatever is around."""

    def __init__(self, around: Names | None = None, own: Mapping[str, Any] | None = None) -> None:
        self.around, self.own = around, own or {}

    def value(self, name: str) -> Any:
        """Return what a name stands for, or raise NameError."""
        if name in self.own:
            return self.own[name]
        if self.around is None:
            raise NameError(name)
        return self.around.value(name)

    def function(self, name: str) -> Callable[..., Any]:
        """Return what a call calls, or raise NameError."""
        if self.around is None:
            raise NameError(f"{name}()")
        return self.around.function(name)


def evaluate(tree: Expression, names: Names) -> Any:
    """Return what an expression comes to."""
    kind = tree[0]
    match kind:
        case "lit":
            return tree[1]
        case "str":
            parts = [part if isinstance(part, str) else text(evaluate(part, names)) for part in tree[1]]
            return "".join(parts)
        case "name":
            return names.value(tree[1])
        case "arr":
            return [evaluate(one, names) for one in tree[1]]
        case "obj":
            return {evaluate(key, names): evaluate(value, names) for key, value, _ in tree[1]}
        case "for":
            return [evaluate(tree[3], loop) for loop in loops(tree, names)]
        case "lambda":
            return lambda *given: evaluate(tree[2], Names(names, dict(zip(tree[1], given, strict=False))))
        case "call":
            return names.function(tree[1])(*(evaluate(one, names) for one in tree[2]))
        case "member":
            return member(evaluate(tree[1], names), tree[2], safe=tree[3])
        case "index":
            return evaluate(tree[1], names)[evaluate(tree[2], names)]
        case "tern":
            condition = evaluate(tree[1], names)
            assert isinstance(condition, bool)
            return evaluate(tree[2 if condition else 3], names)
        case "un":
            operand = evaluate(tree[2], names)
            return not operand if tree[1] == "!" else -operand
        case "bin":
            return binary(tree[1], evaluate(tree[2], names), lambda: evaluate(tree[3], names))
    raise SyntaxError(f"an expression of kind {kind!r}")


def loops(tree: Expression, names: Names) -> list[Names]:
    """Return the names of each turn of a loop."""
    turns = enumerate(evaluate(tree[2], names))
    return [Names(names, dict(zip(tree[1], (item, index), strict=False))) for index, item in turns]


def member(of: Any, name: str, *, safe: bool) -> Any:
    """Return a property."""
    if isinstance(of, dict):
        return of.get(name) if safe else of[name]
    return getattr(of, name)


def binary(sign: str, left: Any, right: Callable[[], Any]) -> Any:
    """Return what an operator makes of two operands; the second is not looked at where the first decides."""
    match sign:
        case "??":
            return right() if left is None else left
        case "||":
            return left or right()
        case "&&":
            return left and right()
        case "==":
            return left == right()
        case "!=":
            return left != right()
    other = right()
    assert isinstance(left, int)
    assert isinstance(other, int)
    operators: dict[str, Callable[[int, int], Any]] = {
        "<": int.__lt__,
        "<=": int.__le__,
        ">": int.__gt__,
        ">=": int.__ge__,
        "+": int.__add__,
        "-": int.__sub__,
        "*": int.__mul__,
        "/": lambda a, b: int(a / b),  # towards zero
        "%": lambda a, b: a - b * int(a / b),
    }
    return operators[sign](left, other)


def text(value: Any) -> str:
    """Return a value as an interpolation and `string` show it."""
    assert isinstance(value, str | int)
    return str(value).lower() if isinstance(value, bool) else str(value)


def union(*values: Any) -> Any:
    """Merge objects, the later ones winning, or arrays, each item once."""
    if isinstance(values[0], dict):
        merged: dict[str, Any] = {}
        for value in values:
            for name, one in value.items():
                both = isinstance(one, dict) and isinstance(merged.get(name), dict)
                merged[name] = union(merged[name], one) if both else one
        return merged
    return list(dict.fromkeys(item for value in values for item in value))


def fail(message: str) -> Any:
    """Refuse the deployment."""
    raise Refused(message)


def unique_string(*values: str) -> str:
    """Return 13 characters that follow from the values."""
    return "".join(ALPHABET[byte % 32] for byte in hashlib.sha256("\0".join(values).encode()).digest()[:13])


def unchanged(value: Any) -> Any:
    """Return a text or a list: what `take`, `skip`, `first`, `last` and `length` accept."""
    assert isinstance(value, str | list)
    return value


def reduced(values: list[Any], start: Any, made: Callable[[Any, Any], Any]) -> Any:
    """Fold a list from the left."""
    for one in values:
        start = made(start, one)
    return start


def functions(folder: Path) -> dict[str, Callable[..., Any]]:
    """Return the functions, as a file of this folder has them."""
    subscription = {"subscriptionId": SUBSCRIPTION, "id": f"/subscriptions/{SUBSCRIPTION}"}
    group = {"name": GROUP, "id": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"}

    def resource_group(*scope: str) -> Any:
        return f"/subscriptions/{scope[0]}/resourceGroups/{scope[1]}" if scope else group

    return {
        "base64": lambda value: base64.b64encode(value.encode()).decode(),
        "concat": lambda *lists: [item for one in lists for item in one],
        "contains": lambda within, one: one in within,
        "empty": lambda value: value is None or len(value) == 0,
        "endsWith": lambda value, end: value.endswith(end),
        "fail": fail,
        "filter": lambda values, keeps: [one for one in values if keeps(one)],
        "first": lambda values: unchanged(values)[0],
        "flatten": lambda lists: [item for one in lists for item in one],
        "guid": lambda *values: str(uuid.uuid5(uuid.NAMESPACE_URL, "\0".join(values))),
        "items": lambda value: [{"key": key, "value": value[key]} for key in sorted(value)],
        "join": lambda values, sign: sign.join(values),
        "last": lambda values: unchanged(values)[-1],
        "length": lambda value: len(unchanged(value)),
        "loadFileAsBase64": lambda path: base64.b64encode((folder / path).read_bytes()).decode(),
        "loadTextContent": lambda path: (folder / path).read_text(),
        "map": lambda values, made: [made(one) for one in values],
        "max": lambda *values: max(values),
        "padLeft": lambda value, width, sign: value.rjust(width, sign),
        "range": lambda start, count: list(range(start, start + count)),
        "reduce": reduced,
        "replace": lambda value, old, new: value.replace(old, new),
        "resourceGroup": resource_group,
        "skip": lambda values, count: unchanged(values)[count:],
        "split": lambda value, sign: value.split(sign),
        "startsWith": lambda value, start: value.startswith(start),
        "string": text,
        "subscription": lambda: subscription,
        "subscriptionResourceId": lambda kind, name: f"{subscription['id']}/providers/{kind}/{name}",
        "substring": lambda value, start, count: value[start : start + count],
        "take": lambda values, count: unchanged(values)[: max(0, count)],
        "toLower": lambda value: value.lower(),
        "union": union,
        "uniqueString": unique_string,
    }
