"""The wire format of a message, and of a dead letter.

A producer that knows nothing sends plain JSON: the message is its body. `worker send`, the router and a replay send
an envelope instead, a JSON object with the marker `cloud-worker`, that carries an id and a key beside the body:

    {"cloud-worker": 1, "id": "5f…", "key": "c-17", "origin": "send", "at": "2026-…Z", "body": {"amount": 3}}

A dead letter is an envelope with one more field, `dead`: why, after how many attempts, and where. A message that is
not JSON has no body: its bytes travel in `raw`, as base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers import strict_json

MARK = "cloud-worker"
"""The field that makes a JSON object an envelope; its value is the format's number."""

FORMAT = 1
"""The newest envelope that this version reads, and the one it writes."""

_KNOWN = frozenset({MARK, "id", "key", "origin", "at", "body", "raw", "dead"})


class BadMessage(ValueError):
    """A message that cannot be understood; the text says why. It goes to the dead-letter queue as it is."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message off the wire. `id` is None when its producer gave none: then the store's own id stands for it."""

    body: Any
    id: str | None = None
    key: str | None = None
    origin: str | None = None  # "send", "router", "replay", or whatever a producer says of itself
    at: str | None = None  # when it was first sent, ISO UTC
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of a newer version: kept


def wrap(
    body: Any,
    *,
    id: str | None = None,
    key: str | None = None,
    origin: str | None = None,
    at: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the bytes of an envelope. Raises BadMessage when the body has no JSON form."""
    named = {"id": id, "key": key, "origin": origin, "at": at}
    head = {name: value for name, value in named.items() if value is not None}
    return encode({**(extra or {}), MARK: FORMAT, **head, "body": body})


def unwrap(data: bytes) -> Envelope:
    """Return a message's envelope; a plain JSON body becomes one without an id. Raises BadMessage with the reason."""
    value = parse(data)
    if not isinstance(value, dict) or MARK not in value:
        return Envelope(body=value)
    _check_format(value)
    if "body" not in value:
        raise BadMessage(f"an envelope (it has the field {MARK!r}) without a 'body'")
    return _envelope(value)


def key_of(body: Any, field: str | None) -> str | None:
    """Return the key that the body's field gives, or None when there is no such field, or it is null.

    A string counts as it is, anything else as its compact JSON text (`17`, `true`), so that producers in other
    languages can compute it. Raises BadMessage for text that has no UTF-8 form.
    """
    if field is None or not isinstance(body, dict) or body.get(field) is None:
        return None
    value = body[field]
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), sort_keys=True)
    return check_key(text)


def check_key(key: str) -> str:
    """Return a key that can be hashed, or raise BadMessage: half of a surrogate pair has no UTF-8 form."""
    try:
        key.encode()
    except UnicodeEncodeError as exc:
        raise BadMessage(f"key {key[:40]!r} holds half a surrogate pair, which has no UTF-8 form") from exc
    return key


def parse(data: bytes) -> Any:
    """Return strict JSON: UTF-8, no NaN or Infinity, no number beyond a double. Raises BadMessage."""
    try:
        return strict_json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise BadMessage(f"not UTF-8 at byte {exc.start}; it starts with {data[:40]!r}") from exc
    except json.JSONDecodeError as exc:
        raise BadMessage(f"not JSON ({exc.msg} at character {exc.pos}); it starts with {data[:40]!r}") from exc
    except RecursionError as exc:
        raise BadMessage("JSON nested too deeply") from exc
    except strict_json.NotStrict as exc:
        raise BadMessage(str(exc)) from exc
    except ValueError as exc:  # an integer of more than 4,300 digits
        raise BadMessage(f"JSON with a number that cannot be read ({exc})") from exc


_ESCAPED = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""The two characters that JSON can hold and XML cannot: raw, a store that speaks XML would not take the text."""


def encode(value: Any) -> bytes:
    """Return compact JSON. Raises BadMessage for what has no JSON form."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).translate(_ESCAPED)
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadMessage(f"no JSON form: {exc}") from exc
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only escape
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def read_raw(value: Mapping[str, Any]) -> bytes | None:
    """Return the bytes in an envelope's `raw`, None when it has none. Raises BadMessage when they are damaged."""
    text = value.get("raw")
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise BadMessage("an envelope whose 'raw' is not base64") from exc


def read_envelope(data: bytes) -> tuple[dict[str, Any], Envelope]:
    """Return the fields of any envelope, dead letters without a body included. Raises BadMessage."""
    value = parse(data)
    if not isinstance(value, dict) or MARK not in value:
        return {}, Envelope(body=value)
    _check_format(value)
    return value, _envelope(value)


def _envelope(value: dict[str, Any]) -> Envelope:
    texts: dict[str, str | None] = {}
    for name in ("id", "key", "origin", "at"):
        text = value.get(name)
        if text is not None and not isinstance(text, str):
            raise BadMessage(f"an envelope whose {name!r} is {text!r}: it must be a string")
        texts[name] = text
    if texts["id"] == "":
        raise BadMessage("an envelope whose 'id' is empty")
    if texts["key"] is not None:
        check_key(texts["key"])
    extra = {name: item for name, item in value.items() if name not in _KNOWN}
    return Envelope(body=value.get("body"), extra=extra, **texts)


def _check_format(value: Mapping[str, Any]) -> None:
    found = value[MARK]
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise BadMessage(f"an envelope whose {MARK!r} is {found!r}: it must be the number {FORMAT}")
    if found > FORMAT:
        raise BadMessage(f"an envelope of format {found}, and this version reads up to {FORMAT}: upgrade this worker")
