"""The body of every document: JSON with a `format`, and room for fields that this version does not know.

Writers merge into what they read (`{**old, **mine}`), so that a field of a newer version survives an older one's
rewrite. A newer *format* is another matter: it says that an old reader would misunderstand, and is refused.

Numbers are what JSON calls so, and fit a double if they have a fraction or an exponent: NaN, Infinity and 1e999 are
neither written nor believed. They compare like nothing else, and would surface far from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from providers import strict_json
from providers.interface import BadDocument, NewerFormat

FORMAT = 1
"""The newest format that this version reads, and the one it writes."""


def encode(fields: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document with these fields. Raises TypeError or ValueError for what has no JSON form."""
    return json.dumps({"format": FORMAT, **fields}, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def decode(body: bytes, what: str) -> dict[str, Any]:
    """Return a document's fields. Raises BadDocument, naming `what`, for garbage; NewerFormat for a newer one."""
    fields = parse(body, what)
    if not isinstance(fields, dict):
        raise BadDocument(f"{what} is not a JSON object: it starts with {body[:40]!r}")
    return checked(fields, what)


def checked(fields: dict[str, Any], what: str) -> dict[str, Any]:
    """Return these fields, if their format is one that this version reads. Raises as `decode`."""
    found = fields.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise BadDocument(f"{what} has no valid format number: {found!r}")
    if found > FORMAT:
        raise NewerFormat(f"{what} has format {found}, and this version reads up to {FORMAT}: upgrade this worker")
    return fields


def parse(text: bytes | str, what: str) -> Any:
    """Return what strict JSON says. Raises BadDocument, naming `what`, for anything else."""
    try:
        return strict_json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadDocument(f"{what} is not JSON ({exc}): it starts with {text[:40]!r}") from exc
