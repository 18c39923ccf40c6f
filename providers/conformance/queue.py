"""Queues: sending, receiving, visibility, receipts, order, moving."""

from __future__ import annotations

from collections import Counter

import pytest

from providers.conformance.harness import Harness
from providers.conformance.races import RACERS, race
from providers.interface import Misconfigured, NotFound, Queue, Received, Refused, Unavailable

NAME = "conformance-orders-00"
OTHER = "conformance-orders-dlq"
HIDE = 30.0
"""Seconds for which a test hides what it does not want to see again."""

SHORT = 2.0
"""Seconds of visibility that a test lets run out; no store counts shorter than one."""


def ready(harness: Harness, *bodies: bytes, ordered: bool = False) -> Queue:
    """Return the queues of a new client, with one of them holding these messages."""
    queue = harness.client().queue
    queue.ensure(NAME, ordered=ordered)
    queue.ensure(OTHER)
    for body in bodies:
        queue.send(NAME, [body])
    return queue


def one(queue: Queue, hide_for: float = HIDE, name: str = NAME) -> Received:
    """Receive exactly one message."""
    [received] = queue.receive(name, 1, hide_for)
    return received


class QueueSuite:
    """What `Queue` promises."""

    def test_no_queue(self, harness: Harness) -> None:
        """Nothing can be done with a queue that was never created: NotFound, and it is not created on the way."""
        queue = harness.client().queue
        asks = (
            lambda: queue.send(NAME, [b"1"]),
            lambda: queue.receive(NAME, 1, HIDE),
            lambda: queue.peek(NAME, 1),
            lambda: queue.depth(NAME),
        )
        for ask in (*asks, *asks):
            with pytest.raises(NotFound):
                ask()

    def test_ensure_again(self, harness: Harness) -> None:
        """Creating a queue that exists keeps its messages."""
        queue = ready(harness, b"1")
        queue.ensure(NAME)
        assert one(queue).body == b"1"

    def test_empty(self, harness: Harness) -> None:
        """An empty queue gives nothing, and says so at once when nobody asked to wait."""
        queue = ready(harness)
        assert list(queue.receive(NAME, 10, HIDE)) == []
        assert list(queue.peek(NAME, 10)) == []
        depth = queue.depth(NAME)
        assert (depth.visible, depth.hidden, depth.oldest_age) == (0, 0, None)

    def test_round_trip(self, harness: Harness) -> None:
        """A message arrives with the bytes and the id it was sent with, as a first attempt."""
        queue = ready(harness)
        body = bytes(range(256))
        [sent] = queue.send(NAME, [body])
        received = one(harness.client().queue)
        assert (received.id, received.body, received.attempts) == (sent, body, 1)
        assert received.receipt

    def test_batch(self, harness: Harness) -> None:
        """As many messages as the store says go in one request, each with an id of its own."""
        queue = ready(harness)
        bodies = [b"%d" % n for n in range(min(harness.driver().capabilities.batch, 50))]
        ids = queue.send(NAME, bodies)
        assert len(set(ids)) == len(bodies)
        got: list[Received] = []
        while found := queue.receive(NAME, 10, HIDE):
            got += found
        assert {received.id: received.body for received in got} == dict(zip(ids, bodies, strict=True))

    def test_largest_body(self, harness: Harness) -> None:
        """A body of exactly the announced limit is taken, and given back as it was."""
        queue = ready(harness)
        body = b"\xfe" * harness.driver().capabilities.limit
        queue.send(NAME, [body])
        assert one(queue).body == body

    def test_hidden(self, harness: Harness) -> None:
        """A received message is invisible to others until its time is over, then it comes again as a next attempt."""
        queue, others = ready(harness, b"1"), harness.client().queue
        first = one(queue, SHORT)
        assert list(others.receive(NAME, 10, HIDE)) == []
        assert (others.depth(NAME).visible, others.depth(NAME).hidden) == (0, 1)
        harness.elapse(SHORT + 1)
        again = one(others)
        assert (again.id, again.attempts) == (first.id, 2)
        assert again.receipt != first.receipt

    def test_attempts(self, harness: Harness) -> None:
        """Every receive counts as one attempt, and nothing else does: not a look, a release or an extension."""
        queue = ready(harness, b"1")
        for attempt in range(1, 5):
            queue.peek(NAME, 1)
            received = one(queue)
            assert received.attempts == attempt
            queue.release(NAME, queue.extend(NAME, received.receipt, HIDE))

    def test_delete(self, harness: Harness) -> None:
        """A deleted message never comes back, and deleting it twice is refused."""
        queue = ready(harness, b"1")
        received = one(queue, SHORT)
        queue.delete(NAME, received.receipt)
        with pytest.raises(Refused):
            queue.delete(NAME, received.receipt)
        harness.elapse(SHORT + 1)
        assert list(queue.receive(NAME, 10, HIDE)) == []
        assert queue.depth(NAME).visible == 0

    def test_stale_receipt(self, harness: Harness) -> None:
        """Once somebody else has received a message, its old receipt does nothing to it."""
        queue = ready(harness, b"1")
        stale = one(queue, SHORT)
        harness.elapse(SHORT + 1)
        current = one(harness.client().queue)
        self._assert_stale(harness, queue, stale.receipt)
        queue.delete(NAME, current.receipt)

    def test_extended_receipt(self, harness: Harness) -> None:
        """An extension returns a new receipt, and makes the old one stale."""
        queue = ready(harness, b"1")
        received = one(queue)
        fresh = queue.extend(NAME, received.receipt, HIDE)
        assert fresh != received.receipt
        self._assert_stale(harness, queue, received.receipt)
        queue.delete(NAME, fresh)

    def test_released_receipt(self, harness: Harness) -> None:
        """Whoever has released a message has no more to say about it."""
        queue = ready(harness, b"1")
        received = one(queue)
        queue.release(NAME, received.receipt)
        self._assert_stale(harness, queue, received.receipt)
        assert one(queue).attempts == 2

    @pytest.mark.parametrize("receipt", ["", "no such receipt", "1.", "0.0", "-1.x", "9" * 40, "1.\x00"])
    def test_garbage_receipt(self, harness: Harness, receipt: str) -> None:
        """A receipt that nobody ever got is refused like a stale one."""
        queue = ready(harness, b"1")
        one(queue)
        self._assert_stale(harness, queue, receipt)

    def test_foreign_receipt(self, harness: Harness) -> None:
        """A receipt of one queue does nothing in another."""
        queue = ready(harness, b"1")
        received = one(queue)
        with pytest.raises(Refused):
            queue.delete(OTHER, received.receipt)
        queue.delete(NAME, received.receipt)

    def test_extend(self, harness: Harness) -> None:
        """An extension counts from now: the message stays hidden for that long, and no longer."""
        queue = ready(harness, b"1")
        received = one(queue, SHORT)
        queue.extend(NAME, received.receipt, 3 * SHORT)
        harness.elapse(SHORT + 1)
        assert list(queue.receive(NAME, 1, HIDE)) == []
        harness.elapse(2 * SHORT + 1)
        assert one(queue).attempts == 2

    def test_release(self, harness: Harness) -> None:
        """A released message is visible at once, or after the delay that was asked for."""
        queue = ready(harness, b"1")
        queue.release(NAME, one(queue).receipt)
        queue.release(NAME, one(queue).receipt, delay=SHORT)
        assert list(queue.receive(NAME, 1, HIDE)) == []
        harness.elapse(SHORT + 1)
        assert one(queue).attempts == 3

    def test_peek(self, harness: Harness) -> None:
        """A look shows what is visible, takes nothing, hides nothing and counts nothing."""
        queue = ready(harness, b"1", b"2", b"3")
        taken = one(queue)
        seen = queue.peek(NAME, 10)
        assert {m.body for m in seen} == {b"1", b"2", b"3"} - {taken.body}
        assert all(m.receipt == "" and m.attempts == 0 for m in seen)
        assert len(queue.peek(NAME, 1)) == 1
        assert {m.attempts for m in queue.receive(NAME, 10, HIDE)} == {1}

    def test_depth(self, harness: Harness) -> None:
        """The depth counts what is visible and what is hidden, and the age of the oldest grows where it is told."""
        queue = ready(harness, b"1", b"2", b"3")
        one(queue, SHORT)
        harness.elapse(SHORT / 2)
        depth = queue.depth(NAME)
        assert (depth.visible, depth.hidden) == (2, 1)
        assert depth.oldest_age is None or depth.oldest_age > 0

    def test_no_message_twice(self, harness: Harness) -> None:
        """Sixteen clients that drain one queue at once get every message, and none of them twice."""
        count = 64
        queue = ready(harness)
        for n in range(count):
            queue.send(NAME, [b"%d" % n])

        def drain(client_queue: Queue) -> list[bytes]:
            got: list[bytes] = []
            while True:
                try:
                    found = client_queue.receive(NAME, 2, HIDE)
                except Unavailable:  # too many at once, and nothing was received
                    continue
                if not found:
                    return got
                got += [received.body for received in found]

        clients = [harness.client() for _ in range(RACERS)]
        answers, _ = race(clients, lambda client, _: drain(client.queue))
        seen = Counter(body for answer in answers.values() for body in answer)
        assert seen == Counter(b"%d" % n for n in range(count))

    def test_move(self, harness: Harness) -> None:
        """A moved message is gone here and a new one is there, and what is stale, or has nowhere to go, stays."""
        self._need(harness, harness.driver().capabilities.atomic_move, "moves in two steps")
        queue = ready(harness, b"1")
        received = one(queue)
        with pytest.raises(NotFound):
            queue.move(NAME, received.receipt, "conformance-no-such-queue", b"1 and why")
        moved = queue.move(NAME, received.receipt, OTHER, b"1 and why")
        with pytest.raises(Refused):
            queue.move(NAME, received.receipt, OTHER, b"1 and why")
        there = one(queue, name=OTHER)
        assert (there.id, there.body, there.attempts) == (moved, b"1 and why", 1)
        assert queue.depth(NAME).hidden + queue.depth(NAME).visible == 0
        assert queue.depth(OTHER).hidden == 1

    def test_ordered(self, harness: Harness) -> None:
        """An ordered queue gives its messages in the order sent, the next one only when the one before is deleted."""
        self._need(harness, harness.driver().capabilities.ordered, "keeps no order")
        queue = ready(harness, b"1", b"2", b"3", ordered=True)
        for expected in (b"1", b"2", b"3"):
            received = one(queue)
            assert received.body == expected
            assert list(harness.client().queue.receive(NAME, 10, HIDE)) == []
            queue.delete(NAME, received.receipt)
        assert list(queue.receive(NAME, 10, HIDE)) == []

    def test_ordered_retry(self, harness: Harness) -> None:
        """A head that waits to be retried, or whose receiver died, blocks its ordered queue and comes first again."""
        self._need(harness, harness.driver().capabilities.ordered, "keeps no order")
        queue = ready(harness, b"1", b"2", ordered=True)
        queue.release(NAME, one(queue).receipt, delay=SHORT)
        assert list(queue.receive(NAME, 10, HIDE)) == []
        harness.elapse(SHORT + 1)
        again = one(queue, SHORT)
        assert (again.body, again.attempts) == (b"1", 2)
        harness.elapse(SHORT + 1)
        again = one(queue)
        assert (again.body, again.attempts) == (b"1", 3)
        queue.delete(NAME, again.receipt)
        assert one(queue).body == b"2"

    def test_order_is_kept(self, harness: Harness) -> None:
        """Asking for an ordered queue without order does not take its order away."""
        self._need(harness, harness.driver().capabilities.ordered, "keeps no order")
        queue = ready(harness, b"1", b"2", ordered=True)
        queue.ensure(NAME)
        one(queue)
        assert list(queue.receive(NAME, 10, HIDE)) == []

    def test_order_not_kept(self, harness: Harness) -> None:
        """A store that cannot keep order says so when it is asked to."""
        self._need(harness, not harness.driver().capabilities.ordered, "keeps order")
        with pytest.raises(Misconfigured):
            harness.client().queue.ensure(NAME, ordered=True)

    def _assert_stale(self, harness: Harness, queue: Queue, receipt: str) -> None:
        """Whatever is done with this receipt is refused."""
        with pytest.raises(Refused):
            queue.delete(NAME, receipt)
        with pytest.raises(Refused):
            queue.extend(NAME, receipt, HIDE)
        with pytest.raises(Refused):
            queue.release(NAME, receipt)
        if harness.driver().capabilities.atomic_move:
            with pytest.raises(Refused):
                queue.move(NAME, receipt, OTHER, b"moved")
            assert queue.depth(OTHER).visible == 0

    def _need(self, harness: Harness, condition: bool, otherwise: str) -> None:
        if not condition:
            pytest.skip(f"{harness.driver().url} {otherwise}, and says so in its capabilities")
