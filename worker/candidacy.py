"""Candidacy: watch the lease until it is due, and claim it.

    follow   look at the lease now and then; wait until one version has stood still for long enough
    claim    on condition that it is exactly as seen; an unclear answer is read back until it is known

A candidacy has a session of its own, and ends with a grant or when it is closed. Whoever has held a grant starts
another one: a session that was trusted once is never trusted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from providers.interface import (
    Bid,
    Grant,
    Heir,
    LeaseView,
    Misconfigured,
    NewerFormat,
    OutcomeUnknown,
    ProviderError,
    Refused,
    proven,
)
from providers.provider import PortableLease
from worker.clock import Clock, wait_for
from worker.core import election
from worker.core.election import Move, Renewals, Standing
from worker.core.timings import Timings
from worker.opening import FORGOTTEN, Opener
from worker.telemetry import Events
from worker.term import Duties

FAST = 0.05
"""Seconds between looks while this session is the named heir: a hand-over is being finished."""

HEIR_WINDOW = 10.0
"""Seconds for which a named heir looks that often, or one lease where that is longer."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who stands for election."""

    fleet: str
    instance: str
    session: str  # of this process; every candidacy derives a session of its own from it
    role: str = "leader"


@dataclass(frozen=True, slots=True)
class Won:
    """A grant, when it was asked for, and the state of the lease that it replaced."""

    grant: Grant
    sent: float
    offset: float  # wall clock - local clock, before it was sent
    replaced: LeaseView


