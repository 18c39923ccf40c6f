"""The control document: what operators have asked for. A map of intents by unique id, read by every instance.

    {"format": 1, "nonce": "…", "intents": {"5f…": {"kind": "step-down", "term": 7, "at": "2026-…", "by": "ann@mac"}}}

Each order names exactly whom it is for (step-down a term, drain a session, force a fence), so that it can never hit a
later leader or a replacement. Here are only values: the CLI edits by reading, changing and compare-and-swap, again
when refused. What this version does not understand survives its rewrites; what is damaged is reported and kept out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

KEEP = timedelta(hours=24)
"""An order that nobody has carried out for so long is not waited for any more. A pause stays until it is resumed."""


@dataclass(frozen=True, slots=True)
class StepDown:
    """The leader of exactly this term gives up the lease and stays."""

    kind: ClassVar[str] = "step-down"
    term: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Exactly this session finishes, releases and exits. The instance's name is for people."""

    kind: ClassVar[str] = "drain"
    session: str
    instance: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nobody starts handlers for this logical queue; owners and memberships stay."""

    kind: ClassVar[str] = "pause"
    queue: str


@dataclass(frozen=True, slots=True)
class Force:
    """Take this partition from the owner that was granted exactly this fence, without its release."""

    kind: ClassVar[str] = "force"
    partition: str
    fence: int


@dataclass(frozen=True, slots=True)
class Repartition:
    """Give a paused and empty queue another number of partitions; void unless it still has `old`."""

    kind: ClassVar[str] = "repartition"
    queue: str
    old: int
    new: int


Order = StepDown | Drain | Pause | Force | Repartition

_KINDS: dict[str, type[Order]] = {kind.kind: kind for kind in (StepDown, Drain, Pause, Force, Repartition)}
_WIRE = {"old": "from", "new": "to"}
"""Fields whose name on the wire is a keyword, or reads better there."""


@dataclass(frozen=True, slots=True)
class Intent:
    """One order with its provenance."""

    id: str
    order: Order
    at: datetime  # aware, UTC
    by: str  # user@host
    extra: Mapping[str, Any] = field(default_factory=dict)  # fields of a newer version: kept

    def to_fields(self) -> dict[str, Any]:
        """Return what stands in the document under this intent's id."""
        values = {_WIRE.get(item.name, item.name): getattr(self.order, item.name) for item in fields(self.order)}
        return {**self.extra, "kind": self.order.kind, **values, "at": self.at.isoformat(), "by": self.by}


@dataclass(frozen=True, slots=True)
class Control:
    """The control document as a value. Editing returns a new one; an edit that changes nothing returns the same."""

    intents: tuple[Intent, ...] = ()  # oldest first
    problems: tuple[str, ...] = ()  # what was damaged, one sentence each
    kept: Mapping[str, Any] = field(default_factory=dict)  # entries not understood, by id: rewritten as they are
    extra: Mapping[str, Any] = field(default_factory=dict)  # the document's own unknown fields

    @property
    def paused(self) -> frozenset[str]:
        """Logical queues that are paused."""
        return frozenset(order.queue for order in self._orders() if isinstance(order, Pause))

    @property
    def forced(self) -> frozenset[tuple[str, int]]:
        """Partitions to be taken from their owner, each with the fence it was granted under."""
        return frozenset((order.partition, order.fence) for order in self._orders() if isinstance(order, Force))

    @property
    def repartitions(self) -> tuple[Repartition, ...]:
        """Changes of partition counts, oldest first."""
        return tuple(order for order in self._orders() if isinstance(order, Repartition))

    def due(self, counts: Mapping[str, int]) -> list[Repartition]:
        """Return the repartitions that stand: of paused queues that still have the old count among the plan's."""
        paused = self.paused
        return [one for one in self.repartitions if counts.get(one.queue) == one.old and one.queue in paused]

    def step_down(self, term: int) -> bool:
        """Say whether the leader of this term has been told to step down."""
        return StepDown(term) in self._orders()

    def draining(self, session: str) -> bool:
        """Say whether this session has been told to drain."""
        return any(isinstance(order, Drain) and order.session == session for order in self._orders())

    def add(self, intent: Intent) -> Control:
        """Add an intent; the same control when an equal order stands already.

        A queue has one repartition at a time: an older one would undo a newer one for ever.
        """
        if intent.order in self._orders():
            return self
        older = [item for item in self.intents if not _replaces(intent.order, item.order)]
        return replace(self, intents=(*older, intent))

    def resume(self, queue: str) -> Control:
        """Lift every pause of a queue; the same control when there is none."""
        return self._keep(tuple(intent for intent in self.intents if intent.order != Pause(queue)))

    def remove(self, *ids: str) -> Control:
        """Remove intents that have been carried out."""
        return self._keep(tuple(intent for intent in self.intents if intent.id not in ids))

    def prune(self, now: datetime) -> Control:
        """Drop orders older than a day, but no pause, and damaged entries of kinds that this version knows."""
        intents = tuple(item for item in self.intents if isinstance(item.order, Pause) or now - item.at <= KEEP)
        kept = {id: entry for id, entry in self.kept.items() if not _is_damaged(entry)}
        if len(kept) == len(self.kept):
            return self._keep(intents)
        return replace(self, intents=intents, kept=kept, problems=())

    def to_fields(self) -> dict[str, Any]:
        """Return the document's fields, without `format` and `nonce`: the writer adds both."""
        return {**self.extra, "intents": {**self.kept, **{item.id: item.to_fields() for item in self.intents}}}

    def _orders(self) -> tuple[Order, ...]:
        return tuple(intent.order for intent in self.intents)

    def _keep(self, intents: tuple[Intent, ...]) -> Control:
        return self if len(intents) == len(self.intents) else replace(self, intents=intents)


