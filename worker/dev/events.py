"""One event of one instance, as a line of its stderr tells it, set on a clock that is the same for the whole fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LATEST = 30.0
"""Seconds by which a line may be read late and still be dated by its own timestamp: more means a clock has stepped."""

# What the fleet's keeper does to an instance, or sees of its process. Never written by an instance itself.
KILLED = "fault.killed"  # SIGKILL: `what` is "worker" or "machine"
STOPPED = "fault.stopped"  # SIGSTOP: `what` as above
RESUMED = "fault.resumed"  # SIGCONT: `alive` says whether the worker was still there to be woken
ENDED = "process.ended"  # the launcher has ended: `exit_code`
OURS = frozenset({KILLED, STOPPED, RESUMED, ENDED})


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `at` and `received` are seconds of CLOCK_BOOTTIME, as in `Clock.now()`."""

    at: float  # when it was emitted, as well as that can be told
    received: float  # when its line was read
    instance: str
    name: str
    fields: Mapping[str, Any]  # the line as it was written

    @property
    def session(self) -> str | None:
        """The session that the event carries: of the process, or of its membership."""
        return self.fields.get("session")

    @property
    def term(self) -> int | None:
        """The term that the event carries."""
        return self.fields.get("term")

    def get(self, field: str, default: Any = None) -> Any:
        """Return one field of the line."""
        return self.fields.get(field, default)

    def to_line(self) -> str:
        """Return the event as one line of JSON: what the instance wrote, and `at`."""
        return json.dumps({**self.fields, "event": self.name, "instance": self.instance, "at": round(self.at, 6)})


def parse_line(instance: str, line: str, *, received: float, wall: float) -> Event | None:
    """Return the event in a line, None when there is none (a stack dump, somebody's print).

    `received` and `wall` are the same moment on two clocks. All instances and the reader share one machine's wall
    clock, so the age of the line dates it better than the moment at which a busy reader came to it.
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("event"), str):
        return None
    return Event(received - _age(fields.get("timestamp"), wall), received, instance, fields["event"], fields)


def _age(timestamp: object, wall: float) -> float:
    try:
        age = wall - datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return 0.0
    return age if 0.0 <= age <= LATEST else 0.0
