"""Opening a term: a number that nobody has used, written down once and for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from providers.interface import HIGHEST_TERM, LONGEST_LEASE, Bid, Capabilities, Heir, LeaseView, Unavailable, Version
from providers.memory.driver import CAPABILITIES, KEEPS_LEASES
from tests.unit.fakes import ANSWER_LOST, DOWN, LOST, Fate, World, late, run, simulated, stray
from worker.opening import TRIES, Opener, term_key, terms_prefix

FREE = LeaseView(version=Version("v"), term=2, free=True)
EXPIRED = LeaseView(version=Version("v"), term=2, holder="s", duration=15.0)


def opener(world: World, who: str = "a", role: str = "leader") -> Opener:
    return Opener(world.provider_of(who), world.clock, role, who, "default", world.leader)


@simulated
async def test_a_term_is_recorded_once(world: World) -> None:
    """Of two sessions that open one term, the first is told yes and the second no, and the record stays the first's."""
    assert await opener(world).record(3, "s1", EXPIRED)
    before = world.raw(term_key("leader", 3))
    assert not await opener(world, "b").record(3, "s2", EXPIRED)
    assert world.raw(term_key("leader", 3)) == before
    assert await opener(world).record(3, "s1", EXPIRED)  # asked again, it is still its own


@pytest.mark.parametrize("capabilities", [CAPABILITIES, KEEPS_LEASES], ids=["observer", "store"])
@pytest.mark.parametrize("ended", ["expired", "resigned", "handed over"])
def test_the_view_of_every_store_tells_how_a_term_ended(ended: str, capabilities: Capabilities) -> None:
    """What a follower sees of a lease that ran out, was given up or was handed over makes the right record."""

    async def test(world: World) -> None:
        lease = world.provider.lease("leader")
        grant = await lease.claim(await lease.observe(), Bid("s", "i", "default", 2, 15.0, "first"))
        if ended == "resigned":
            await lease.resign(grant, "last")
        elif ended == "handed over":
            await lease.hand_over(grant, Heir("h", "token"), "last")
        else:
            await world.passes(20.0)
        await opener(world).record(3, "s1", await lease.observe())
        assert world.get(term_key("leader", 3))["previous_end"] == ended

    run(test, capabilities=capabilities)


@simulated
async def test_a_record_says_who_when_and_how_the_last_term_ended(world: World) -> None:
    """A record names session, instance, fleet, time and lease duration, and what became of the term before."""
    await opener(world).record(3, "s1", EXPIRED)
    record = world.get("terms/000000000003")
    assert (record["session"], record["instance"], record["fleet"], record["term"]) == ("s1", "a", "default", 3)
    assert record["duration"] == 15.0
    assert record["opened_at"].startswith("2025-06-15T")


@pytest.mark.parametrize(
    "view, ended",
    [
        (EXPIRED, "expired"),
        (FREE, "resigned"),
        (LeaseView(version=Version("v"), term=2, holder="s", handed=True), "handed over"),
        (replace(EXPIRED, free=True), "expired"),
        (LeaseView(version=None, free=True), "unknown"),
        (LeaseView(version=Version("v"), garbled="not JSON"), "unknown"),
    ],
    ids=["expired", "resigned", "handed", "expired in the store", "absent", "garbled"],
)
def test_how_the_previous_term_ended(view: LeaseView, ended: str) -> None:
    """The lease that a claim replaced tells how the term before came to its end."""

    async def test(world: World) -> None:
        await opener(world).record(3, "s1", view)
        assert world.get(term_key("leader", 3))["previous_end"] == ended

    run(test)


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(60), LOST, stray(0.5), stray(3.0)], ids=str)
def test_a_lost_answer_still_says_whose_the_term_is(fate: Fate) -> None:
    """Whether a create landed unanswered, late or never, the one who asked gets the term that it has."""

    async def test(world: World) -> None:
        world.network.next("documents.create", fate)
        assert await opener(world).record(3, "s1", FREE)
        await world.passes(100)
        assert world.get(term_key("leader", 3))["session"] == "s1"

    run(test)


@simulated
async def test_a_lost_create_that_a_rival_overtook_is_no(world: World) -> None:
    """If the create was lost and somebody else has opened the term meanwhile, the answer is no."""
    rival = {"session": "s2", "nonce": "n"}
    world.network.next("documents.create", Fate(back=None, before=lambda: world.put(term_key("leader", 3), rival)))
    assert not await opener(world).record(3, "s1", FREE)


