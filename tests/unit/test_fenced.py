"""A document that only the newest fence may change, under every way in which an answer can go missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.interface import BadDocument, NewerFormat, OutcomeUnknown, ProviderError, Unavailable
from tests.unit.fakes import ANSWER_LOST, DOWN, LOST, Fate, World, late, run, simulated, stray
from worker.errors import Fenced
from worker.fenced import TRIES, FencedDocument


def document(world: World, fence: int, who: str = "a", **options: Any) -> FencedDocument:
    return FencedDocument(world.provider_of(who).documents, "state/x", fence, world.clock, **options)


@simulated
async def test_a_new_document_is_created_by_opening(world: World) -> None:
    """Opening what does not exist writes it under the fence; saving merges into it."""
    mine = document(world, 7)
    assert (await mine.open()).keys() == {"fence", "nonce"}
    assert world.get("state/x")["fence"] == 7
    await mine.save({"a": 1})
    await mine.save({"b": 2})
    stored = world.get("state/x")
    assert (stored["a"], stored["b"], stored["fence"]) == (1, 2, 7)


@simulated
async def test_opening_writes_before_it_believes(world: World) -> None:
    """A newer fence rewrites what it reads, so that an older owner's write in flight names a version that is gone."""
    old = document(world, 7, "old")
    await old.open()
    await old.save({"balance": 1})
    world.network.next("old:documents.replace", stray(60))
    saving = asyncio.create_task(old.save({"balance": 99}))  # under way for a minute
    await world.passes(0.5)
    new = document(world, 8, "new")
    assert (await new.open())["balance"] == 1
    await new.save({"balance": 2})
    with pytest.raises(Fenced, match="fence 7 is over"):
        await saving
    await world.passes(120)
    assert (world.get("state/x")["balance"], world.get("state/x")["fence"]) == (2, 8)


@simulated
async def test_an_older_fence_is_refused_and_changes_nothing(world: World) -> None:
    """Opening under an older fence raises Fenced and leaves the document as it was."""
    await document(world, 8).open()
    before = world.raw("state/x")
    with pytest.raises(Fenced, match="belongs to fence 8: fence 7 is over"):
        await document(world, 7).open()
    assert world.raw("state/x") == before


@simulated
async def test_a_save_after_a_newer_open_is_refused(world: World) -> None:
    """The first save after somebody newer has opened the document raises Fenced and changes nothing."""
    old = document(world, 7)
    await old.open()
    await document(world, 8).open()
    before = world.raw("state/x")
    for _ in range(2):
        with pytest.raises(Fenced):
            await old.save({"stale": True})
    assert world.raw("state/x") == before


@pytest.mark.parametrize("fate", [ANSWER_LOST, late(60), LOST, stray(0.5), stray(1.9)], ids=str)
@pytest.mark.parametrize("operation", ["documents.create", "documents.replace"])
def test_an_unclear_answer_is_read_back(operation: str, fate: Fate) -> None:
    """Whether a write was lost, landed unanswered or lands late, opening and saving end with what was meant."""

    async def test(world: World) -> None:
        if operation == "documents.replace":
            world.put("state/x", {"fence": 3, "nonce": "n", "kept": True})
        mine = document(world, 7)
        world.network.next(operation, fate)
        opened = await mine.open()
        assert opened.get("kept") == (True if operation == "documents.replace" else None)
        world.network.next("documents.replace", fate)
        await mine.save({"a": 1})
        await world.passes(100)
        await mine.save({"b": 2})
        stored = world.get("state/x")
        assert (stored["fence"], stored["a"], stored["b"]) == (7, 1, 2)

    run(test)


@simulated
async def test_a_save_that_lands_after_it_was_given_up_is_taken_over_by_the_next(world: World) -> None:
    """After a save whose outcome nobody knew, the next save of that fence succeeds, landed or not."""
    mine = document(world, 7)
    await mine.open()
    world.network.next("documents.replace", stray(5))
    world.network.next("documents.read", DOWN)
    with pytest.raises(ProviderError):
        await mine.save({"a": 1})
    await world.passes(10)
    assert world.get("state/x")["a"] == 1  # it has landed by now
    await mine.save({"b": 2})
    assert world.get("state/x")["b"] == 2
    await mine.save({"c": 3})
    assert world.get("state/x")["c"] == 3


@simulated
async def test_a_write_that_nobody_can_clear_up_says_so(world: World) -> None:
    """A store that loses every write ends in an error after a bounded number of tries, never in a hang."""
    mine = document(world, 7)
    await mine.open()
    world.network.always("documents.replace", LOST)
    with pytest.raises(OutcomeUnknown, match="state/x"):
        await mine.save({"a": 1})
    assert len(world.network.times("documents.replace")) == TRIES
    world.network.always("documents.create", LOST)
    with pytest.raises(Unavailable, match="times in a row"):
        await FencedDocument(world.provider.documents, "state/y", 7, world.clock).open()