def _replaces(new: Order, old: Order) -> bool:
    return isinstance(new, Repartition) and isinstance(old, Repartition) and new.queue == old.queue


def parse(document: Mapping[str, Any]) -> Control:
    """Read a control document's decoded fields. A damaged intent is a problem of its own, never of the others."""
    entries = document.get("intents", {})
    extra = {name: value for name, value in document.items() if name not in ("intents", "format", "nonce")}
    if not isinstance(entries, dict):
        return Control(problems=(f"control: 'intents' is {type(entries).__name__}, not an object",), extra=extra)
    intents: list[Intent] = []
    problems: list[str] = []
    kept: dict[str, Any] = {}
    for id, entry in entries.items():
        if isinstance(entry, dict) and isinstance(entry.get("kind"), str) and entry["kind"] not in _KINDS:
            kept[id] = entry  # a newer version's order: not ours to carry out, nor to lose
            continue
        found = list(_problems_of(entry))
        if found:
            kept[id] = entry
            problems.append(f"control: intent {id!r} is left out: {found[0]}")
        else:
            intents.append(_intent(id, entry))
    intents.sort(key=lambda intent: (intent.at, intent.id))
    return Control(tuple(intents), tuple(problems), kept, extra)


def _problems_of(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"it is {type(entry).__name__}, not an object"
        return
    kind = entry.get("kind")
    if not isinstance(kind, str):
        yield f"its kind is {kind!r}"
        return
    for item in fields(_KINDS[kind]):
        name = _WIRE.get(item.name, item.name)
        value = entry.get(name)
        if item.type == "int":
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                yield f"a {kind} whose {name!r} is {value!r}, not a number"
        elif not isinstance(value, str) or not value:
            yield f"a {kind} whose {name!r} is {value!r}, not a name"
    if kind == Repartition.kind and entry.get("to") == 0:
        yield "a repartition to 0 partitions"
    if _when(entry.get("at")) is None:
        yield f"a {kind} whose 'at' is {entry.get('at')!r}, not an ISO time with its offset"


def _intent(id: str, entry: Mapping[str, Any]) -> Intent:
    kind = _KINDS[entry["kind"]]
    wire = {_WIRE.get(item.name, item.name): item.name for item in fields(kind)}
    at = _when(entry["at"])
    assert at is not None  # _problems_of has looked
    known = {"kind", "at", "by", *wire}
    return Intent(
        id=id,
        order=kind(**{name: entry[on_wire] for on_wire, name in wire.items()}),
        at=at,
        by=str(entry.get("by", "unknown")),
        extra={name: value for name, value in entry.items() if name not in known},
    )


def _is_damaged(entry: Any) -> bool:
    return not isinstance(entry, dict) or not isinstance(entry.get("kind"), str) or entry["kind"] in _KINDS


def _when(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        return None if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # the year 1 or 9999 is another year in UTC
        return None
