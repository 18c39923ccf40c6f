"""One physical queue in the hands of one instance: receive, handle, acknowledge, extend, retry, dead-letter.

A receive is a started handler call: nothing is fetched ahead, so that the store's count of receives is the count of
attempts, and a handler that kills its process still runs out of them.

    handled       delete
    failed        visible again after an exponential back-off with jitter
    failed for good, cannot be parsed, or received more often than allowed
                  to the dead-letter queue with its error: sent there, then deleted here
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from providers.interface import NotFound, ProviderError, Received, Refused
from worker import handlers
from worker.app import QueueSpec
from worker.clock import wait_for
from worker.context import Message
from worker.core.backoff import delay
from worker.core.dead_letter import Failure, dead_letter, failure_of
from worker.core.envelope import BadMessage, Envelope, key_of, unwrap
from worker.core.names import dead_letter_queue
from worker.errors import Fenced, Overlapping
from worker.parsing import parse_body
from worker.polling import IDLE_FIRST, long_poll, next_pause
from worker.ports import Ports
from worker.statedoc import partition_state

RETRY_BASE = 1.0
"""Seconds before the first retry, about; doubled with every further attempt."""

RETRY_CAP = 300.0
"""The longest pause between two attempts, in seconds."""

REMEMBERED = 10_000
"""Messages whose success is remembered, so that a copy made by the router is dropped (best effort, in memory)."""

CLOSED = 1.0
"""Seconds between two looks at whether a paused queue may be received from again."""


@dataclass(frozen=True, slots=True)
class Share:
    """What all consumers of one instance share."""

    slots: asyncio.Semaphore  # handlers that may run at once
    paused: Callable[[str], bool]  # is this logical queue paused?
    may_start: Callable[[], bool]  # is the right to act in owned partitions fresh enough to start work?


class Consumer:
    """Works one physical queue until stopped. `fence` is None in a shared queue, which nobody owns."""

    def __init__(self, spec: QueueSpec, partition: str, fence: int | None, ports: Ports, share: Share) -> None:
        self.partition, self.fence = partition, fence
        self._spec, self._ports, self._share = spec, ports, share
        self._queue = ports.provider.queue
        self._hide_for = ports.member.lease
        self._events = ports.events.bind(queue=spec.name, partition=partition, fence=fence)
        self._stopping = asyncio.Event()
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._handling: asyncio.Task[object] | None = None
        self._revoked = False
        self._queued = False  # waits for a slot
        self._turned = ports.clock.now()

    def stop(self) -> None:
        """Receive no more; a running handler finishes. `run` then returns."""
        self._stopping.set()

    def revoke(self) -> None:
        """Stop, and cancel the running handler: the right to act is over."""
        self._revoked = True
        self._stopping.set()
        if self._handling is not None:
            self._handling.cancel()

    @property
    def handling(self) -> bool:
        """Whether a handler call is under way."""
        return self._handling is not None

    @property
    def handling_for(self) -> float:
        """Seconds for which the present handler call has been under way; 0 when there is none."""
        return self._ports.clock.now() - self._turned if self.handling else 0.0

    def stuck(self, limit: float) -> bool:
        """Say whether the loop has not turned for `limit` seconds, although no handler runs here or in its way."""
        return not (self.handling or self._queued) and self._ports.clock.now() - self._turned > limit

    async def run(self) -> None:
        """Consume until stopped. Returns only when the last handler call has ended."""
        idle = IDLE_FIRST
        while not self._stopping.is_set():
            self._turned = self._ports.clock.now()
            if not self._may_receive():
                await wait_for(self._stopping, CLOSED)
                continue
            if not await self._slot():
                break
            wait = 0.0 if self._share.slots.locked() else long_poll(self._ports)  # the last slot is not for waiting
            try:
                found = await self._receive_one(wait) if self._may_receive() else False
            finally:
                self._share.slots.release()
            if found:
                idle = IDLE_FIRST
            else:
                await wait_for(self._stopping, idle * (0.75 + self._ports.clock.random() / 4))
                idle = next_pause(idle, wait, self._ports)

    async def _slot(self) -> bool:
        """Wait for a free slot; False when stopped first: other partitions' handlers must not hold up a release."""
        if not self._share.slots.locked():
            return await self._share.slots.acquire()  # at once
        acquiring = asyncio.create_task(self._share.slots.acquire())
        stopping = asyncio.create_task(self._stopping.wait())
        self._queued = True
        try:
            await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            acquiring.cancel()
            stopping.cancel()
            await handlers.ended(acquiring, stopping)
            self._queued, self._turned = False, self._ports.clock.now()
        return not acquiring.cancelled()

    def _may_receive(self) -> bool:
        return not self._stopping.is_set() and not self._share.paused(self._spec.name) and self._allowed()

    def _allowed(self) -> bool:
        return self.fence is None or self._share.may_start()

    async def _receive_one(self, wait: float) -> bool:
        try:
            messages = await self._queue.receive(self.partition, 1, self._hide_for, wait)
        except NotFound:
            await self._ensure()
            return False
        except ProviderError as exc:
            self._events.problem(f"nothing can be received: {exc}")
            await wait_for(self._stopping, self._ports.leader.renew)
            return False
        for received in messages:
            if self._revoked or not self._allowed():
                await self._attempt(self._queue.release(self.partition, received.receipt))
            else:
                await self._take(received)
        return bool(messages)

    async def _ensure(self) -> None:
        await self._attempt(self._queue.ensure(self.partition, ordered=self._spec.order == "strict"))

    # --- one message ---

    async def _take(self, received: Received) -> None:
        """Handle one message and settle it; never raises for what the message or its handler does."""
        held = _Held(received.receipt)
        if received.attempts > self._spec.max_attempts:
            error = f"received {received.attempts} times, and no handler has ever come back with an answer"
            await self._bury(received, held, Failure(error, "worker.NeverReturned", "", *self._where(received)))
            return
        try:
            envelope = unwrap(received.body)
            key = envelope.key if envelope.key is not None else key_of(envelope.body, self._spec.key)
            body = parse_body(self._spec.body, envelope.body)
        except BadMessage as exc:
            await self._bury(received, held, Failure(str(exc), "worker.BadMessage", "", *self._where(received)))
            return
        id = envelope.id or received.id
        if id in self._finished:
            await self._attempt(self._queue.delete(self.partition, held.receipt))
            return
        await self._handle(received, held, envelope, self._message(received, id, key, envelope), body)

    async def _handle(
        self, received: Received, held: _Held, envelope: Envelope, message: Message, body: object
    ) -> None:
        clock, name = self._ports.clock, f"handler of {self.partition}, message {message.id}"
        self._turned = started = clock.now()
        args = [body, message] if self._spec.wants_message else [body]
        self._ports.deadman.arm(name, started + self._spec.timeout + self._ports.member.grace)
        over = asyncio.Event()
        extending = asyncio.create_task(self._extend(held, over))
        self._handling = asyncio.create_task(
            handlers.call(self._ports.handlers, self._spec.handler, args, self._spec.timeout)
        )
        try:
            await handlers.ended(self._handling)
        finally:
            handling, self._handling = self._handling, None
            self._turned = clock.now()
            self._ports.deadman.disarm(name)
            over.set()
            await handlers.ended(extending)  # not cancelled: the receipt of one under way is the valid one
        seconds = round(clock.now() - started, 6)
        error = asyncio.CancelledError() if handling.cancelled() else handling.exception()
        facts = {"message": message.id, "attempt": received.attempts, "seconds": seconds}
        if error is None:
            self._remember(message.id)
            self._events.emit("message.handled", **facts, enqueued_at=received.enqueued_at)
            await self._attempt(self._queue.delete(self.partition, held.receipt))
        elif isinstance(error, Fenced) and not isinstance(error, Overlapping):
            self._events.emit("write.refused", **facts, error=str(error))
            await self._attempt(self._queue.release(self.partition, held.receipt))
        elif isinstance(error, asyncio.CancelledError) and self._stopping.is_set():
            await self._attempt(self._queue.release(self.partition, held.receipt))
        elif received.attempts >= self._spec.max_attempts:
            await self._bury(received, held, failure_of(error, *self._where(received)), message, seconds=seconds)
        else:
            pause = delay(received.attempts - 1, base=RETRY_BASE, cap=RETRY_CAP, random=clock.random())
            self._events.emit("message.retried", **facts, error=_one_line(error), delay=round(pause, 3))
            await self._attempt(self._queue.release(self.partition, held.receipt, pause))

    def _message(self, received: Received, id: str, key: str | None, envelope: Envelope) -> Message:
        return Message(
            id=id,
            queue=self._spec.name,
            partition=self.partition,
            key=key,
            body=envelope.body,
            attempt=received.attempts,
            fence=self.fence,
            enqueued_at=received.enqueued_at,
            log=self._events.log.bind(message=id, attempt=received.attempts),
            _state=partition_state(self._ports, self._spec, self.partition, self.fence),
        )

    async def _extend(self, held: _Held, over: asyncio.Event) -> None:
        """Keep the message hidden until its handler has ended."""
        while not await wait_for(over, self._hide_for / 3):
            try:
                held.receipt = await self._queue.extend(self.partition, held.receipt, self._hide_for)
            except Refused:
                self._events.problem("a message in hand was taken over by another receive: it may be handled twice")
                return
            except ProviderError as exc:
                self._events.problem(f"a message in hand could not be kept hidden: {exc}")

    async def _bury(
        self, received: Received, held: _Held, failure: Failure, message: Message | None = None, **facts: float
    ) -> None:
        id = message.id if message else _id_of(received)
        key = message.key if message else None
        letter = dead_letter(received.body, failure, id=id, key=key, limit=self._queue.limit)
        to = dead_letter_queue(self._spec.name)
        try:
            await self._queue.move(self.partition, replace(received, receipt=held.receipt), to, letter, key)
        except NotFound:
            await self._attempt(self._queue.ensure(to))
            return  # it is visible again later, and then goes there
        except ProviderError as exc:
            self._events.problem(f"a dead letter could not be moved to {to}; it will be tried again: {exc}")
            return
        error = failure.error.split("\n")[0][:500]
        self._events.emit("message.dead_lettered", message=id, attempt=received.attempts, error=error, **facts)

    def _where(self, received: Received) -> tuple[int, str, str, str]:
        at = datetime.fromtimestamp(self._ports.clock.wall(), UTC).isoformat()
        return received.attempts, self._spec.name, self.partition, at

    def _remember(self, id: str) -> None:
        self._finished[id] = None
        while len(self._finished) > REMEMBERED:
            self._finished.popitem(last=False)

    async def _attempt(self, request: Awaitable[object]) -> None:
        """Await a request whose failure costs only time: the message becomes visible again by itself."""
        try:
            await request
        except ProviderError as exc:
            self._events.problem(f"a message could not be settled; it will come back: {exc}")


@dataclass(slots=True)
class _Held:
    """The newest receipt of a message in hand: every extension changes it."""

    receipt: str


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:500]


def _id_of(received: Received) -> str:
    try:
        return unwrap(received.body).id or received.id
    except BadMessage:
        return received.id
