"""The user's functions in a simulation: coroutine functions as tasks of the node, plain ones at one instant.

A simulation has no threads, so a plain function runs through without time passing, after a drawn delay, and cannot
call back (`with message.state(...)`): simulated handlers are coroutine functions.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from worker.testing.clock import Stream
from worker.testing.weather import draw

PLAIN = (0.001, 1.0)
"""Seconds before a plain function runs, at least and at most."""


class Watcher(Protocol):
    """Sees every call of a user's function."""

    def started(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        """A function is about to run."""

    def ended(self, function: Callable[..., Any], args: Sequence[Any], error: BaseException | None) -> None:
        """The function has really ended."""


class _Running:
    def __init__(self, done: asyncio.Future[Any], task: asyncio.Task[Any]) -> None:
        self.done = done
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class SimHandlers:
    """`worker.handlers.Handlers` on the virtual loop, for one life of one instance."""

    def __init__(self, watcher: Watcher, dice: Stream) -> None:
        self._watcher = watcher
        self._dice = dice
        self._callbacks: list[asyncio.Future[Any]] = []  # kept alive until they are done

    def start(self, function: Callable[..., Any], args: Sequence[Any]) -> _Running:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def settle(task: asyncio.Task[Any]) -> None:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            self._watcher.ended(function, args, error)
            if done.done():
                return
            if task.cancelled():
                done.cancel()
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(task.result())

        self._watcher.started(function, args)
        task = loop.create_task(self._call(function, args), name=f"handler {getattr(function, '__name__', '')}")
        task.add_done_callback(settle)
        return _Running(done, task)

    async def _call(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        await asyncio.sleep(draw(self._dice, PLAIN))  # noqa: TID251 - on the virtual loop, in the node's own time
        return function(*args)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        coroutine.close()
        raise RuntimeError("a plain function cannot call back in a simulation, which has no threads: make it async")

    def run_async(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        self._callbacks = [one for one in self._callbacks if not one.done()]
        task = asyncio.get_running_loop().create_task(coroutine)
        self._callbacks.append(task)
        return task
