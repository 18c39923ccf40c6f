"""Keys of the live view: one letter for what to do, one digit for the instance it is done to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Verb = Literal["kill", "stop", "resume", "step down", "quit"]

NEEDS_INSTANCE: dict[str, Verb] = {"k": "kill", "s": "stop", "r": "resume"}
AT_ONCE: dict[str, Verb] = {"d": "step down", "q": "quit", "\x03": "quit", "\x04": "quit"}

HELP = "k kill   s stop (SIGSTOP)   r resume, restart   each with the instance's number    d step down    q quit"


@dataclass(frozen=True, slots=True)
class Command:
    """What the person wants done. `number` is the instance's, where the verb needs one."""

    verb: Verb
    number: int | None = None


class Keys:
    """Turns keys into commands: `k` then `2`. Any other key forgets the one before it."""

    def __init__(self) -> None:
        self._pending: Verb | None = None

    @property
    def prompt(self) -> str:
        """What to show: which keys there are, or that a number is awaited."""
        return HELP if self._pending is None else f"{self._pending} which instance? its number, or any other key"

    def press(self, key: str) -> Command | None:
        """Take one key, and return the command that it completes."""
        pending, self._pending = self._pending, None
        if pending is not None:
            return Command(pending, int(key)) if key.isascii() and key.isdigit() and key != "0" else None
        if key in AT_ONCE:
            return Command(AT_ONCE[key])
        self._pending = NEEDS_INSTANCE.get(key)
        return None


@contextmanager
def keyboard(loop: asyncio.AbstractEventLoop, pressed: Callable[[str], None]) -> Iterator[None]:
    """Call `pressed` for every key while this lasts, where stdin is a terminal."""
    if not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        text = os.read(descriptor, 64).decode(errors="ignore")
        for key in text or "\x04":  # nothing at all: the terminal is gone
            pressed(key)

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, read)
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
