"""State as handlers and leader jobs see it: whose it is, where it lies, and under which fence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.portable import check_key
from tests.unit.fakes import World, run, simulated
from worker.app import App, QueueSpec
from worker.core.names import partition_index, partition_name
from worker.errors import Fenced
from worker.statedoc import leader_state, partition_state

COUNT = 16


def spec() -> QueueSpec:
    app = App()
    app.queue("orders", partitions=COUNT, key="customer")(lambda body: None)
    return app.queues["orders"]


def home(key: str) -> str:
    return partition_name("orders", partition_index(key, COUNT), COUNT)


@simulated
async def test_a_partitions_state_is_kept_under_its_owners_fence(world: World) -> None:
    """What a handler changes is stored under its queue and key with the owner's fence, and found again by the next."""
    state = partition_state(world.ports(), spec(), home("c-1"), 7)
    async with state("c-1") as content:
        content["paid"] = 3
    stored = world.get("state/orders/c-1")
    assert (stored["content"], stored["fence"]) == ({"paid": 3}, 7)
    async with partition_state(world.ports("b"), spec(), home("c-1"), 8)("c-1") as content:
        assert content == {"paid": 3}
        content["paid"] += 1
    assert world.get("state/orders/c-1")["content"] == {"paid": 4}


@simulated
async def test_an_older_owner_is_refused(world: World) -> None:
    """Once a newer owner has opened a state, the older one can neither save what it has nor open it again."""
    old = partition_state(world.ports(), spec(), home("c-1"), 7)
    opened = old("c-1")
    content = await opened.__aenter__()
    async with partition_state(world.ports("b"), spec(), home("c-1"), 8)("c-1") as newer:
        newer["by"] = "b"
    content["by"] = "a"
    with pytest.raises(Fenced):
        await opened.__aexit__(None, None, None)
    with pytest.raises(Fenced):
        async with old("c-1"):
            pass
    assert world.get("state/orders/c-1")["content"] == {"by": "b"}


@simulated
async def test_content_is_what_the_user_left_in_it(world: World) -> None:
    """Keys that the user removed are gone after saving, and names of the document's own fields are free to use."""
    state = partition_state(world.ports(), spec(), home("c-1"), 7)
    async with state("c-1") as content:
        content.update(a=1, fence="mine", nonce="mine", format="mine")
    async with state("c-1") as content:
        assert content == {"a": 1, "fence": "mine", "nonce": "mine", "format": "mine"}
        del content["a"]
    async with state("c-1") as content:
        assert "a" not in content
    assert world.get("state/orders/c-1")["fence"] == 7


@simulated
async def test_content_that_has_no_json_form_is_the_handlers_error(world: World) -> None:
    """What JSON cannot hold raises inside the handler and leaves the document as it was."""
    state = partition_state(world.ports(), spec(), home("c-1"), 7)
    async with state("c-1") as content:
        content["good"] = 1
    with pytest.raises(TypeError):
        async with state("c-1") as content:
            content["bad"] = {1, 2}
    async with state("c-1") as content:
        assert content == {"good": 1}


def test_only_the_messages_own_partition_has_its_state() -> None:
    """A name that belongs to another partition is refused, with both named; a key with more behind a slash is fine."""

    async def test(world: World) -> None:
        state = partition_state(world.ports(), spec(), home("c-1"), 7)
        async with state("c-1/addresses/home") as content:
            content["street"] = "x"
        assert world.has("state/orders/c-1%2Faddresses%2Fhome")
        other = next(f"c-{n}" for n in range(2, 99) if home(f"c-{n}") != home("c-1"))
        for name in (other, f"{other}/c-1", "/c-1"):
            with pytest.raises(ValueError, match=home("c-1")):
                state(name)
        with pytest.raises(ValueError, match="belongs to partition"):
            state("")

    run(test)


@simulated
async def test_a_shared_queue_has_no_state(world: World) -> None:
    """Nobody owns a message of a shared queue, so nobody owns its state."""
    with pytest.raises(ValueError, match="'orders' is shared"):
        partition_state(world.ports(), spec(), "orders", None)("c-1")


@simulated
async def test_a_leaders_state_is_fenced_by_its_term(world: World) -> None:
    """A leader job's document belongs to the newest term, and lies where no queue's state can."""
    async with leader_state(world.ports(), 3)("watermark") as content:
        content["at"] = 1
    async with leader_state(world.ports("b"), 4)("watermark") as content:
        content["at"] += 1
    with pytest.raises(Fenced):
        async with leader_state(world.ports(), 3)("watermark"):
            pass
    assert world.keys("state/") == ["state/~leader/watermark"]
    assert world.get("state/~leader/watermark")["fence"] == 4


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_every_key_has_a_state_of_its_own(key: str) -> None:
    """Whatever characters a message's key holds, its state has a document key that every store takes."""

    async def test(world: World) -> None:
        head = key.partition("/")[0]
        if not head:
            return
        async with partition_state(world.ports(), spec(), home(head), 7)(key) as content:
            content["key"] = key
        (stored,) = world.keys("state/")
        check_key(stored)
        assert stored.count("/") == 2
        assert world.get(stored)["content"] == {"key": key}

    run(test)


@pytest.mark.parametrize("names", [("a.", "a%2E"), ("a/b", "a%2Fb"), (".", "%2E"), ("..", ".%2E"), ("a.b.", "a.b%2E")])
def test_two_names_are_two_documents(names: tuple[str, str]) -> None:
    """Names that differ never share a document, however they are escaped."""

    async def test(world: World) -> None:
        for name in names:
            async with partition_state(world.ports(), spec(), home(name.partition("/")[0]), 7)(name) as content:
                content["name"] = name
        assert len(world.keys("state/")) == 2

    run(test)
