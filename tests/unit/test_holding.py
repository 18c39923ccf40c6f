"""Holding: what keeps a lease, what loses it, and how it is given back without ever undoing a successor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.interface import Bid, Capabilities, Heir, OutcomeUnknown, Refused
from providers.memory.driver import CAPABILITIES, KEEPS_LEASES
from tests.unit.fakes import ANSWER_LOST, DOWN, LATENCY, LOST, Fate, World, late, run, simulated, stray
from worker.core import election
from worker.core.election import Move
from worker.holding import Holding
from worker.term import Term
from worker.testing.clock import EPOCH

UNSURE = Fate(error=OutcomeUnknown("?"))


class Held:
    """A lease that `a` holds in term 1, claimed at the start of the test."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def claim(self) -> Held:
        world = self.world
        self.lease = world.provider.lease("leader")
        sent, offset = world.clock.now(), world.clock.wall() - world.clock.now()
        bid = Bid("a.1", "a", "default", 1, world.lease, "first")
        grant = await self.lease.claim(await self.lease.observe(), bid)
        trust = election.trust_from(sent, world.leader)
        self.term = Term(1, "a.1", trust, world.clock, world.leader.lease)
        self.holding = Holding(self.lease, world.clock, world.leader, world.events(), grant, sent, offset)
        return self

    @property
    def stored(self) -> dict[str, object]:
        return self.world.get("leases/leader")

    async def keep(self, seconds: float, *, progress: bool = True) -> list[Move]:
        """Keep the lease for so long, or until it is over; return all moves."""
        moves: list[Move] = []
        end = self.world.clock.now() + seconds
        while self.world.clock.now() < end and not {Move.LOST, Move.EXPIRED} & set(moves):
            if progress:
                self.term.progress()
            move = await self.holding.keep(self.term)
            moves += [move] if move else []
        return moves


async def held(world: World) -> Held:
    return await Held(world).claim()


@simulated
async def test_a_lease_is_renewed_once_per_interval(world: World) -> None:
    """Renewals go out one renew interval apart, send to send, and each moves the trust with its send."""
    lease = await held(world)
    assert await lease.keep(60) == [Move.RENEWED] * 20
    sends = world.network.times("lease.renew")
    assert all(later - earlier == pytest.approx(3.0) for earlier, later in pairwise(sends))
    assert lease.term.trust == election.trust_from(sends[-1] + 1000, world.leader)
    assert lease.stored["renewals"] == 20


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, late(30), DOWN, UNSURE, stray(2.1), stray(30)], ids=str)
def test_one_request_that_goes_wrong_never_deposes(fate: Fate) -> None:
    """A healthy leader survives any single trouble, wherever it strikes, and whatever lands later."""

    async def test(world: World) -> None:
        lease = await held(world)
        for _ in range(4):
            world.network.next("lease.renew", Fate(), fate)
            assert set(await lease.keep(12)) == {Move.RENEWED}
        world.network.next("lease.observe", fate)
        world.network.next("lease.renew", fate)
        await lease.keep(40)
        assert lease.term.trust_left > 0
        assert lease.holding.reason == ""

    run(test)


@simulated
async def test_a_renewal_that_landed_unanswered_counts_from_its_own_send(world: World) -> None:
    """A read-back that shows my nonce renews, and trust is that of the request which carried it."""
    lease = await held(world)
    world.network.next("lease.renew", ANSWER_LOST)
    assert await lease.keep(3.5) == [Move.RENEWED]
    (sent,) = world.network.times("lease.renew")
    assert lease.term.trust == election.trust_from(sent + 1000, world.leader)


@simulated
async def test_a_refusal_by_my_own_late_write_is_no_loss(world: World) -> None:
    """The retry of a renewal that has landed meanwhile is refused by my own write, which a look proves to be mine."""
    lease = await held(world)
    world.network.next("lease.renew", stray(2.5))
    assert Move.LOST not in await lease.keep(30)
    first = world.network.times("lease.renew")[0]
    assert lease.term.trust_left > 0
    assert world.heard("lease.renew_failed")
    assert len([at for at in world.network.times("lease.renew") if at > first]) >= 8


