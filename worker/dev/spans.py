"""Who held what from when to when: spans read off a fleet's events, for the leadership and for every partition."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from worker.dev.events import ENDED, KILLED, RESUMED, STOPPED, Event


@dataclass(slots=True)
class Span:
    """One holding: a term by its leader, or a partition by its owner."""

    what: str  # "leader", or the partition's name
    instance: str
    number: int  # the term, or the fence
    begin: float  # seconds, as `Event.at`
    end: float | None = None  # None: still held when the history ends
    how: str = ""  # it ended
    stopped: float | None = None  # since when its process stands still

    def close(self, at: float, how: str) -> None:
        """End it. What a process held when it was stopped, it did not act on afterwards."""
        self.end, self.how = (at, how) if self.stopped is None else (self.stopped, "stopped")


def spans(events: Iterable[Event]) -> list[Span]:
    """Return every holding in the order in which they began. `events` must be sorted by `at`."""
    found: list[Span] = []
    held: dict[tuple[str, str], Span] = {}  # by instance and what

    def begin(event: Event, what: str, number: int) -> None:
        before = held.pop((event.instance, what), None)
        if before is not None:
            before.close(event.at, "begun anew")
        held[event.instance, what] = span = Span(what, event.instance, number, event.at)
        found.append(span)

    def end(event: Event, what: str, number: int, how: str) -> None:
        span = held.get((event.instance, what))
        if span is not None and span.number == number:
            span.close(event.at, how)
            del held[event.instance, what]

    def of(instance: str) -> list[Span]:
        return [span for (owner, _), span in held.items() if owner == instance]

    def gone(event: Event, how: str) -> None:
        for span in of(event.instance):
            span.close(event.at, how)
            del held[span.instance, span.what]

    for event in events:
        match event.name:
            case "leader.elected":
                begin(event, "leader", event.term or 0)
            case "leader.stepped_down" | "leader.lost":
                end(event, "leader", event.term or 0, "stepped down" if event.name == "leader.stepped_down" else "lost")
            case "partition.granted":
                begin(event, str(event.get("partition")), int(event.get("fence", 0)))
            case "partition.released":
                end(event, str(event.get("partition")), int(event.get("fence", 0)), "released")
            case name if name in _DEATHS:
                gone(event, _DEATHS[name](event))
            case name if name == STOPPED:
                for span in of(event.instance):
                    span.stopped = event.at if span.stopped is None else span.stopped
            case name if name == RESUMED and event.get("alive"):
                for span in of(event.instance):
                    span.stopped = None
            case name if name == RESUMED:
                gone(event, "stopped")
    for span in held.values():
        if span.stopped is not None:
            span.close(span.stopped, "stopped")
    return found


_DEATHS: dict[str, Callable[[Event], str]] = {
    KILLED: lambda event: "killed" if event.get("what") == "worker" else "machine killed",
    ENDED: lambda event: "ended",
    "instance.killed": lambda event: str(event.get("why")),
    "instance.stopped": lambda event: "ended",
    "instance.started": lambda event: "begun anew",  # a new life: whatever the old one held, it holds no more
}
