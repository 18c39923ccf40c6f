"""Candidacy: when a follower asks for the lease, and what it makes of every answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from providers.interface import LONGEST_LEASE, Bid, Capabilities, Heir, Misconfigured, NewerFormat, OutcomeUnknown
from providers.memory.driver import CAPABILITIES, KEEPS_LEASES
from tests.unit.fakes import ANSWER_LOST, DOWN, LATENCY, LOST, Fate, World, late, run, simulated, stray
from worker.candidacy import Candidacy, Candidate, Won
from worker.core import election
from worker.core.election import Move, Phase
from worker.opening import Opener, term_key
from worker.term import Duties, Term


class Idle(Duties):
    """Duties whose documents show a term, and that are never performed here."""

    def __init__(self, known: int = 0) -> None:
        self.known = known

    async def known_term(self) -> int:
        return self.known

    async def seal(self, term: Term) -> None: ...

    async def perform(self, term: Term) -> None: ...

    async def prepare_heir(self, term: Term) -> Heir | None:
        return None


class Standing:
    """One candidacy under test, and the phase that its moves lead to."""

    def __init__(
        self, world: World, who: str = "a", *, known: int = 0, rank: int | None = 0, hold_back: float = 0.0
    ) -> None:
        self.phase = Phase.FOLLOWING
        self.provider = world.provider_of(who)
        opener = Opener(self.provider, world.clock, "leader", who, "default", world.leader)
        self.candidacy = Candidacy(
            Candidate("default", who, who),
            f"{who}.1",
            self.provider.lease("leader"),
            opener,
            Idle(known),
            world.clock,
            world.events(instance=who),
            world.leader,
            lambda: rank,
            self.move,
            world.clock.now() + hold_back,
        )

    def move(self, move: Move) -> None:
        self.phase = election.advance(self.phase, move)

    async def win(self, within: float = 600.0) -> Won:
        async with asyncio.timeout(within):
            won = await self.candidacy.win()
        assert won is not None
        assert self.phase is Phase.OPENING
        return won


@simulated
async def test_an_empty_store_is_claimed_at_once(world: World) -> None:
    """In a store that has never seen a leader, the first candidate claims term 1 within a jitter."""
    won = await Standing(world).win()
    assert won.grant.term == 1
    assert won.replaced.version is None
    assert world.loop.true < world.leader.jitter + 1
    assert world.get("leases/leader")["holder"] == "a.1"


@simulated
async def test_a_held_lease_is_claimed_after_its_own_duration(world: World) -> None:
    """The wait is D(1+rho) of the duration in the lease's body, from the receipt of the first answer that showed it."""
    world.take_lease(term=4, duration=40.0)
    won = await Standing(world).win()
    assert won.grant.term == 5
    assert 44.0 <= won.sent - world.clock_of("a").now() + world.loop.true + LATENCY <= 44.0 + 1.5


@simulated
async def test_a_lease_that_is_renewed_is_never_claimed(world: World) -> None:
    """Every change of version starts the wait anew, for as long as the holder renews."""
    world.take_lease(term=1)
    standing = Standing(world)
    for number in range(1, 40):
        world.at(number * 14.0, partial(world.take_lease, term=number + 1))
    with pytest.raises(TimeoutError):
        await standing.win(within=39 * 14.0)
    assert world.network.times("lease.claim") == []


@simulated
async def test_an_absent_lease_waits_for_the_recorded_duration(world: World) -> None:
    """A lease object that is gone although terms exist may still be trusted: wait D(1+rho) of the last opened term."""
    world.put(term_key("leader", 7), {"duration": 30.0})
    won = await Standing(world).win()
    assert won.grant.term == 8
    assert 33.0 <= world.loop.true <= 33.0 + 1.5