@simulated
async def test_a_lease_in_other_hands_is_lost_at_once(world: World) -> None:
    """When somebody else has taken the lease, the next answer is the loss, and it names the winner."""
    lease = await held(world)
    world.at(4.0, lambda: world.take_lease("rival.1", term=2))
    assert await lease.keep(60) == [Move.RENEWED, Move.LOST]
    assert "rival.1-host holds term 2" in lease.holding.reason
    assert world.loop.true < 4.0 + 3.1


@pytest.mark.parametrize("change", ["deleted", "garbage"])
def test_a_lease_that_was_deleted_or_damaged_is_lost(change: str) -> None:
    """Nobody writes a lease anew that has vanished under it: the grant is over, and its reason says why."""

    async def test(world: World) -> None:
        lease = await held(world)
        if change == "deleted":
            world.remove("leases/leader")
        else:
            world.put("leases/leader", b"garbage")
        assert await lease.keep(60) == [Move.LOST]
        told = {"deleted": "somebody has deleted the lease", "garbage": "is not JSON"}
        assert told[change] in lease.holding.reason
        with pytest.raises(Refused):
            await lease.lease.renew(lease.holding._grant, "any")

    run(test)


@pytest.mark.parametrize("trouble", [LOST, DOWN, UNSURE], ids=["silent", "refused", "unclear"])
def test_a_store_that_is_away_costs_the_term_at_the_stop_time(trouble: Fate) -> None:
    """Without an answer the term is over exactly at its stop time, and nothing is asked after it."""

    async def test(world: World) -> None:
        lease = await held(world)
        await lease.keep(6.5)
        world.network.always("*", trouble)
        stop_at = lease.term.trust.stop_at
        assert (await lease.keep(60))[-1] is Move.EXPIRED
        assert world.clock.now() == pytest.approx(stop_at, abs=2 * LATENCY)
        assert max(world.network.times("lease.renew")) + 1000 <= stop_at
        assert len(world.network.sent) < 100  # asked again and again, but not in a tight loop

    run(test)


@simulated
async def test_an_answer_after_the_stop_time_renews_nothing(world: World) -> None:
    """A renewal that is answered after `stop_at` leaves trust as it was: the term is over."""
    lease = await held(world)
    before = lease.term.trust
    world.network.always("lease.renew", LOST)
    world.at(before.stop_at - 1000 - 0.5, lambda: world.network.always("lease.renew", late(1.0)))
    world.network.always("lease.observe", LOST)
    assert await lease.keep(60) == [Move.EXPIRED]
    assert lease.term.trust == before
    assert world.clock.now() == pytest.approx(before.stop_at, abs=2 * LATENCY)


@simulated
async def test_duties_that_stall_stop_the_renewals(world: World) -> None:
    """A leader whose duties make no step renews no more, says so, and is over at the stop time of its last renewal."""
    lease = await held(world)
    moves = await lease.keep(100, progress=False)
    assert moves[-1] is Move.EXPIRED
    assert max(world.network.times("lease.renew")) <= world.leader.lease + 0.1
    assert world.loop.true <= world.leader.lease + world.leader.trusted
    assert "no progress" in lease.holding.reason


@simulated
async def test_duties_that_go_on_in_time_keep_the_lease(world: World) -> None:
    """A stall that ends before the stop time costs nothing, and is not blamed for a later end."""
    lease = await held(world)
    await lease.keep(17.0, progress=False)
    assert lease.term.stalled
    assert (await lease.keep(12))[-1] is Move.RENEWED
    world.network.always("*", LOST)
    assert (await lease.keep(60))[-1] is Move.EXPIRED
    assert lease.holding.reason == "trust ran out before a renewal succeeded"


