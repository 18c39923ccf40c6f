"""An event loop in virtual time, on which many simulated processes run, stop and die without knowing it.

The loop never waits: when nothing is ready it sets its time to that of the next timer. Every callback belongs to a
`Node`, one life of one simulated process, through the context variable `NODE`: tasks inherit it from whoever
created them, callbacks run in the context they were registered with. That is enough to do to a node what the
kernel does to a process:

* `pause` (SIGSTOP): its callbacks are parked in order, its timers too when they fall due, until `resume`;
* `kill` (SIGKILL): its callbacks are dropped for ever. No `finally` block runs: its tasks are kept, untouched,
  until the loop is closed, so that not even the garbage collector runs one.

In a node's context, `loop.time()`, `call_at` and therefore `asyncio.sleep` and `asyncio.timeout` follow the
node's own `LocalClock`, which has an offset and a rate of its own. Outside of any node, time is the true one.

Nothing depends on the machine: no threads, no real time, no order of a set (tasks and futures hash by number).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

from worker.testing.handles import Handle, NumberedFuture, NumberedTask, Owned, Timer
from worker.testing.node import NODE, Condition, LocalClock, Node

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOST_AT_ONE_INSTANT = 1_000_000
"""Callbacks that may run without time moving on: more is a loop that spins, which would hang the simulation."""


class Stalled(Exception):
    """The simulation cannot go on: nothing is ready and no timer will ever fire, or time never moves on."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `on_step` is called after every callback, in no node's context: whatever it raises ends the run."""

    def __init__(self, on_step: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.on_step = on_step
        self.steps = 0
        self.running: Node | None = None  # whose callback runs or ran last
        self.errors: list[dict[str, Any]] = []  # exceptions that nobody caught, of nodes that were alive
        self._true = 0.0
        self._true_clock = LocalClock()
        self._queue: deque[Owned] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled_timers = 0
        self._counter = 0
        self._at_this_instant = 0
        self._outsider = Node("the simulation", self._true_clock)  # only to keep its tasks
        self._nodes = [self._outsider]
        self._outside = contextvars.copy_context()
        self._outside.run(NODE.set, None)
        self.set_exception_handler(_record_error)
        self.set_task_factory(self._make_task)

    # --- time ---

    @property
    def true(self) -> float:
        """True virtual time in seconds since the start, whatever the context."""
        return self._true

    def time(self) -> float:
        """Return the time as the current node's clock shows it; true time outside of any node."""
        node = NODE.get()
        return self._true if node is None else node.clock.read(self._true)

    def change_rate(self, clock: LocalClock, rate: float) -> None:
        """Let a clock go at another rate from now on; its pending timers move accordingly."""
        clock.change_rate(self._true, rate)
        self._timers = [
            (clock.when(timer.when()) if timer.clock is clock else due, number, timer)
            for due, number, timer in self._timers
        ]
        heapq.heapify(self._timers)

    # --- scheduling: what asyncio calls ---

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        self._check_open()
        context = contextvars.copy_context() if context is None else context
        handle = Handle(callback, args, self, context)
        handle.node = context.get(NODE)
        if handle.node is None or handle.node.alive:
            self._queue.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        node = context.get(NODE)
        clock = self._true_clock if node is None else node.clock
        return self._call_at(clock, clock.read(self._true) + delay, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        node = context.get(NODE)
        return self._call_at(self._true_clock if node is None else node.clock, when, callback, args, context)

    def _call_at(
        self,
        clock: LocalClock,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> asyncio.TimerHandle:
        self._check_open()
        timer = Timer(when, callback, args, self, context)
        timer.node, timer.clock = context.get(NODE), clock
        if timer.node is None or timer.node.alive:
            self._counter += 1
            heapq.heappush(self._timers, (max(self._true, clock.when(when)), self._counter, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled_timers += 1
        if self._cancelled_timers > 64 + len(self._timers) // 2:
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled_timers = 0

    def _make_task(self, _: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        self._counter += 1
        task: asyncio.Task[Any] = NumberedTask(self._counter, coro, loop=self, **options)
        context = options.get("context")
        node = NODE.get() if context is None else context.get(NODE)
        (self._outsider if node is None else node).adopt(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        self._counter += 1
        return NumberedFuture(self._counter, loop=self)

    def run_in_executor(self, executor: Any, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        raise RuntimeError(f"{func!r} was sent to a thread: a simulation has none")

    # --- scheduling: what the simulation calls ---

    def outside(self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> asyncio.TimerHandle:
        """Call after `delay` true seconds, in no node's context."""
        return self._call_at(self._true_clock, self._true + delay, callback, args, self._outside)

    def on_clock(
        self, clock: LocalClock, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts
    ) -> asyncio.TimerHandle:
        """Call in no node's context once `clock` shows `when`: a machine's timer that fires on a paused node too."""
        return self._call_at(clock, when, callback, args, self._outside)

    def call_in(self, node: Node, callback: Callable[[Unpack[Ts]], object], *args: *Ts) -> None:
        """Call soon, as a callback of `node`: a signal that reaches its process."""
        self.call_soon(callback, *args, context=self._context_of(node))

    def _context_of(self, node: Node) -> contextvars.Context:
        context = self._outside.copy()
        context.run(NODE.set, node)
        return context

    def spawn(
        self, node: Node, function: Callable[[], Coroutine[Any, Any, T]], name: str | None = None
    ) -> asyncio.Task[T]:
        """Start a coroutine function as a task of `node`."""
        context = self._context_of(node)
        if node not in self._nodes:
            self._nodes.append(node)
        return self.create_task(context.run(function), name=name, context=context)

    def pause(self, node: Node) -> None:
        """SIGSTOP: nothing of this node runs until `resume`."""
        if node.condition is Condition.RUNNING:
            node.condition = Condition.PAUSED

    def resume(self, node: Node) -> None:
        """SIGCONT: what was parked runs first, in its order."""
        if node.condition is Condition.PAUSED:
            node.condition = Condition.RUNNING
            self._queue.extendleft(reversed(cast("deque[Owned]", node.parked)))
            node.parked.clear()

    def kill(self, node: Node) -> None:
        """SIGKILL: nothing of this node runs any more, except the rest of the present callback."""
        node.condition = Condition.DEAD
        node.parked.clear()

    # --- running ---

    def _run_once(self) -> None:  # BaseEventLoop.run_forever calls it until the loop is stopped
        if not self._queue:
            self._advance()
        handle = self._queue.popleft()
        node = handle.node
        if handle.cancelled() or (node is not None and node.condition is Condition.DEAD):
            return
        if node is not None and node.condition is Condition.PAUSED:
            node.parked.append(handle)
            return
        self.steps += 1
        self._at_this_instant += 1
        if self._at_this_instant > MOST_AT_ONE_INSTANT:
            raise Stalled(f"{MOST_AT_ONE_INSTANT} callbacks ran at {self._true:.3f} s, the last one is {handle!r}")
        self.running = node
        handle._run()
        if self.on_step is not None:
            self.on_step()

    def _advance(self) -> None:
        while self._timers:
            due, _, timer = self._timers[0]
            if timer.cancelled() or not (timer.node is None or timer.node.alive):
                heapq.heappop(self._timers)
                continue
            if due == math.inf:
                break
            if due > self._true:
                self._true, self._at_this_instant = due, 0
            heapq.heappop(self._timers)
            self._queue.append(timer)
            return
        raise Stalled(f"nothing is ready at {self._true:.3f} s and no timer will fire; waiting: {self._waiting()}")

    def _waiting(self) -> str:
        names = [f"{task.get_name()} ({node.name}, {node.condition.value})" for node, task in self._pending()]
        return ", ".join(names[:20]) or "nothing of any node"

    def _pending(self) -> Iterator[tuple[Node, asyncio.Task[Any]]]:
        for node in self._nodes:
            for task in node.tasks:
                if not task.done():
                    yield node, task

    def _check_open(self) -> None:
        if self.is_closed():
            raise RuntimeError("Event loop is closed")

    def close(self) -> None:
        """End the simulation. Only now are the coroutines of the dead taken apart; nothing that they do has effect."""
        if self.is_closed():
            return
        self._queue.clear()
        self._timers.clear()
        abandoned = [task for _, task in self._pending()]
        super().close()
        for task in abandoned:
            task._log_destroy_pending = False  # type: ignore[attr-defined] # the very case that the flag is for
            with suppress(BaseException):
                task.get_coro().close()
        self._nodes.clear()


def _record_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    if not loop.is_closed():
        loop.errors.append({"true": loop.true, "node": loop.running.name if loop.running else None, **context})
