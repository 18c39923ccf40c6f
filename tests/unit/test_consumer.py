"""The consumer: what becomes of one message, whatever it, its handler or the store does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from providers.memory.driver import CAPABILITIES
from tests.unit.fakes import ANSWER_LOST, DOWN, LATENCY, LOST, Fate, World, late, run, simulated, stray
from worker.app import App, QueueSpec
from worker.consumer import RETRY_CAP, Consumer, Share
from worker.context import Message
from worker.core.dead_letter import DeadLetter, read_dead_letter
from worker.core.envelope import wrap
from worker.errors import Fenced, Overlapping

QUEUE, PARTITION, DLQ = "orders", "orders-00", "orders-dlq"


class Order(BaseModel):
    amount: int


class Crashing(BaseModel):
    value: int

    @field_validator("value")
    @classmethod
    def crash(cls, value: int) -> float:
        return 1 / value


class Shop:
    """One consumer of one partition, and a handler that the test writes."""

    def __init__(
        self, world: World, handler: Callable[..., Any], *, fence: int | None = 7, slots: int = 10, **options: Any
    ) -> None:
        self.world = world
        self.paused, self.allowed = False, True
        self.slots = asyncio.Semaphore(slots)
        app = App()
        app.queue(QUEUE, **options)(handler)
        self.spec: QueueSpec = app.queues[QUEUE]
        for name in (QUEUE, PARTITION, DLQ):
            world.store.queue.ensure(name, ordered=self.spec.order == "strict" and name == PARTITION)
        self.share = Share(self.slots, lambda _: self.paused, lambda: self.allowed)
        self.consumer = Consumer(self.spec, PARTITION, fence, world.ports(), self.share)
        self.task = asyncio.create_task(self.consumer.run())

    def send(self, *bodies: Any, id: str | None = None) -> None:
        data = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        self.world.store.queue.send(PARTITION, [wrap(json.loads(one), id=id) if id else one for one in data])

    async def settled(self, within: float = 900.0) -> None:
        """Wait until the partition is empty."""
        await self.world.until(lambda: self.world.left(PARTITION) == 0, within, "the partition is empty")
        await self.world.passes(2 * LATENCY)  # the answer is back

    def buried(self) -> list[DeadLetter]:
        return [read_dead_letter(body) for body in self.world.bodies(DLQ)]

    async def stopped(self, within: float = 5.0) -> None:
        self.consumer.stop()
        await self.world.until(self.task.done, within, "the consumer has stopped")
        self.task.result()


class Handled:
    """An async handler that remembers, with failures that the test has ordered."""

    __name__ = "handle"

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.failures: list[BaseException] = []
        self.takes = 0.0
        self.running = 0

    def handler(self) -> Callable[..., Any]:
        async def handle(body: Any, message: Message) -> None:
            self.seen.append(message)
            self.running += 1
            try:
                await asyncio.sleep(self.takes)
                if self.failures:
                    raise self.failures.pop(0)
            finally:
                self.running -= 1

        return handle


@simulated
async def test_a_handled_message_is_deleted(world: World) -> None:
    """A message is handed over once with all that is known about it, and is gone afterwards."""
    handled = Handled()
    shop = Shop(world, handled.handler(), key="customer")
    shop.send({"customer": "c-1"})
    await shop.settled()
    (message,) = handled.seen
    assert (message.queue, message.partition, message.key, message.attempt) == (QUEUE, PARTITION, "c-1", 1)
    assert (message.body, message.fence) == ({"customer": "c-1"}, 7)
    (said,) = world.heard("message.handled")
    assert (said["message"], said["partition"], said["fence"]) == (message.id, PARTITION, 7)
    await shop.stopped()


@simulated
async def test_an_envelope_gives_its_own_id_and_key(world: World) -> None:
    """An id and key that travel along count more than the store's id and the body's field."""
    handled = Handled()
    shop = Shop(world, handled.handler(), key="customer")
    world.store.queue.send(PARTITION, [wrap({"customer": "c-1"}, id="mine", key="other")])
    await shop.settled()
    assert [(message.id, message.key) for message in handled.seen] == [("mine", "other")]
    await shop.stopped()


@simulated
async def test_a_failed_message_comes_back_with_a_growing_pause(world: World) -> None:
    """Each failure makes the message visible again after about twice the last pause, and says which attempt it was."""
    handled = Handled()
    handled.failures = [ValueError("no")] * 3
    times: list[float] = []
    shop = Shop(world, handled.handler())
    shop.send(1)
    await shop.settled()
    assert [message.attempt for message in handled.seen] == [1, 2, 3, 4]
    assert len({message.id for message in handled.seen}) == 1
    said = world.heard("message.retried")
    assert [one["attempt"] for one in said] == [1, 2, 3]
    assert all(0.5 * 2**n < one["delay"] <= 2**n for n, one in enumerate(said))
    times = [one["at"] for one in said] + [world.heard("message.handled")[0]["at"]]
    for one, at, after in zip(said, times, times[1:], strict=False):
        assert one["delay"] <= after - at <= one["delay"] + 1.5  # and at most one idle poll
    assert "ValueError: no" in said[0]["error"]
    await shop.stopped()


@simulated
async def test_a_message_that_always_fails_is_dead_lettered(world: World) -> None:
    """After `max_attempts` starts of the handler the message is in the dead-letter queue, with error and traceback."""
    handled = Handled()
    handled.failures = [ValueError(f"failure {n}") for n in range(1, 10)]
    shop = Shop(world, handled.handler(), max_attempts=3, key="customer")
    shop.send({"customer": "c-1"})
    await shop.settled()
    assert len(handled.seen) == 3
    (letter,) = shop.buried()
    assert letter.failure is not None
    assert (letter.failure.error, letter.failure.error_type) == ("failure 3", "builtins.ValueError")
    assert (letter.failure.attempts, letter.failure.queue, letter.failure.partition) == (3, QUEUE, PARTITION)
    assert "raise self.failures" in letter.failure.traceback
    assert (letter.envelope.body, letter.envelope.id, letter.envelope.key) == (
        {"customer": "c-1"},
        handled.seen[0].id,
        "c-1",
    )
    (said,) = world.heard("message.dead_lettered")
    assert (said["message"], said["error"]) == (handled.seen[0].id, "failure 3")
    assert said["seconds"] >= 0, "how long the last handler call took"
    await shop.stopped()


@simulated
async def test_a_message_that_kills_its_process_runs_out_of_attempts(world: World) -> None:
    """A message that was received more often than allowed is buried unstarted: no handler ever came back with it."""
    handled = Handled()
    shop = Shop(world, handled.handler(), max_attempts=3)
    shop.paused = True
    shop.send({"poison": True})
    for _ in range(3):  # what three processes did that died with it
        (received,) = world.store.queue.receive(PARTITION, 1, 0.0)
    shop.paused = False
    await shop.settled()
    assert handled.seen == []
    (letter,) = shop.buried()
    assert letter.failure is not None
    assert letter.failure.error_type == "worker.NeverReturned"
    assert letter.failure.attempts == 4
    assert letter.envelope.id == received.id
    await shop.stopped()


@pytest.mark.parametrize(
    "body, said",
    [
        (b"not JSON", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"amount": "many"}', "not a valid Order: amount"),
        (b"{}", "amount: Field required"),
        (b'{"cloud-worker": 99, "body": {"amount": 1}}', "format 99"),
        (b'{"cloud-worker": 1}', "without a 'body'"),
    ],
    ids=["text", "bytes", "wrong type", "missing field", "newer envelope", "no body"],
)
def test_a_message_that_does_not_parse_is_dead_lettered_at_once(body: bytes, said: str) -> None:
    """What no retry can help goes to the dead-letter queue at its first receive, with its reason and every byte."""

    async def test(world: World) -> None:
        async def handle(order: Order) -> None:
            raise AssertionError("never called")

        shop = Shop(world, handle)
        shop.send(body)
        await shop.settled(5)
        (letter,) = shop.buried()
        assert letter.failure is not None
        assert (letter.failure.error_type, letter.failure.attempts) == ("worker.BadMessage", 1)
        assert said in letter.failure.error
        assert "seconds" not in world.heard("message.dead_lettered")[0], "there was no handler call"
        await shop.stopped()

    run(test)


@simulated
async def test_the_body_is_what_the_handler_asked_for(world: World) -> None:
    """A handler with a model gets the model, and one that takes no message is called without one."""
    seen: list[Order] = []

    async def handle(order: Order) -> None:
        seen.append(order)

    shop = Shop(world, handle)
    shop.send({"amount": 3})
    await shop.settled()
    assert seen == [Order(amount=3)]
    await shop.stopped()


@simulated
async def test_a_handler_that_takes_too_long_is_cancelled_and_counted(world: World) -> None:
    """When its timeout passes, a handler is cancelled, and the attempt is one that failed."""
    handled = Handled()
    handled.takes = 100.0
    shop = Shop(world, handled.handler(), timeout=5, max_attempts=2)
    shop.send(1)
    await shop.settled()
    assert len(handled.seen) == 2
    (letter,) = shop.buried()
    assert letter.failure is not None
    assert letter.failure.error_type == "worker.handlers.HandlerTimeout"
    assert "5 s" in letter.failure.error
    await shop.stopped()


@simulated
async def test_a_handler_that_does_not_end_is_the_dead_mans(world: World) -> None:
    """A handler that ignores its cancellation keeps its message, and is killed at its timeout plus the grace."""

    async def stubborn(body: Any) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue

    shop = Shop(world, stubborn, timeout=5)
    shop.send(1)
    await world.until(lambda: world.killed, 60)
    at, name = world.killed[0]
    assert at == pytest.approx(5 + world.member.grace, abs=1)
    assert PARTITION in name
    assert world.heard("message.retried") == []


@simulated
async def test_the_switch_is_armed_for_as_long_as_a_handler_runs(world: World) -> None:
    """A running handler stands under a deadline of its own, which goes when it has ended."""
    handled = Handled()
    handled.takes = 3.0
    shop = Shop(world, handled.handler())

    def watch() -> None:
        assert not handled.running or any(PARTITION in name for name in world.deadman.deadlines)

    world.watch(watch)
    shop.send(1)
    await shop.settled()
    assert world.deadman.deadlines == {}
    await shop.stopped()


@simulated
async def test_a_refused_write_is_no_failure_of_the_message(world: World) -> None:
    """A handler that was fenced loses its message to the new owner at once, without a back-off or a dead letter."""
    handled = Handled()
    handled.failures = [Fenced("a newer owner")] * 3
    shop = Shop(world, handled.handler(), max_attempts=3)
    shop.send(1)
    await world.until(lambda: len(world.heard("write.refused")) == 3, 10)
    assert world.heard("message.retried") == world.heard("message.dead_lettered") == []
    await shop.stopped()
    assert shop.buried() == []


@simulated
async def test_a_handler_that_cancels_itself_has_failed(world: World) -> None:
    """A cancellation that nobody asked for, and a state opened twice at once, count as failures of the message."""
    handled = Handled()
    handled.failures = [asyncio.CancelledError(), Overlapping("opened twice")]
    shop = Shop(world, handled.handler(), max_attempts=2)
    shop.send(1)
    await world.until(lambda: len(shop.buried()) == 1, 60)
    assert len(world.heard("message.retried")) == 1
    assert "opened twice" in str(shop.buried()[0])
    await shop.stopped()


@simulated
async def test_a_validator_that_crashes_is_the_messages_fault(world: World) -> None:
    """Whatever a validator of the user's raises sends the message to the dead-letter queue with that error."""

    async def handler(body: Crashing) -> None: ...

    shop = Shop(world, handler)
    shop.send({"value": 0})
    await world.until(lambda: len(shop.buried()) == 1, 60)
    assert "ZeroDivisionError" in str(shop.buried()[0])
    await shop.stopped()


