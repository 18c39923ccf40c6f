"""The one place where work crosses from the control thread to the user's code, and back.

Coroutine functions run on the main thread's loop, plain functions in a thread each. Whatever they do there, block
or burn, the control thread goes on renewing and extending. A call has ended when the function has really returned:
cancelling only asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol


class HandlerTimeout(Exception):
    """The function did not return within its timeout and was cancelled."""


class Running(Protocol):
    """A started function."""

    done: asyncio.Future[Any]  # of the control loop: completes when the function has really ended

    def cancel(self) -> None:
        """Ask the function to end. A coroutine is cancelled; a plain function can only be waited for."""


class Handlers(Protocol):
    """Starts the user's functions. The control thread calls all of this."""

    def start(self, function: Callable[..., Any], args: Sequence[Any]) -> Running:
        """Start a function on the user's side."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the control thread, for a plain function; blocks that function's thread."""

    def run_async(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        """Run a coroutine on the control thread, for a coroutine function."""


async def call(handlers: Handlers, function: Callable[..., Any], args: Sequence[Any], timeout: float | None) -> Any:
    """Call a user's function and return its result. Raises HandlerTimeout, or whatever the function raised.

    When the timeout passes, or the caller is cancelled, the function is asked to end; this returns only when it has.
    """
    running = handlers.start(function, args)
    try:
        async with asyncio.timeout(timeout) as limit:
            return await asyncio.shield(running.done)
    except (TimeoutError, asyncio.CancelledError) as exc:
        if running.done.done() and isinstance(exc, TimeoutError) and not limit.expired():
            raise  # the function's own TimeoutError
        running.cancel()
        await ended(running.done)
        if isinstance(exc, TimeoutError):
            raise HandlerTimeout(f"no return within {timeout:g} s") from None
        raise


async def ended(*futures: asyncio.Future[Any]) -> None:
    """Wait until all futures are done, whoever cancels the waiter meanwhile; their results are not looked at."""
    cancelled = False
    while pending := {future for future in futures if not future.done()}:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            cancelled = True
    for future in futures:
        if not future.cancelled():
            future.exception()  # seen: asyncio need not report it as never retrieved
    if cancelled:
        raise asyncio.CancelledError


class _Call:
    def __init__(self, done: asyncio.Future[Any], control: asyncio.AbstractEventLoop) -> None:
        self.done = done
        self._control = control
        self._main: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        if self._main is not None:
            self._main.call_soon_threadsafe(lambda: self._task and self._task.cancel())

    def begin(self, main: asyncio.AbstractEventLoop, function: Callable[..., Any], args: Sequence[Any]) -> None:
        """Start a coroutine function; runs on the main loop."""
        self._main = main
        self._task = main.create_task(_guarded(function, args))
        self._task.add_done_callback(self._finished)
        if self._cancelled:
            self._task.cancel()

    def _finished(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self._report(None, asyncio.CancelledError())
        else:
            error = task.exception()
            self._report(None if error else task.result(), error)

    def in_thread(self, context: contextvars.Context, function: Callable[..., Any], args: Sequence[Any]) -> None:
        """Run a plain function; runs in its thread."""
        try:
            result = context.run(function, *args)
            if inspect.iscoroutine(result):  # nobody would ever run it
                result.close()
                name = getattr(function, "__name__", repr(function))
                raise TypeError(f"{name} returned a coroutine: declare it, and its decorators' wrappers, `async def`")
        except BaseException as exc:
            self._report(None, exc)
        else:
            self._report(result, None)

    def _report(self, result: Any, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the control loop is closed: nobody waits any more
            self._control.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.done.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.done.cancel()
        elif isinstance(error, SystemExit | KeyboardInterrupt | StopIteration):
            self.done.set_exception(RuntimeError(f"the function raised {error!r}"))
        elif error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


async def _guarded(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Call a coroutine function; what would end the main loop, and the process with it, is only its failure."""
    try:
        return await function(*args)
    except (SystemExit, KeyboardInterrupt) as exc:
        raise RuntimeError(f"the function raised {exc!r}") from exc


class MainLoopHandlers:
    """The real thing: built on the main thread, with its running loop; used from the control thread."""

    def __init__(self, main: asyncio.AbstractEventLoop) -> None:
        self._main = main
        self._control: asyncio.AbstractEventLoop | None = None

    def start(self, function: Callable[..., Any], args: Sequence[Any]) -> Running:
        self._control = asyncio.get_running_loop()
        started = _Call(self._control.create_future(), self._control)
        if inspect.iscoroutinefunction(function):
            self._main.call_soon_threadsafe(started.begin, self._main, function, args)
        else:
            context = contextvars.copy_context()
            name = getattr(function, "__name__", "handler")
            threading.Thread(target=started.in_thread, args=(context, function, args), name=name, daemon=True).start()
        return started

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop()).result()

    def run_async(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop()))

    def _loop(self) -> asyncio.AbstractEventLoop:
        if self._control is None:
            raise RuntimeError("no function has been started yet, so nothing can call back")
        return self._control