@pytest.mark.parametrize("fate", [DOWN, LOST, Fate(error=OutcomeUnknown("?"))], ids=str)
@pytest.mark.parametrize("operation", ["documents.list", "documents.read"])
def test_a_history_that_could_not_be_read_is_not_an_empty_one(operation: str, fate: Fate) -> None:
    """When the look at the recorded terms fails, the wait for an absent lease starts later, and is never left out."""

    async def test(world: World) -> None:
        world.put(term_key("leader", 7), {"duration": 30.0})
        world.network.next(operation, fate)
        won = await Standing(world).win()
        assert won.grant.term == 8
        assert world.loop.true >= 33.0

    run(test)


@simulated
async def test_a_lease_deleted_under_its_holder_waits_too(world: World) -> None:
    """When the object vanishes while it is watched, the wait starts at the first look that missed it."""
    world.put(term_key("leader", 7), {"duration": 15.0})
    world.take_lease(term=7)
    standing = Standing(world)
    world.at(10.0, lambda: world.remove("leases/leader"))
    won = await standing.win()
    assert won.grant.term == 8
    assert world.loop.true >= 10.0 + 16.5


@simulated
async def test_a_garbled_lease_is_replaced_in_a_higher_term_after_the_wait(world: World) -> None:
    """Garbage over the lease is reported once, waited out as an absent one, and replaced above every recorded term."""
    world.put("leases/leader", b"\x00garbage")
    world.put(term_key("leader", 7), {"duration": 15.0})
    won = await Standing(world, known=7).win()
    assert won.grant.term == 8
    assert 16.5 <= world.loop.true <= 16.5 + 1.5
    assert [problem for problem in world.problems if "damaged" in problem] == world.problems
    assert len(world.problems) == 1


@simulated
async def test_an_absent_lease_is_waited_for_longest_where_only_the_plan_is_left(world: World) -> None:
    """With the lease and the terms' records gone, a plan tells that somebody has led, and nobody knows for how long."""
    won = await Standing(world, known=9).win()
    assert won.grant.term == 10
    assert LONGEST_LEASE * 1.1 <= world.loop.true <= LONGEST_LEASE * 1.1 + 1.5
    assert world.get(term_key("leader", 9))["duration"] == LONGEST_LEASE


@simulated
async def test_an_emptied_store_is_reminded(world: World) -> None:
    """Whoever saw a term that the store has forgotten writes it down at once, waits, and claims above it."""
    world.take_lease(term=7)
    standing = Standing(world)
    world.at(10.0, lambda: world.remove("leases/leader"))
    winning = asyncio.create_task(standing.win())
    await world.passes(10.0 + world.leader.renew + 1)
    assert world.get(term_key("leader", 7))["session"] == "a.1"
    assert ["term 7" in problem for problem in world.problems] == [True]
    winning.cancel()
    newcomer = await Standing(world, "b").win()  # who remembers nothing, and waits all the same
    assert newcomer.grant.term == 8
    assert world.loop.true >= 10.0 + LONGEST_LEASE * 1.1


@simulated
async def test_an_older_copy_of_the_store_is_reminded(world: World) -> None:
    """A lease that shows an older term than was seen here is followed, and the higher term is put on record."""
    world.take_lease(term=7)
    standing = Standing(world)
    older = {**world.get("leases/leader"), "term": 3}
    world.at(5.0, lambda: world.put("leases/leader", older))
    won = await standing.win()
    assert won.grant.term == 8
    assert 5.0 + 16.5 <= world.loop.true <= 5.0 + 16.5 + world.leader.lease
    assert world.has(term_key("leader", 7))
    assert len(world.problems) == 1


@simulated
async def test_a_term_that_is_on_record_is_not_written_again(world: World) -> None:
    """A lease that was deleted alone, or written over, has nobody reminded of what the records still say."""
    world.put(term_key("leader", 7), {"duration": 15.0})
    before = world.raw(term_key("leader", 7))
    world.take_lease(term=7)
    standing = Standing(world)
    world.at(10.0, lambda: world.remove("leases/leader"))
    assert (await standing.win()).grant.term == 8
    assert world.raw(term_key("leader", 7)) == before
    assert world.problems == []