# --- visibility ---


@simulated
async def test_a_message_stays_hidden_while_its_handler_runs(world: World) -> None:
    """The visibility is extended for as long as the handler takes, so that nobody else gets the message."""
    handled = Handled()
    handled.takes = 10 * world.member.lease
    shop = Shop(world, handled.handler(), timeout=1000)
    shop.send(1)
    visible: list[float] = []

    def watch() -> None:
        if world.store.queue.depth(PARTITION).visible and handled.running:
            visible.append(world.loop.true)

    world.watch(watch)
    await shop.settled()
    assert visible == []
    assert len(handled.seen) == 1
    assert len(world.network.times("queue.extend")) == pytest.approx(30, abs=2)
    await shop.stopped()


@pytest.mark.parametrize("fate", [DOWN, LOST, ANSWER_LOST, late(50)], ids=str)
def test_a_lost_extension_is_repeated_in_time(fate: Fate) -> None:
    """One extension that goes wrong does not make the message visible while it is handled."""

    async def test(world: World) -> None:
        handled = Handled()
        handled.takes = 4 * world.member.lease
        shop = Shop(world, handled.handler(), timeout=1000)
        shop.send(1)
        world.network.next("queue.extend", Fate(), fate)
        await shop.settled()
        assert len(handled.seen) == (1 if fate in (DOWN, LOST) else len(handled.seen))
        assert len(world.heard("message.handled")) == 1
        await shop.stopped()

    run(test)


