"""Polling: how often an idle queue is asked, and how long a poll may wait in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from providers.interface import Received
from providers.memory.driver import CAPABILITIES
from tests.unit.fakes import Fate, World, run
from worker.app import App
from worker.consumer import Consumer, Share
from worker.core.timings import leader_timings, member_timings
from worker.polling import IDLE_FIRST, LONG_POLL, long_poll, next_pause
from worker.router import route

WAITS = replace(CAPABILITIES, long_poll=True)


@pytest.mark.parametrize("lease", [3.0, 15.0, 60.0])
def test_a_poll_waits_no_longer_than_half_the_grace(lease: float) -> None:
    """A partition that moves never waits for a poll beyond half of what its handler gets, nor any poll beyond 20 s."""

    async def test(world: World) -> None:
        ports = world.ports(member=member_timings(leader_timings(lease)))
        assert 0 < long_poll(ports) <= min(ports.member.grace / 2, LONG_POLL)

    run(test, capabilities=WAITS)


def test_a_store_without_long_polls_is_never_asked_to_wait() -> None:
    """Where the store cannot wait, a poll asks for no wait at all."""

    async def test(world: World) -> None:
        assert long_poll(world.ports()) == 0

    run(test)


def test_pauses_double_up_to_the_setting() -> None:
    """Idle polls back off to the stated pause and never beyond; a poll that waited itself is followed by the next."""

    async def test(world: World) -> None:
        ports = world.ports(idle_poll=0.7)
        pauses = [IDLE_FIRST]
        for _ in range(8):
            pauses.append(next_pause(pauses[-1], 0.0, ports))
        assert all(later == min(0.7, 2 * earlier) for earlier, later in pairwise(pauses))
        assert pauses[-1] == 0.7
        assert next_pause(0.7, 10.0, ports) == IDLE_FIRST
        assert next_pause(0.7, 10.0, world.ports(idle_poll=0.01)) == 0.01

    run(test)


class Idle:
    """A consumer and a router with nothing to do."""

    def __init__(self, world: World, *, slots: int = 10, idle_poll: float = 2.0) -> None:
        app = App()

        async def handle(body: Any) -> None: ...

        app.queue("orders", partitions=1)(handle)
        for name in ("orders", "orders-00", "orders-dlq"):
            world.store.queue.ensure(name)
        ports = world.ports(idle_poll=idle_poll)
        spec = app.queues["orders"]
        self.slots = asyncio.Semaphore(slots)
        share = Share(self.slots, lambda _: False, lambda: True)
        self.consumer = Consumer(spec, "orders-00", 1, ports, share)
        self.run: dict[str, Callable[[], Any]] = {
            "consumer": self.consumer.run,
            "router": lambda: route(spec, lambda: 1, ports),
        }


@pytest.mark.parametrize("who", ["consumer", "router"])
@pytest.mark.parametrize("idle_poll", [0.3, 2.0, 5.0])
def test_no_pause_is_longer_than_the_setting(who: str, idle_poll: float) -> None:
    """An idle queue is looked at again within WORKER_IDLE_POLL, always, and not much more often than that."""

    async def test(world: World) -> None:
        task = asyncio.create_task(Idle(world, idle_poll=idle_poll).run[who]())
        await world.passes(200.0)
        looks = world.network.times("queue.receive")
        gaps = [later - earlier for earlier, later in pairwise(looks)]
        assert max(gaps) <= idle_poll + 0.03  # and the request itself
        assert len(looks) <= 200.0 / idle_poll * 1.35 + 10
        task.cancel()

    run(test)


@pytest.mark.parametrize("who", ["consumer", "router"])
def test_a_poll_that_waits_in_the_store_is_followed_by_the_next(who: str) -> None:
    """With long polls somebody asks practically all the time, so that no message waits for a pause to end."""

    async def test(world: World) -> None:
        wait = long_poll(world.ports())
        world.network.always("queue.receive", Fate(back=wait))  # as a store that has nothing answers
        task = asyncio.create_task(Idle(world, idle_poll=5.0).run[who]())
        await world.passes(100.0)
        gaps = [later - earlier for earlier, later in pairwise(world.network.times("queue.receive"))]
        assert max(gaps) <= wait + 0.2
        assert min(gaps) >= wait
        task.cancel()

    run(test, capabilities=WAITS)


@pytest.mark.parametrize("slots, waits", [(1, False), (2, True)])
def test_the_last_slot_is_never_held_by_a_poll_that_waits(slots: int, waits: bool) -> None:
    """An idle partition may wait in the store only while other partitions of the instance still have a slot."""

    async def test(world: World) -> None:
        asked: list[float] = []
        idle = Idle(world, slots=slots)

        async def receive(queue: str, limit: int, hide_for: float, wait: float = 0.0) -> list[Received]:
            asked.append(wait)
            return []

        idle.consumer._queue.receive = receive  # type: ignore[method-assign] # seen on its way
        task = asyncio.create_task(idle.consumer.run())
        await world.passes(10.0)
        assert {wait > 0 for wait in asked} == {waits}
        task.cancel()

    run(test, capabilities=WAITS)