@simulated
async def test_a_lease_of_a_newer_format_is_left_alone(world: World) -> None:
    """A lease that only a newer version understands is reported and never overwritten."""
    body = b'{"format":2}'
    world.put("leases/leader", body)
    with pytest.raises(TimeoutError):
        await Standing(world).win(within=300)
    assert world.raw("leases/leader") == body
    assert world.problems


@pytest.mark.parametrize("holder", ["rival", None], ids=["held", "free"])
def test_another_fleets_lease_is_left_alone(holder: str | None) -> None:
    """A lease of another fleet is reported with both names, and not claimed even when it is free or has run out."""

    async def test(world: World) -> None:
        world.take_lease(fleet="blue")
        world.put("leases/leader", {**world.get("leases/leader"), "holder": holder})
        before = world.raw("leases/leader")
        with pytest.raises(TimeoutError):
            await Standing(world).win(within=300)
        assert world.raw("leases/leader") == before
        assert all("'blue'" in problem and "'default'" in problem for problem in world.problems)
        assert world.problems

    run(test)


@simulated
async def test_the_term_is_above_lease_plan_and_records(world: World) -> None:
    """The claim's term is one above the highest of the three, so that terms never fall by the loss of one of them."""
    world.take_lease(term=3)
    world.put("leases/leader", {**world.get("leases/leader"), "holder": None})
    world.put(term_key("leader", 12), {"duration": 15.0})
    assert (await Standing(world, known=5).win()).grant.term == 13


# --- answers that go missing ---


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(60)], ids=["lost", "late"])
def test_a_claim_that_landed_unanswered_is_found_by_reading_back(fate: Fate) -> None:
    """The nonce in the lease proves the claim, and trust counts from the send of exactly that request."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", fate)
        won = await Standing(world).win()
        (asked,) = world.network.times("lease.claim")
        assert won.sent == pytest.approx(asked + 1000)
        assert won.grant.nonce == world.get("leases/leader")["nonce"]
        assert won.grant.bid.nonce == won.grant.nonce

    run(test)


@simulated
async def test_a_claim_that_lands_after_the_read_back_counts_from_its_own_send(world: World) -> None:
    """When the first of two requests is the one that landed, trust counts from the first one's send."""
    world.network.next("lease.claim", stray(2.5), LOST)
    won = await Standing(world).win()
    first, second, *_ = world.network.times("lease.claim")
    assert won.sent == pytest.approx(first + 1000)
    assert second > first


@simulated
async def test_a_lost_claim_is_sent_again_on_the_same_version(world: World) -> None:
    """A claim that never arrived is repeated, and a stray of it can not land over its successor."""
    world.network.next("lease.claim", stray(60))
    won = await Standing(world).win()
    assert won.grant.term == 1
    nonce = world.get("leases/leader")["nonce"]
    await world.passes(100)
    assert world.get("leases/leader")["nonce"] == nonce


@simulated
async def test_fields_of_a_newer_version_survive_a_claim_that_was_read_back(world: World) -> None:
    """A grant that was proven by a read-back carries the unknown fields, so that the next renewal keeps them."""
    world.take_lease(term=3)
    world.put("leases/leader", {**world.get("leases/leader"), "holder": None, "future": [1]})
    world.network.next("lease.claim", ANSWER_LOST)
    standing = Standing(world)
    won = await standing.win()
    await standing.provider.lease("leader").renew(won.grant, "fresh")
    assert world.get("leases/leader")["future"] == [1]


@simulated
async def test_a_claim_whose_fate_is_learnt_too_late_is_claimed_anew(world: World) -> None:
    """A grant that is known only after its stop time is no right to act: the same session claims again, one term up."""
    world.network.next("lease.claim", ANSWER_LOST)
    standing = Standing(world)
    world.at(0.5, lambda: world.network.always("lease.observe", DOWN))
    world.at(60.0, lambda: world.network.always("lease.observe", None))
    world.network.next("lease.claim")
    won = await standing.win()
    assert won.grant.term == 2
    assert world.loop.true < 60 + 10
    assert election.trust_from(won.sent, world.leader).stop_at > world.clock.now()


