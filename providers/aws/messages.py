"""How a message travels in SQS, which takes text only, and not all of that.

A body that is text stays as it is, so that people and foreign producers can read and write it; any other is base64,
and says so in an attribute, as does one that is empty, which SQS does not take. A message group's name takes few
characters too: a key that has others is hashed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

ENCODED = "cloud-worker-encoding"
"""The attribute of a body that is not text; its value is `base64` or `empty`."""

_TEXT = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")  # what SQS takes, and nothing else
_GROUP = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]{1,128}")

BATCH = 10
"""Messages of one request, at the most."""

LIMIT = 256 * 1024
"""Bytes of a message, and of all messages of a batch, with their attributes: what every queue takes.

A queue may be told to take up to 1 MiB, and few are: those of the stack and those that a worker makes take this much,
so that who sends more is told so, rather than who must pass the message on.
"""

OVERHEAD = 128
"""Bytes of a message's attribute, at the most: its name, type and value count as the body does."""


def to_text(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return a body as SQS takes it, and the attributes that say how to read it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if not body:
        return "-", {ENCODED: {"DataType": "String", "StringValue": "empty"}}
    if _TEXT.fullmatch(text) and "\r" not in text:  # a carriage return does not survive XML
        return text, {}
    return base64.b64encode(body).decode(), {ENCODED: {"DataType": "String", "StringValue": "base64"}}


def to_bytes(text: str, attributes: Mapping[str, Any]) -> bytes:
    """Return the bytes that were sent; those of the text itself where it is not what its attribute says."""
    encoding = attributes.get(ENCODED, {}).get("StringValue")
    if encoding == "empty":
        return b""
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            pass
    return text.encode()


def group_of(key: str | None, queue: str) -> str:
    """Name the message group of a key: the key itself where it may be, else its hash; the queue where there is none."""
    if key is None:
        return queue
    return key if _GROUP.fullmatch(key) else hashlib.sha256(key.encode()).hexdigest()


def batches(entries: Sequence[dict[str, Any]]) -> list[Any]:
    """Cut the entries of `SendMessageBatch` into as many, and as many bytes together, as one request takes."""
    found: list[Any] = []
    size = 0
    for entry in entries:
        length = len(entry["MessageBody"].encode()) + OVERHEAD
        if not found or len(found[-1]) == BATCH or size + length > LIMIT:
            found.append([])
            size = 0
        found[-1].append(entry)
        size += length
    return found
