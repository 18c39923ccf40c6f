"""The router: from the intake to the partition that a key belongs to, once if the store allows it, and never lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from providers.memory.driver import CAPABILITIES
from tests.unit.fakes import ANSWER_LOST, DOWN, LOST, Fate, World, late, run, simulated, stray
from worker.app import App, QueueSpec
from worker.core.dead_letter import read_dead_letter
from worker.core.envelope import Envelope, unwrap, wrap
from worker.core.names import partition_index, partition_name, partition_names
from worker.router import route

COUNT = 4
NAMES = partition_names("orders", COUNT)


def spec(**options: Any) -> QueueSpec:
    app = App()

    async def handle(body: Any) -> None: ...

    app.queue("orders", partitions=COUNT, key="customer", **options)(handle)
    return app.queues["orders"]


class Routing:
    """A router at work, and what has come out of it."""

    def __init__(self, world: World, *, queues: bool = True, **options: Any) -> None:
        self.world = world
        world.store.queue.ensure("orders")
        for name in [*NAMES, "orders-dlq"] if queues else []:
            world.store.queue.ensure(name)
        self.count: int | None = COUNT
        self.task = asyncio.create_task(route(spec(**options), lambda: self.count, world.ports()))

    def send(self, *bodies: Any) -> list[str]:
        data = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        return list(self.world.store.queue.send("orders", data))

    async def routed(self, within: float = 120.0) -> None:
        await self.world.until(lambda: self.world.left("orders") == 0, within, "the intake is empty")

    def out(self) -> dict[str, list[Envelope]]:
        return {name: [unwrap(body) for body in self.world.bodies(name)] for name in NAMES if self.world.bodies(name)}


@simulated
async def test_a_key_decides_the_partition(world: World) -> None:
    """Plain JSON goes where the key in its body belongs, with the intake's id and the key beside it."""
    routing = Routing(world)
    keys = [f"c-{number}" for number in range(40)]
    ids = routing.send(*({"customer": key} for key in keys))
    await routing.routed()
    found = {envelope.id: (name, envelope) for name, all in routing.out().items() for envelope in all}
    assert set(found) == set(ids)
    for id, key in zip(ids, keys, strict=True):
        name, envelope = found[id]
        assert name == partition_name("orders", partition_index(key, COUNT), COUNT)
        assert (envelope.key, envelope.body, envelope.origin) == (key, {"customer": key}, "router")
        assert envelope.at is not None


@simulated
async def test_messages_of_one_key_keep_their_order(world: World) -> None:
    """What was sent in order under one key arrives in order in its partition."""
    routing = Routing(world)
    routing.send(*({"customer": "c", "n": n} for n in range(35)))
    await routing.routed()
    ((_, envelopes),) = routing.out().items()
    assert [envelope.body["n"] for envelope in envelopes] == list(range(35))


@simulated
async def test_without_a_key_the_id_decides(world: World) -> None:
    """A body without the field, with null in it, or that is no object is spread by its id."""
    routing = Routing(world)
    ids = routing.send({"amount": 1}, {"customer": None}, [1], "text", 7)
    await routing.routed()
    found = {envelope.id: name for name, all in routing.out().items() for envelope in all}
    assert found == {id: partition_name("orders", partition_index(id, COUNT), COUNT) for id in ids}


@simulated
async def test_an_envelope_keeps_what_it_says(world: World) -> None:
    """An id, key, origin and unknown fields that a producer gave travel along unchanged."""
    routing = Routing(world)
    routing.send(wrap({"customer": "c-1"}, id="mine", key="other", origin="send", at="then", extra={"trace": [1]}))
    await routing.routed()
    ((name, (envelope,)),) = routing.out().items()
    assert name == partition_name("orders", partition_index("other", COUNT), COUNT)
    assert (envelope.id, envelope.key, envelope.origin, envelope.at) == ("mine", "other", "send", "then")
    assert envelope.extra == {"trace": [1]}


