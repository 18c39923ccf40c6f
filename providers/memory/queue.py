"""Simulated queues: visibility by an injected clock, receipts that one receive or extend makes stale."""

from __future__ import annotations

import heapq
import threading  # noqa: TID251 - a lock only: the store is shared, and starts no thread
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from providers.interface import Depth, NotFound, Received, Refused


@dataclass(slots=True)
class _Message:
    number: int
    id: str
    body: bytes
    enqueued_at: float
    attempts: int = 0
    receipt: str = ""  # "" while nobody holds it
    hidden_until: float | None = None


class _Queue:
    """One queue. The heaps may hold numbers of messages that are gone or have moved on; those are skipped."""

    def __init__(self) -> None:
        self.ordered = False
        self.messages: dict[int, _Message] = {}  # in the order in which they were sent
        self.visible: list[int] = []
        self.hidden: list[tuple[float, int]] = []

    def add(self, message: _Message) -> None:
        self.messages[message.number] = message
        heapq.heappush(self.visible, message.number)

    def hide(self, message: _Message, until: float) -> None:
        message.hidden_until = until
        heapq.heappush(self.hidden, (until, message.number))

    def reveal(self, now: float) -> None:
        """Make visible whatever was hidden until now."""
        while self.hidden and self.hidden[0][0] <= now:
            until, number = heapq.heappop(self.hidden)
            message = self.messages.get(number)
            if message is not None and message.hidden_until == until:
                message.hidden_until = None
                heapq.heappush(self.visible, number)

    def take(self) -> _Message | None:
        """Return the first visible message; of an ordered queue only the very first one."""
        if self.ordered:
            self.visible.clear()  # never asked again: a queue stays ordered
            head = next(iter(self.messages.values()), None)
            return head if head is not None and head.hidden_until is None else None
        while self.visible:
            message = self.messages.get(heapq.heappop(self.visible))
            if message is not None and message.hidden_until is None:
                return message
        return None


class MemoryQueue:
    """`interface.Queue` for all queues of one simulated store. Ids and receipts are counted, never drawn."""

    def __init__(self, lock: threading.RLock, now: Callable[[], float]) -> None:
        self._lock = lock
        self._now = now
        self._queues: dict[str, _Queue] = {}
        self._sent = 0
        self._receipts = 0

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """See `interface.Queue.ensure`."""
        with self._lock:
            found = self._queues.setdefault(queue, _Queue())
            found.ordered = found.ordered or ordered

    def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
        """See `interface.Queue.send`."""
        with self._lock:
            found = self._find(queue)
            return [self._append(found, body) for body in bodies]

    def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> Sequence[Received]:
        """See `interface.Queue.receive`. It never waits: a simulated store has nobody to wait for."""
        with self._lock:
            found = self._reveal(queue)
            taken: list[Received] = []
            while len(taken) < limit and (message := found.take()) is not None:
                message.attempts += 1
                message.receipt = self._receipt(message)
                found.hide(message, self._now() + hide_for)
                taken.append(_received(message, message.receipt))
            return taken

    def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """See `interface.Queue.extend`."""
        with self._lock:
            found = self._reveal(queue)
            message = self._held(found, receipt)
            message.receipt = self._receipt(message)
            found.hide(message, self._now() + hide_for)
            return message.receipt

    def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """See `interface.Queue.release`."""
        with self._lock:
            found = self._reveal(queue)
            message = self._held(found, receipt)
            message.receipt = ""
            found.hide(message, self._now() + delay)

    def delete(self, queue: str, receipt: str) -> None:
        """See `interface.Queue.delete`."""
        with self._lock:
            found = self._reveal(queue)
            del found.messages[self._held(found, receipt).number]

    def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """See `interface.Queue.delete_many`."""
        for receipt in receipts:
            self.delete(queue, receipt)

    def move(self, queue: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
        """See `interface.Queue.move`."""
        with self._lock:
            found, target = self._reveal(queue), self._find(to)
            del found.messages[self._held(found, receipt).number]
            return self._append(target, body)

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        """See `interface.Queue.peek`."""
        with self._lock:
            found = self._reveal(queue)
            visible = (message for message in found.messages.values() if message.hidden_until is None)
            return [_received(message, "") for message, _ in zip(visible, range(limit), strict=False)]

    def depth(self, queue: str) -> Depth:
        """See `interface.Queue.depth`."""
        with self._lock:
            found = self._reveal(queue)
            hidden = sum(1 for message in found.messages.values() if message.hidden_until is not None)
            oldest = next(iter(found.messages.values()), None)
            age = None if oldest is None else max(0.0, self._now() - oldest.enqueued_at)
            return Depth(visible=len(found.messages) - hidden, hidden=hidden, oldest_age=age)

    def retention(self, queue: str) -> float | None:
        """See `interface.Queue.retention`: nothing is ever forgotten."""
        with self._lock:
            self._find(queue)
            return None

    def _find(self, queue: str) -> _Queue:
        try:
            return self._queues[queue]
        except KeyError:
            raise NotFound(f"there is no queue {queue!r}") from None

    def _reveal(self, queue: str) -> _Queue:
        found = self._find(queue)
        found.reveal(self._now())
        return found

    def _append(self, queue: _Queue, body: bytes) -> str:
        self._sent += 1
        message = _Message(self._sent, f"m{self._sent}", bytes(body), self._now())
        queue.add(message)
        return message.id

    def _receipt(self, message: _Message) -> str:
        self._receipts += 1
        return f"{message.number}.{self._receipts}"

    def _held(self, queue: _Queue, receipt: str) -> _Message:
        number = receipt.partition(".")[0]
        message = queue.messages.get(int(number)) if number.isdecimal() else None
        if message is None or message.receipt != receipt:
            raise Refused("the message is gone, or somebody else has received it since")
        return message


def _received(message: _Message, receipt: str) -> Received:
    return Received(message.id, message.body, message.attempts, receipt, message.enqueued_at)
