"""The worker process: the user's code on the main thread, the control plane on a thread of its own.

Signals arrive on the main thread and are passed to the control loop, so that a handler that blocks the main loop does
not keep a drain from starting. The control thread ends last: nothing acts any more when it does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import NoReturn, Protocol

from worker.app import Lifespan
from worker.handlers import MainLoopHandlers

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Service(Protocol):
    """What runs on the control thread."""

    async def run(self) -> int:
        """Run until drained, or until there is nothing left to do; return the exit code."""

    def drain(self, reason: str) -> None:
        """Finish, release and end. Called on the control thread, perhaps more than once."""


Build = Callable[[MainLoopHandlers], Awaitable[Service]]


class _Control:
    """The control thread and the way into it."""

    def __init__(self, build: Build, handlers: MainLoopHandlers, main: asyncio.AbstractEventLoop) -> None:
        self.finished: asyncio.Future[int] = main.create_future()
        self._build, self._handlers, self._main = build, handlers, main
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._service: Service | None = None
        self._reason: str | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="control", daemon=True).start()

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Ask for a drain; a signal handler, so it may interrupt anything on the main thread."""
        self._reason = signal.Signals(number).name
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        if self._service is not None and self._reason is not None:
            self._service.drain(self._reason)

    def _run(self) -> None:
        try:
            code = asyncio.run(self._serve())
        except BaseException as exc:
            self._main.call_soon_threadsafe(_fail, self.finished, exc)
        else:
            self._main.call_soon_threadsafe(_succeed, self.finished, code)

    async def _serve(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._service = await self._build(self._handlers)
        self._drain()  # a signal may have come before there was anything to drain
        return await self._service.run()


def _fail(finished: asyncio.Future[int], error: BaseException) -> None:
    if not finished.done():
        finished.set_exception(error)


def _succeed(finished: asyncio.Future[int], code: int) -> None:
    if not finished.done():
        finished.set_result(code)


def run(build: Build, lifespan: Lifespan) -> int:
    """Run a service until it ends, and return its exit code. For the main thread of a process of its own.

    `build` is awaited on the control thread, inside the app's lifespan.
    """

    async def main() -> int:
        loop = asyncio.get_running_loop()
        async with lifespan():
            control = _Control(build, MainLoopHandlers(loop), loop)
            for number in STOP_SIGNALS:
                signal.signal(number, control.stop)
            control.start()
            return await control.finished

    return asyncio.run(main())


def leave(code: int) -> NoReturn:
    """End the process now: threads of cancelled plain functions may still sleep, and must not hold it up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