@pytest.mark.parametrize("when", [1.0, 2.965, 2.975], ids=["between", "on the way there", "on the way back"])
def test_a_machine_that_stood_still_has_lost_its_lease(when: float) -> None:
    """A wall clock that gained more than half the margin since the last answer drops all trust."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.at(when, lambda: world.clock.jump_wall(60.0))
        assert await lease.keep(10) == [Move.LOST]
        assert "stood still" in lease.holding.reason
        assert world.loop.true <= 3.1

    run(test)


@pytest.mark.parametrize("jump", [-3600.0, 0.4], ids=["back", "slightly ahead"])
def test_other_steps_of_the_wall_clock_cost_nothing(jump: float) -> None:
    """A wall clock that goes back, or ahead by less than half the margin, is a clock being set and no freeze."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.at(4.0, lambda: world.clock.jump_wall(jump))
        assert set(await lease.keep(20)) == {Move.RENEWED}

    run(test)


@simulated
async def test_a_machine_that_stood_still_while_it_claimed_has_nothing(world: World) -> None:
    """A freeze between the claim's send and its answer is seen too: the first look drops the grant."""
    world.at(0.03, lambda: world.clock.jump_wall(60.0))  # the claim is on its way then
    lease = await held(world)
    assert await lease.keep(10) == [Move.LOST]
    assert world.network.times("lease.renew") == []


FATES = st.sampled_from(
    [Fate(), Fate(), Fate(), ANSWER_LOST, LOST, DOWN, UNSURE, late(1.5), late(9), stray(1), stray(20)]
)


@settings(max_examples=80)
@given(st.lists(FATES, max_size=30), st.lists(FATES, max_size=10))
def test_trust_is_never_longer_than_a_visible_request_allows(renewals: list[Fate], looks: list[Fate]) -> None:
    """Whatever becomes of requests, trust ends no later than `trusted` after the send of a write that has landed."""

    async def test(world: World) -> None:
        lease = await held(world)
        landed = [0.0]  # send times of renewals that were applied
        world.network.next("lease.renew", *renewals)
        world.network.next("lease.observe", *looks)
        last = lease.stored["nonce"]

        def watch() -> None:
            nonlocal last
            nonce = lease.stored["nonce"]
            if nonce != last:
                last = nonce
                sent = lease.holding._renewals.proven_by(str(nonce))
                if sent is not None:
                    landed.append(sent - 1000)
            newest = max([*landed, 0.0])
            assert lease.term.trust.deadline <= newest + 1000 + LATENCY * 4 + world.leader.trusted + 1e-6

        world.watch(watch)
        moves = await lease.keep(90)
        if moves[-1] is Move.EXPIRED:
            assert world.clock.now() >= lease.term.trust.stop_at

    run(test)


# --- where the store keeps leases itself ---


