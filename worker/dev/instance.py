"""What the fleet's keeper knows of one instance: from its events, and from what was done to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from worker.dev.events import ENDED, KILLED, RESUMED, STOPPED, Event

State = Literal["starting", "running", "draining", "stopped", "restarting", "ended"]

RAW_LINES = 5_000
"""Lines that are no events (stack dumps, prints) kept per instance."""


@dataclass(slots=True)
class Instance:
    """Facts about one instance. Changed under the fleet's lock only; read single fields freely."""

    name: str
    state: State = "ended"
    launcher: int | None = None  # pid
    worker: int | None = None  # pid; None until it has said so, and after its death
    session: str | None = None  # of the process
    member: str | None = None  # session of its membership
    term: int | None = None  # that it leads
    partitions: dict[str, int] = field(default_factory=dict)  # owned, with their fences
    handled: int = 0  # messages, by all its lives
    lives: int = 0  # times that a worker has started
    raw: deque[str] = field(default_factory=lambda: deque(maxlen=RAW_LINES))
    env: dict[str, str] = field(default_factory=dict)  # of its own, beside the fleet's; may be changed before a start

    @property
    def role(self) -> Literal["leader", "follower", "none"]:
        """What it is in the election; none while there is no worker."""
        if self.term is not None:
            return "leader"
        return "follower" if self.state in ("running", "draining", "stopped") else "none"

    def apply(self, event: Event) -> None:
        """Take note of one event of this instance."""
        change = _CHANGES.get(event.name)
        if change is not None:
            change(self, event)

    def _gone(self, state: State) -> None:
        self.state = state
        self.worker = self.session = self.member = self.term = None
        self.partitions = {}


def _started(it: Instance, event: Event) -> None:
    it._gone("running")
    it.worker, it.launcher, it.session = event.get("pid"), event.get("launcher"), event.session
    it.lives += 1


def _joined(it: Instance, event: Event) -> None:
    it.member = event.session


def _elected(it: Instance, event: Event) -> None:
    it.term = event.term


def _deposed(it: Instance, event: Event) -> None:
    if it.term == event.term:
        it.term = None


def _granted(it: Instance, event: Event) -> None:
    it.partitions[str(event.get("partition"))] = int(event.get("fence", 0))


def _released(it: Instance, event: Event) -> None:
    if it.partitions.get(str(event.get("partition"))) == event.get("fence"):
        del it.partitions[str(event.get("partition"))]


def _handled(it: Instance, event: Event) -> None:
    it.handled += 1


def _draining(it: Instance, event: Event) -> None:
    it.state = "draining"


def _died(it: Instance, event: Event) -> None:
    if it.worker in (None, event.get("pid")):
        it._gone("restarting" if "restart_in" in event.fields else "ended")


def _killed(it: Instance, event: Event) -> None:
    it._gone("restarting" if event.get("what") == "worker" else "ended")


def _stopped(it: Instance, event: Event) -> None:
    it.state = "stopped"


def _resumed(it: Instance, event: Event) -> None:
    if event.get("alive"):
        it.state = "running"
    else:
        it._gone("restarting")


def _ended(it: Instance, event: Event) -> None:
    it._gone("ended")
    it.launcher = None


_CHANGES: dict[str, Callable[[Instance, Event], None]] = {
    "instance.started": _started,
    "instance.draining": _draining,
    "instance.killed": _died,
    "member.joined": _joined,
    "leader.elected": _elected,
    "leader.stepped_down": _deposed,
    "leader.lost": _deposed,
    "partition.granted": _granted,
    "partition.released": _released,
    "message.handled": _handled,
    KILLED: _killed,
    STOPPED: _stopped,
    RESUMED: _resumed,
    ENDED: _ended,
}
