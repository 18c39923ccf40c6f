"""Breakages that the simulator must see: each removes one rule of docs/design.md, and some seed must catch it.

They are patched in here; the product has no switches for them. The unbroken runtime passes the very same runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from providers.interface import Bid, Expiry, Grant, LeaseView, Stamp, Version
from providers.lease_on_documents import LeaseOnDocuments
from providers.memory.native import NativeLease
from tests.simulation.test_fleet import emptied
from worker import member
from worker.clock import wait_for
from worker.core import election, planner
from worker.core.election import Move
from worker.core.facts import Facts
from worker.core.plan import Plan
from worker.fenced import FencedDocument
from worker.holding import Holding
from worker.leader import LeaderDuties
from worker.opening import Opener
from worker.plan_document import PlanDocument
from worker.term import Term
from worker.testing.deadman import SimDeadMan
from worker.testing.fleet import FleetSim, SimulationFailed
from worker.testing.schedule import Profile

SEEDS = range(100)
"""Seeds that a breakage gets to show itself in."""

Patch = pytest.MonkeyPatch
OBSERVER, STORE = Expiry.OBSERVER, Expiry.STORE


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


def renewed_past_the_deadline(patch: Patch) -> None:
    """A leader that renews to find out whether it still leads: an expired lease lets its old id, and trust is back."""

    async def keep(self: Holding, term: Term) -> Move | None:
        now = self._clock.now()
        if now >= self._next_send:
            return await self._renew(term)
        await wait_for(term.changed, self._next_send - now)
        return None

    def renewed(self: Holding, term: Term, grant: Grant, sent: float) -> Move:
        self._grant, self._next_send = grant, sent + self._timings.renew
        term.trust = election.trust_from(self._clock.now(), self._timings)
        return Move.RENEWED

    patch.setattr(Holding, "keep", keep)
    patch.setattr(Holding, "_renewed", renewed)


def one_lease_id_for_all(patch: Patch) -> None:
    """The same lease id for every session, and records written over whatever is there (pitfall 8)."""
    write = NativeLease._write

    def acquire(self: NativeLease, version: Version, id: str, seconds: float) -> None:
        self._leases.acquire(self._key, id, seconds)

    def over(self: NativeLease, version: Version, id: str, body: bytes) -> Stamp:
        found = self._read()
        assert found is not None
        return write(self, found.stamp.version, id, body)

    patch.setattr(NativeLease, "_id", lambda self, session: "host")
    patch.setattr(NativeLease, "_acquire", acquire)
    patch.setattr(NativeLease, "_write", over)


BREAKAGES = [
    (generations_begin_again, OBSERVER),
    (deadline_stamped_after_the_answer, OBSERVER),
    (deadline_stamped_after_the_answer, STORE),
    (grant_before_release, OBSERVER),
    (term_reset, OBSERVER),
    (verdict_without_sessions, OBSERVER),
    (fenced_document_opened_without_rewriting, OBSERVER),
    (follower_without_patience, OBSERVER),
    (no_dead_man, OBSERVER),
    (no_dead_man, STORE),
    (renewed_past_the_deadline, STORE),
    (one_lease_id_for_all, STORE),
]


@pytest.mark.parametrize("breakage, expiry", BREAKAGES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_a_breakage_is_caught(
    breakage: Callable[[Patch], None],
    expiry: Expiry,
    monkeypatch: Patch,
    record_property: Callable[[str, object], None],
) -> None:
    """Some seed within the bound breaks a promise, and says which one, with a seed that replays."""
    breakage(monkeypatch)
    for seed in SEEDS:
        try:
            FleetSim(seed, profile=Profile.HARD, expiry=expiry).run()
        except SimulationFailed as exc:
            found = str(exc).splitlines()[0]
            assert re.match(rf"seed {seed}: ", found)
            record_property("caught", found)
            print(f"{breakage.__name__}: caught with {found}")
            return
    pytest.fail(f"{breakage.__name__} went unnoticed in {len(SEEDS)} seeds")


def test_instances_that_remember_nothing_are_caught(monkeypatch: Patch) -> None:
    """Where no process remembers the terms that it has seen, an emptied store lets two lead, or a term begin again."""

    async def known_term(self: LeaderDuties) -> int:
        return 0

    async def highest(self: Opener) -> int:
        return max((number for number, _ in await self._recorded()), default=0)

    async def remind(self: Opener, term: int, session: str) -> bool:
        return False

    monkeypatch.setattr(LeaderDuties, "known_term", known_term)
    monkeypatch.setattr(Opener, "highest", highest)
    monkeypatch.setattr(Opener, "remind", remind)
    with pytest.raises(SimulationFailed, match=r"two leaders|acts in it"):
        emptied(1, OBSERVER).run()
