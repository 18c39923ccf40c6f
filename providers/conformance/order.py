"""Order: what a queue that was asked for it keeps, and that one which cannot says so."""

from __future__ import annotations

import pytest

from providers.conformance.harness import Harness
from providers.interface import Misconfigured, Queue, Received

HIDE = 30.0
"""Seconds for which a test hides what it does not want to see again."""

SHORT = 2.0
"""Seconds of visibility that a test lets run out; no store counts shorter than one."""


def ready(harness: Harness, *bodies: bytes, ordered: bool = False) -> Queue:
    """Return the queues of a new client, with one of them holding these messages."""
    queue = harness.client().queue
    queue.ensure(harness.queue, ordered=ordered)
    queue.ensure(harness.dead)
    for body in bodies:
        queue.send(harness.queue, [body])
    return queue


def one(harness: Harness, queue: Queue, hide_for: float = HIDE, name: str | None = None) -> Received:
    """Receive exactly one message."""
    [received] = queue.receive(name or harness.queue, 1, hide_for)
    return received


def _ordered(harness: Harness) -> bool:
    return harness.driver().capabilities.keeps_order(harness.queue)


class OrderSuite:
    """What an ordered `Queue` promises; part of `QueueSuite`, and alone for a store that orders by name."""

    def test_ordered(self, harness: Harness) -> None:
        """An ordered queue gives its messages in the order sent, the next one only when the one before is deleted."""
        self._need(harness, _ordered(harness), "keeps no order")
        queue = ready(harness, b"1", b"2", b"3", ordered=True)
        for expected in (b"1", b"2", b"3"):
            received = one(harness, queue)
            assert received.body == expected
            assert list(harness.client().queue.receive(harness.queue, 10, HIDE)) == []
            queue.delete(harness.queue, received.receipt)
        assert list(queue.receive(harness.queue, 10, HIDE)) == []

    def test_ordered_retry(self, harness: Harness) -> None:
        """A head that waits to be retried, or whose receiver died, blocks its ordered queue and comes first again."""
        self._need(harness, _ordered(harness), "keeps no order")
        queue = ready(harness, b"1", b"2", ordered=True)
        queue.release(harness.queue, one(harness, queue).receipt, delay=SHORT)
        assert list(queue.receive(harness.queue, 10, HIDE)) == []
        harness.elapse(SHORT + 1)
        again = one(harness, queue, SHORT)
        assert (again.body, again.attempts) == (b"1", 2)
        harness.elapse(SHORT + 1)
        again = one(harness, queue)
        assert (again.body, again.attempts) == (b"1", 3)
        queue.delete(harness.queue, again.receipt)
        assert one(harness, queue).body == b"2"

    def test_order_is_kept(self, harness: Harness) -> None:
        """Asking for an ordered queue without order does not take its order away."""
        self._need(harness, _ordered(harness), "keeps no order")
        queue = ready(harness, b"1", b"2", ordered=True)
        queue.ensure(harness.queue)
        one(harness, queue)
        assert list(queue.receive(harness.queue, 10, HIDE)) == []

    def test_order_not_kept(self, harness: Harness) -> None:
        """A store that cannot keep order says so when it is asked to."""
        self._need(harness, not _ordered(harness), "keeps order")
        with pytest.raises(Misconfigured):
            harness.client().queue.ensure(harness.queue, ordered=True)

    def _need(self, harness: Harness, condition: bool, otherwise: str) -> None:
        if not condition:
            pytest.skip(f"{harness.driver().url} {otherwise}, and says so in its capabilities")
