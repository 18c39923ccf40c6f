"""Where a driver's blocking calls run: threads with clients of their own, and a total time enforced from outside.

    slot      one call that somebody waits for; a lane has a fixed number of them
    overdue   a call that nobody waits for any more: it keeps its thread and its client until it ends by itself,
              and its slot passes to another thread with another client, at most CLIENTS_PER_SLOT of them

A call that was overdue before it reached the driver is never started: it has changed nothing, for certain. Only a
call that did reach the driver, and writes, has an unknown outcome.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from providers.interface import Client, OutcomeUnknown, ProviderError, Unavailable

T = TypeVar("T")


class Closes(Protocol):
    """What a thread of a lane has of its own: a store's client, or a host's."""

    def close(self) -> None:
        """Close connections."""


C = TypeVar("C", bound=Closes)
C_co = TypeVar("C_co", bound=Closes, covariant=True)


class Opens(Protocol[C_co]):
    """Where a lane's clients come from: a `Driver`, for a store."""

    url: str

    def open(self, total: float) -> C_co:
        """Open a client whose requests should give up within `total` seconds."""


CLIENTS_PER_SLOT = 3
"""One in use, and two that may hang: a store that hangs more calls than that is down, and is called down."""

CLOSING = 1.0
"""Seconds that `close` waits, at the most, for idle clients to close. Overdue calls are never waited for."""


class Lane(Protocol):
    """Runs calls of one kind. A simulation brings its own; `ThreadLane` is the real one."""

    async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
        """Run `function` with a client and return what it returns, within `total` seconds.

        Raises what `function` raises; Unavailable when it was overdue and has changed nothing; OutcomeUnknown when
        it was overdue, had been started and `changes` something.
        """

    def close(self) -> None:
        """Refuse further calls and close the clients. Never waits for a call that is overdue."""


class _State(enum.Enum):
    WAITING = "waiting"  # for a thread, or for its client to open: nothing has been sent
    STARTED = "started"  # the driver has it
    GIVEN_UP = "given up"  # before it was started: never will be
    OVERDUE = "overdue"  # after it was started: its answer interests nobody
    ENDED = "ended"


class _Job:
    """One call on its way to a thread and back. `state` changes only under the lane's lock."""

    def __init__(self, operation: str, function: Callable[[Any], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.operation = operation
        self.function = function
        self.loop = loop
        self.answer: asyncio.Future[Any] = loop.create_future()
        self.state = _State.WAITING

    def deliver(self, value: Any, error: BaseException | None) -> None:
        """Hand the answer to the waiting task. From the job's thread; the loop may be gone by now."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._settle, value, error)

    def _settle(self, value: Any, error: BaseException | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(value)
        else:
            self.answer.set_exception(error)
            self.answer.exception()  # retrieved: a caller that was cancelled meanwhile leaves no complaint behind


class ThreadLane(Generic[C]):
    """The real lane: daemon threads, each with a client of its own, started as they are needed."""

    def __init__(self, driver: Opens[C], total: float, *, slots: int = 1, name: str = "store") -> None:
        self._driver = driver
        self._total = total
        self._slots = slots
        self._name = name
        self._changed = threading.Condition()  # guards everything below, and every job's state
        self._pending: deque[_Job] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle: set[threading.Thread] = set()
        self._stuck = 0  # threads whose call is overdue
        self._started = 0
        self._closed = False

    async def call(self, operation: str, function: Callable[[C], T], *, total: float, changes: bool) -> T:
        """See `Lane.call`."""
        job = _Job(operation, function, asyncio.get_running_loop())
        with self._changed:
            if self._closed:
                raise Unavailable(f"{operation}: the connection to {self._driver.url} is closed")
            self._pending.append(job)
            self._dispatch()
        try:
            await asyncio.wait({job.answer}, timeout=total)
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        if not job.answer.done() and (reached := self._abandon(job)) is not _State.ENDED:
            self._raise_overdue(job, total, reached, changes)
        answer: T = await job.answer  # here already, or, having ended just now, on its way to this loop
        return answer

    def close(self) -> None:
        """See `Lane.close`."""
        with self._changed:
            self._closed = True
            for job in self._pending:
                job.deliver(None, Unavailable(f"{job.operation}: the connection to {self._driver.url} was closed"))
            self._pending.clear()
            idle = set(self._idle)
            self._changed.notify_all()
        until = time.monotonic() + CLOSING
        for thread in idle:
            thread.join(max(0.0, until - time.monotonic()))

    # --- on the caller's thread ------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Wake an idle thread, or start another one, or leave the job to the next thread that is done."""
        self._changed.notify()
        unserved = len(self._pending) > len(self._idle)
        in_use = len(self._threads) - self._stuck
        if unserved and in_use < self._slots and len(self._threads) < self._slots * CLIENTS_PER_SLOT:
            self._started += 1
            thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _abandon(self, job: _Job) -> _State:
        """Stop waiting for a job; return how far it had come."""
        with self._changed:
            before = job.state
            if before is _State.WAITING:
                job.state = _State.GIVEN_UP
                if job in self._pending:
                    self._pending.remove(job)
                else:
                    self._overdue()  # its thread hangs in opening a client
            elif before is _State.STARTED:
                job.state = _State.OVERDUE
                self._overdue()
            return before

    def _overdue(self) -> None:
        self._stuck += 1
        if self._pending:
            self._dispatch()

    def _raise_overdue(self, job: _Job, total: float, reached: _State, changes: bool) -> None:
        what = f"{job.operation} on {self._driver.url}"
        if reached is _State.WAITING:
            raise Unavailable(f"{what} could not be sent within {total:g} s: earlier calls hang")
        if changes:
            raise OutcomeUnknown(f"{what} was not answered within {total:g} s: it may have happened, or happen yet")
        raise Unavailable(f"{what} was not answered within {total:g} s")

    # --- on the lane's threads -------------------------------------------------------------------------------

    def _work(self) -> None:
        """Take jobs until the lane is closed. The client is opened for the first one, and again if that failed."""
        client: C | None = None
        while (job := self._next()) is not None:
            value: Any = None
            error: BaseException | None = None
            try:
                if client is None:
                    client = self._driver.open(self._total)
                if self._start(job):
                    value = job.function(client)
            except BaseException as exc:  # everything a driver raises belongs to the caller
                error = exc
            if self._end(job):
                job.deliver(value, error)
        if client is not None:
            with suppress(ProviderError):  # a store that is down as we leave is no error of ours
                client.close()

    def _next(self) -> _Job | None:
        this = threading.current_thread()
        with self._changed:
            self._idle.add(this)
            while not self._pending and not self._closed:
                self._changed.wait()
            self._idle.discard(this)
            if self._closed:
                self._threads.discard(this)
                return None
            return self._pending.popleft()

    def _start(self, job: _Job) -> bool:
        with self._changed:
            if job.state is not _State.WAITING:
                return False
            job.state = _State.STARTED
            return True

    def _end(self, job: _Job) -> bool:
        """Note that a job's thread is free again; say whether anybody still waits for the answer."""
        with self._changed:
            self._idle.add(threading.current_thread())  # as good as: it takes the next job, or leaves
            if job.state in (_State.GIVEN_UP, _State.OVERDUE):
                self._stuck -= 1
                return False
            job.state = _State.ENDED
            return True


__all__ = ["CLIENTS_PER_SLOT", "CLOSING", "Closes", "Lane", "Opens", "ThreadLane"]
