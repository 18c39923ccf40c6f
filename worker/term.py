"""One term in the hands of those who act in it, and what they must offer to the elector."""

from __future__ import annotations

import asyncio
from typing import Protocol

from providers.interface import Heir
from worker.clock import Clock
from worker.core.election import Trust


class Term:
    """The authority of one leadership, as its work sees it. Only the elector changes its trust.

    `progress` must be called after every completed step of the core duties: the elector renews only while it is.
    """

    def __init__(self, number: int, session: str, trust: Trust, clock: Clock, stall: float) -> None:
        self.number = number
        self.session = session
        self.trust = trust
        self.changed = asyncio.Event()  # set when the elector has something to look at
        self.step_down_reason: str | None = None
        self.gone = False  # the grant was lost: the trust that is left is for ending the work, not for acting
        self._clock = clock
        self._stall = stall
        self._moved = clock.now()

    @property
    def trust_left(self) -> float:
        """Seconds until the work must stop, if no renewal succeeds until then; at most 0 when the term is over."""
        return 0.0 if self.gone else self.trust.stop_at - self._clock.now()

    @property
    def stalled(self) -> bool:
        """Whether the core duties have made no step for so long that the lease should pass to somebody else."""
        return self._clock.now() - self._moved > self._stall

    def progress(self) -> None:
        """Say that one step of the core duties has been completed."""
        self._moved = self._clock.now()

    def step_down(self, reason: str) -> None:
        """Ask the elector to give up this term. The first reason stands."""
        if self.step_down_reason is None:
            self.step_down_reason = reason
            self.changed.set()


class Duties(Protocol):
    """What is done in a term. The elector calls these, one after the other, on the control thread."""

    async def known_term(self) -> int:
        """Return the highest term that the duties' own documents show. Raises ProviderError."""

    async def seal(self, term: Term) -> None:
        """Make every older term's writes refusable. Raises Fenced when a newer term has been here."""

    async def perform(self, term: Term) -> None:
        """Act, until cancelled. Returns or raises only when all work of the term has really ended."""

    async def prepare_heir(self, term: Term) -> Heir | None:
        """Find a successor that is ready to take over, or None when there is none within a few seconds."""
