"""What must hold at every step of a simulation, whatever goes wrong. One class per promise of docs/design.md.

`Invariants.step` looks at the one node that has just run: nothing else can have changed. The store is watched write
by write, wherever the write comes from and however late it lands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, Document, Documents, Page, Stamp, Version


class Violation(AssertionError):
    """A promise was broken; the text says which, by whom and when."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who acts, under which number (a term, or a fence)."""

    who: str
    number: int


class OneLeader:
    """Promises 1 and 2: one instance acts as leader at any instant, and a term has one session for ever."""

    def __init__(self) -> None:
        self.acting: Holder | None = None
        self.owners: dict[int, str] = {}  # who has acted in each term
        self.highest = 0

    def saw(self, who: str, term: int | None) -> None:
        """`who` acts in `term` now, or not at all."""
        if term is None:
            if self.acting is not None and self.acting.who == who:
                self.acting = None
            return
        if self.acting is not None and self.acting.who != who:
            raise Violation(f"two leaders: {self.acting.who} acts in term {self.acting.number}, {who} in term {term}")
        if self.owners.setdefault(term, who) != who:
            raise Violation(f"term {term} was {self.owners[term]}'s, and {who} acts in it")
        if term < self.highest:
            raise Violation(f"{who} acts in term {term}, and term {self.highest} has begun already")
        self.highest = term
        self.acting = Holder(who, term)


class OneOwner:
    """Promise 3: a partition has at most one acting owner, and its fence only grows."""

    def __init__(self) -> None:
        self.owners: dict[str, Holder] = {}
        self.highest: dict[str, int] = {}
        self.handling: dict[str, Holder] = {}
        self._active: dict[str, Mapping[str, int]] = {}

    def saw(self, who: str, active: Mapping[str, int]) -> None:
        """`who` acts in exactly these partitions now, under these fences."""
        before = self._active.get(who, {})
        if active == before:
            return
        for partition in before:
            if partition not in active:
                del self.owners[partition]
        for partition, fence in active.items():
            owner = self.owners.get(partition)
            if owner is not None and owner.who != who:
                raise Violation(
                    f"two owners of {partition}: {owner.who} under fence {owner.number}, {who} under fence {fence}"
                )
            if before.get(partition) != fence:
                if fence <= self.highest.get(partition, -1):
                    raise Violation(f"{who} owns {partition} under fence {fence}, which is not above an earlier one")
                self.highest[partition] = fence
            self.owners[partition] = Holder(who, fence)
        self._active[who] = dict(active)

    def handler_started(self, who: str, partition: str, fence: int) -> None:
        """A handler of `who` begins with a message of a partition."""
        running = self.handling.get(partition)
        if running is not None:
            raise Violation(f"two handlers in {partition}: {running.who} has not ended and {who} begins")
        owner = self.owners.get(partition)
        if owner is None or (owner.who, owner.number) != (who, fence):
            raise Violation(f"{who} handles a message of {partition} under fence {fence}, and its owner is {owner}")
        self.handling[partition] = Holder(who, fence)

    def handler_ended(self, who: str, partition: str) -> None:
        """That handler has returned."""
        if self.handling.get(partition, Holder("", 0)).who == who:
            del self.handling[partition]

    def died(self, who: str) -> None:
        """Nothing of `who` acts any more."""
        self.saw(who, {})
        self._active.pop(who, None)
        for partition in [name for name, holder in self.handling.items() if holder.who == who]:
            del self.handling[partition]


class GrowingStore:
    """Promise 2, in the store: what carries a term or a fence never falls, whichever write lands, and however late."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, ...]] = {}
        self._opened: dict[str, int] = {}
        self._grants: dict[tuple[int, ...], Any] = {}  # what each plan says, by term and generation
        self.writes = 0

    def opened(self, key: str, number: int) -> None:
        """Somebody uses a document under this term or fence: from now on no older write may land on it."""
        self._opened[key] = max(number, self._opened.get(key, 0))

    def wiped(self) -> None:
        """Somebody has deleted every document: records of terms, and generations of the plan, may be written again."""
        self._seen = {key: number[:1] for key, number in self._seen.items() if not key.startswith("terms/")}

    def wrote(self, key: str, body: bytes | None, by: str) -> None:
        """A write has landed; `body` is None for a deletion."""
        self.writes += 1
        folder = key.partition("/")[0]
        if body is None:
            if folder in ("leases", "plan", "state"):
                raise Violation(f"{by} deleted {key}, whose number must never be forgotten")
            return
        number = _number(key, folder, body)
        if number is None:
            return
        last = self._seen.get(key)
        if last is not None and folder == "terms":
            raise Violation(f"{by} wrote {key} a second time")
        if last is not None and number < last:
            raise Violation(f"{by} wrote {key} at {number}, and it had been at {last}: a stale write has landed")
        if number[0] < self._opened.get(key, 0):
            raise Violation(
                f"{by} wrote {key} at {number}, and it is open under {self._opened[key]}: a stale write landed"
            )
        self._seen[key] = number
        if folder == "plan":
            grants = decode(body, key).get("partitions")
            if self._grants.setdefault(number, grants) != grants:
                raise Violation(f"{by} wrote a second, different plan of term and generation {number}")


def _number(key: str, folder: str, body: bytes) -> tuple[int, ...] | None:
    try:
        fields = decode(body, key)
    except BadDocument:
        return None  # written by a test that damages documents
    match folder:
        case "leases":
            return (int(fields["term"]),)
        case "plan":
            return (int(fields["term"]), int(fields.get("generation", 0)))
        case "terms":
            return (0,)
        case "state":
            return (int(fields["fence"]),)
        case _:
            return None


class WatchedDocuments:
    """`interface.Documents` that tells of every write that has landed."""

    def __init__(self, documents: Documents, wrote: Callable[[str, bytes | None], None]) -> None:
        self._documents, self._wrote = documents, wrote

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        return self._documents.read(key, unless=unless)

    def create(self, key: str, body: bytes) -> Stamp:
        stamp = self._documents.create(key, body)
        self._wrote(key, body)
        return stamp

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        stamp = self._documents.replace(old, body)
        self._wrote(old.key, body)
        return stamp

    def delete(self, old: Stamp) -> None:
        self._documents.delete(old)
        self._wrote(old.key, None)

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        return self._documents.list(prefix, after=after)


class NoMessageLost:
    """Promise 4: every accepted message is handled at least once, or ends among the dead letters."""

    def __init__(self) -> None:
        self.accepted: dict[Any, float] = {}  # what was sent, and when
        self.handled: dict[Any, int] = {}
        self.buried: dict[Any, int] = {}

    @property
    def open(self) -> list[Any]:
        """What is neither handled nor buried yet."""
        return [one for one in self.accepted if one not in self.handled and one not in self.buried]

    @property
    def again(self) -> int:
        """How many successful calls were repetitions."""
        return sum(self.handled.values()) - len(self.handled)
