"""The elector: stands for election, holds the lease while the work goes well, and gives it back.

    win      watch the lease and claim it when it is due (`worker.candidacy`)
    open     record the term, seal the plan: from here on the store refuses every older term
    hold     renew; at `stop_at` the work is cancelled, at the deadline the kernel ends the process
    give up  end all work, disarm, hand over or resign

`worker.core.election` says what may be concluded; this module only asks, waits and does it. One task runs it, on
the control thread. The dead-man's switch is armed before work starts and disarmed only after it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from providers.interface import Heir, LeaseView, Misconfigured, NewerFormat, ProviderError
from providers.provider import Provider
from worker.candidacy import Candidacy, Candidate, Won
from worker.clock import Clock
from worker.core import election
from worker.core.election import Move, Phase
from worker.core.timings import Timings
from worker.deadman import DeadMan
from worker.errors import Fenced
from worker.holding import Holding
from worker.opening import Opener
from worker.telemetry import Events
from worker.term import Duties, Term


class Elector:
    """Runs one instance's side of one election. `run` returns after `close`, with nothing held."""

    def __init__(
        self,
        candidate: Candidate,
        provider: Provider,
        clock: Clock,
        deadman: DeadMan,
        events: Events,
        timings: Timings,
        duties: Duties,
        rank: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.phase = Phase.FOLLOWING
        self.term: Term | None = None  # while held
        self._who, self._clock, self._deadman, self._events = candidate, clock, deadman, events
        self._timings, self._duties, self._rank = timings, duties, rank
        self._lease = provider.lease(candidate.role)
        self._opener = Opener(provider, clock, candidate.role, candidate.instance, candidate.fleet, timings)
        self._candidacies = 0
        self._hold_back_until = float("-inf")
        self._closing = False
        self._candidacy = self._stand()

    # --- what others may ask; control thread only ---

    @property
    def role(self) -> str:
        """The lease that is stood for: `leader`, or the NAME of `worker exec`."""
        return self._who.role

    @property
    def acting(self) -> bool:
        """Whether work of a term may be running here."""
        return self.phase in election.ACTING

    def become_heir(self) -> Heir:
        """Get ready to be handed the lease, and say under which session and token."""
        return self._candidacy.become_heir()

    def close(self, reason: str) -> None:
        """Give up what is held and end `run`."""
        self._closing = True
        self._candidacy.close()
        if self.term is not None:
            self.term.step_down(reason)

    async def run(self) -> None:
        """Stand for election, lead, and again; until closed."""
        while not self._closing:
            won = await self._candidacy.win()
            if won is not None:
                await self._lead(won)
                self._candidacy = self._stand()

    def _stand(self) -> Candidacy:
        """Start a candidacy, under a session that has never been trusted."""
        self._candidacies += 1
        return Candidacy(
            self._who,
            f"{self._who.session}.{self._candidacies}",
            self._lease,
            self._opener,
            self._duties,
            self._clock,
            self._events,
            self._timings,
            self._rank,
            self._move,
            self._hold_back_until,
        )

    # --- lead ---

    async def _lead(self, won: Won) -> None:
        """Open the term, act in it, and leave with nothing running and nothing held."""
        grant, sent, view = won.grant, won.sent, won.replaced
        term = Term(
            grant.term,
            self._candidacy.session,
            election.trust_from(sent, self._timings),
            self._clock,
            self._timings.lease,
        )
        events = self._events.bind(term=term.number)
        holding = Holding(self._lease, self._clock, self._timings, events, grant, sent, won.offset)
        self.term = term
        name = f"{self._who.role} term {term.number}"
        opening = asyncio.create_task(self._open(term, view))
        work: asyncio.Task[None] | None = None
        heir: asyncio.Task[Heir | None] | None = None
        opening.add_done_callback(lambda _: term.changed.set())
        if self._closing:
            term.step_down("closing")
        try:
            while self.phase in (Phase.OPENING, Phase.LEADING):
                term.changed.clear()
                if self.phase is Phase.OPENING and opening.done() and term.trust_left > 0:
                    move = self._opened(opening)
                    self._move(move)
                    if move is Move.OPENED:
                        self._deadman.arm(name, term.trust.deadline)
                        self._events.emit("leader.elected", term=term.number, lease_session=term.session)
                        work = asyncio.create_task(self._duties.perform(term))
                        work.add_done_callback(lambda _: term.changed.set())
                        heir = None
                    continue
                if work is not None and work.done():
                    term.step_down(_why(work))
                if term.step_down_reason is not None:
                    if self.phase is Phase.LEADING and heir is None and work is not None and not work.done():
                        heir = asyncio.create_task(self._duties.prepare_heir(term))
                        heir.add_done_callback(lambda _: term.changed.set())
                    if heir is None or heir.done():
                        self._move(Move.STEP_DOWN)
                        continue
                deadline = term.trust.deadline
                happened = await holding.keep(term)
                if work is not None and term.trust.deadline != deadline:
                    self._deadman.arm(name, term.trust.deadline)
                if happened is not None:
                    self._move(happened)
            await self._leave(term, holding, work, heir, name)
        except BaseException:
            if work is not None:  # a bug here must not leave work behind; the switch stays armed until it has ended
                await _ended(Phase.STOPPING, work, term, self._clock)
                self._deadman.disarm(name)
            raise
        finally:
            opening.cancel()
            if heir is not None:
                heir.cancel()
            self.term = None

    async def _open(self, term: Term, view: LeaseView) -> bool:
        """Make every older term refusable; False when somebody else has opened this one."""
        while True:
            try:
                if not await self._opener.record(term.number, term.session, view):
                    return False
                await self._duties.seal(term)
                return True
            except Fenced:
                return False
            except (Misconfigured, NewerFormat):
                raise
            except ProviderError as exc:
                self._events.problem(f"term {term.number} cannot be opened yet: {exc}")
                await self._clock.sleep(self._timings.total / 2)

    async def _leave(
        self,
        term: Term,
        holding: Holding,
        work: asyncio.Task[None] | None,
        heir: asyncio.Task[Heir | None] | None,
        name: str,
    ) -> None:
        yielding = self.phase is Phase.YIELDING
        if self.phase is Phase.STOPPING:
            term.gone = True
            self._events.emit("leader.lost", term=term.number, reason=holding.reason)
        if work is not None:
            self.phase = await _ended(self.phase, work, term, self._clock)
            self._deadman.disarm(name)
        if yielding and self.phase is Phase.STOPPING:
            reason = "trust ran out before the work had ended"
            self._events.emit("leader.lost", term=term.number, reason=reason)
        if self.phase in (Phase.YIELDING, Phase.STOPPING):
            self._move(Move.ENDED)
        if self.phase is Phase.RESIGNING:
            named = heir.result() if heir is not None and heir.done() and heir.exception() is None else None
            term.gone = True
            if work is not None:
                to = named.session if named else None
                self._events.emit("leader.stepped_down", term=term.number, reason=term.step_down_reason, to=to)
                self._hold_back_until = self._clock.now() + self._timings.lease
            await holding.give_back(named, term.trust.deadline)
            self._move(Move.DONE)

    def _opened(self, opening: asyncio.Task[bool]) -> Move:
        if opening.exception() is None:
            return Move.OPENED if opening.result() else Move.TAKEN
        self._events.problem(f"the term cannot be opened: {opening.exception()}")
        self._hold_back_until = self._clock.now() + self._timings.lease
        return Move.TAKEN

    def _move(self, move: Move) -> None:
        self.phase = election.advance(self.phase, move)


def _why(work: asyncio.Task[None]) -> str:
    error = None if work.cancelled() else work.exception()
    return "the leader's duties ended" if error is None else f"the leader's duties failed: {error!r}"


async def _ended(phase: Phase, work: asyncio.Task[None], term: Term, clock: Clock) -> Phase:
    """Cancel the work and wait until it has ended, however long: the dead-man's switch is what bounds this."""
    work.cancel()
    while not work.done():
        left = term.trust.stop_at - clock.now()
        if phase is Phase.YIELDING and left <= 0:
            phase, term.gone = election.advance(phase, Move.EXPIRED), True
        await asyncio.wait({work}, timeout=left if phase is Phase.YIELDING else None)
    with contextlib.suppress(asyncio.CancelledError, Exception):
        work.result()
    return phase
