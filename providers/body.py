"""The body of every document: JSON with a `format`, and room for fields that this version does not know.

Writers merge into what they read (`{**old, **mine}`), so that a field of a newer version survives an older one's
rewrite. A newer *format* is another matter: it says that an old reader would misunderstand, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from providers.interface import BadDocument, NewerFormat

FORMAT = 1
"""The newest format that this version reads, and the one it writes."""


def encode(fields: Mapping[str, Any]) -> bytes:
    """Return the bytes of a document with these fields."""
    return json.dumps({"format": FORMAT, **fields}, separators=(",", ":"), sort_keys=True).encode()


def decode(body: bytes, what: str) -> dict[str, Any]:
    """Return a document's fields. Raises BadDocument, naming `what`, for garbage; NewerFormat for a newer one."""
    try:
        fields = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise BadDocument(f"{what} is not JSON ({exc}): it starts with {body[:40]!r}") from exc
    if not isinstance(fields, dict):
        raise BadDocument(f"{what} is not a JSON object: it starts with {body[:40]!r}")
    found = fields.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise BadDocument(f"{what} has no valid format number: {found!r}")
    if found > FORMAT:
        raise NewerFormat(f"{what} has format {found}, and this version reads up to {FORMAT}: upgrade this worker")
    return fields