def kept(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Turn a coroutine function over a world whose store keeps leases into a test."""

    def in_a_world() -> None:
        run(test, capabilities=KEEPS_LEASES)

    in_a_world.__doc__ = test.__doc__
    return in_a_world


@kept
async def test_a_kept_lease_is_renewed_without_a_look(world: World) -> None:
    """Renewals go out as everywhere, move the trust with their send, and change nothing that others see."""
    lease = await held(world)
    before = lease.stored
    assert await lease.keep(60) == [Move.RENEWED] * 20
    sends = world.network.times("lease.renew")
    assert lease.term.trust == election.trust_from(sends[-1] + 1000, world.leader)
    assert lease.stored == before
    assert len(world.network.times("lease.observe")) == 1  # the claim's own


@kept
async def test_a_refused_renewal_of_a_kept_lease_is_the_loss(world: World) -> None:
    """The store that keeps the lease knows best: a refusal ends the term at once, without asking anything else."""
    lease = await held(world)
    world.at(4.0, lambda: world.take_lease("rival.1", term=2))
    assert await lease.keep(60) == [Move.RENEWED, Move.LOST]
    assert "no longer grants" in lease.holding.reason
    assert len(world.network.times("lease.observe")) == 1
    assert world.loop.true < 4.0 + 3.1


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, late(30), UNSURE, DOWN, stray(20)], ids=str)
def test_an_unclear_renewal_of_a_kept_lease_is_sent_again(fate: Fate) -> None:
    """No look could tell what became of it: it is repeated soon, and trust counts from the repetition's send."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.network.next("lease.renew", fate)
        assert await lease.keep(5.5) == [Move.RENEWED]
        first, second = world.network.times("lease.renew")
        assert second - first <= world.leader.total + 3 * LATENCY
        assert lease.term.trust == election.trust_from(second + 1000, world.leader)
        assert len(world.network.times("lease.observe")) == 1
        assert lease.holding.reason == ""

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("trouble", [LOST, ANSWER_LOST, DOWN, UNSURE], ids=["lost", "unanswered", "refused", "unclear"])
def test_a_kept_lease_is_never_renewed_past_the_stop_time(trouble: Fate) -> None:
    """A store that would renew an expired lease is not asked to: the term is over at its own stop time."""

    async def test(world: World) -> None:
        lease = await held(world)
        await lease.keep(6.5)
        world.network.always("lease.renew", trouble)
        stop_at = lease.term.trust.stop_at
        assert (await lease.keep(60))[-1] is Move.EXPIRED
        await world.passes(30)
        assert max(world.network.times("lease.renew")) + 1000 <= stop_at
        assert lease.term.trust.stop_at == stop_at

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("heir", [None, Heir("b.1", "token")], ids=["resign", "hand over"])
@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, UNSURE, late(60), stray(3), Fate(parts=1)], ids=str)
def test_a_kept_lease_is_given_back_until_it_is_known(heir: Heir | None, fate: Fate) -> None:
    """An unclear give-back is repeated, also one of which only the first request has happened, and it ends soon."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.network.next("lease.resign", fate)
        world.network.next("lease.hand_over", fate)
        await lease.holding.give_back(heir, lease.term.trust.deadline)
        assert world.clock.now() < lease.term.trust.deadline - 5
        await world.passes(5)
        view = await lease.lease.observe()
        assert (view.holder, view.handed) == ((heir.session, True) if heir else (None, False))
        assert view.term == (2 if heir else 1)

    run(test, capabilities=KEEPS_LEASES)


# --- the store's clock ---

KINDS = pytest.mark.parametrize("capabilities", [CAPABILITIES, KEEPS_LEASES], ids=["observer", "store"])


@KINDS
@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_slewing_clock_is_not_a_frozen_one(capabilities: Capabilities, rate: float) -> None:
    """A machine whose clock is slow or fast by rho keeps its lease, also when every third renewal is lost."""

    async def test(world: World) -> None:
        world.store.date = lambda: EPOCH + world.loop.true
        world.clock.set_rate(rate)
        lease = await held(world)
        world.network.next("lease.renew", *(Fate(), Fate(), LOST) * 6)
        assert set(await lease.keep(60)) == {Move.RENEWED}

    run(test, capabilities=capabilities)


@KINDS
@pytest.mark.parametrize("when", [1.0, 2.955, 2.965], ids=["between", "before the send", "on the way there"])
def test_a_store_whose_clock_ran_ahead_ends_the_trust(capabilities: Capabilities, when: float) -> None:
    """When the store's time has grown by far more than one's own, one has stood still: all trust is dropped."""

    async def test(world: World) -> None:
        lead = 0.0

        def jump() -> None:
            nonlocal lead
            lead = 10.0

        world.store.date = lambda: EPOCH + world.loop.true + lead
        lease = await held(world)
        world.at(when, jump)
        before = lease.term.trust
        assert await lease.keep(10) == [Move.LOST]
        assert "store's clock" in lease.holding.reason
        assert lease.term.trust == before

    run(test, capabilities=capabilities)


@KINDS
def test_a_short_freeze_is_seen_however_long_the_term_has_lasted(capabilities: Capabilities) -> None:
    """Each answer is compared with the one before it: what may have slewed since the claim excuses nothing."""

    async def test(world: World) -> None:
        world.store.date = lambda: EPOCH + world.loop.true + (4.0 if world.loop.true > 90 else 0.0)
        lease = await held(world)
        assert (await lease.keep(120))[-1] is Move.LOST
        assert world.loop.true <= 90 + world.leader.renew + 4 * LATENCY

    run(test, capabilities=capabilities)


@KINDS
@pytest.mark.parametrize("jump", [-3600.0, -1.0, 0.4])
def test_a_store_whose_date_jumps_never_lengthens_trust(capabilities: Capabilities, jump: float) -> None:
    """A Date that goes back, or ahead by less than half the margin, changes nothing: trust is that of the last send."""

    async def test(world: World) -> None:
        world.store.date = lambda: EPOCH + world.loop.true + (jump if world.loop.true > 4.0 else 0.0)
        lease = await held(world)
        assert set(await lease.keep(20)) == {Move.RENEWED}
        last = world.network.times("lease.renew")[-1]
        assert lease.term.trust == election.trust_from(last + 1000, world.leader)

    run(test, capabilities=capabilities)


# --- giving back ---


@simulated
async def test_a_resigned_lease_keeps_its_term_and_has_no_holder(world: World) -> None:
    """Resigning frees the lease; object, fleet and term survive."""
    lease = await held(world)
    await lease.keep(7)
    await lease.holding.give_back(None, lease.term.trust.deadline)
    assert (lease.stored["holder"], lease.stored["term"], lease.stored["fleet"]) == (None, 1, "default")


@simulated
async def test_an_heir_is_named_in_the_next_term(world: World) -> None:
    """Handing over names the heir's session and token, one term up, and marks the lease as handed."""
    lease = await held(world)
    await lease.holding.give_back(Heir("b.1", "token"), lease.term.trust.deadline)
    stored = lease.stored
    assert (stored["holder"], stored["token"], stored["term"], stored["handed"]) == ("b.1", "token", 2, True)


