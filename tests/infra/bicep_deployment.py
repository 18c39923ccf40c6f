"""A deployment of infra/azure/bicep on paper: the resources and outputs that given parameters lead to.

What only Azure would know (ids of identities) stands as `<resource.property>`. Everything else is evaluated, so that
tests compare values, and not the text of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.infra.bicep_files import BICEP, Statement, parse
from tests.infra.bicep_syntax import Expression
from tests.infra.bicep_values import GROUP, SUBSCRIPTION, Names, Refused, evaluate, functions, loops

HERE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"


class Unknown:
    """A property that only the deployed resource has, and that Azure fills in."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return f"<{self._path}.{name}>" if name.endswith("Id") else Unknown(f"{self._path}.{name}")


@dataclass
class Resource:
    """One resource, as it would be sent to Azure. `body` has neither its name nor what it is part of."""

    type: str
    api: str
    name: str  # with those of what it is part of: account/default/queue
    scope: str  # what it is in, or what it is about
    body: dict[str, Any]
    existing: bool = False

    @property
    def id(self) -> str:
        """Its resource id."""
        space, *kinds = self.type.split("/")
        parts = [f"{kind}/{name}" for kind, name in zip(kinds, self.name.split("/"), strict=True)]
        return "/".join([self.scope, "providers", space, *parts])

    @property
    def properties(self) -> Unknown:
        """What Azure knows of it."""
        return Unknown(f"{self.name}.properties")

    @property
    def identity(self) -> Unknown:
        """The identity that Azure has given it."""
        return Unknown(f"{self.name}.identity")


@dataclass
class Module:
    """A deployed module, or one whose condition did not hold."""

    outputs: Any = None


@dataclass
class Deployment:
    """What comes of a file and its parameters."""

    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> list[Resource]:
        """Return the resources of one type that are made, in order."""
        return [one for one in self.resources if one.type == kind and not one.existing]

    def only(self, kind: str) -> Resource:
        """Return the one resource of a type."""
        (one,) = self.of(kind)
        return one


