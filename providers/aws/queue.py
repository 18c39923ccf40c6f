"""Queues in SQS. Its own redrive is not used: nothing here depends on how a queue was set up.

A queue whose name ends in `.fifo` keeps the order of each message group, and the group is the message's key: a group
stands still while one of its messages is in hand or waits for another attempt, and the others go on.

What SQS does otherwise than other stores: a receipt stays the same when visibility is extended, an old receipt may
still be honoured, and there is no looking without receiving. All of it is at-least-once, which handlers must bear.
"""

from __future__ import annotations

import math
import uuid  # noqa: TID251 - a deduplication id, which no simulation replays
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from providers.aws.clients import LONGEST_POLL, Clients
from providers.aws.errors import Request, check_answer, translated
from providers.aws.messages import BATCH, LIMIT, OVERHEAD, batches, group_of, to_bytes, to_text
from providers.interface import Depth, Misconfigured, NotFound, OutcomeUnknown, ProviderError, Received, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef, SendMessageBatchResultTypeDef

FIFO = ".fifo"
RETENTION = 14 * 24 * 3600
"""Seconds: the longest that SQS keeps a message."""

LONGEST_HIDING = 12 * 3600
PEEK_HIDES = 1
"""Seconds for which a look hides what it shows: there is no looking without receiving."""

PEEKS = 20
"""Requests of one look, at the most: they share the time of one, and what was seen first is soon seen again."""

_SYSTEM: Any = ["ApproximateReceiveCount", "SentTimestamp"]