@pytest.mark.parametrize("heir", [None, Heir("b.1", "token")], ids=["resign", "hand over"])
@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, UNSURE, late(60), stray(3)], ids=str)
def test_a_give_back_is_repeated_until_it_is_known(heir: Heir | None, fate: Fate) -> None:
    """An unclear or refused give-back is sent again, and has happened once in the end."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.network.next("lease.resign", fate)
        world.network.next("lease.hand_over", fate)
        await lease.holding.give_back(heir, lease.term.trust.deadline)
        await world.passes(70)
        assert lease.stored["holder"] == (heir.session if heir else None)
        assert lease.stored["term"] == (2 if heir else 1)

    run(test)


@simulated
async def test_a_renewal_that_lands_during_the_resignation_does_not_keep_the_lease(world: World) -> None:
    """A renewal in flight that lands first only moves the version: the resignation follows it."""
    lease = await held(world)
    world.network.next("lease.renew", stray(11.0))
    world.network.always("lease.observe", LOST)
    await lease.keep(8.0)
    world.network.always("lease.observe", None)
    world.network.next("lease.resign", Fate(there=6.1))
    await lease.holding.give_back(None, lease.term.trust.deadline + 60)
    assert lease.stored["holder"] is None


@pytest.mark.parametrize("heir", [None, Heir("b.1", "token")], ids=["resign", "hand over"])
@pytest.mark.parametrize("fate", [Fate(), stray(30), ANSWER_LOST], ids=["at once", "late", "unanswered"])
def test_a_successors_lease_is_never_blanked(heir: Heir | None, fate: Fate) -> None:
    """A resignation that arrives after somebody else has claimed is refused, and changes nothing, however late."""

    async def test(world: World) -> None:
        lease = await held(world)
        world.network.next("lease.resign", fate)
        world.network.next("lease.hand_over", fate)
        world.at(0.005 if fate.there == LATENCY else 1.0, lambda: world.take_lease("rival.1", term=7))
        await lease.holding.give_back(heir, lease.term.trust.deadline)
        await world.passes(60)
        assert (lease.stored["holder"], lease.stored["term"], lease.stored["handed"]) == ("rival.1", 7, False)

    run(test)


@simulated
async def test_a_give_back_ends_with_the_trust(world: World) -> None:
    """A store that is away keeps nobody waiting: the give-back is tried until the deadline and then left to expiry."""
    lease = await held(world)
    world.network.always("*", DOWN)
    task = asyncio.create_task(lease.holding.give_back(None, lease.term.trust.deadline))
    await world.until(task.done, 60)
    assert world.clock.now() <= lease.term.trust.deadline + world.leader.total
    assert len(world.network.times("lease.resign")) < 60