@pytest.mark.parametrize(
    "body, said",
    [
        (b"no JSON", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"cloud-worker": 2, "body": 1}', "format 2"),
        (b'{"cloud-worker": 1, "key": 7, "body": 1}', "'key'"),
        (b'{"customer": "\\ud800"}', "surrogate"),
        (b'{"cloud-worker": 1, "id": "\\ud800", "body": 1}', "surrogate"),
        (json.dumps({"customer": "c", "text": "x" * (CAPABILITIES.limit - 40)}).encode(), "262144"),
    ],
    ids=["text", "bytes", "newer envelope", "bad key", "half a character", "half an id", "too large"],
)
def test_what_cannot_be_routed_is_dead_lettered(body: bytes, said: str) -> None:
    """A message that no partition can be found for, or that none takes, is a dead letter, and holds up nobody else."""

    async def test(world: World) -> None:
        routing = Routing(world)
        first, *_ = routing.send(body, {"customer": "c-1"})
        await routing.routed(5)
        (letter,) = [read_dead_letter(one) for one in world.bodies("orders-dlq")]
        assert letter.failure is not None
        assert said in letter.failure.error or "error" in letter.cut  # a body as large as a letter leaves no room
        assert letter.failure.error_type == "worker.BadMessage"
        assert (letter.envelope.id, letter.failure.partition) == (first, "orders")
        assert sum(map(len, routing.out().values())) == 1
        (event,) = world.heard("message.dead_lettered")
        assert (event["queue"], event["message"]) == ("orders", first)

    run(test)


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic move", "send and delete"])
@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, late(20), stray(20)], ids=str)
@pytest.mark.parametrize("operation", ["queue.receive", "queue.move", "queue.send", "queue.delete"])
def test_trouble_with_the_store_loses_nothing(operation: str, fate: Fate, atomic: bool) -> None:
    """Whatever a request meets, every message arrives; a copy that an unclear move leaves behind has the same id."""

    async def test(world: World) -> None:
        routing = Routing(world)
        world.network.next(operation, Fate(), fate)
        ids = routing.send(*({"customer": f"c-{n}"} for n in range(12)))
        await routing.routed()
        await world.passes(30)
        found = [(envelope.id, name) for name, all in routing.out().items() for envelope in all]
        assert {id for id, _ in found} == set(ids)
        assert len(set(found)) == len(ids)  # every copy is in the same partition
        if atomic:
            assert len(found) == len(ids)

    run(test, capabilities=replace(CAPABILITIES, atomic_move=atomic))


@simulated
async def test_missing_queues_are_created(world: World) -> None:
    """A partition's queue that does not exist is created, and what was in hand is routed when it is visible again."""
    routing = Routing(world, queues=False, order="strict")
    routing.send({"customer": "c-1"})
    await routing.routed()
    assert sum(map(len, routing.out().values())) == 1
    assert all(world.store.queue._queues[name].ordered for name in NAMES)


@simulated
async def test_a_missing_intake_is_created(world: World) -> None:
    """An intake that was deleted is made again."""
    Routing(world)
    del world.store.queue._queues["orders"]
    await world.until(lambda: "orders" in world.store.queue._queues, 10)


@simulated
async def test_an_idle_intake_costs_little(world: World) -> None:
    """Looks at an empty intake become one a second, and a message is still found within that."""
    routing = Routing(world)
    await world.passes(100)
    assert len(world.network.times("queue.receive")) < 115
    routing.send({"customer": "c"})
    await routing.routed(1.5)


@simulated
async def test_nothing_is_routed_while_the_count_is_unsettled(world: World) -> None:
    """While the count is being changed the intake keeps its messages, and then they go by the new one."""
    routing = Routing(world)
    routing.count = None
    await world.passes(5)
    ids = routing.send(*({"customer": f"c-{n}"} for n in range(20)))
    await world.passes(30)
    assert routing.out() == {}
    routing.count = 2
    await routing.routed()
    found = {envelope.id: name for name, all in routing.out().items() for envelope in all}
    assert found == {id: partition_name("orders", partition_index(f"c-{n}", 2), 2) for n, id in enumerate(ids)}
