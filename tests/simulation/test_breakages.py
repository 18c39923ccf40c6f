"""Breakages that the simulator must see: each removes one rule of docs/design.md, and some seed must catch it.

They are patched in here; the product has no switches for them. The unbroken runtime passes the very same runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from providers.interface import Bid, Grant, LeaseView
from providers.lease_on_documents import LeaseOnDocuments
from worker import member
from worker.core import election, planner
from worker.core.facts import Facts
from worker.core.plan import Plan
from worker.fenced import FencedDocument
from worker.holding import Holding
from worker.opening import Opener
from worker.plan_document import PlanDocument
from worker.term import Term
from worker.testing.deadman import SimDeadMan
from worker.testing.fleet import FleetSim, SimulationFailed
from worker.testing.schedule import Profile

SEEDS = range(100)
"""Seeds that a breakage gets to show itself in."""

Patch = pytest.MonkeyPatch


def deadline_stamped_after_the_answer(patch: Patch) -> None:
    """Trust counted from the answer of a renewal, not from before its request was sent (pitfall 2)."""
    renewed = Holding._renewed

    def broken(self: Holding, term: Term, grant: Grant, sent: float) -> Any:
        return renewed(self, term, grant, self._clock.now())

    patch.setattr(Holding, "_renewed", broken)


def grant_before_release(patch: Patch) -> None:
    """A moving partition granted to its next owner before the present one has released it (pitfall 29)."""
    advance = planner.advance

    def broken(plan: Plan, facts: Facts) -> Plan:
        moving = {name: item.fence for name, item in plan.partitions.items() if item.next is not None}
        candidates = [replace(one, released={**one.released, **moving}) for one in facts.candidates]
        return advance(plan, replace(facts, candidates=candidates))

    patch.setattr(planner, "advance", broken)


def term_reset(patch: Patch) -> None:
    """Every leadership claimed as term 1, as if nothing had been before (pitfall 14)."""

    def broken(self: LeaseOnDocuments, view: LeaseView, bid: Bid) -> Grant:
        return self._take(view, bid)

    patch.setattr(LeaseOnDocuments, "claim", broken)

    async def recorded(self: Opener, *facts: Any) -> bool:
        return True

    patch.setattr(Opener, "record", recorded)
    patch.setattr(election, "next_term", lambda *known: 1)


def verdict_without_sessions(patch: Patch) -> None:
    """Members known by their instance only: who comes back after a verdict is taken for the old one (pitfall 45)."""
    patch.setattr(member, "member_id", lambda instance, session: f"{instance}~same")


def fenced_document_opened_without_rewriting(patch: Patch) -> None:
    """A document believed as it was read, while a write of the old term is still under way (pitfall 50)."""
    claimed = FencedDocument.open

    async def broken(self: FencedDocument, **options: Any) -> dict[str, Any]:
        stamp, fields = await self._read()
        return await claimed(self, **options) if stamp is None else self._opened(stamp, fields)

    patch.setattr(FencedDocument, "open", broken)


def follower_without_patience(patch: Patch) -> None:
    """A lease claimed after D(1-rho) instead of D(1+rho), as if all clocks went at the same rate (pitfall 46)."""
    patch.setattr(election, "RHO", -0.1)


def no_dead_man(patch: Patch) -> None:
    """No kernel timer: a stopped leader wakes up and goes on (pitfall 19)."""
    patch.setattr(SimDeadMan, "arm", lambda self, name, deadline: None)


def generations_begin_again(patch: Patch) -> None:
    """A new leader's plans numbered from 1 although it has sealed a later one: members would ignore them.

    The simulator's first find in this runtime.
    """
    seal = PlanDocument.seal

    async def broken(self: PlanDocument) -> None:
        await seal(self)
        self.plan = replace(self.plan, generation=0)

    patch.setattr(PlanDocument, "seal", broken)


BREAKAGES = [
    generations_begin_again,
    deadline_stamped_after_the_answer,
    grant_before_release,
    term_reset,
    verdict_without_sessions,
    fenced_document_opened_without_rewriting,
    follower_without_patience,
    no_dead_man,
]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.__name__)
def test_a_breakage_is_caught(
    breakage: Callable[[Patch], None], monkeypatch: Patch, record_property: Callable[[str, object], None]
) -> None:
    """Some seed within the bound breaks a promise, and says which one, with a seed that replays."""
    breakage(monkeypatch)
    for seed in SEEDS:
        try:
            FleetSim(seed, profile=Profile.HARD).run()
        except SimulationFailed as exc:
            found = str(exc).splitlines()[0]
            assert re.match(rf"seed {seed}: ", found)
            record_property("caught", found)
            print(f"{breakage.__name__}: caught with {found}")
            return
    pytest.fail(f"{breakage.__name__} went unnoticed in {len(SEEDS)} seeds")