@simulated
async def test_a_rival_who_was_faster_wins(world: World) -> None:
    """A refused claim goes back to following, and waits for the rival's lease to run out."""
    world.network.next("lease.claim", Fate(before=world.take_lease))
    standing = Standing(world)
    won = await standing.win()
    assert won.grant.term == 2
    assert world.loop.true >= 16.5


@simulated
async def test_a_store_that_is_down_after_an_unclear_claim_is_not_stormed(world: World) -> None:
    """While the store refuses connections, an unclear claim is followed up with pauses, not in a tight loop."""
    world.network.next("lease.claim", LOST)
    world.at(1.0, lambda: world.network.always("lease.claim", Fate(there=0.0, back=0.0, error=DOWN.error)))
    world.at(31.0, lambda: world.network.always("lease.claim", None))
    await Standing(world).win()
    assert len(world.network.times("lease.claim")) < 60


@pytest.mark.parametrize("error", [Misconfigured("no permission"), NewerFormat("newer")], ids=str)
def test_what_cannot_be_claimed_is_reported_and_tried_again_later(error: Any) -> None:
    """A permission that is missing is said and tried again once per lease duration, never in a loop."""

    async def test(world: World) -> None:
        world.network.always("lease.claim", Fate(error=error))
        standing = Standing(world)
        world.at(100, lambda: world.network.always("lease.claim", None))
        await standing.win()
        assert len(world.network.times("lease.claim")) <= 9
        assert str(error) in world.problems[0]

    run(test)


# --- closing ---


@pytest.mark.parametrize("when", [0.0, 0.005, 0.5, 3.0, 20.0])
def test_closing_ends_the_wait(when: float) -> None:
    """Closed while it looks, waits or claims, a candidacy ends within a few requests, and loses no grant."""

    async def test(world: World) -> None:
        world.take_lease(term=1)
        standing = Standing(world)
        task = asyncio.create_task(standing.candidacy.win())
        world.at(when, standing.candidacy.close)
        await world.until(task.done, when + 3 * world.leader.total)
        assert (task.result() is None) == (standing.phase is Phase.FOLLOWING)

    run(test)


@pytest.mark.parametrize("observe", [DOWN, LOST], ids=["refused", "silent"])
def test_closing_while_the_store_is_down_ends_too(observe: Fate) -> None:
    """An unclear claim does not keep a drain waiting for a store that is not there."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", LOST)
        world.at(1.0, lambda: world.network.always("lease.observe", observe))
        standing = Standing(world)
        task = asyncio.create_task(standing.candidacy.win())
        world.at(5.0, standing.candidacy.close)
        await world.until(task.done, 5 + 3 * world.leader.total)
        assert task.result() is None
        assert standing.phase is Phase.FOLLOWING

    run(test)


# --- the order of claims, and hand-overs ---


@pytest.mark.parametrize("rank, least, most", [(0, 16.5, 17.1), (1, 18.0, 18.6), (None, 19.5, 20.1)])
def test_the_first_successor_claims_first(rank: int | None, least: float, most: float) -> None:
    """A lease that has run out is claimed in the order of the plan's successors, all others last."""

    async def test(world: World) -> None:
        world.take_lease()
        await Standing(world, rank=rank).win()
        assert least <= world.loop.true <= most

    run(test)


@simulated
async def test_whoever_stepped_down_holds_back(world: World) -> None:
    """A candidacy that was told to hold back leaves a free lease to others for that long."""
    await Standing(world, hold_back=15.0).win()
    assert 15.0 <= world.loop.true <= 16.0


def hand_over(world: World, heir: Heir, term: int = 6) -> None:
    world.take_lease(term=term)
    world.put(
        "leases/leader",
        {**world.get("leases/leader"), "holder": heir.session, "handed": True, "token": heir.token, "instance": None},
    )


