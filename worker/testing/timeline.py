"""What happened in a simulation, in order: one line per event, with the true virtual time and the node."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. `node` is empty for what the simulation itself did."""

    at: float
    node: str
    event: str
    fields: dict[str, Any]

    def __str__(self) -> str:
        fields = " ".join(f"{name}={_short(value)}" for name, value in self.fields.items())
        return f"{self.at:12.3f}  {self.node:<8} {self.event:<24} {fields}".rstrip()


class Timeline:
    """The record of one run; `echo` sees each line as it is written."""

    def __init__(self, now: Callable[[], float], echo: Callable[[str], None] | None = None) -> None:
        self.entries: list[Entry] = []
        self._now = now
        self._echo = echo

    def add(self, node: str, event: str, **fields: Any) -> None:
        """Write one line at the present true time."""
        entry = Entry(self._now(), node, event, fields)
        self.entries.append(entry)
        if self._echo is not None:
            self._echo(str(entry))

    def count(self, event: str) -> int:
        """Return how often an event occurred."""
        return sum(entry.event == event for entry in self.entries)

    def tail(self, lines: int = 60) -> str:
        """Return the last lines, as text."""
        return "\n".join(str(entry) for entry in self.entries[-lines:])

    def digest(self) -> str:
        """Return a hash of the whole record: equal for two runs of one seed."""
        return hashlib.sha256("\n".join(map(str, self.entries)).encode()).hexdigest()


def _short(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
