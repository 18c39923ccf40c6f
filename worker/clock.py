"""The one seam to time and randomness: everything above asks a `Clock`, so that a simulation can be one.

Deadlines are seconds of CLOCK_BOOTTIME: it never steps, and unlike CLOCK_MONOTONIC it goes on while the machine
sleeps. Wall time is for people, and for noticing that the machine stood still (`core.election`): nothing is ever
decided by comparing the wall clocks of two machines.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from typing import Protocol

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS: its MONOTONIC counts sleep as well


class Clock(Protocol):
    """Time as one instance sees it."""

    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME: for deadlines and durations."""

    def wall(self) -> float:
        """Unix seconds: for people, and for noticing a frozen machine."""

    def random(self) -> float:
        """A number in [0, 1): for jitter, never for identity."""

    def token(self) -> str:
        """A fresh identifier that nobody else has: sessions and nonces."""

    async def sleep(self, seconds: float) -> None:
        """Wait; a negative duration is zero."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.clock_gettime(_BOOTTIME)

    def wall(self) -> float:
        return time.time()

    def random(self) -> float:
        return random.random()

    def token(self) -> str:
        return secrets.token_hex(8)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Wait until the event is set, for `seconds` at the most; say whether it was. Clears nothing."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return False
    return True
