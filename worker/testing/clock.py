"""The clock of one simulated machine: a rate and an offset of its own, wall time that jumps, seeded randomness."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - only for `stream`: generators that are told their seed

from worker.testing.loop import VirtualLoop
from worker.testing.node import LocalClock

EPOCH = 1_750_000_000.0
"""Wall time at the start of every simulation, Unix seconds."""

Stream = random.Random
"""A seeded source of randomness."""


def stream(seed: int, *names: str) -> Stream:
    """Return the random stream of one part of one run: what one part draws never changes another part's draws."""
    return random.Random("/".join((str(seed), *names)))


class SimClock:
    """A `worker.clock.Clock`. It belongs to the machine: it goes on while a process is paused or dead."""

    def __init__(self, loop: VirtualLoop, local: LocalClock, seed: int, name: str, *, wall_error: float = 0.0) -> None:
        self.local = local
        self._loop = loop
        self._jitter = stream(seed, name, "jitter")
        self._tokens = stream(seed, name, "tokens")
        self._wall_minus_boot = EPOCH + wall_error - local.read(loop.true)

    def now(self) -> float:
        return self.local.read(self._loop.true)

    def wall(self) -> float:
        return self.now() + self._wall_minus_boot

    def random(self) -> float:
        return self._jitter.random()

    def token(self) -> str:
        return f"{self._tokens.getrandbits(64):016x}"

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))  # noqa: TID251 - on the virtual loop, which follows this very clock

    def jump_wall(self, seconds: float) -> None:
        """Step the wall clock, as an administrator or a first NTP answer does."""
        self._wall_minus_boot += seconds

    def set_rate(self, rate: float) -> None:
        """Slew: let the clock go at another rate from now on. Wall time is slewed with it, as it really is."""
        self._loop.change_rate(self.local, rate)