@simulated
async def test_an_heir_takes_over_at_once(world: World) -> None:
    """The named heir looks often and accepts in the handed term, although it was told to hold back."""
    world.take_lease(term=5)
    standing = Standing(world, rank=None, hold_back=100.0)
    task = asyncio.create_task(standing.win())
    await world.passes(2.0)
    heir = standing.candidacy.become_heir()
    assert standing.candidacy.become_heir() == heir  # asked again, it is the same offer
    world.at(3.0, lambda: hand_over(world, heir))
    await world.until(task.done, 3.0 + 0.2)
    assert task.result().grant.term == 6
    assert not world.get("leases/leader")["handed"]


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(30), LOST], ids=str)
def test_an_heirs_lost_answer_is_read_back(fate: Fate) -> None:
    """An acceptance whose answer is lost is found by its nonce, or sent again, in the same term."""

    async def test(world: World) -> None:
        standing = Standing(world)
        hand_over(world, standing.candidacy.become_heir())
        world.network.next("lease.accept", fate)
        assert (await standing.win()).grant.term == 6

    run(test)


@simulated
async def test_an_heir_with_another_token_claims_instead(world: World) -> None:
    """A lease handed with a token that was replaced since names this live session: it is claimed at once, a term up."""
    standing = Standing(world)
    old = standing.candidacy.become_heir()
    await world.passes(60)
    assert standing.candidacy.become_heir().token != old.token
    hand_over(world, old)
    before = world.loop.true
    assert (await standing.win()).grant.term == 7
    assert world.loop.true - before < 1.0


@simulated
async def test_a_lease_handed_to_somebody_else_is_waited_for(world: World) -> None:
    """Another's inheritance is left alone until it has stood still for its duration: a dead heir is an expiry."""
    hand_over(world, Heir("other.1", "token"))
    won = await Standing(world).win()
    assert won.grant.term == 7
    assert world.loop.true >= 16.5


@simulated
async def test_being_observed_is_said_once(world: World) -> None:
    """A follower says whom it follows, once per term and holder, however often it looks."""
    world.take_lease(term=4)
    standing = Standing(world)
    await standing.win()
    assert [(said["term"], said["leader"]) for said in world.heard("leader.observed")] == [(4, "rival-host")]


# --- where the store keeps leases itself ---


def held_by(world: World, holder: str, seconds: float = 15.0) -> None:
    """Let somebody acquire the lease now and never write the record: a claim of which only a part has happened."""
    world.store.leases.acquire("leases/leader", f"id of {holder}", seconds)


@pytest.mark.parametrize("rank, least, most", [(0, 15.0, 18.6), (1, 16.5, 20.1), (None, 18.0, 33.6)])
def test_a_kept_lease_is_claimed_when_the_store_says_that_it_is_free(
    rank: int | None, least: float, most: float
) -> None:
    """No one claims before the lease has run out in the store, and from then on claims are staggered by rank."""

    async def test(world: World) -> None:
        world.take_lease(term=4)
        won = await Standing(world, rank=rank).win()
        assert won.grant.term == 5
        assert least <= world.loop.true <= most
        assert len(world.network.times("lease.claim")) == 1

    run(test, capabilities=KEEPS_LEASES)


