"""Keys: whoever puts a message into a queue tells the store under which key it must keep its order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from providers.interface import Capabilities
from providers.memory.driver import CAPABILITIES
from tests.unit.fakes import World, run
from worker.admin import dlq
from worker.admin.inputs import Item
from worker.admin.routing import Route
from worker.admin.send import send
from worker.app import App, QueueSpec
from worker.consumer import Consumer, Share
from worker.router import route

KINDS = pytest.mark.parametrize(
    "capabilities", [CAPABILITIES, replace(CAPABILITIES, atomic_move=False)], ids=["move", "send"]
)
"""Stores that move a message in one transaction, and those where it is sent there and deleted here."""


class Keys:
    """The queues of a world, with every key that reached the store."""

    def __init__(self, world: World) -> None:
        self.seen: list[tuple[str, str | None]] = []
        queue = world.store.queue
        sends, moves = queue.send, queue.move

        def send(name: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
            self.seen += [(name, key) for key in keys]
            return sends(name, bodies, keys)

        def move(name: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
            self.seen.append((to, key))
            return moves(name, receipt, to, body, key)

        queue.send = send  # type: ignore[method-assign, assignment] # seen on its way
        queue.move = move  # type: ignore[method-assign, assignment] # seen on its way
        for name in ("orders", "orders-00", "orders-dlq"):
            queue.ensure(name)


def failing() -> QueueSpec:
    app = App()

    async def fail(body: Any) -> None:
        raise ValueError("never")

    app.queue("orders", partitions=1, key="customer", max_attempts=1)(fail)
    return app.queues["orders"]


@KINDS
def test_keys_travel_from_the_intake_to_the_dead_letters_and_back(capabilities: Capabilities) -> None:
    """A producer's key goes with the message through the router, the consumer and a replay, on every kind of store."""

    async def test(world: World) -> None:
        keys, spec = Keys(world), failing()
        await send(
            world.provider, world.clock, Route("orders", None), [Item({"customer": "c-1"}, "1")], key_field="customer"
        )
        share = Share(asyncio.Semaphore(1), lambda _: False, lambda: True)
        working = [
            asyncio.create_task(route(spec, lambda: 1, world.ports())),
            asyncio.create_task(Consumer(spec, "orders-00", 1, world.ports(), share).run()),
        ]
        await world.until(lambda: world.bodies("orders-dlq"), 60)
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        await dlq.replay(world.provider, world.clock, Route("orders", 1), None)
        assert keys.seen == [("orders", "c-1"), ("orders-00", "c-1"), ("orders-dlq", "c-1"), ("orders-00", "c-1")]

    run(test, capabilities=capabilities)


@KINDS
def test_a_message_without_a_key_has_none(capabilities: Capabilities) -> None:
    """Where neither the producer nor the body gives a key, the store is told that there is none."""

    async def test(world: World) -> None:
        keys = Keys(world)
        await send(world.provider, world.clock, Route("orders", 1), [Item({"n": 1}, "1"), Item({"n": 2}, "2")])
        assert keys.seen == [("orders-00", None)] * 2

    run(test, capabilities=capabilities)
