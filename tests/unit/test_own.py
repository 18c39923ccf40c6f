"""A session's own documents: what it writes is there, whoever else has written or deleted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from providers.interface import Unavailable
from tests.unit.fakes import ANSWER_LOST, DOWN, LATENCY, LOST, Fate, World, late, run, simulated, stray
from worker.own import TRIES, OwnDocument


def own(world: World) -> OwnDocument:
    return OwnDocument(world.provider.documents, "beats/a~s", world.clock)


@simulated
async def test_a_write_says_when_it_was_sent(world: World) -> None:
    """The time returned is that before the request, not that of the answer: trust is counted from it."""
    document = own(world)
    before = world.clock.now()
    assert await document.write({"n": 1}) == before
    assert world.clock.now() == pytest.approx(before + 2 * LATENCY)
    assert world.get("beats/a~s")["n"] == 1


@simulated
async def test_every_write_is_a_new_version_with_a_new_nonce(world: World) -> None:
    """Two equal writes are two nonces, so that even a store that hashes bodies shows a change."""
    document = own(world)
    await document.write({"n": 1})
    first = world.get("beats/a~s")["nonce"]
    await document.write({"n": 1})
    assert world.get("beats/a~s")["nonce"] != first


SCRIBBLES: list[Callable[[World], None]] = [
    lambda world: world.put("beats/a~s", b"\x00 not JSON"),
    lambda world: world.put("beats/a~s", {"n": 1, "nonce": "another's"}),
    lambda world: world.put("beats/a~s", b'{"format":99}'),
    lambda world: world.remove("beats/a~s"),
]


@pytest.mark.parametrize("scribble", SCRIBBLES, ids=["garbage", "another's", "newer format", "deleted"])
def test_whoever_scribbles_is_overruled(scribble: Callable[[World], None]) -> None:
    """Nobody else has any business in a session's own document, so the next write wins."""

    async def test(world: World) -> None:
        document = own(world)
        await document.write({"n": 1})
        assert await document.stands()
        scribble(world)
        assert not await document.stands()
        sent = await document.write({"n": 2})
        assert world.get("beats/a~s")["n"] == 2
        assert sent == pytest.approx(world.clock.now() - 2 * LATENCY)
        await document.write({"n": 3})
        assert world.get("beats/a~s")["n"] == 3

    run(test)


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(60), LOST, stray(0.5), stray(5.0)], ids=str)
@pytest.mark.parametrize("first", [True, False], ids=["create", "replace"])
def test_an_unclear_answer_costs_nothing_but_time(first: bool, fate: Fate) -> None:
    """Lost, unanswered, late or stray: the write is there in the end, with the time of a send that is visible."""

    async def test(world: World) -> None:
        document = own(world)
        if not first:
            await document.write({"n": 0})
        began = world.clock.now()
        world.network.next("documents.create" if first else "documents.replace", fate)
        sent = await document.write({"n": 1})
        assert world.get("beats/a~s")["n"] == 1
        assert began <= sent < world.clock.now()
        if fate.there is not None and fate.there < world.leader.total:
            assert sent == began  # it had landed when it was read back
        else:
            assert sent > began  # another request has made it so
        await world.passes(100)
        assert world.get("beats/a~s")["n"] == 1
        await document.write({"n": 2})
        assert world.get("beats/a~s")["n"] == 2

    run(test)


@simulated
async def test_a_store_that_is_down_is_an_error(world: World) -> None:
    """What cannot be written raises at once, or after a bounded number of unclear answers."""
    document = own(world)
    world.network.next("documents.create", DOWN)
    with pytest.raises(Unavailable):
        await document.write({})
    world.network.always("documents.create", LOST)
    with pytest.raises(Unavailable, match=f"in {TRIES} tries"):
        await document.write({})


@simulated
async def test_deleting_takes_only_what_was_written(world: World) -> None:
    """A session's document can be deleted by its own stamp, once."""
    document = own(world)
    await document.delete()
    await document.write({"n": 1})
    await document.delete()
    assert not world.has("beats/a~s")
