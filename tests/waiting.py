"""Waiting in tests: for something to hold, never for time to pass. Every wait has an end and says what it was for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")

_LOOK_AGAIN = 0.005  # seconds between two looks


def until(predicate: Callable[[], T | None], within: float, what: str) -> T:
    """Return the predicate's first true value; fail with `what` unless that comes within so many seconds."""
    end = time.monotonic() + within
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(_LOOK_AGAIN)


def boottime() -> float:
    """Return seconds of CLOCK_BOOTTIME, as `Clock.now()` does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def alive(pid: int) -> bool:
    """Say whether a process exists and has not ended: one that nobody has reaped yet does not count."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
