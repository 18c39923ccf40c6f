"""The dead-man's switch of one simulated process: the kernel timer that kills it, paused or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from worker.core.timings import TIMER_LATENCY
from worker.testing.clock import SimClock, Stream
from worker.testing.loop import VirtualLoop


class SimDeadMan:
    """A `worker.deadman.DeadMan`. `kill` is called once, with the name of the entry whose deadline has passed.

    Like the kernel's, the timer may be late, by up to `latency` seconds of the machine's clock.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        clock: SimClock,
        kill: Callable[[str], None],
        lateness: Stream,
        *,
        latency: float = TIMER_LATENCY,
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._kill = kill
        self._lateness = lateness
        self._latency = latency
        self._deadlines: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def deadlines(self) -> dict[str, float]:
        """A copy of the table: entry by name, deadline on the machine's clock."""
        return dict(self._deadlines)

    def arm(self, name: str, deadline: float) -> None:
        self._deadlines[name] = deadline
        self._set()

    def disarm(self, name: str) -> None:
        if self._deadlines.pop(name, None) is not None:
            self._set()

    def stop(self) -> None:
        """The process is gone, and its timers with it."""
        self._deadlines.clear()
        self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            due = min(self._deadlines.values()) + self._latency * self._lateness.random()
            self._timer = self._loop.on_clock(self._clock.local, due, self._fire)

    def _fire(self) -> None:
        name = min(self._deadlines, key=lambda one: self._deadlines[one])
        self.stop()
        self._kill(name)