@pytest.mark.parametrize("after", [0.0, LATENCY / 2, LATENCY, LATENCY * 1.5])
@pytest.mark.parametrize("fails", [False, True], ids=["handled", "failed"])
def test_an_extension_under_way_does_not_spoil_the_receipt(after: float, fails: bool) -> None:
    """A handler that ends just while its message is being extended is settled with the receipt that is then valid."""

    async def test(world: World) -> None:
        handled = Handled()
        handled.takes = world.member.lease / 3 + after
        handled.failures = [ValueError("no")] if fails else []
        shop = Shop(world, handled.handler())
        shop.send(1)
        await world.until(lambda: world.heard("message.retried") or world.heard("message.handled"), 30)
        if fails:
            handled.takes = 0.0
        await shop.settled(3)
        assert not [problem for problem in world.problems if "could not be settled" in problem]
        await shop.stopped()

    run(test)


@simulated
async def test_a_message_taken_over_by_another_receive_is_reported(world: World) -> None:
    """When somebody else has received the message meanwhile, that is said, and its deletion changes nothing."""
    handled = Handled()
    handled.takes = world.member.lease
    shop = Shop(world, handled.handler())
    shop.send(1)
    await world.until(lambda: handled.running, 5)
    (message,) = world.store.queue._queues[PARTITION].messages.values()
    message.receipt = "another's"
    await world.until(lambda: not handled.running, world.member.lease + 1)
    await shop.stopped()
    assert any("taken over" in problem for problem in world.problems)
    assert world.left(PARTITION) == 1


