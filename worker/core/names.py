"""Names: of queues, partitions and documents. One rule for all stores, so that a fleet can move between them."""

from __future__ import annotations

import hashlib
import re

_QUEUE = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9])){2,49}")

FIFO = ".fifo"
"""Ends the name of a queue that SQS keeps in order; such a name works on SQLite too, and not on Azure."""
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class BadName(ValueError):
    """A name that some store would not accept; the message says what a name may look like."""


def check_queue_name(name: str) -> str:
    """Return the name of a logical queue, or raise BadName.

    Azure takes 3 to 63 lower-case letters, digits and single hyphens; SQS up to 80. The partition number and
    `-dlq` are added to it, so 50 characters are left. It may end in `.fifo`, which its physical queues then do too.
    """
    stem = name.removesuffix(FIFO)
    if not _QUEUE.fullmatch(stem) or stem.endswith("-dlq") or re.search(r"-\d+$", stem):
        raise BadName(
            f"queue name {name!r}: use 3 to 50 lower-case letters, digits and single hyphens, starting with a letter, "
            "and not ending in a hyphen and a number or in '-dlq' (partitions and dead letters are named so); "
            "'.fifo' may follow, for queues of SQS that keep their order"
        )
    return name


def check_instance_name(name: str) -> str:
    """Return the name of an instance, or raise BadName: it becomes part of a document's key."""
    if not _INSTANCE.fullmatch(name):
        raise BadName(
            f"instance name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return name


def check_role_name(name: str) -> str:
    """Return the name of a lease of `worker exec`, or raise BadName: it becomes part of a document's key."""
    if not _INSTANCE.fullmatch(name) or name == "leader":
        raise BadName(
            f"lease name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-', starting with a letter or digit; "
            "'leader' is the fleet's own"
        )
    return name


def partition_name(queue: str, index: int, partitions: int) -> str:
    """Name one partition: `orders-07` of sixteen, `orders-007` of more than a hundred, `orders-07.fifo`."""
    width = max(2, len(str(partitions - 1)))
    stem, fifo = _parts(queue)
    return f"{stem}-{index:0{width}d}{fifo}"


def partition_names(queue: str, partitions: int) -> list[str]:
    """Name all partitions of a logical queue, in order."""
    width = max(2, len(str(partitions - 1)))
    stem, fifo = _parts(queue)
    return [f"{stem}-{str(index).zfill(width)}{fifo}" for index in range(partitions)]  # zfill: a third of the time


def dead_letter_queue(queue: str) -> str:
    """Name the queue that takes a logical queue's dead letters."""
    stem, fifo = _parts(queue)
    return f"{stem}-dlq{fifo}"


def _parts(queue: str) -> tuple[str, str]:
    return (queue.removesuffix(FIFO), FIFO) if queue.endswith(FIFO) else (queue, "")


def partition_index(key: str, partitions: int) -> int:
    """Map a key to a partition: the first eight bytes of SHA-256 of its UTF-8, big-endian, modulo the count.

    Published (docs/design.md) and never changed: producers in other languages compute it too.
    """
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % partitions


def member_id(instance: str, session: str) -> str:
    """Name one life of one instance: what a plan grants partitions to."""
    return f"{instance}~{session}"
