"""One instance as a whole: what it refuses to start on, in what order it starts and drains, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from providers.interface import NewerFormat, ProviderError
from providers.memory.driver import CAPABILITIES
from tests.unit.fakes import DOWN, LOST, World, run, simulated
from worker.app import App
from worker.core.plan import Plan
from worker.errors import ConfigurationError, Exit
from worker.supervisor import Supervisor

COUNT = 2


class Instance:
    """One supervisor, and the handlers of its app."""

    def __init__(self, world: World, name: str = "a", *, count: int = COUNT, drain_timeout: float = 60.0) -> None:
        self.world, self.name = world, name
        self.takes = 0.0
        self.handled: list[Any] = []
        self.running = 0
        app = App()

        async def handle(body: Any) -> None:
            self.running += 1
            try:
                await asyncio.sleep(self.takes)
                self.handled.append(body)
            finally:
                self.running -= 1

        app.queue("orders", partitions=count, timeout=1000)(handle)
        app.queue("thumbs", mode="shared", timeout=1000)(handle)
        self.supervisor = Supervisor(
            app, world.ports(name), session=f"{name}-session", drain_timeout=drain_timeout, facts={"version": "1"}
        )
        self.task = asyncio.create_task(self.supervisor.run())

    def send(self, queue: str, *bodies: Any) -> None:
        self.world.store.queue.send(queue, [json.dumps(body).encode() for body in bodies])

    @property
    def leads(self) -> bool:
        return self.supervisor.elector.acting

    @property
    def owned(self) -> set[str]:
        session = self.supervisor.member.session
        return set(session.ownership.active) if session is not None else set()

    async def working(self, within: float = 60.0) -> Instance:
        await self.world.until(lambda: self.owned, within, f"{self.name} owns something")
        return self

    async def ends(self, within: float = 90.0) -> int:
        await self.world.until(self.task.done, within, f"{self.name} has ended")
        return self.task.result()

    def heard(self, event: str) -> list[dict[str, Any]]:
        return self.world.heard(event, instance=self.name)


def refused(prepare: Callable[[World], object], **options: Any) -> str:
    """Start an instance on a prepared store, and return why it refused."""

    async def test(world: World) -> str:
        prepare(world)
        one = Instance(world)
        with pytest.raises(ConfigurationError) as caught:
            await one.ends(10)
        assert caught.value.exit_code is Exit.CONFIGURATION
        assert world.heard("instance.started") == []
        assert world.keys("beats/") == world.keys("terms/") == []
        return str(caught.value)

    return run(test, **options)


def test_another_partition_count_is_refused_with_the_command() -> None:
    """Code that declares another count than the plan is refused, with both counts and the command that changes it."""
    plan = Plan(term=3, generation=1, leader="x~1", queues={"orders": 8})
    said = refused(lambda world: world.put("plan", plan.to_fields()))
    assert "'orders': the code declares 2 partitions and the fleet's plan has 8" in said
    assert "worker partitions orders --count 2" in said


def test_another_fleet_is_refused() -> None:
    """A store prefix whose lease belongs to another fleet is refused with both names, also while nobody leads."""
    said = refused(lambda world: world.take_lease(fleet="blue"))
    assert "'blue'" in said
    assert "'default'" in said


def test_strict_order_needs_a_store_that_can() -> None:
    """order='strict' is refused where the store cannot keep it, naming those that can."""

    async def test(world: World) -> None:
        app = App()
        app.queue("orders", order="strict")(lambda body: None)
        with pytest.raises(ConfigurationError, match=r"'orders' has order='strict'.*SQLite; SQS.*fifo"):
            await Supervisor(app, world.ports(), session="s").run()
        assert world.network.times("queue.ensure") == []

    run(test, capabilities=replace(CAPABILITIES, ordered=False))


def test_a_handler_must_not_take_longer_than_its_message_can_be_hidden() -> None:
    """A handler timeout beyond what the store can hide a message for is refused with both values, and one below not."""

    async def test(world: World) -> None:
        app = App()
        app.queue("orders", timeout=43_200)(lambda body: None)
        with pytest.raises(ConfigurationError, match=r"'orders'.*timeout=43200 s.*for 43200 s at the most"):
            await Supervisor(app, world.ports(), session="s").run()
        assert world.network.times("queue.ensure") == []
        app.queues["orders"] = replace(app.queues["orders"], timeout=43_000)
        await Supervisor(app, world.ports(), session="s").check()

    run(test, capabilities=replace(CAPABILITIES, longest_hidden=43_200.0))


@simulated
async def test_a_store_that_cannot_be_reached_is_an_error_of_the_start(world: World) -> None:
    """An instance that cannot read what it must check starts nothing, and says so to its caller."""
    world.network.always("*", DOWN)
    one = Instance(world)
    with pytest.raises(ProviderError):
        await one.ends(10)
    assert world.heard("instance.started") == []


@pytest.mark.parametrize("key", ["leases/leader", "plan", "control"])
def test_garbage_in_the_store_keeps_nobody_from_starting(key: str) -> None:
    """Whatever document is damaged, an instance starts, reports it, and works in the end."""

    async def test(world: World) -> None:
        world.put(key, b"garbage")
        one = await Instance(world).working(200)
        assert world.problems
        one.send("orders-00", 1)
        await world.until(lambda: one.handled, 60)
        one.supervisor.drain("TERM")
        assert await one.ends() == 0

    run(test)


@simulated
async def test_a_plan_of_a_newer_format_is_left_alone(world: World) -> None:
    """A plan that only a newer version understands is neither overwritten nor led over."""
    body = b'{"format":2,"term":9}'
    world.put("plan", body)
    one = Instance(world)
    await world.passes(120)
    assert world.raw("plan") == body
    assert not one.heard("leader.elected")
    one.supervisor.drain("TERM")
    assert await one.ends() == 0
    assert issubclass(NewerFormat, ProviderError)


@simulated
async def test_an_instance_alone_does_everything(world: World) -> None:
    """One instance creates its queues, leads, owns all partitions, routes its intake and works its shared queues."""
    one = Instance(world)
    await world.until(lambda: len(one.owned) == COUNT, 60)
    assert one.leads
    one.send("orders", "routed")
    one.send("orders-01", "direct")
    one.send("thumbs", "shared")
    await world.until(lambda: len(one.handled) == 3, 10)
    (said,) = one.heard("instance.started")
    assert (said["session"], said["version"]) == ("a-session", "1")
    one.supervisor.drain("TERM")
    assert await one.ends() == 0
    assert [said["reason"] for said in one.heard("instance.draining")] == ["TERM"]
    assert [said["exit_code"] for said in one.heard("instance.stopped")] == [0]


@simulated
async def test_nothing_acts_when_an_instance_has_stopped(world: World) -> None:
    """`instance.stopped` comes last: handlers have finished, partitions are released, the lease is given back."""
    one = await Instance(world).working()
    await world.until(lambda: len(one.owned) == COUNT, 60)
    one.takes = 20.0
    one.send("orders-00", 1, 2)
    one.send("thumbs", 3)
    await world.until(lambda: one.running == 2, 10)
    one.supervisor.drain("TERM")
    one.supervisor.drain("another reason")
    assert await one.ends(30) == 0
    assert sorted(one.handled) == [1, 3]
    assert one.running == 0
    assert world.deadman.deadlines == {}
    assert world.get("leases/leader")["holder"] is None
    (status,) = [world.get(key) for key in world.keys("members/")]
    assert (status["state"], status["active"]) == ("left", {})
    order = [said["event"] for said in world.said]
    assert order.index("instance.draining") < order.index("partition.released") < order.index("member.left")
    assert order[-1] == "instance.stopped"
    assert [said["reason"] for said in one.heard("instance.draining")] == ["TERM"]


@simulated
async def test_a_drained_leader_hands_over_and_its_partitions_follow(world: World) -> None:
    """When the leader is drained, a successor leads within a moment in the next term, and takes what it owned."""
    one = await Instance(world).working()
    two = Instance(world, "b")
    await world.until(lambda: one.owned and two.owned, 120)
    await world.passes(10)
    one.supervisor.drain("TERM")
    stepped = one.heard("leader.stepped_down")
    await world.until(lambda: one.heard("leader.stepped_down"), 10)
    left = world.loop.true
    await world.until(lambda: two.leads, 1)
    assert world.loop.true - left <= 0.5
    assert stepped == []
    assert await one.ends() == 0
    await world.until(lambda: len(two.owned) == COUNT, 30)
    assert two.heard("leader.elected")[0]["term"] == 2
    two.supervisor.drain("TERM")
    assert await two.ends() == 0


@simulated
async def test_handlers_that_outlast_the_drain_are_cancelled(world: World) -> None:
    """When the time for draining is over, handlers are cancelled, and their messages are visible for others."""
    one = await Instance(world, drain_timeout=10.0).working()
    await world.until(lambda: len(one.owned) == COUNT, 60)
    one.takes = 500.0
    one.send("orders-00", 1)
    one.send("thumbs", 2)
    await world.until(lambda: one.running == 2, 10)
    one.supervisor.drain("TERM")
    assert await one.ends(15) == 0
    assert any("not drained within 10 s" in problem for problem in world.problems)
    assert one.handled == []
    assert len(world.bodies("orders-00")) == len(world.bodies("thumbs")) == 1


@simulated
async def test_a_drain_in_an_outage_ends_too(world: World) -> None:
    """A store that is away keeps nobody from ending: trust runs out first."""
    one = await Instance(world).working()
    await world.passes(5)
    world.network.always("*", LOST)
    one.supervisor.drain("TERM")
    assert await one.ends(150) == 0
    assert world.killed == []


@simulated
async def test_a_part_that_fails_ends_the_instance(world: World) -> None:
    """A bug in one part drains the others and ends with a failure, so that the launcher starts anew."""
    one = await Instance(world).working()

    def broken() -> int | None:
        raise ZeroDivisionError("a bug")

    one.supervisor.elector._candidacy._rank_in_plan = broken
    assert one.supervisor.elector.term is not None
    one.supervisor.elector.term.step_down("the test says so")
    one.supervisor.elector._rank = broken
    assert await one.ends(90) == int(Exit.FAILED)
    assert any("a part of the runtime has failed" in problem and "a bug" in problem for problem in world.problems)
    assert [said["exit_code"] for said in one.heard("instance.stopped")] == [1]


@simulated
async def test_a_part_that_fails_while_draining_is_a_failure_too(world: World) -> None:
    """A bug that shows only during the drain is reported, and the exit code says so."""
    one = await Instance(world).working()
    await world.passes(5)

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("a late bug")

    one.supervisor.elector._leave = broken  # type: ignore[method-assign, assignment] # this very step has a bug
    one.supervisor.drain("TERM")
    assert await one.ends(90) == int(Exit.FAILED)
    assert any("a late bug" in problem for problem in world.problems)