# --- stopping, revoking, pausing ---


@simulated
async def test_stopping_finishes_the_running_handler(world: World) -> None:
    """After `stop` nothing more is received, what runs finishes and is acknowledged, and then the consumer ends."""
    handled = Handled()
    handled.takes = 20.0
    shop = Shop(world, handled.handler())
    shop.send(1, 2)
    await world.until(lambda: handled.running, 5)
    await shop.stopped(25)
    assert len(world.heard("message.handled")) == len(handled.seen) == 1
    assert world.left(PARTITION) == 1
    assert len(world.bodies(PARTITION)) == 1


@pytest.mark.parametrize("when", [0.0, 0.005, 0.015, 0.03, 0.5])
def test_a_stopped_consumer_holds_nothing(when: float) -> None:
    """Stopped at any moment around a receive, a consumer has handled what it took or made it visible again."""

    async def test(world: World) -> None:
        handled = Handled()
        shop = Shop(world, handled.handler())
        shop.send(1)
        await world.passes(when)
        await shop.stopped()
        assert len(world.bodies(PARTITION)) + len(world.heard("message.handled")) == 1

    run(test)


@simulated
async def test_revoking_cancels_the_handler_and_gives_the_message_back(world: World) -> None:
    """When the right to act ends, the handler is cancelled, and its message is visible at once for the next owner."""
    handled = Handled()
    handled.takes = 100.0
    shop = Shop(world, handled.handler())
    shop.send(1, 2)
    await world.until(lambda: handled.running, 5)
    shop.consumer.revoke()
    await world.until(shop.task.done, 1)
    assert not handled.running
    assert len(world.bodies(PARTITION)) == 2
    assert world.heard("message.retried") == world.heard("message.handled") == []
    assert world.deadman.deadlines == {}