class SqsQueue:
    """`interface.Queue` for the queues of one account and region; `prefix` goes before every name."""

    def __init__(self, clients: Clients, prefix: str, urls: dict[str, str]) -> None:
        self._clients, self._prefix = clients, prefix
        self._urls = urls  # by physical name; shared by all clients of a driver

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """See `interface.Queue.ensure`. An existing queue is taken as it is."""
        if ordered and not queue.endswith(FIFO):
            raise Misconfigured(
                f"queue {queue!r} cannot keep strict order: on SQS only those do whose name ends in {FIFO!r}: rename it"
            )
        try:
            self._url(queue)
        except NotFound:
            attributes = {"MessageRetentionPeriod": str(RETENTION), "MaximumMessageSize": str(LIMIT)}
            if queue.endswith(FIFO):
                attributes["FifoQueue"] = "true"
            name = self._prefix + queue
            asked = self._request("CreateQueue", queue, changes=True)
            with translated(asked):
                answer = self._clients.sqs.create_queue(QueueName=name, Attributes=attributes)  # type: ignore[arg-type]  # its keys are literals
            check_answer(asked, answer, "QueueUrl")
            self._urls[name] = answer["QueueUrl"]

    def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
        """See `interface.Queue.send`. One request for what fits one.

        Raises ValueError, before anything is sent, for a body that is no text and too large as base64; OutcomeUnknown
        when some were taken and others not, in the same request or in the next one.
        """
        entries = [
            self._entry(queue, number, body, keys[number] if keys else None) for number, body in enumerate(bodies)
        ]
        ids: list[str] = []
        for batch in batches(entries):
            try:
                answer = self._send(queue, batch)
            except ProviderError as exc:
                if not ids:
                    raise
                raise OutcomeUnknown(
                    f"{len(ids)} of {len(bodies)} messages were taken by {queue!r}; then: {exc}"
                ) from exc
            taken = {item.get("Id"): item.get("MessageId") or "" for item in answer.get("Successful", ())}
            failed = answer.get("Failed", ())
            if failed or not all(taken.get(entry["Id"]) for entry in batch):
                why = "; ".join(sorted({f"{item.get('Code', '')}: {item.get('Message', '')}" for item in failed}))
                kind = Unavailable if not ids and not taken and len(failed) == len(batch) else OutcomeUnknown
                sent = len(ids) + len(taken)
                raise kind(f"{sent} of {len(bodies)} messages were taken by {queue!r}: {why or 'the rest is unclear'}")
            ids += [taken[entry["Id"]] for entry in batch]
        return ids

    def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> Sequence[Received]:
        """See `interface.Queue.receive`. At most ten messages come at once.

        Several of one message group come together, in order: whoever takes more than one keeps to it.
        """
        seconds = min(LONGEST_POLL, int(wait))
        client = self._clients.polls if seconds else self._clients.sqs
        return [
            Received(
                id=message["MessageId"],
                body=_body(message),
                attempts=int(message["Attributes"]["ApproximateReceiveCount"]),
                receipt=message["ReceiptHandle"],
                enqueued_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
            )
            for message in self._receive(client, queue, limit, hide_for, seconds)
        ]

    def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """See `interface.Queue.extend`. SQS gives no new receipt."""
        self._hide(queue, receipt, _whole(hide_for, least=1))
        return receipt

    def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """See `interface.Queue.release`."""
        self._hide(queue, receipt, _whole(delay, least=0))

    def delete(self, queue: str, receipt: str) -> None:
        """See `interface.Queue.delete`. A standard queue may say yes to a stale receipt, and delete nothing."""
        url = self._url(queue)
        with translated(self._request("DeleteMessage", queue, changes=True, receipt=True)):
            self._known(queue, lambda: self._clients.sqs.delete_message(QueueUrl=url, ReceiptHandle=receipt))

    def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """See `interface.Queue.delete_many`: ten in one request."""
        for start in range(0, len(receipts), BATCH):
            batch: Any = [{"Id": str(n), "ReceiptHandle": it} for n, it in enumerate(receipts[start : start + BATCH])]
            url = self._url(queue)
            asked = self._request("DeleteMessageBatch", queue, changes=True, needs="sqs:DeleteMessage")
            with translated(asked):
                answer = self._known(
                    queue, partial(self._clients.sqs.delete_message_batch, QueueUrl=url, Entries=batch)
                )
            failed = answer.get("Failed", ())
            if failed:
                why = failed[0].get("Code", "")
                raise OutcomeUnknown(f"{len(failed)} messages could not be deleted from {queue!r}: {why}")

    def move(self, queue: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
        """SQS has no transactions: the portable provider sends and then deletes."""
        raise Misconfigured("SQS cannot move a message in one request")

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        """See `interface.Queue.peek`. A look receives: it counts as an attempt, and hides for a second what it shows.

        Only the messages of dead-letter queues are looked at, by operators; their attempts bound nothing.
        """
        seen: dict[str, Received] = {}
        for _ in range(PEEKS):
            found = self._receive(self._clients.sqs, queue, limit - len(seen), PEEK_HIDES, 0)
            news = {
                message["MessageId"]: Received(
                    message["MessageId"], _body(message), 0, "", int(message["Attributes"]["SentTimestamp"]) / 1000
                )
                for message in found
            }
            fresh = news.keys() - seen.keys()
            seen |= news
            if not fresh or len(seen) >= limit:
                break
        return list(seen.values())

    def depth(self, queue: str) -> Depth:
        """See `interface.Queue.depth`. SQS counts approximately, and tells no age."""
        names: Any = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesDelayed",
            "ApproximateNumberOfMessagesNotVisible",
        ]
        told = self._attributes(queue, names)
        counts = [int(told.get(name, 0)) for name in names]
        return Depth(visible=counts[0], hidden=counts[1] + counts[2])

    def retention(self, queue: str) -> float | None:
        """See `interface.Queue.retention`."""
        told = self._attributes(queue, ["MessageRetentionPeriod"])
        check_answer(self._request("GetQueueAttributes", queue, changes=False), told, "MessageRetentionPeriod")
        return float(told["MessageRetentionPeriod"])

    # --- requests ---

    def _send(self, queue: str, batch: Any) -> SendMessageBatchResultTypeDef:
        asked = self._request("SendMessageBatch", queue, changes=True, needs="sqs:SendMessage")
        url = self._url(queue)
        with translated(asked):
            answer: SendMessageBatchResultTypeDef = self._known(
                queue, partial(self._clients.sqs.send_message_batch, QueueUrl=url, Entries=batch)
            )
        return answer

    def _receive(
        self, client: SQSClient, queue: str, limit: int, hide_for: float, wait: int
    ) -> Sequence[MessageTypeDef]:
        url = self._url(queue)
        asked = self._request("ReceiveMessage", queue, changes=True)
        with translated(asked):
            answer = self._known(
                queue,
                lambda: client.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=max(1, min(BATCH, limit)),
                    VisibilityTimeout=_whole(hide_for, least=1),
                    WaitTimeSeconds=wait,
                    MessageSystemAttributeNames=_SYSTEM,
                    MessageAttributeNames=["All"],
                ),
            )
        found: Sequence[MessageTypeDef] = answer.get("Messages", ())
        for message in found:
            check_answer(asked, message, "MessageId", "ReceiptHandle", "Attributes")
            attributes: Any = message["Attributes"]  # its keys are literals
            check_answer(asked, attributes, *_SYSTEM)
        return found

    def _hide(self, queue: str, receipt: str, seconds: int) -> None:
        url = self._url(queue)
        with translated(self._request("ChangeMessageVisibility", queue, changes=True, receipt=True)):
            self._known(
                queue,
                lambda: self._clients.sqs.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=seconds
                ),
            )

    def _attributes(self, queue: str, names: Any) -> dict[str, str]:
        url = self._url(queue)
        asked = self._request("GetQueueAttributes", queue, changes=False)
        with translated(asked):
            answer = self._known(
                queue, lambda: self._clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
            )
        check_answer(asked, answer, "Attributes")
        return dict(answer["Attributes"])

    def _entry(self, queue: str, number: int, body: bytes, key: str | None) -> dict[str, Any]:
        text, attributes = to_text(body)
        size = len(text.encode()) + (OVERHEAD if attributes else 0)
        if size > LIMIT:
            raise ValueError(
                f"message {number} for {queue!r} takes {size} bytes in SQS, and {LIMIT} is the limit there"
            )
        entry: dict[str, Any] = {"Id": str(number), "MessageBody": text}
        if attributes:
            entry["MessageAttributes"] = attributes
        if queue.endswith(FIFO):
            entry["MessageGroupId"] = group_of(key, queue)
            entry["MessageDeduplicationId"] = uuid.uuid4().hex  # every sending counts: copies are told by their own id
        return entry

    def _url(self, queue: str) -> str:
        name = self._prefix + queue
        if name not in self._urls:
            asked = self._request("GetQueueUrl", queue, changes=False)
            with translated(asked):
                answer = self._clients.sqs.get_queue_url(QueueName=name)
            check_answer(asked, answer, "QueueUrl")
            self._urls[name] = answer["QueueUrl"]
        return self._urls[name]

    def _known(self, queue: str, ask: Callable[[], Any]) -> Any:
        """Ask; forget the queue's URL when there is no such queue any more."""
        try:
            return ask()
        except (self._clients.sqs.exceptions.QueueDoesNotExist, self._clients.polls.exceptions.QueueDoesNotExist):
            self._urls.pop(self._prefix + queue, None)
            raise

    def _request(
        self, operation: str, queue: str, *, changes: bool, needs: str | None = None, receipt: bool = False
    ) -> Request:
        name = self._prefix + queue
        meta = self._clients.sqs.meta
        arn = f"arn:{meta.partition}:sqs:{meta.region_name}:*:{name}"
        return Request(
            what=f"{operation} on queue {name!r}",
            endpoint=meta.endpoint_url,
            changes=changes,
            needs=f"{needs or 'sqs:' + operation} on {arn}",
            receipt=receipt,
            region=meta.region_name,
        )


def _body(message: MessageTypeDef) -> bytes:
    return to_bytes(message.get("Body", ""), message.get("MessageAttributes", {}))


def _whole(seconds: float, *, least: int) -> int:
    return max(least, min(LONGEST_HIDING, math.ceil(seconds)))