def test_claims_of_a_kept_lease_are_staggered_from_its_expiry() -> None:
    """The first successor wins against the second and all others who saw the same version for as long as it did."""

    async def test(world: World) -> None:
        for _ in range(6):
            world.take_lease(term=world.get("leases/leader")["term"] + 1 if world.has("leases/leader") else 1)
            three = [Standing(world, who, rank=rank) for who, rank in (("c", None), ("b", 1), ("a", 0))]
            tasks = [asyncio.create_task(one.candidacy.win()) for one in three]
            await world.until(lambda: any(task.done() for task in tasks), 60)  # noqa: B023 - waited for in this round
            assert tasks[2].done()
            for one in three:
                one.candidacy.close()
            await asyncio.wait(tasks)

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("rank, most", [(0, 1300), (1, 1300), (2, 300), (None, 300)])
def test_following_a_kept_lease_costs_little(rank: int | None, most: int) -> None:
    """In an hour with one leader a successor asks at most 1,300 times, and every other follower at most 300 times."""

    async def test(world: World) -> None:
        grant, lease = world.take_lease(), world.lease_of("leader")

        async def lead() -> None:
            for number in range(3600 // 3):
                await world.clock.sleep(3.0)
                lease.renew(grant, f"renewal {number}")

        leading = asyncio.create_task(lead())
        with pytest.raises(TimeoutError):
            await Standing(world, rank=rank).win(within=3600.0)
        leading.cancel()
        assert len(world.network.sent) <= most
        assert len(world.network.sent) >= most / 1.3

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("parts", [1, 2], ids=["created", "acquired"])
def test_a_claim_that_stopped_half_way_is_finished_by_the_same_session(parts: int) -> None:
    """An object without a record, or a lease whose record was never written, holds up its own claimant for a moment."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", Fate(parts=parts))
        won = await Standing(world).win()
        assert won.grant.term == 1
        assert world.loop.true <= 2 * world.leader.total
        assert world.get("leases/leader")["holder"] == "a.1"

    run(test, capabilities=KEEPS_LEASES)


def test_a_lease_acquired_over_an_old_record_is_finished_by_the_same_session() -> None:
    """When the answer to the acquisition is lost, the same request is sent again, and the record then written."""

    async def test(world: World) -> None:
        world.take_lease(term=4)
        world.store.leases.break_now("leases/leader")
        world.network.next("lease.claim", Fate(parts=1))
        won = await Standing(world).win()
        asked = world.network.times("lease.claim")
        assert len(asked) == 2
        assert won.sent == pytest.approx(asked[-1] + 1000)
        assert won.grant.term == 5

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("record", ["old", "none", "mine"])
def test_a_lease_whose_holder_never_wrote_its_record_is_waited_for(record: str) -> None:
    """Held by nobody knows whom, it is neither stormed with claims nor waited for longer than it lasts."""

    async def test(world: World) -> None:
        standing = Standing(world)
        if record == "none":
            world.store.documents.create("leases/leader", b"")
        else:
            world.take_lease("a.1" if record == "mine" else "rival.1", term=4)
            world.store.leases.break_now("leases/leader")
        held_by(world, "rival.2")
        await standing.win()
        assert 15.0 <= world.loop.true <= 15.0 + 2 * world.leader.renew + world.leader.jitter + world.leader.total
        assert len(world.network.times("lease.claim")) <= 7
        assert len(world.network.sent) <= 45

    run(test, capabilities=KEEPS_LEASES)


def test_a_kept_claim_that_landed_unanswered_is_found_by_its_record() -> None:
    """The nonce in the record proves the claim, and the grant renews, resigns and hands over like any other."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", ANSWER_LOST)
        standing = Standing(world)
        won = await standing.win()
        (asked,) = world.network.times("lease.claim")
        assert won.sent == pytest.approx(asked + 1000)
        lease = standing.provider.lease("leader")
        await lease.resign(await lease.renew(won.grant, "fresh"), "last")
        assert (await lease.observe()).free

    run(test, capabilities=KEEPS_LEASES)


def test_a_claim_whose_lease_was_broken_since_is_not_a_grant() -> None:
    """A record that shows my nonce is no proof once the store says that the lease is free: somebody broke it."""

    async def test(world: World) -> None:
        broken = Fate(back=None, after=lambda: world.store.leases.break_now("leases/leader"))
        world.network.next("lease.claim", broken)
        won = await Standing(world).win()
        assert won.grant.term == 2
        assert len(world.network.times("lease.claim")) == 2
        assert (await world.provider.lease("leader").observe()).free is False

    run(test, capabilities=KEEPS_LEASES)


