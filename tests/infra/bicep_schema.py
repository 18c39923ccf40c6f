"""What Azure's resource types take, as far as infra/azure/bicep gives them anything: a small list of their properties.

`bicep_schema.json` holds, for every object that our resources set, the names of all its properties with their types,
and says where it has them from. Most of it is written by

    python -m tests.infra.bicep_schema PATH/TO/azmcp YYYY-MM-DD

from the types that the npm package `@azure/mcp-linux-x64` carries (`npm pack @azure/mcp-linux-x64@2.0.5`; it answers
offline). Its types may be of an older API version than ours: a property that came later is missing there, never one
that is there wrong. Types that it lacks are written by hand, and kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.infra.bicep_deployment import Resource, deploy

LIST = Path(__file__).with_suffix(".json")

EVERYTHING: dict[str, Any] = {
    "name": "orders",
    "location": "westeurope",
    "image": f"myacr.azurecr.io/team/cloud-worker@sha256:{'4f' * 32}",
    "spot": True,
    "noticeSeconds": 0,
    "registryId": "/subscriptions/s/resourceGroups/r/providers/Microsoft.ContainerRegistry/registries/myacr",
    "operatorIps": ["203.0.113.7"],
    "sshPublicKey": "ssh-ed25519 AAAA",
}
"""Parameters that lead to properties which the defaults leave out."""

PLAIN: dict[str, Any] = {name: EVERYTHING[name] for name in ("name", "location", "image")}
"""The parameters that have no default."""


def all_resources() -> list[Resource]:
    """Return the resources of both sets of parameters, those included that are only referred to."""
    return [one for knobs in (PLAIN, EVERYTHING) for one in deploy(**knobs).resources]


def problems(body: Any, schema: Any, path: str) -> Iterator[str]:
    """Say what in a body its schema does not know: a name, a value of an enumeration, a type; or what it lacks."""
    if body is None or schema == "any":
        return
    if isinstance(schema, list):
        if not isinstance(body, list):
            yield f"{path}: no list"
            return
        for index, item in enumerate(body):
            yield from problems(item, schema[0], f"{path}[{index}]")
    elif isinstance(schema, dict):
        if not isinstance(body, dict):
            yield f"{path}: no object"
            return
        every = schema.get("*")
        yield from (f"{path}: lacks {name}" for name in schema if name.endswith("!") and name[:-1] not in body)
        known = {name.removesuffix("!"): kind for name, kind in schema.items()}
        for name, value in body.items():
            kind = known.get(name, every)
            yield from [f"{path}.{name}: unknown"] if kind is None else problems(value, kind, f"{path}.{name}")
    elif schema in ("string", "int", "bool"):
        if type(body) is not {"string": str, "int": int, "bool": bool}[schema]:
            yield f"{path}: {body!r} is no {schema}"
    elif body not in (choices := schema.split(" | ")) and "string" not in choices:
        yield f"{path}: {body!r} is none of {schema}"
    elif "string" in choices and not isinstance(body, str):
        yield f"{path}: {body!r} is no string"


class Types:
    """The types that azmcp tells of one resource type."""

    def __init__(self, azmcp: str, kind: str) -> None:
        asked = [azmcp, "bicepschema", "get", "--resource-type", kind]
        told = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        found = told["results"]["BicepSchemaResult"]
        self.top = found[0]["bodyType"]
        self.api = found[0]["name"].split("@")[1]
        self.named = {one["name"]: one for one in found[1:]}

    def pruned(self, kind: str, bodies: list[Any]) -> Any:
        """Return a type, its objects opened as far as one of the bodies goes."""
        bodies = [body for body in bodies if body is not None]
        if kind.endswith("[]"):
            return [self.pruned(kind[:-2], [item for body in bodies for item in body])]
        if kind not in self.named:
            return kind
        return self.object(self.named[kind], bodies) if bodies else "any"

    def object(self, kind: Any, bodies: list[Any]) -> dict[str, Any]:
        """Return an object's properties that may be set, a required one with an exclamation mark."""
        found = {}
        for one in kind["properties"]:
            flags = one.get("flags", "")
            if "ReadOnly" not in flags:
                mark = "!" if "Required" in flags and one["name"] != "name" else ""
                inner = [body[one["name"]] for body in bodies if one["name"] in body]
                found[one["name"] + mark] = self.pruned(one["type"], inner)
        if more := kind.get("additionalPropertiesType"):
            found["*"] = self.pruned(more, [value for body in bodies for value in body.values()])
        return found


def write(azmcp: str, today: str) -> None:
    """Write the list anew; what azmcp lacks stays as it is."""
    listed = json.loads(LIST.read_text())
    for kind in sorted({one.type for one in all_resources()}):
        try:
            types = Types(azmcp, kind)
        except (subprocess.CalledProcessError, KeyError, json.JSONDecodeError):
            assert kind in listed["types"], f"write {kind} by hand"
            continue
        bodies = [one.body for one in all_resources() if one.type == kind and not one.existing]
        listed["types"][kind] = {
            "source": f"@azure/mcp-linux-x64 2.0.5, {today}",
            "api": types.api,
            "body": types.object(types.top, bodies),
        }
    LIST.write_text(json.dumps(listed, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write(*sys.argv[1:])
