"""Judges a fleet by its events: what must never happen has not happened, and how long the gaps were.

    one leader         no two terms at a time, and terms strictly grow
    old terms          nothing is published in a term after a later one has begun
    one owner          no two owners of a partition at a time; fences strictly grow
    old fences         nothing is handled under a fence after a later one was granted
    every message      that was sent is handled or dead-lettered

The instances' own events are the evidence, with what was done to them from outside (`fault.*`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from worker.dev.events import Event
from worker.dev.spans import Span, spans

SHOWN = 5
"""Names shown of a long list in a problem."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Time without a leader, in seconds: from the end of one term to the beginning of the next."""

    how: str  # the term before it ended: "killed", "machine killed", "stopped", "stepped down", "lost" or why it died
    instance: str  # that led before
    term: int
    successor: str
    next_term: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a history shows. `problems` is empty when every rule was kept."""

    problems: list[str]
    terms: list[Span]
    gaps: list[Gap]
    handled: int  # messages, each counted once
    dead_lettered: int
    duplicates: int  # handler calls that ended well, beyond the first of each message
    retried: int
    moves: int  # times that a partition was granted to another session than before
    events: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether every rule was kept."""
        return not self.problems


def check(history: Iterable[Event], *, sent: int | Collection[str] | None = None) -> Report:
    """Judge a history. `sent` is how many messages were sent, or their ids; None: messages are not accounted for."""
    events = sorted(history, key=lambda event: event.at)
    held = spans(events)
    terms = [span for span in held if span.what == "leader"]
    owned: dict[str, list[Span]] = {}
    for span in held:
        if span.what != "leader":
            owned.setdefault(span.what, []).append(span)
    handled = Counter(str(event.get("message")) for event in events if event.name == "message.handled")
    dead = {str(event.get("message")) for event in events if event.name == "message.dead_lettered"}
    problems = [*_terms(terms), *_old_terms(events)]
    for partition, owners in sorted(owned.items()):
        problems += _owners(partition, owners)
    problems += _old_fences(events, owned)
    if sent is not None:
        problems += _accounted(sent, {*handled, *dead})
    return Report(
        problems=problems,
        terms=terms,
        gaps=gaps(terms),
        handled=len(handled),
        dead_lettered=len(dead),
        duplicates=sum(handled.values()) - len(handled),
        retried=sum(event.name == "message.retried" for event in events),
        moves=sum(len(owners) - 1 for owners in owned.values()),
        events=Counter(event.name for event in events),
    )


def gaps(terms: Sequence[Span]) -> list[Gap]:
    """Return the time between every term that has ended and the next one."""
    return [
        Gap(old.how, old.instance, old.number, new.instance, new.number, new.begin - old.end)
        for old, new in pairwise(terms)
        if old.end is not None
    ]


def _terms(terms: Sequence[Span]) -> list[str]:
    problems = []
    for old, new in pairwise(terms):
        if new.number <= old.number:
            problems.append(f"term {new.number} of {new.instance} began after term {old.number} of {old.instance}")
    return problems + [
        f"two leaders: {_who(old, 'term')} was leading {_until(old)}, {_who(new, 'term')} from {new.begin:.3f}"
        for old, new in _overlapping(terms)
    ]


def _owners(partition: str, owners: Sequence[Span]) -> list[str]:
    problems = []
    for old, new in pairwise(owners):
        if new.number <= old.number:
            problems.append(f"{partition}: fence {new.number} was granted after fence {old.number}")
    return problems + [
        f"{partition} had two owners: {_who(old, 'fence')} {_until(old)}, {_who(new, 'fence')} from {new.begin:.3f}"
        for old, new in _overlapping(owners)
    ]


def _overlapping(sorted_spans: Sequence[Span]) -> list[tuple[Span, Span]]:
    """Return every span with the one before it that had not ended when it began."""
    found = []
    latest: Span | None = None
    for span in sorted_spans:
        if latest is not None and (latest.end is None or latest.end > span.begin):
            found.append((latest, span))
        if latest is None or (latest.end is not None and (span.end is None or span.end > latest.end)):
            latest = span
    return found


def _old_terms(events: Iterable[Event]) -> list[str]:
    newest = 0
    problems = []
    for event in events:
        if event.name == "leader.elected":
            newest = max(newest, event.term or 0)
        elif event.name in ("plan.published", "partition.moving") and (event.term or 0) < newest:
            problems.append(f"{event.instance}: {event.name} in term {event.term}, after term {newest} had begun")
    return problems


def _old_fences(events: Iterable[Event], owned: dict[str, list[Span]]) -> list[str]:
    newest: dict[str, int] = {}
    problems = []
    for event in events:
        partition, fence = str(event.get("partition")), event.get("fence")
        if partition not in owned or not isinstance(fence, int):
            continue
        if event.name == "partition.granted":
            newest[partition] = max(newest.get(partition, 0), fence)
        elif event.name == "message.handled" and fence < newest.get(partition, 0):
            problems.append(
                f"{event.instance} handled message {event.get('message')} of {partition} under fence {fence}, "
                f"after fence {newest[partition]} was granted"
            )
    return problems


def _accounted(sent: int | Collection[str], settled: Collection[str]) -> list[str]:
    if isinstance(sent, int):
        return (
            [] if len(settled) == sent else [f"{sent} messages were sent, and {len(settled)} handled or dead-lettered"]
        )
    lost, strange = sorted(set(sent) - set(settled)), sorted(set(settled) - set(sent))
    problems = []
    if lost:
        problems.append(f"{len(lost)} messages neither handled nor dead-lettered: {', '.join(lost[:SHOWN])}")
    if strange:
        problems.append(f"{len(strange)} messages that nobody sent: {', '.join(strange[:SHOWN])}")
    return problems


def _who(span: Span, number: str) -> str:
    return f"{span.instance} ({number} {span.number})"


def _until(span: Span) -> str:
    return "without an end" if span.end is None else f"until {span.end:.3f}"