@simulated
async def test_a_damaged_record_is_nobodys(world: World) -> None:
    """A term whose record cannot be read is taken: whoever wrote it may have acted in it."""
    world.put(term_key("leader", 3), b"garbage")
    assert not await opener(world).record(3, "s1", FREE)


@simulated
async def test_a_store_that_never_answers_is_an_error(world: World) -> None:
    """After a bounded number of unclear creates the error says so; a store that is down is an error at once."""
    world.network.always("documents.create", LOST)
    with pytest.raises(Unavailable, match="nobody knows whether it was written"):
        await opener(world).record(3, "s1", FREE)
    assert len(world.network.times("documents.create")) == TRIES
    world.network.always("documents.create", DOWN)
    with pytest.raises(Unavailable):
        await opener(world).record(4, "s1", FREE)


@simulated
async def test_the_highest_term_is_that_of_the_records(world: World) -> None:
    """The highest recorded number counts, whatever else lies under the prefix, beyond a thousand records too."""
    assert await opener(world).highest() == 0
    for term in (*range(1, 1205), 99_999):
        world.put(term_key("leader", term), {"duration": 15})
    world.put("terms/notes", {"format": 1})
    assert await opener(world).highest() == 99_999


@simulated
async def test_what_was_seen_outlives_the_store(world: World) -> None:
    """A term that was seen counts as the highest, and is written down once where the store does not have it."""
    one = opener(world)
    assert not await one.remind(0, "s")  # nothing was ever seen, and nothing is written
    assert await one.history() is None
    assert await one.remind(5, "s")
    assert not await one.remind(4, "s")
    assert (await one.highest(), await opener(world, "b").highest()) == (5, 5)
    assert await one.history() == LONGEST_LEASE
    world.remove(term_key("leader", 5))
    assert (await one.highest(), await opener(world, "b").highest()) == (5, 0)


@simulated
async def test_a_reminder_never_takes_the_place_of_a_record(world: World) -> None:
    """Where the term, or a higher one, is on record, nothing is written."""
    assert await opener(world).record(6, "s1", FREE)
    before = world.raw(term_key("leader", 6))
    for term in (5, 6):
        assert not await opener(world, "b").remind(term, "s2")
    assert world.raw(term_key("leader", 6)) == before
    assert not world.has(term_key("leader", 5))


@simulated
async def test_roles_count_for_themselves(world: World) -> None:
    """The terms of another lease are recorded elsewhere, and the fleet's terms say nothing about them."""
    await opener(world).record(9, "s", FREE)
    job = opener(world, role="nightly")
    assert (await job.highest(), await job.history()) == (0, None)
    await job.record(1, "s", FREE)
    assert world.keys("roles/") == [term_key("nightly", 1)]
    assert term_key("nightly", 1).startswith(terms_prefix("nightly"))
    assert await opener(world).highest() == 9


@simulated
async def test_history_is_the_last_opened_terms_duration(world: World) -> None:
    """What an absent lease may still be trusted for is what the last opened term was granted, whoever opens next."""
    assert await opener(world).history() is None
    world.put(term_key("leader", 2), {"duration": 15.0})
    world.put(term_key("leader", 10), {"duration": 42})
    assert await opener(world).history() == 42.0


@pytest.mark.parametrize(
    "body",
    [
        b"garbage",
        b'{"format":1}',
        b'{"format":9,"duration":3}',
        *(b'{"format":1,"duration":%s}' % value for value in (b'"3"', b"0", b"-5", b"61", b"1" + b"0" * 400, b"true")),
    ],
    ids=str,
)
def test_an_unreadable_history_means_the_longest(body: bytes) -> None:
    """A record that does not say, or says what nobody can have been granted, counts as the longest lease there is."""

    async def test(world: World) -> None:
        world.put(term_key("leader", 2), body)
        assert await opener(world).history() == LONGEST_LEASE

    run(test)


@simulated
async def test_a_term_beyond_all_history_is_damage(world: World) -> None:
    """A term record with an absurd number is no history: the next term goes on from the highest sensible one."""
    await opener(world).record(3, "s1", EXPIRED)
    await opener(world).record(HIGHEST_TERM + 1, "s1", EXPIRED)
    assert await opener(world).highest() == 3