@simulated
async def test_two_that_open_at_once_are_ordered_by_their_fences(world: World) -> None:
    """Of two concurrent openings the newer fence ends up with the document, and the older one can save no more."""
    old, new = document(world, 7, "old"), document(world, 8, "new")
    results = await asyncio.gather(old.open(), new.open(), return_exceptions=True)
    assert isinstance(results[1], dict)
    if isinstance(results[0], BaseException):
        assert isinstance(results[0], Fenced)
    else:
        with pytest.raises(Fenced):
            await old.save({"stale": True})
    await new.save({"a": 1})
    assert (world.get("state/x")["fence"], world.get("state/x")["a"]) == (8, 1)


@simulated
async def test_fields_of_a_newer_version_survive(world: World) -> None:
    """What this version does not know stays in the document over open and save."""
    world.put("state/x", {"fence": 3, "nonce": "n", "future": {"deep": [1, 2]}})
    mine = document(world, 7)
    await mine.open()
    await mine.save({"a": 1})
    assert world.get("state/x")["future"] == {"deep": [1, 2]}


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[1]", b"{}", b'{"format":1,"fence":"7"}', b'{"format":0}'], ids=str
)
def test_garbage_is_replaced_only_by_who_may(body: bytes) -> None:
    """A damaged document is an error and stays as it is, unless its user has said that it may be replaced."""

    async def test(world: World) -> None:
        world.put("state/x", body)
        with pytest.raises(BadDocument, match="state/x"):
            await document(world, 7).open()
        assert world.raw("state/x") == body
        mine = document(world, 7, replace_bad=True)
        await mine.open()
        await mine.save({"a": 1})
        assert (world.get("state/x")["fence"], world.get("state/x")["a"]) == (7, 1)

    run(test)


@simulated
async def test_what_makes_no_sense_to_its_user_is_damaged(world: World) -> None:
    """Fields that the user's own check refuses count as garbage, but never those of a newer fence."""

    def check(fields: Mapping[str, Any]) -> None:
        if fields.get("odd"):
            raise BadDocument("odd")

    world.put("state/x", {"fence": 3, "nonce": "n", "odd": True})
    with pytest.raises(BadDocument, match="odd"):
        await document(world, 7, check=check).open()
    mine = document(world, 7, check=check, replace_bad=True)
    assert "odd" not in await mine.open()
    assert "odd" not in world.get("state/x")
    assert (await document(world, 7, check=check).open())["fence"] == 7
    world.put("state/x", {"fence": 8, "nonce": "n", "odd": True})
    with pytest.raises(Fenced):
        await document(world, 7, check=check, replace_bad=True).open()


@pytest.mark.parametrize("replace_bad", [False, True])
def test_a_newer_format_is_never_overwritten(replace_bad: bool) -> None:
    """A document of a newer format is refused loudly, also by who may replace damaged ones, when opening and saving."""

    async def test(world: World) -> None:
        body = b'{"format":2,"fence":"in words"}'
        world.put("state/x", body)
        with pytest.raises(NewerFormat, match="upgrade"):
            await document(world, 7, replace_bad=replace_bad).open()
        assert world.raw("state/x") == body
        world.remove("state/x")
        mine = document(world, 7, replace_bad=replace_bad)
        await mine.open()
        world.put("state/x", body)
        with pytest.raises((NewerFormat, Fenced)):
            await mine.save({"a": 1})
        assert world.raw("state/x") == body

    run(test)


def spoil(world: World) -> None:
    world.put("state/x", {"fence": 7, "nonce": "somebody else's"})


@pytest.mark.parametrize("change", [spoil, lambda world: world.remove("state/x")], ids=["changed", "deleted"])
def test_whoever_changes_the_document_ends_the_fence(change: Callable[[World], None]) -> None:
    """A save never lands on a version that this fence has not written: it raises Fenced."""

    async def test(world: World) -> None:
        mine = document(world, 7)
        await mine.open()
        change(world)
        with pytest.raises(Fenced, match="was changed by somebody else"):
            await mine.save({"a": 1})

    run(test)


@simulated
async def test_saving_before_opening_is_a_bug(world: World) -> None:
    """A save without an open is an error of the caller and sends nothing."""
    with pytest.raises(RuntimeError, match="before it was opened"):
        await document(world, 7).save({})
    assert world.network.sent == []


FATES = st.sampled_from([Fate(), ANSWER_LOST, LOST, DOWN, late(30), stray(0.7), stray(8.0), stray(90.0)])


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 4), st.lists(FATES, max_size=4)), min_size=1, max_size=8))
def test_a_fence_never_falls_and_no_save_of_an_older_one_lands_after_a_newer_open(
    script: list[tuple[int, list[Fate]]],
) -> None:
    """Whatever becomes of requests, the stored fence only grows, and what a fence has opened no older one changes."""

    async def test(world: World) -> None:
        opened = 0  # the highest fence whose open has returned
        history: list[int] = []

        def watch() -> None:
            if world.has("state/x"):
                history.append(world.get("state/x")["fence"])
                assert history[-1] >= max(history)
                assert history[-1] >= opened

        world.watch(watch)
        for fence, fates in script:
            world.network.next("documents.create", *fates)
            world.network.next("documents.replace", *fates)
            mine = document(world, fence)
            try:
                await mine.open()
                opened = max(opened, fence)
                await mine.save({"by": fence})
                assert world.get("state/x")["by"] == fence
            except (Fenced, ProviderError):
                continue
        await world.passes(200)

    run(test)
