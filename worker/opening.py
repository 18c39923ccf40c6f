"""Opening a term: find a number that nobody has used, and write down that it is taken.

terms/<n>   created once, by whoever opens term n, never replaced: two leaders can never share a term, even
            when the lease object was deleted, restored from a backup or overwritten by hand.

A store that was emptied, or replaced by an older copy, has forgotten terms that somebody may still act in. Every
process remembers the highest that it has seen, and whoever notices writes it down again, before anybody claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from providers.body import decode, encode
from providers.interface import (
    HIGHEST_TERM,
    LONGEST_LEASE,
    BadDocument,
    LeaseView,
    NotFound,
    OutcomeUnknown,
    Refused,
    Unavailable,
)
from providers.lease_record import duration_of
from providers.provider import Provider
from worker.clock import Clock
from worker.core.timings import Timings

TRIES = 8

FORGOTTEN = (
    "the store has forgotten term {term}, which was seen here: it was emptied, or replaced by an older copy. "
    "Written down again: the next term is above it"
)
"""What a process says that has reminded the store."""


def terms_prefix(role: str) -> str:
    """Return where the terms of a role are recorded."""
    return "terms/" if role == "leader" else f"roles/{role}/terms/"


def term_key(role: str, term: int) -> str:
    """Return the key of one term's record; zero-padded, so that keys sort as numbers do."""
    return f"{terms_prefix(role)}{term:012d}"


@dataclass(slots=True)
class Opener:
    """Who opens terms, and what the record says of them. For one task."""

    provider: Provider
    clock: Clock
    role: str
    instance: str
    fleet: str
    timings: Timings
    seen: int = 0  # the highest term that this process has seen, whatever the store says now

    async def highest(self) -> int:
        """Return the highest term that is on record or was seen here; 0 when there is none."""
        return max((self.seen, *(number for number, _ in await self._recorded())))

    async def history(self) -> float | None:
        """Return how long, in seconds, a holder may still trust a lease object that is gone or unreadable.

        The duration that the last opened term was granted; the longest that there is when its record does not
        say; None when no term was ever opened. A claim that never opened its term never acted.
        """
        recorded = await self._recorded()
        if not recorded:
            return None
        _, key = max(recorded)
        try:
            document = await self.provider.documents.read(key)
            return duration_of(decode(document.body if document else b"", key), key)
        except (NotFound, BadDocument):
            return LONGEST_LEASE

    async def record(self, term: int, session: str, view: LeaseView) -> bool:
        """Write down that this session opens this term; say whether that is so. Raises Unavailable."""
        key = term_key(self.role, term)
        body = self._body(term, session, self.timings.lease, _how_it_ended(view))
        for _ in range(TRIES):
            try:
                await self.provider.documents.create(key, body)
            except OutcomeUnknown:
                continue  # created again: refused if it has landed, and then its session tells whose it is
            except Refused:
                return await self._opened_by(key) == session
            return True
        raise Unavailable(f"{key}: nobody knows whether it was written")

    async def remind(self, term: int, session: str) -> bool:
        """Note that a term was seen, and write it down if the store has forgotten it; say so. Raises ProviderError.

        Nobody knows any more who may still trust what: it counts as granted for the longest that there is.
        """
        self.seen = max(self.seen, term)
        if self.seen <= max((number for number, _ in await self._recorded()), default=0):
            return False
        body = self._body(self.seen, session, LONGEST_LEASE, "unknown", reminded=True)
        try:
            await self.provider.documents.create(term_key(self.role, self.seen), body)
        except Refused:
            return False  # somebody else was first
        return True

    def _body(self, term: int, session: str, duration: float, previous_end: str, **more: object) -> bytes:
        return encode(
            {
                "nonce": self.clock.token(),
                "term": term,
                "fleet": self.fleet,
                "instance": self.instance,
                "session": session,
                "opened_at": datetime.fromtimestamp(self.clock.wall(), UTC).isoformat(),
                "duration": duration,
                "previous_end": previous_end,
                **more,
            }
        )

    async def _opened_by(self, key: str) -> object:
        try:
            document = await self.provider.documents.read(key)
            return decode(document.body if document else b"", key).get("session")
        except (NotFound, BadDocument):
            return None

    async def _recorded(self) -> list[tuple[int, str]]:
        prefix = terms_prefix(self.role)
        stamps = await self.provider.documents.list(prefix)
        names = [(stamp.key.removeprefix(prefix), stamp.key) for stamp in stamps]
        found = [(int(name), key) for name, key in names if name.isascii() and name.isdecimal()]
        return [(number, key) for number, key in found if number <= HIGHEST_TERM]


def _how_it_ended(view: LeaseView) -> str:
    if view.version is None or view.garbled:
        return "unknown"
    if view.handed:
        return "handed over"
    return "resigned" if view.holder is None else "expired"