@simulated
async def test_a_revoked_consumer_ends_only_with_its_handler(world: World) -> None:
    """A handler that takes its time to clean up keeps the consumer: its partition is not released before."""

    async def slow(body: Any) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(8)

    shop = Shop(world, slow)
    shop.send(1)
    await world.until(lambda: world.watched.running, 5)
    shop.consumer.revoke()
    await world.passes(7)
    assert not shop.task.done()
    assert world.watched.running == ["slow"]
    await world.until(shop.task.done, 2)


@simulated
async def test_a_paused_queue_starts_nothing(world: World) -> None:
    """While its queue is paused a consumer receives nothing, so that no attempt is counted; then it goes on."""
    handled = Handled()
    shop = Shop(world, handled.handler())
    shop.paused = True
    await world.passes(5)
    shop.send(1)
    await world.passes(60)
    assert handled.seen == []
    shop.paused = False
    await shop.settled(5)
    assert [message.attempt for message in handled.seen] == [1]
    await shop.stopped()


@simulated
async def test_a_pause_counts_for_who_waits_for_a_slot(world: World) -> None:
    """A queue that is paused while its consumer waits for a free slot starts nothing when the slot comes free."""
    handled = Handled()
    shop = Shop(world, handled.handler(), slots=1)
    await shop.slots.acquire()  # another consumer's handler
    shop.send(1)
    await world.passes(5)
    shop.paused = True
    shop.slots.release()
    await world.passes(10)
    assert handled.seen == []
    shop.paused = False
    await shop.settled(5)
    await shop.stopped()


@simulated
async def test_nothing_is_started_without_the_right_to_act(world: World) -> None:
    """An owned partition is worked only under fresh trust, and a message received too late goes back unstarted."""
    handled = Handled()
    shop = Shop(world, handled.handler())
    shop.allowed = False
    shop.send(1)
    await world.passes(5)
    assert world.network.times("queue.receive") == []
    world.network.next("queue.receive", Fate(after=lambda: setattr(shop, "allowed", False)))
    shop.allowed = True
    await world.passes(2)
    assert handled.seen == []
    assert len(world.bodies(PARTITION)) == 1
    shop.allowed = True
    await shop.settled(5)
    await shop.stopped()


@simulated
async def test_a_shared_queue_needs_no_right(world: World) -> None:
    """A consumer of a shared queue owns nothing, and works without membership and without a fence."""
    handled = Handled()
    shop = Shop(world, handled.handler(), fence=None)
    shop.allowed = False
    shop.send(1)
    await shop.settled(5)
    assert handled.seen[0].fence is None
    await shop.stopped()


# --- slots, and turning ---