def test_a_kept_claim_whose_fate_is_learnt_too_late_is_claimed_anew() -> None:
    """A grant known only after its stop time is none: the same session asks again, under the same lease id."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", ANSWER_LOST)
        standing = Standing(world)
        world.at(0.5, lambda: world.network.always("lease.observe", DOWN))
        world.at(12.0, lambda: world.network.always("lease.observe", None))
        won = await standing.win()
        assert won.grant.term == 2
        assert world.loop.true < 12.0 + 5
        assert election.trust_from(won.sent, world.leader).stop_at > world.clock.now()

    run(test, capabilities=KEEPS_LEASES)


def test_a_late_claim_of_a_session_changes_nothing() -> None:
    """An acquisition that arrives when its session has long claimed again is refused, whoever holds the lease then."""

    async def test(world: World) -> None:
        world.take_lease(term=4)
        world.store.leases.break_now("leases/leader")
        world.network.next("lease.claim", stray(30.0))
        standing = Standing(world)
        won = await standing.win()
        await standing.provider.lease("leader").resign(won.grant, "last")
        before = world.raw("leases/leader")
        await world.passes(40.0)
        assert (await world.provider.lease("leader").observe()).free
        assert world.raw("leases/leader") == before

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("parts", [1, None], ids=["half", "whole"])
def test_an_heir_of_a_kept_lease_takes_over(parts: int | None) -> None:
    """The heir accepts in the handed term; after half a hand-over it waits no longer than the lease lasts."""

    async def test(world: World) -> None:
        giver, standing = world.provider_of("x").lease("leader"), Standing(world)
        bid = Bid("x.1", "x", "default", 5, world.lease, "x-nonce")
        grant = await giver.claim(await giver.observe(), bid)
        heir = standing.candidacy.become_heir()
        task = asyncio.create_task(standing.win())
        await world.passes(1.0)
        world.network.next("x:lease.hand_over", Fate(parts=parts))
        begun = world.loop.true
        with suppress(OutcomeUnknown):
            await giver.hand_over(grant, heir, "x-last")
        await world.until(task.done, 40)
        assert task.result().grant.term == 6
        limit = 0.2 if parts is None else world.lease + world.leader.renew + world.leader.jitter
        assert world.loop.true - begun <= limit

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(30), LOST, Fate(parts=1)], ids=str)
def test_an_heirs_lost_answer_of_a_kept_lease_is_read_back(fate: Fate) -> None:
    """An acceptance that is unclear, or of which only the acquisition has happened, is found or sent again."""

    async def test(world: World) -> None:
        giver, standing = world.provider_of("x").lease("leader"), Standing(world)
        bid = Bid("x.1", "x", "default", 5, world.lease, "x-nonce")
        grant = await giver.claim(await giver.observe(), bid)
        await giver.hand_over(grant, standing.candidacy.become_heir(), "x-last")
        world.network.next("lease.accept", fate)
        assert (await standing.win()).grant.term == 6
        assert not world.get("leases/leader")["handed"]
        assert world.loop.true <= 3 * world.leader.total

    run(test, capabilities=KEEPS_LEASES)


@pytest.mark.parametrize("capabilities", [CAPABILITIES, KEEPS_LEASES], ids=["observer", "store"])
def test_a_permission_lost_after_an_unclear_claim_is_reported(capabilities: Capabilities) -> None:
    """A claim that was unclear and then is forbidden is said and given up, not repeated in silence for ever."""

    async def test(world: World) -> None:
        world.network.next("lease.claim", LOST)
        world.network.always("lease.claim", Fate(error=Misconfigured("no permission")))
        world.at(60.0, lambda: world.network.always("lease.claim", None))
        await Standing(world).win()
        assert any("no permission" in problem for problem in world.problems)
        assert len(world.network.times("lease.claim")) <= 8

    run(test, capabilities=capabilities)
