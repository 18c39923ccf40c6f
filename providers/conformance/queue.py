"""Queues: sending, receiving, visibility, receipts, order, moving."""

from __future__ import annotations

from collections import Counter

import pytest

from providers.conformance.harness import Harness
from providers.conformance.order import HIDE, SHORT, OrderSuite, one, ready
from providers.conformance.races import RACERS, race
from providers.interface import NotFound, Queue, Received, Refused, Unavailable


class QueueSuite(OrderSuite):
    """What `Queue` promises."""

    def test_no_queue(self, harness: Harness) -> None:
        """Nothing can be done with a queue that was never created: NotFound, and it is not created on the way."""
        queue = harness.client().queue
        asks = (
            lambda: queue.send(harness.queue, [b"1"]),
            lambda: queue.receive(harness.queue, 1, HIDE),
            lambda: queue.peek(harness.queue, 1),
            lambda: queue.depth(harness.queue),
        )
        for ask in (*asks, *asks):
            with pytest.raises(NotFound):
                ask()

    def test_ensure_again(self, harness: Harness) -> None:
        """Creating a queue that exists keeps its messages."""
        queue = ready(harness, b"1")
        queue.ensure(harness.queue)
        assert one(harness, queue).body == b"1"

    def test_empty(self, harness: Harness) -> None:
        """An empty queue gives nothing, and says so at once when nobody asked to wait."""
        queue = ready(harness)
        assert list(queue.receive(harness.queue, 10, HIDE)) == []
        assert list(queue.peek(harness.queue, 10)) == []
        depth = queue.depth(harness.queue)
        assert (depth.visible, depth.hidden, depth.oldest_age) == (0, 0, None)

    def test_round_trip(self, harness: Harness) -> None:
        """A message arrives with the bytes and the id it was sent with, as a first attempt."""
        queue = ready(harness)
        body = bytes(range(256))
        [sent] = queue.send(harness.queue, [body])
        received = one(harness, harness.client().queue)
        assert (received.id, received.body, received.attempts) == (sent, body, 1)
        assert received.receipt

    def test_batch(self, harness: Harness) -> None:
        """As many messages as the store says go in one request, each with an id of its own."""
        queue = ready(harness)
        bodies = [b"%d" % n for n in range(min(harness.driver().capabilities.batch, 50))]
        ids = queue.send(harness.queue, bodies)
        assert len(set(ids)) == len(bodies)
        got: list[Received] = []
        while found := queue.receive(harness.queue, 10, HIDE):
            got += found
        assert {received.id: received.body for received in got} == dict(zip(ids, bodies, strict=True))

    @pytest.mark.parametrize("byte, share", [(b"x", 1.0), (b"\xfe", 0.74)])
    def test_largest_body(self, harness: Harness, byte: bytes, share: float) -> None:
        """A text of exactly the announced limit is taken, and three quarters of that of any bytes, and given back."""
        queue = ready(harness)
        body = byte * int(harness.driver().capabilities.limit * share)
        queue.send(harness.queue, [body])
        assert one(harness, queue).body == body

    def test_hidden(self, harness: Harness) -> None:
        """A received message is invisible to others until its time is over, then it comes again as a next attempt."""
        queue, others = ready(harness, b"1"), harness.client().queue
        first = one(harness, queue, SHORT)
        assert list(others.receive(harness.queue, 10, HIDE)) == []
        assert (others.depth(harness.queue).visible, others.depth(harness.queue).hidden) == (0, 1)
        harness.elapse(SHORT + 1)
        again = one(harness, others)
        assert (again.id, again.attempts) == (first.id, 2)
        assert again.receipt != first.receipt

    def test_attempts(self, harness: Harness) -> None:
        """Every receive counts as one attempt, and nothing else does: not a look, a release or an extension."""
        queue = ready(harness, b"1")
        peeks = harness.driver().capabilities.peeks
        for attempt in range(1, 5):
            if peeks:
                queue.peek(harness.queue, 1)
            received = one(harness, queue)
            assert received.attempts == attempt
            queue.release(harness.queue, queue.extend(harness.queue, received.receipt, HIDE))

    def test_delete(self, harness: Harness) -> None:
        """A deleted message never comes back, and deleting it twice is refused."""
        queue = ready(harness, b"1")
        received = one(harness, queue, SHORT)
        queue.delete(harness.queue, received.receipt)
        if harness.driver().capabilities.strict_receipts:
            with pytest.raises(Refused):
                queue.delete(harness.queue, received.receipt)
        harness.elapse(SHORT + 1)
        assert list(queue.receive(harness.queue, 10, HIDE)) == []
        assert queue.depth(harness.queue).visible == 0

    def test_stale_receipt(self, harness: Harness) -> None:
        """Once somebody else has received a message, its old receipt does nothing to it."""
        self._need(harness, harness.driver().capabilities.strict_receipts, "may honour a stale receipt")
        queue = ready(harness, b"1")
        stale = one(harness, queue, SHORT)
        harness.elapse(SHORT + 1)
        current = one(harness, harness.client().queue)
        self._assert_stale(harness, queue, stale.receipt)
        queue.delete(harness.queue, current.receipt)

    def test_extended_receipt(self, harness: Harness) -> None:
        """An extension returns a new receipt, and makes the old one stale."""
        self._need(harness, harness.driver().capabilities.strict_receipts, "may honour a stale receipt")
        queue = ready(harness, b"1")
        received = one(harness, queue)
        fresh = queue.extend(harness.queue, received.receipt, HIDE)
        assert fresh != received.receipt
        self._assert_stale(harness, queue, received.receipt)
        queue.delete(harness.queue, fresh)

    def test_released_receipt(self, harness: Harness) -> None:
        """Whoever has released a message has no more to say about it."""
        self._need(harness, harness.driver().capabilities.strict_receipts, "may honour a stale receipt")
        queue = ready(harness, b"1")
        received = one(harness, queue)
        queue.release(harness.queue, received.receipt)
        self._assert_stale(harness, queue, received.receipt)
        assert one(harness, queue).attempts == 2

    @pytest.mark.parametrize("receipt", ["", "no such receipt", "1.", "0.0", "-1.x", "9" * 40, "1.\x00"])
    def test_garbage_receipt(self, harness: Harness, receipt: str) -> None:
        """A receipt that nobody ever got is refused like a stale one."""
        queue = ready(harness, b"1")
        one(harness, queue)
        self._assert_stale(harness, queue, receipt)

    def test_foreign_receipt(self, harness: Harness) -> None:
        """A receipt of one queue does nothing in another."""
        queue = ready(harness, b"1")
        received = one(harness, queue)
        with pytest.raises(Refused):
            queue.delete(harness.dead, received.receipt)
        queue.delete(harness.queue, received.receipt)

    def test_extend(self, harness: Harness) -> None:
        """An extension counts from now: the message stays hidden for that long, and no longer."""
        queue = ready(harness, b"1")
        received = one(harness, queue, SHORT)
        queue.extend(harness.queue, received.receipt, 3 * SHORT)
        harness.elapse(SHORT + 1)
        assert list(queue.receive(harness.queue, 1, HIDE)) == []
        harness.elapse(2 * SHORT + 1)
        assert one(harness, queue).attempts == 2

    def test_release(self, harness: Harness) -> None:
        """A released message is visible at once, or after the delay that was asked for."""
        queue = ready(harness, b"1")
        queue.release(harness.queue, one(harness, queue).receipt)
        queue.release(harness.queue, one(harness, queue).receipt, delay=SHORT)
        assert list(queue.receive(harness.queue, 1, HIDE)) == []
        harness.elapse(SHORT + 1)
        assert one(harness, queue).attempts == 3

    def test_peek(self, harness: Harness) -> None:
        """A look shows what is visible, takes nothing, hides nothing and counts nothing."""
        self._need(harness, harness.driver().capabilities.peeks, "cannot look without receiving")
        queue = ready(harness, b"1", b"2", b"3")
        taken = one(harness, queue)
        seen = queue.peek(harness.queue, 10)
        assert {m.body for m in seen} == {b"1", b"2", b"3"} - {taken.body}
        assert all(m.receipt == "" and m.attempts == 0 for m in seen)
        assert len(queue.peek(harness.queue, 1)) == 1
        assert {m.attempts for m in queue.receive(harness.queue, 10, HIDE)} == {1}

    def test_depth(self, harness: Harness) -> None:
        """The depth counts what is visible and what is hidden, and the age of the oldest grows where it is told."""
        queue = ready(harness, b"1", b"2", b"3")
        one(harness, queue)
        harness.elapse(SHORT)
        depth = queue.depth(harness.queue)
        assert (depth.visible, depth.hidden) == (2, 1)
        assert depth.oldest_age is None or depth.oldest_age > 0

    def test_no_message_twice(self, harness: Harness) -> None:
        """Sixteen clients that drain one queue at once get every message, and none of them twice."""
        count = 64
        queue = ready(harness)
        for n in range(count):
            queue.send(harness.queue, [b"%d" % n])

        def drain(client_queue: Queue) -> list[bytes]:
            got: list[bytes] = []
            while True:
                try:
                    found = client_queue.receive(harness.queue, 2, HIDE)
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
        received = one(harness, queue)
        with pytest.raises(NotFound):
            queue.move(harness.queue, received.receipt, "conformance-no-such-queue", b"1 and why")
        moved = queue.move(harness.queue, received.receipt, harness.dead, b"1 and why")
        with pytest.raises(Refused):
            queue.move(harness.queue, received.receipt, harness.dead, b"1 and why")
        there = one(harness, queue, name=harness.dead)
        assert (there.id, there.body, there.attempts) == (moved, b"1 and why", 1)
        assert queue.depth(harness.queue).hidden + queue.depth(harness.queue).visible == 0
        assert queue.depth(harness.dead).hidden == 1

    def _assert_stale(self, harness: Harness, queue: Queue, receipt: str) -> None:
        """Whatever is done with this receipt is refused."""
        with pytest.raises(Refused):
            queue.delete(harness.queue, receipt)
        with pytest.raises(Refused):
            queue.extend(harness.queue, receipt, HIDE)
        with pytest.raises(Refused):
            queue.release(harness.queue, receipt)
        if harness.driver().capabilities.atomic_move:
            with pytest.raises(Refused):
                queue.move(harness.queue, receipt, harness.dead, b"moved")
            assert queue.depth(harness.dead).visible == 0