class Candidacy:
    """One session's way to a lease. Used by the elector's task only, but for `become_heir` and `close`."""

    def __init__(
        self,
        who: Candidate,
        session: str,
        lease: PortableLease,
        opener: Opener,
        duties: Duties,
        clock: Clock,
        events: Events,
        timings: Timings,
        rank: Callable[[], int | None],
        move: Callable[[Move], None],
        hold_back_until: float,
    ) -> None:
        self.session = session
        self._who, self._lease, self._opener, self._duties = who, lease, opener, duties
        self._clock, self._events, self._timings = clock, events, timings
        self._rank_in_plan, self._move, self._hold_back_until = rank, move, hold_back_until
        self._heir_token = ""
        self._heir_until = float("-inf")
        self._closing = False
        self._wake = asyncio.Event()
        self._observed: tuple[int, str | None] | None = None

    def become_heir(self) -> Heir:
        """Get ready to be handed the lease: look often for a while. The token is good for one hand-over."""
        if self._heir_until < self._clock.now():
            self._heir_token = self._clock.token()
        self._heir_until = self._clock.now() + max(HEIR_WINDOW, self._timings.lease)
        self._wake.set()
        return Heir(self.session, self._heir_token)

    def close(self) -> None:
        """Stop standing for election."""
        self._closing = True
        self._wake.set()

    async def win(self) -> Won | None:
        """Watch the lease until it is ours; None once closed."""
        standing: Standing | None = None
        history: float | None = None
        chance = 0.0
        while not self._closing:
            self._wake.clear()
            try:
                view = await self._lease.observe()
                changed = standing is None or view.version != standing.view.version
                seen = (standing or Standing(view, self._clock.now())).seen(view, self._clock.now())
                if changed:
                    self._notice(view)
                    chance = self._clock.random()
                    history = await self._history(view)
                standing = seen  # not before all is known about it: until then every look is the first
                if view.handed and view.holder == self.session and view.token == self._heir_token:
                    held = await self._claim(view, accept=True)
                else:
                    due = election.claim_due(standing, session=self.session, history=history, expiry=self._lease.expiry)
                    if due is not None:
                        patience = election.stagger(self._rank_now(), self._timings, chance)
                        due = max(due + patience, self._hold_back_until)
                    if due is None or due > self._clock.now():
                        await self._rest(due, changed)
                        continue
                    held = await self._claim(view)
                if held is not None:
                    return held
                await self._pause(self._timings.jitter * self._clock.random())
            except (Misconfigured, NewerFormat) as exc:
                self._events.problem(f"the lease cannot be used: {exc}")
                await self._pause(self._timings.lease)
            except ProviderError as exc:
                self._events.problem(f"the lease cannot be read: {exc}")
                await self._pause(self._timings.renew)
        return None

    async def _rest(self, due: float | None, changed: bool) -> None:
        """Wait until the next look. Who becomes a successor meanwhile looks as often as one from then on."""
        started = self._clock.now()
        while not self._wake.is_set():
            now = self._clock.now()
            look = FAST if now < self._heir_until else self._next_look(changed)
            left = (started + look if due is None else min(started + look, due)) - now
            if left <= 0:
                return
            await self._pause(min(left, self._timings.renew))

    def _next_look(self, changed: bool) -> float:
        return election.next_look(self._rank_now(), changed, self._timings, self._lease.expiry)

    def _rank_now(self) -> int | None:
        return 0 if self._clock.now() < self._heir_until else self._rank_in_plan()

    async def _pause(self, seconds: float) -> None:
        await wait_for(self._wake, seconds)

    def _notice(self, view: LeaseView) -> None:
        if view.garbled:
            self._events.problem(f"the lease object is damaged; it will be replaced in a higher term: {view.garbled}")
        elif view.fleet not in (None, self._who.fleet):
            raise Misconfigured(
                f"this store prefix belongs to fleet {view.fleet!r}, and WORKER_FLEET is {self._who.fleet!r}: "
                "set WORKER_FLEET, or give this fleet a prefix of its own in WORKER_STORE"
            )
        elif view.holder is not None and not view.handed and self._observed != (view.term, view.holder):
            self._observed = (view.term, view.holder)
            self._events.emit("leader.observed", term=view.term, leader=view.instance)

    async def _history(self, view: LeaseView) -> float | None:
        """Return the longest, in seconds, that somebody may trust a lease which the store does not show any more.

        None when it shows one, or when there never was one. Where it shows less than was seen here, it is reminded.
        """
        gone = view.version is None or view.garbled is not None
        if not gone and view.term >= self._opener.seen:
            self._opener.seen = view.term
            return None
        forgotten = await self._opener.remind(await self._duties.known_term(), self.session)
        if forgotten:
            self._events.problem(FORGOTTEN.format(term=self._opener.seen))
        return await self._opener.history() if gone else None

    # --- claim ---

    async def _claim(self, view: LeaseView, accept: bool = False) -> Won | None:
        """Ask for the lease, and do not stop asking what became of it until that is known.

        Where the store keeps leases, it may refuse although nothing has changed: somebody holds the lease who has not
        written the record yet, and never will if it has died. Such a claim is repeated once per renew interval.
        """
        term = view.term
        if not accept:
            term = election.next_term(view.term, await self._duties.known_term(), await self._opener.highest())
        self._move(Move.DUE)
        asked, bids, offsets = Renewals(), dict[str, Bid](), dict[str, float]()
        while True:
            nonce = self._clock.token()
            bid = Bid(self.session, self._who.instance, self._who.fleet, term, self._timings.lease, nonce)
            asked, bids[nonce] = asked.sent(nonce, self._clock.now()), bid
            offsets[nonce] = self._clock.wall() - self._clock.now()
            try:
                if accept:
                    grant = await self._lease.accept(view, bid, self._heir_token)
                else:
                    grant = await self._lease.claim(view, bid)
            except (Refused, OutcomeUnknown) as exc:
                seen = await self._read_back()
                if seen is None:
                    self._move(Move.REFUSED)
                    return None
                sent = asked.proven_by(seen.nonce)
                if sent is not None and seen.nonce is not None and seen.holder == self.session and not seen.free:
                    return self._granted(Won(proven(seen, bids[seen.nonce]), sent, offsets[seen.nonce], view))
                if isinstance(exc, OutcomeUnknown) and seen.version == view.version and not self._closing:
                    await self._clock.sleep(self._timings.total / 8)
                    continue  # not there yet: ask again on the same version, of which only one can win
                if isinstance(exc, Refused) and seen.version == view.version:
                    self._hold_back_until = max(self._hold_back_until, self._clock.now() + self._timings.renew)
                self._move(Move.REFUSED)
                return None
            except (Misconfigured, NewerFormat):
                self._move(Move.REFUSED)
                raise
            except ProviderError:
                if len(bids) > 1 and not self._closing:
                    await self._clock.sleep(self._timings.total / 2)
                    continue  # an earlier one may still land
                self._move(Move.REFUSED)
                raise
            return self._granted(Won(grant, asked.unanswered[nonce], offsets[nonce], view))

    def _granted(self, won: Won) -> Won | None:
        self._opener.seen = max(self._opener.seen, won.grant.term)
        if election.trust_from(won.sent, self._timings).stop_at <= self._clock.now():
            self._move(Move.REFUSED)  # too late to trust: the lease names this session, which may claim again at once
            return None
        self._move(Move.GRANTED)
        return won

    async def _read_back(self) -> LeaseView | None:
        """Look until there is an answer; None when closed meanwhile: whatever was claimed then runs out by itself."""
        while True:
            try:
                return await self._lease.observe()
            except ProviderError:
                if self._closing:
                    return None
                await self._clock.sleep(self._timings.total / 2)