@simulated
async def test_slots_bound_how_many_handlers_run_at_once(world: World) -> None:
    """All consumers of an instance share its slots: never more handlers at once than there are."""
    handled = Handled()
    handled.takes = 5.0
    shop = Shop(world, handled.handler(), slots=2)
    others = [Consumer(shop.spec, PARTITION, 7, world.ports(), shop.share) for _ in range(4)]
    tasks = [asyncio.create_task(one.run()) for one in others]
    shop.send(*range(10))
    most: list[int] = []
    world.watch(lambda: most.append(handled.running))
    await shop.settled(60)
    assert max(most) == 2
    for one in others:
        one.stop()
    await world.until(lambda: all(task.done() for task in tasks), 5)
    await shop.stopped()


@simulated
async def test_waiting_for_a_slot_is_not_standing_still(world: World) -> None:
    """A consumer that waits for another's handler to end is no reason to lose the membership."""
    handled = Handled()
    shop = Shop(world, handled.handler(), slots=1)
    await shop.slots.acquire()
    limit = world.member.lease
    await world.passes(5 * limit)
    assert not shop.consumer.stuck(limit)
    shop.slots.release()
    shop.send(1)
    await shop.settled(5)
    await shop.stopped()


@simulated
async def test_a_consumer_that_waits_for_a_slot_can_be_stopped(world: World) -> None:
    """Stopping does not wait for a slot: a partition is released although all handlers are busy elsewhere."""
    shop = Shop(world, Handled().handler(), slots=1)
    await shop.slots.acquire()
    await world.passes(5)
    await shop.stopped(1)
    shop.slots.release()
    await asyncio.wait_for(shop.slots.acquire(), 1)  # and it has not kept the slot


@simulated
async def test_a_consumer_never_stands_still_because_of_its_handler(world: World) -> None:
    """Neither while a long handler runs nor just after it is the loop called stuck."""
    handled = Handled()
    limit = world.member.lease
    handled.takes = 3 * limit
    shop = Shop(world, handled.handler(), timeout=1000)
    world.network.always("queue.delete", Fate(there=1.0))
    stuck: list[float] = []
    world.watch(lambda: stuck.append(world.loop.true) if shop.consumer.stuck(limit) else None)
    shop.send(1)
    await shop.settled()
    assert stuck == []
    await shop.stopped()


@simulated
async def test_a_loop_that_hangs_is_seen(world: World) -> None:
    """A consumer whose request never comes back, and no handler runs, stands still."""
    shop = Shop(world, Handled().handler())

    async def never(*args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    shop.consumer._queue.receive = never  # type: ignore[method-assign] # a client without a time-out
    await world.passes(world.member.lease + 2)
    assert shop.consumer.stuck(world.member.lease)
    shop.task.cancel()


# --- duplicates, order, and the store's own troubles ---


@simulated
async def test_a_duplicate_of_a_finished_message_is_dropped(world: World) -> None:
    """A copy with the id of a message that was handled successfully is deleted unstarted."""
    handled = Handled()
    shop = Shop(world, handled.handler())
    shop.send({"n": 1}, id="same")
    shop.send({"n": 1}, id="same")
    shop.send({"n": 2}, id="other")
    await shop.settled()
    assert [message.id for message in handled.seen] == ["same", "other"]
    await shop.stopped()


@simulated
async def test_a_duplicate_of_a_failed_message_is_handled(world: World) -> None:
    """Only success is remembered: the copy of a message that failed for good is tried as well."""
    handled = Handled()
    handled.failures = [ValueError("no")]
    shop = Shop(world, handled.handler(), max_attempts=1)
    shop.send({"n": 1}, id="same")
    await shop.settled()
    shop.send({"n": 1}, id="same")
    await shop.settled()
    assert len(handled.seen) == 2
    assert len(shop.buried()) == len(world.heard("message.handled")) == 1
    await shop.stopped()


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, late(20), stray(20)], ids=str)
@pytest.mark.parametrize("operation", ["queue.receive", "queue.delete", "queue.release", "queue.move"])
@pytest.mark.parametrize("atomic", [True, False], ids=["atomic move", "send and delete"])
def test_trouble_with_the_store_loses_nothing(operation: str, fate: Fate, atomic: bool) -> None:
    """Whatever one request meets, every message is handled or buried in the end, at the latest when it reappears."""

    async def test(world: World) -> None:
        async def handle(body: Any) -> None:
            if body == "bad":
                raise ValueError("no")
            done.append(body)

        done: list[str] = []
        shop = Shop(world, handle, max_attempts=2)
        names = [operation] if atomic or operation != "queue.move" else ["queue.send", "queue.delete"]
        for name in names:
            world.network.next(name, fate)
        shop.send("good", "bad")
        await shop.settled()
        assert set(done) == {"good"}
        assert {letter.envelope.body for letter in shop.buried()} == {"bad"}
        assert len({letter.envelope.id for letter in shop.buried()}) == 1
        await shop.stopped()

    run(test, capabilities=replace(CAPABILITIES, atomic_move=atomic))


