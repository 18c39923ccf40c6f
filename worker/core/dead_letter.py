"""A dead letter: a message that failed for good, with the reason, cut to what its queue takes, and made sendable again.

What is cut first is what is missed least: the traceback (its end is kept), then the error, then the body. A letter
whose body was cut says so and cannot be replayed; that takes a body sent past `Queue.send`'s own limit.
"""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worker.core.envelope import FORMAT, MARK, BadMessage, Envelope, encode, read_envelope, read_raw, unwrap, wrap

_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was given up."""

    error: str  # the last exception's text
    error_type: str  # its class, with its module
    traceback: str
    attempts: int
    queue: str  # logical queue
    partition: str  # physical queue it was read from
    at: str  # when it was given up, ISO UTC


def failure_of(error: BaseException, attempts: int, queue: str, partition: str, at: str) -> Failure:
    """Return what there is to say about a message whose handling ended with `error`."""
    kind = type(error)
    trace = "".join(traceback.format_exception(error))
    return Failure(str(error), f"{kind.__module__}.{kind.__qualname__}", trace, attempts, queue, partition, at)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message of a dead-letter queue, as read back."""

    envelope: Envelope  # its body is None when `raw` is set
    failure: Failure | None  # None: somebody else put this message here
    raw: bytes | None = None  # the bytes of a message that was not JSON
    cut: tuple[str, ...] = ()  # what did not fit: "traceback", "error", "body"


def dead_letter(data: bytes, failure: Failure, *, id: str, key: str | None, limit: int) -> bytes:
    """Return the letter for a message's bytes, at most `limit` bytes long.

    `id` is the id under which the message was handled, so that copies of one letter can be told as such; `key` is the
    key it was handled under, None to leave it as its envelope has it. Raises
    ValueError when the limit leaves no room even for the frame.
    """
    head: dict[str, Any] = {MARK: FORMAT, "id": id}
    try:
        envelope = unwrap(data)
    except BadMessage:
        content: dict[str, Any] = {"raw": base64.b64encode(data).decode()}
    else:
        named = {"origin": envelope.origin, "at": envelope.at}
        head = {**envelope.extra, **head, **{name: text for name, text in named.items() if text is not None}}
        key = envelope.key if key is None else key
        content = {"body": envelope.body}
    if key is not None:
        head["key"] = key
    return _fit(head, content, asdict(failure), limit)


def read_dead_letter(data: bytes) -> DeadLetter:
    """Read a message of a dead-letter queue. What somebody else put there is a letter without a failure."""
    try:
        value, envelope = read_envelope(data)
        raw = read_raw(value)
    except BadMessage:
        return DeadLetter(Envelope(body=None), None, raw=data)
    failure, cut = _failure(value.get("dead"))
    return DeadLetter(envelope, failure, raw, cut)


def replayable(letter: DeadLetter, *, id: str, at: str) -> bytes:
    """Return the message of a letter under a new id: its old id may be remembered as finished. Raises BadMessage."""
    if "body" in letter.cut:
        raise BadMessage("its body was cut to fit the dead-letter queue: send it anew from where it came")
    if letter.raw is not None:
        return letter.raw
    old = letter.envelope
    return wrap(old.body, id=id, key=old.key, origin="replay", at=at, extra=old.extra)


def _failure(fields: Any) -> tuple[Failure | None, tuple[str, ...]]:
    if not isinstance(fields, dict):
        return None, ()
    attempts = fields.get("attempts")
    names = ("error", "error_type", "traceback", "queue", "partition", "at")
    texts = {name: str(fields.get(name, "")) for name in names}
    cut = fields.get("cut")
    return (
        Failure(attempts=attempts if isinstance(attempts, int) else 0, **texts),
        tuple(str(name) for name in cut) if isinstance(cut, list) else (),
    )


def _fit(head: Mapping[str, Any], content: Mapping[str, Any], dead: dict[str, Any], limit: int) -> bytes:
    cut: list[str] = []

    def build(content: Mapping[str, Any]) -> bytes:
        return encode({**head, **content, "dead": {**dead, **({"cut": cut} if cut else {})}})

    letter = build(content)
    for name in ("traceback", "error"):
        if len(letter) <= limit:
            return letter
        cut.append(name)
        text = dead[name]

        def with_text(length: int, name: str = name, text: str = text) -> bytes:
            dead[name] = _tail(text, length) if name == "traceback" else _head(text, length)
            return build(content)

        letter = _longest(len(text), with_text, limit)
    if len(letter) <= limit:
        return letter
    cut.append("body")
    body = content["raw"] if "raw" in content else encode(content["body"]).decode()
    letter = _longest(len(body), lambda length: build({"body": _head(body, length)}), limit)
    if len(letter) > limit:
        slim = {MARK: FORMAT, "id": str(head["id"])[:64]}
        dead.update(error="", traceback="", error_type=_head(dead["error_type"], 100))
        letter = encode({**slim, "body": None, "dead": {**dead, "cut": cut}})
    if len(letter) > limit:
        raise ValueError(f"a dead letter needs {len(letter)} bytes for its frame alone, and its queue takes {limit}")
    return letter


def _longest(most: int, build: Callable[[int], bytes], limit: int) -> bytes:
    """Return `build` of the greatest length up to `most` that fits, or of 0 when none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if len(build(middle)) <= limit:
            low = middle
        else:
            high = middle - 1
    return build(low)


def _head(text: str, length: int) -> str:
    return text if length >= len(text) else text[:length] + (_ELLIPSIS if length else "")


def _tail(text: str, length: int) -> str:
    return text if length >= len(text) else (_ELLIPSIS if length else "") + text[len(text) - length :]