class Template(Names):
    """One file, given parameters. Names are evaluated when first asked for, as they may refer to later ones."""

    def __init__(self, path: Path, given: Mapping[str, Any], scope: str, made: Deployment) -> None:
        super().__init__()
        self.path, self.given, self.scope, self.made = path, given, scope, made
        self.statements = {one.name: one for one in parse(path) if one.kind not in ("output", "metadata", "import")}
        self.imports = {
            name: (path.parent / evaluate(_value(one), self)).resolve()
            for one in parse(path)
            if one.kind == "import"
            for name in one.names
        }
        self.builtin = functions(path.parent)
        self.cache: dict[str, Any] = {}

    def deploy(self) -> dict[str, Any]:
        """Make everything that the file declares, and return its outputs."""
        strangers = set(self.given) - {one.name for one in self.statements.values() if one.kind == "param"}
        assert not strangers, f"{self.path.name} has no {sorted(strangers)}"
        for one in self.statements.values():
            if one.kind in ("param", "resource", "module"):
                self.value(one.name)
        return {one.name: evaluate(_value(one), self) for one in parse(self.path) if one.kind == "output"}

    def value(self, name: str) -> Any:
        """See `Names.value`."""
        if name not in self.cache:
            one = self.statements[name]
            how: dict[str, Callable[[Statement], Any]] = {
                "param": self._parameter,
                "var": lambda one: evaluate(_value(one), self),
                "resource": lambda one: self._each(one, self._resource),
                "module": lambda one: self._each(one, self._module),
            }
            self.cache[name] = how[one.kind](one)
        return self.cache[name]

    def function(self, name: str) -> Callable[..., Any]:
        """See `Names.function`."""
        if name in self.imports:
            return Template(self.imports[name], {}, self.scope, self.made).function(name)
        one = self.statements.get(name)
        if one is None:
            return self.builtin[name]
        return lambda *given: evaluate(_value(one), Names(self, dict(zip(one.names, given, strict=True))))

    def type_of(self, name: str) -> Expression:
        """Return what a type's name stands for."""
        if name in self.imports:
            return Template(self.imports[name], {}, self.scope, self.made).type_of(name)
        return _value(self.statements[name])

    def _parameter(self, one: Statement) -> Any:
        given = self.given.get(one.name)  # null is as good as nothing: the default holds
        if given is None and one.value is not None:
            given = evaluate(one.value, self)
        assert one.type is not None
        self.check(one.name, given, one.type, one.decorators)
        return given

    def check(self, what: str, value: Any, kind: Expression, rules: Mapping[str, list[Expression]]) -> None:
        """Raise Refused for a value that is not of its type, or breaks a decorator's rule."""
        if kind[0] == "nullable":
            if value is None:
                return
            kind = kind[1]
        plain = {"string": str, "int": int, "bool": bool, "object": dict}
        if kind[0] == "array":
            self._expect(what, value, list)
            for index, item in enumerate(value):
                self.check(f"{what}[{index}]", item, kind[1], {})
        elif kind[0] == "one of":
            if value not in [evaluate(one, self) for one in kind[1:]]:
                raise Refused(f"{what}: {value!r} is not one of its values")
        elif kind[0] == "obj":
            self._expect(what, value, dict)
            wanted = {evaluate(key, self): (type_, more) for key, type_, more in kind[1]}
            for name in value.keys() | (wanted.keys() - {"*"}):
                if name not in value or (name not in wanted and "*" not in wanted):
                    raise Refused(f"{what}.{name}: is missing, or not wanted")
                self.check(f"{what}.{name}", value[name], *wanted.get(name, wanted.get("*")))  # type: ignore[misc]
        elif kind[1] in plain:
            self._expect(what, value, plain[kind[1]])
        else:
            self.check(what, value, self.type_of(kind[1]), {})
        limits = {name: evaluate(rules[name][0], self) for name in rules if name.startswith(("min", "max"))}
        for name, limit in limits.items():
            measured = len(value) if name.endswith("Length") else value
            if measured < limit if name.startswith("min") else measured > limit:
                raise Refused(f"{what}: {measured} breaks @{name}({limit})")

    @staticmethod
    def _expect(what: str, value: Any, kind: type) -> None:
        if type(value) is not kind:
            raise Refused(f"{what}: {value!r} is no {kind.__name__}")

    def _each(self, one: Statement, make: Callable[[Statement, Expression, Names, bool], Any]) -> Any:
        """Make what a declaration stands for: once, for each turn of a loop, or not at all."""
        tree, wanted = _value(one), True
        if tree[0] == "for":
            return [make(one, tree[3], turn, True) for turn in loops(tree, self)]
        if tree[0] == "if":
            wanted, tree = evaluate(tree[1], self), tree[2]
        return make(one, tree, self, wanted)

    def _resource(self, one: Statement, tree: Expression, names: Names, wanted: bool) -> Resource:
        assert one.type is not None
        kind, api = evaluate(one.type, self).split("@")
        body = evaluate(tree, names)
        parent, about = body.pop("parent", None), body.pop("scope", None)
        name = f"{parent.name}/{body.pop('name')}" if parent else body.pop("name")
        made = Resource(kind, api, name, about.id if about else self.scope, body, one.existing)
        self.made.resources += [made] if wanted else []
        return made

    def _module(self, one: Statement, tree: Expression, names: Names, wanted: bool) -> Module:
        if not wanted:
            return Module()
        body = evaluate(tree, names)
        assert one.type is not None
        assert body.keys() <= {"name", "params", "scope", "dependsOn"}
        path = (self.path.parent / evaluate(one.type, self)).resolve()
        return Module(Template(path, body["params"], body.get("scope", self.scope), self.made).deploy())


def _value(one: Statement) -> Expression:
    assert one.value is not None, one.name
    return one.value


def deploy(**knobs: Any) -> Deployment:
    """Deploy main.bicep with these parameters. Raises Refused."""
    made = Deployment()
    made.outputs = Template(BICEP / "main.bicep", knobs, HERE, made).deploy()
    return made