@simulated
async def test_a_missing_dead_letter_queue_is_created(world: World) -> None:
    """A dead letter whose queue somebody has deleted waits until the queue is there again."""
    handled = Handled()
    handled.failures = [ValueError("no")] * 5
    shop = Shop(world, handled.handler(), max_attempts=1)
    del world.store.queue._queues[DLQ]
    shop.send(1)
    await shop.settled()
    assert len(shop.buried()) == 1
    await shop.stopped()


@simulated
async def test_a_missing_partition_queue_is_created(world: World) -> None:
    """A partition's queue that does not exist is created by its owner."""
    shop = Shop(world, Handled().handler(), order="strict")
    del world.store.queue._queues[PARTITION]
    await world.until(lambda: PARTITION in world.store.queue._queues, 5)
    assert world.store.queue._queues[PARTITION].ordered
    await shop.stopped()


@simulated
async def test_an_idle_queue_is_polled_ever_less_often(world: World) -> None:
    """Without messages the polls back off to about one a second, and a message is still found within that."""
    handled = Handled()
    shop = Shop(world, handled.handler())
    await world.passes(60)
    assert len(world.network.times("queue.receive")) < 90
    shop.send(1)
    await shop.settled(1.5)
    await shop.stopped()


@simulated
async def test_strict_order_blocks_behind_a_failing_head(world: World) -> None:
    """In a strictly ordered partition the next message is handled only after the failing one is done or buried."""
    order: list[tuple[int, int]] = []

    async def handle(body: int, message: Message) -> None:
        order.append((body, message.attempt))
        if body == 1 and message.attempt < 3:
            raise ValueError("not yet")

    shop = Shop(world, handle, order="strict")
    shop.send(1, 2, 3)
    await shop.settled()
    assert order == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]
    await shop.stopped()


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["good", "flaky", "bad", "slow"]), min_size=1, max_size=6),
    st.dictionaries(
        st.sampled_from(["queue.receive", "queue.delete", "queue.release", "queue.move", "queue.extend"]),
        st.lists(st.sampled_from([Fate(), ANSWER_LOST, LOST, DOWN, late(20), stray(100)]), max_size=6),
    ),
)
def test_every_message_is_handled_or_buried(kinds: list[str], fates: dict[str, list[Fate]]) -> None:
    """However handlers and requests fail, each message is handled at least once or dead-lettered."""

    async def test(world: World) -> None:
        async def handle(body: list[Any], message: Message) -> None:
            number, kind = body
            if kind == "bad" or (kind == "flaky" and message.attempt < 2):
                raise ValueError(kind)
            if kind == "slow":
                await asyncio.sleep(40)
            done.add(number)

        done: set[int] = set()
        shop = Shop(world, handle, max_attempts=8)
        for operation, script in fates.items():
            world.network.next(operation, *script)
        shop.send(*enumerate(kinds))
        await shop.settled(20 * RETRY_CAP)
        buried = {letter.envelope.body[0] for letter in shop.buried()}
        assert done | buried == set(range(len(kinds)))
        assert {number for number, kind in enumerate(kinds) if kind == "bad"} <= buried
        await shop.stopped()

    run(test)
