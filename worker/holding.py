"""Holding a lease: when to renew, what an answer proves, and how to give it back.

Authority is a value: every renewal returns a new grant, and this object keeps only the newest. An answer that
arrives after the stop time which it would extend renews nothing.
"""

from __future__ import annotations

import asyncio

from providers.interface import Expiry, Grant, Heir, LeaseView, OutcomeUnknown, ProviderError, Refused, proven
from providers.provider import PortableLease
from worker.clock import Clock, wait_for
from worker.core import election
from worker.core.election import Move, Renewals, StoreClock
from worker.core.timings import Timings
from worker.telemetry import Events
from worker.term import Term

FROZEN = "the machine stood still, or its wall clock jumped ahead"
BEHIND = "the machine stood still together with its clocks, or the store's clock jumped ahead"


class Holding:
    """One grant from its claim to its end. `reason` says why it ended, once `keep` has returned LOST or EXPIRED."""

    def __init__(
        self,
        lease: PortableLease,
        clock: Clock,
        timings: Timings,
        events: Events,
        grant: Grant,
        sent: float,
        offset: float,
    ) -> None:
        self.reason = ""
        self._lease, self._clock, self._timings, self._events = lease, clock, timings, events
        self._grant = grant
        self._renewals = Renewals()
        self._next_send = sent + timings.renew
        self._offset = offset  # wall clock - local clock, as of the send that is answered last
        self._store_clock = StoreClock().answered(grant.store_time, sent)

    async def keep(self, term: Term) -> Move | None:
        """Wait until there is something to do, and do it: renew, or say that the term is over.

        Returns None early when `term.changed` is set. Moves `term.trust` when a renewal has succeeded.
        """
        now = self._clock.now()
        if self._frozen(now):
            return self._over(Move.LOST, FROZEN)
        if now >= term.trust.stop_at:
            return self._over(Move.EXPIRED, self.reason or "trust ran out before a renewal succeeded")
        if term.stalled:
            self.reason = "the leader's duties made no progress"
            await wait_for(term.changed, min(self._timings.renew, term.trust.stop_at - now))
            return None
        if now < self._next_send:
            await wait_for(term.changed, min(self._next_send, term.trust.stop_at) - now)
            return None
        try:
            async with asyncio.timeout(term.trust.stop_at - now):
                return await self._renew(term)
        except TimeoutError:
            return None  # the next round finds the stop time passed

    async def _renew(self, term: Term) -> Move | None:
        nonce, sent = self._clock.token(), self._clock.now()
        self._renewals = self._renewals.sent(nonce, sent)
        try:
            grant = await self._lease.renew(self._grant, nonce)
        except (Refused, OutcomeUnknown) as exc:
            if self._lease.expiry is Expiry.OBSERVER:
                return await self._read_back(term, exc, sent)
            if isinstance(exc, Refused):
                return self._over(Move.LOST, f"the store no longer grants the lease: {exc}")
            self._failed(exc, sent)  # no look can show a renewal there: the next one, by the same proof, repeats it
            return None
        except ProviderError as exc:
            self._failed(exc, sent)
            return None
        return self._renewed(term, grant, sent)

    async def _read_back(self, term: Term, cause: ProviderError, asked: float) -> Move | None:
        try:
            view = await self._lease.observe()
        except ProviderError as exc:
            self._failed(exc, asked)
            return None
        sent = self._renewals.proven_by(view.nonce)
        if sent is not None:
            return self._renewed(term, self._shown(view), sent)
        if view.version == self._grant.version:
            self._failed(cause, asked)  # not there yet: renew again on the same version, of which only one can win
            return None
        if view.version is None:
            return self._over(Move.LOST, "somebody has deleted the lease")
        holder = f"{view.instance or 'nobody'} holds term {view.term}"
        return self._over(Move.LOST, f"the lease was changed by somebody else: {view.garbled or holder}")

    def _shown(self, view: LeaseView) -> Grant:
        return proven(view, self._grant.bid, proof=self._grant.proof)

    def _renewed(self, term: Term, grant: Grant, sent: float) -> Move | None:
        now = self._clock.now()
        if self._frozen(now):  # before the offset is taken anew: a freeze during the request would go unseen
            return self._over(Move.LOST, FROZEN)
        if self._store_clock.ran_ahead(grant.store_time, now, self._timings):
            return self._over(Move.LOST, BEHIND)
        if now >= term.trust.stop_at:
            return self._over(Move.EXPIRED, "the answer to a renewal came after the stop time")
        self._grant, self._renewals, self.reason = grant, Renewals(), ""
        self._next_send = sent + self._timings.renew
        self._offset = self._clock.wall() - now
        self._store_clock = self._store_clock.answered(grant.store_time, sent)
        trust = election.trust_from(sent, self._timings)
        if trust.deadline > term.trust.deadline:
            term.trust = trust
        return Move.RENEWED

    def _failed(self, error: ProviderError, sent: float) -> None:
        self._events.emit("lease.renew_failed", error=str(error), kind=type(error).__name__)
        self._next_send = max(self._clock.now(), sent + self._timings.total / 2)

    def _frozen(self, now: float) -> bool:
        return election.frozen(self._offset, self._clock.wall() - now, self._timings)

    def _over(self, move: Move, reason: str) -> Move:
        self.reason = reason
        return move

    async def give_back(self, heir: Heir | None, deadline: float) -> None:
        """Hand the lease to the heir, or resign. Call it when no work of the term is left.

        Repeats an unclear request until `deadline`; a give-back that never succeeds is no error, as the lease then
        simply expires. Proves itself with this term's own last version, so that it can never undo a successor's.
        """
        while self._clock.now() < deadline:
            nonce = self._clock.token()
            try:
                if heir is not None:
                    await self._lease.hand_over(self._grant, heir, nonce)
                else:
                    await self._lease.resign(self._grant, nonce)
                return
            except Refused:
                if not await self._caught_up():
                    return
            except ProviderError:
                await self._clock.sleep(self._timings.total / 4)

    async def _caught_up(self) -> bool:
        """Say whether a renewal of ours has landed late, and take over its version."""
        try:
            view = await self._lease.observe()
        except ProviderError:
            return True
        if self._renewals.proven_by(view.nonce) is None:
            return False
        moved = view.version != self._grant.version
        self._grant = self._shown(view)
        return moved
