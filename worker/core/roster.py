"""Who is alive, as the leader sees it: verdicts from beats that move or stand still, on the leader's own clock.

A member is judged by one thing: whether its beat's version has changed. What the beat says is never compared with
any clock, and absence is not death: a missing beat starts the same clock as one that stands still.

    first answer that shows version v                     a listing, asked for this late, still shows v
    ───────┬───────────────────────────────────────────────────┬──────────▶ leader's clock
           │◀──────────────── patience: D_m(1+ρ) + m ─────────▶│ dead

The clock of v starts when the answer was *received*, and is read when the judging listing was *sent*. A beat that
landed while the listing was under way is not in its answer, and would otherwise be overlooked: its owner would go on
with fresh trust while its partitions were granted to others.

A verdict is final for that session. By then its own trust has run out, so it will never act again; should its beat
move all the same (a machine that was frozen together with its clock, or a write that was under way for minutes),
then its partitions already belong to others, and to believe it again would make two owners. The instance comes back
under a new session, which proves nothing about the old one and owes nothing to it.

D_m and m are the member's own, and stand in its status: while a setting is being changed they differ from the
leader's. Of whom nothing is known, the longest is assumed that any member can have.

All this rests on what members do: a session counts its trust from before each beat was sent, an answer that comes
after the deadline extends nothing, and a session whose *first* beat has no answer within D_m(1-ρ)-m of its send is
given up as well. Its beat may have landed all the same, and a clock may be running on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from providers.interface import Version
from worker.core.timings import Timings

LONGEST_PATIENCE = 300.0
"""Seconds: no member may have a longer one, as this is how long one is waited for that has not said its own."""


def patience(member: Timings) -> float:
    """Return the seconds that a beat must stand still before its member is dead: D_m(1+ρ) + m."""
    return member.patience + member.margin


def patience_told(told: object) -> float:
    """Return the patience that a member's status tells; the longest where it tells none that can be."""
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 < told <= LONGEST_PATIENCE:
        return float(told)
    return LONGEST_PATIENCE


@dataclass(slots=True)
class _Sighting:
    version: Version | None  # None: no beat
    since: float  # receipt of the first answer that showed this version
    proven: bool  # seen to move, or named by a plan


class Roster:
    """What one leader knows of the members' lives. Starts afresh with every term; time comes in as an argument.

    `gap` is how long the leader may go without a listing before it trusts no clock of its own: after an outage all
    clocks start again, so that nobody pronounces a whole fleet dead in one breath. `patience` is for members that have
    not told theirs.
    """

    def __init__(self, *, gap: float, patience: float = LONGEST_PATIENCE) -> None:
        if not 0 < gap < patience:
            raise ValueError(f"gap {gap} s must be positive and shorter than patience {patience} s")
        self._gap, self._longest = gap, patience
        self._patience: dict[str, float] = {}
        self._sightings: dict[str, _Sighting] = {}
        self._dead: set[str] = set()
        self._last: float | None = None  # receipt of the last listing

    def expect(self, members: Iterable[str], now: float) -> None:
        """Start the clock of members that the plan names, whether or not they have a beat.

        They count as proven: the leader before this one saw them alive.
        """
        for member in members:
            if member in self._dead:
                continue
            sighting = self._sightings.setdefault(member, _Sighting(None, now, proven=True))
            sighting.proven = True

    def told(self, patience: Mapping[str, float]) -> None:
        """Take note of members' own patience, in seconds."""
        self._patience.update(patience)

    def saw(self, beats: Mapping[str, Version], *, sent: float, received: float) -> frozenset[str]:
        """Take one complete listing, and return who is dead by it and was not before.

        `sent` is when its first request went out, `received` when its last answer came in. A listing that failed
        half-way must not be given here.
        """
        first = self._last is None
        if self._last is not None and received - self._last > self._gap:
            for sighting in self._sightings.values():
                sighting.since = received
        self._last = received
        for member, version in beats.items():
            if member in self._dead:
                continue
            if member not in self._sightings:
                self._sightings[member] = _Sighting(version, received, proven=not first)
                continue
            sighting = self._sightings[member]
            if sighting.version != version:
                sighting.version, sighting.since, sighting.proven = version, received, sighting.proven or not first
        fallen = set()
        for member, sighting in self._sightings.items():
            if member not in beats and sighting.version is not None:
                sighting.version, sighting.since = None, received
            if sent - sighting.since >= self._patience.get(member, self._longest):
                fallen.add(member)
        for member in fallen:
            del self._sightings[member]
        self._dead |= fallen
        return frozenset(fallen)

    def forget(self, members: Iterable[str]) -> None:
        """Drop members whose documents have been collected, and that no plan names any more."""
        for member in members:
            self._sightings.pop(member, None)
            self._patience.pop(member, None)
            self._dead.discard(member)

    @property
    def dead(self) -> frozenset[str]:
        """Sessions with a verdict. It never shrinks but by `forget`."""
        return frozenset(self._dead)

    @property
    def present(self) -> frozenset[str]:
        """Members with a beat and without a verdict, including beats of the long dead that nobody collected yet."""
        return frozenset(name for name, sighting in self._sightings.items() if sighting.version is not None)

    @property
    def alive(self) -> frozenset[str]:
        """Members fit for a grant: those present that a plan names, that joined or moved while this leader watched.

        A new leader's first listing also shows the beats of members that died before its term. Granting to one of
        them is not unsafe, but would leave the partition idle until the verdict; so a beat has to move first, which
        takes a living member one renew interval. A leader that finds no plan may `expect` everyone present.
        """
        return frozenset(
            name for name, sighting in self._sightings.items() if sighting.version is not None and sighting.proven
        )
