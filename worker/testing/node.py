"""One simulated process, and the clock of the machine that it runs on."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import math
from collections import deque
from typing import Any


class LocalClock:
    """One machine's clock: `offset` seconds ahead of true time at the start, going at `rate`; 0 is a frozen machine."""

    def __init__(self, offset: float = 0.0, rate: float = 1.0) -> None:
        self._base, self._since, self._rate = offset, 0.0, rate

    @property
    def rate(self) -> float:
        return self._rate

    def read(self, true: float) -> float:
        """Return what this clock shows at a true time."""
        return self._base + (true - self._since) * self._rate

    def when(self, shown: float) -> float:
        """Return the first true time at which this clock shows `shown` or more."""
        if self._rate == 0:
            return math.inf
        true = self._since + (shown - self._base) / self._rate
        while self.read(true) < shown:  # rounding: a timer must never fire before its own clock says so
            true = math.nextafter(true, math.inf)
        return true

    def change_rate(self, true: float, rate: float) -> None:
        """Go at another rate from a true time on. Only the loop calls this: it has timers to move."""
        self._base, self._since, self._rate = self.read(true), true, rate


class Condition(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


class Node:
    """One life of one simulated process. Its machine's clock outlives it."""

    def __init__(self, name: str, clock: LocalClock) -> None:
        self.name = name
        self.clock = clock
        self.condition = Condition.RUNNING
        self.parked: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64

    @property
    def alive(self) -> bool:
        """Whether it may still act: a paused node may."""
        return self.condition is not Condition.DEAD

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep a task of this node: after a kill, nobody else does."""
        self.tasks.append(task)
        if len(self.tasks) > self._prune_at:
            self.tasks = [one for one in self.tasks if not one.done()]
            self._prune_at = 64 + 2 * len(self.tasks)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.condition.value}>"


NODE: contextvars.ContextVar[Node | None] = contextvars.ContextVar("NODE", default=None)
"""The node that the current callback belongs to; None for the simulation itself."""
