"""Tells a person what is happening: lines with the seconds passed, and on a terminal one line that stays below them."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from worker.clock import SystemClock

CALM = 0.1
"""Seconds between two changes of the line that stays: more often only makes it flicker."""

QUIET = 5.0
"""Seconds without a line after which the present state becomes one, where there is no terminal."""


class Narrator:
    """Writes to a terminal or into a file. For one thread at a time."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._terminal = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._clock = SystemClock()
        self._began = self._clock.now()
        self._shown = False
        self._last = self._began

    def say(self, text: str, *, mark: str = " ") -> None:
        """Write one line that stays in the record. `mark` is one character: `!` for a fault, `=` for a result."""
        self._clear()
        line = f"{self._clock.now() - self._began:5.1f} s {mark} {text}"
        if self._terminal and mark in _COLOURS:
            line = f"\x1b[{_COLOURS[mark]}m{line}\x1b[0m"
        self._write(line + "\n")

    def plain(self, text: str = "") -> None:
        """Write lines as they are."""
        self._clear()
        self._write(text + "\n")

    def status(self, text: str) -> None:
        """Show how things stand in the line below the others; without a terminal, in a line now and then."""
        now = self._clock.now()
        if not self._terminal and now - self._last >= QUIET:
            self.say(text)
        if not self._terminal or now - self._last < CALM:
            return
        self._last, self._shown = now, True
        width = shutil.get_terminal_size().columns - 1
        self._write("\r\x1b[2K\x1b[2m" + f"{now - self._began:5.1f} s   {text}"[:width] + "\x1b[0m")

    def _clear(self) -> None:
        self._last = self._clock.now()
        if self._shown:
            self._write("\r\x1b[2K")
            self._shown = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


_COLOURS = {"!": "31", "=": "32"}
