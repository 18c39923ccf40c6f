"""Queues in Azure Queue Storage. Bodies travel as base64; nothing ever expires; there is no order and no long poll.

Every receive and every update gives a new pop receipt, and only the newest one is honoured. A receipt here is the
message's id and its pop receipt together.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import ResourceExistsError

from providers.azure.documents import store_time
from providers.azure.errors import Request, translated
from providers.interface import Depth, Misconfigured, NotFound, Received, Refused

if TYPE_CHECKING:
    from azure.storage.queue import QueueClient, QueueMessage

ROLE = "Storage Queue Data Contributor"
LIMIT = 48 * 1024
"""Bytes of a body: 64 KiB of base64."""

BATCH = 32
"""Messages in one receive or look."""

LONGEST_HIDING = 7 * 24 * 3600
FOR_EVER = -1

_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(?:-[a-z0-9]+)*")


class StorageQueue:
    """`interface.Queue` for the queues of one account; `prefix` goes before every name."""

    def __init__(self, client_of: Callable[[str], QueueClient], prefix: str) -> None:
        self._client_of, self._prefix = client_of, prefix

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """See `interface.Queue.ensure`. An existing queue is taken as it is, without the right to create one."""
        if ordered:
            raise Misconfigured(f"queue {queue!r} cannot keep strict order: Azure Storage Queues have none")
        client = self._queue(queue)
        try:
            with translated(self._request("Get Queue Metadata", queue, changes=False)) as asked:
                client.get_queue_properties(raw_response_hook=asked.hook)
        except NotFound:
            with translated(self._request("Create Queue", queue, changes=True)) as asked:
                try:
                    client.create_queue(raw_response_hook=asked.hook)
                except ResourceExistsError as exc:
                    if getattr(exc, "error_code", None) != "QueueAlreadyExists":  # somebody else was faster
                        raise

    def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
        """See `interface.Queue.send`. One request for each message."""
        client, ids = self._queue(queue), []
        for body in bodies:
            with translated(self._request("Put Message", queue, changes=True)) as asked:
                sent = client.send_message(
                    base64.b64encode(body).decode(), time_to_live=FOR_EVER, raw_response_hook=asked.hook
                )
            ids.append(str(sent.id))
        return ids

    def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> Sequence[Received]:
        """See `interface.Queue.receive`. At most 32 messages come at once; there is no waiting."""
        count = max(1, min(BATCH, limit))
        with translated(self._request("Get Messages", queue, changes=True)) as asked:
            pages = (
                self._queue(queue)
                .receive_messages(
                    messages_per_page=count,
                    max_messages=count,
                    visibility_timeout=_whole(hide_for, least=1),
                    raw_response_hook=asked.hook,
                )
                .by_page()
            )
            found = list(next(pages, ()))
        return [_received(message, f"{message.id}:{message.pop_receipt}") for message in found]

    def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """See `interface.Queue.extend`."""
        return self._hide(queue, receipt, _whole(hide_for, least=1))

    def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """See `interface.Queue.release`."""
        self._hide(queue, receipt, _whole(delay, least=0))

    def delete(self, queue: str, receipt: str) -> None:
        """See `interface.Queue.delete`."""
        id, pop = _parts(receipt)
        with translated(self._request("Delete Message", queue, changes=True)) as asked:
            self._queue(queue).delete_message(id, pop, raw_response_hook=asked.hook)

    def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """See `interface.Queue.delete_many`. One request for each message."""
        for receipt in receipts:
            self.delete(queue, receipt)

    def move(self, queue: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
        """Azure has no transactions over queues: the portable provider sends and then deletes."""
        raise Misconfigured("Azure Storage Queues cannot move a message in one request")

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        """See `interface.Queue.peek`. The first 32 are all that can be looked at."""
        with translated(self._request("Peek Messages", queue, changes=False)) as asked:
            found = self._queue(queue).peek_messages(max(1, min(BATCH, limit)), raw_response_hook=asked.hook)
        return [_received(message, "", attempts=0) for message in found]

    def depth(self, queue: str) -> Depth:
        """See `interface.Queue.depth`. Two requests: Azure counts all messages, and does not say which are hidden.

        What a look shows is visible; when it shows all that can be looked at (32), everything else counts as visible.
        """
        with translated(self._request("Get Queue Metadata", queue, changes=False)) as asked:
            properties = self._queue(queue).get_queue_properties(raw_response_hook=asked.hook)
        total = int(properties.approximate_message_count or 0)
        if not total:
            return Depth(0, 0)
        seen = self.peek(queue, BATCH)
        visible = total if len(seen) == BATCH else min(total, len(seen))
        oldest = min((message.enqueued_at for message in seen), default=None)
        now = store_time(asked)
        return Depth(visible, total - visible, None if oldest is None or now is None else max(0.0, now - oldest))

    def retention(self, queue: str) -> float | None:
        """See `interface.Queue.retention`: what is sent here never expires."""
        with translated(self._request("Get Queue Metadata", queue, changes=False)) as asked:
            self._queue(queue).get_queue_properties(raw_response_hook=asked.hook)
        return None

    # --- requests ---

    def _hide(self, queue: str, receipt: str, seconds: int) -> str:
        id, pop = _parts(receipt)
        with translated(self._request("Update Message", queue, changes=True)) as asked:
            updated = self._queue(queue).update_message(
                id, pop, visibility_timeout=seconds, raw_response_hook=asked.hook
            )
        return f"{id}:{updated.pop_receipt}"

    def _queue(self, queue: str) -> QueueClient:
        name = self._prefix + queue
        if not _NAME.fullmatch(name):
            raise Misconfigured(
                f"queue {name!r}: Azure takes 3 to 63 lower-case letters, digits and single hyphens, and has no "
                "ordered queues, whose names end in '.fifo'"
            )
        return self._client_of(name)

    def _request(self, operation: str, queue: str, *, changes: bool) -> Request:
        client = self._queue(queue)
        role = f"{ROLE} on the queues of {client.account_name}"
        return Request(f"{operation} on queue {client.queue_name!r}", client.primary_endpoint, changes, role)


def _received(message: QueueMessage, receipt: str, *, attempts: int | None = None) -> Received:
    inserted = message.inserted_on
    return Received(
        id=str(message.id),
        body=_body(message.content),
        attempts=int(message.dequeue_count or 0) if attempts is None else attempts,
        receipt=receipt,
        enqueued_at=inserted.timestamp() if inserted is not None else 0.0,
    )


def _body(content: Any) -> bytes:
    """Return the bytes that were sent; those of the text itself where a foreign producer did not encode it."""
    text = content if isinstance(content, str) else str(content)
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return text.encode()


def _parts(receipt: str) -> tuple[str, str]:
    id, _, pop = receipt.partition(":")
    if not re.fullmatch(r"[0-9A-Fa-f-]{32,36}", id) or not pop or not pop.isprintable():
        raise Refused("nobody was ever given this receipt")
    return id, pop


def _whole(seconds: float, *, least: int) -> int:
    return max(least, min(LONGEST_HIDING, math.ceil(seconds)))
