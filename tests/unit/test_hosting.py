"""What an instance does about its machine's end, pause and risk; and what it tells the machine's platform."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from providers.host import End, Notice
from providers.interface import Misconfigured, ProviderError, Unavailable
from providers.portable_host import PortableHost
from tests.unit.fakes import DOWN, World, run, simulated
from tests.unit.host_support import Machine
from worker.app import App
from worker.hosting import BACKLOG_EVERY, EVERY, QUIET, Hosted
from worker.supervisor import Supervisor

SOON = EVERY + 1.0


class Guest:
    """A hosted app with one queue, whose handler takes as long as it is told."""

    def __init__(self, world: World, machine: Machine, name: str = "a", *, drain_timeout: float = 60.0) -> None:
        self.world, self.machine, self.name = world, machine, name
        self.takes = 0.0
        self.begun: list[Any] = []
        self.handled: list[Any] = []
        self.lives: list[Supervisor] = []
        self.drain_timeout = drain_timeout
        app = App()

        async def handle(body: Any) -> None:
            self.begun.append(body)
            await asyncio.sleep(self.takes)
            self.handled.append(body)

        app.queue("orders", partitions=2, timeout=1000)(handle)
        self.app = app
        self.hosted = Hosted(cast("PortableHost", machine), world.ports(name), self.start)
        self.task = asyncio.create_task(self.hosted.run())

    def start(self, facts: Mapping[str, str | None]) -> tuple[Supervisor, Supervisor]:
        one = Supervisor(
            self.app,
            self.world.ports(self.name),
            session=f"{self.name}-{len(self.lives)}",
            drain_timeout=self.drain_timeout,
            facts={"version": "1", **facts},
        )
        self.lives.append(one)
        return one, one

    @property
    def owned(self) -> set[str]:
        session = self.lives[-1].member.session if self.lives else None
        return set(session.ownership.active) if session is not None else set()

    async def working(self, lives: int = 1) -> Guest:
        await self.world.until(lambda: len(self.lives) == lives and len(self.owned) == 2, 200, "it owns everything")
        return self

    async def busy(self, takes: float) -> None:
        """Have one message in hand, for so long."""
        self.takes = takes
        self.world.store.queue.send("orders-00", [json.dumps("long").encode()])
        await self.world.until(lambda: self.begun, 60, "a handler has begun")

    async def ends(self, within: float = 120.0) -> int:
        await self.world.until(self.task.done, within, "it has ended")
        return self.task.result()

    async def leaves_before(self, notice: Notice) -> None:
        """It ends in order, before what is announced may happen."""
        assert await self.ends() == 0
        assert notice.at is not None
        assert self.world.ports(self.name).clock.wall() < notice.at

    def heard(self, event: str) -> list[dict[str, Any]]:
        return self.world.heard(event, instance=self.name)


async def busy_for_long(world: World, machine: Machine) -> Guest:
    """A guest with a message in hand that outlasts every end announced here, and all the time to drain it."""
    one = await Guest(world, machine, drain_timeout=1000).working()
    await one.busy(takes=900)
    return one


def gone(world: World, seconds: float | None = None, id: str = "end") -> Notice:
    at = None if seconds is None else world.ports("a").clock.wall() + seconds
    return Notice(id, End.GONE, "Terminate", at)


@simulated
async def test_a_machine_that_goes_is_left_in_order(world: World) -> None:
    """Its end is heard, work is finished and handed back, the lease too, and only then it is acknowledged; exit 0."""
    machine = Machine()
    one = await Guest(world, machine).working()
    await one.busy(takes=20)
    machine.announced = [gone(world, 300)]
    assert await one.ends() == 0
    assert one.handled == ["long"]
    assert machine.told("acknowledge") == ["end"]
    names = [event["event"] for event in world.said]
    for before, after in (
        ("host.notice", "instance.draining"),
        ("message.handled", "member.left"),
        ("leader.stepped_down", "instance.stopped"),
        ("instance.stopped", "host.acknowledged"),
    ):
        assert names.index(before) < names.index(after)
    assert machine.closed


@simulated
async def test_a_handler_that_takes_too_long_is_cut_short_in_time(world: World) -> None:
    """With an eviction in 30 s and a handler of 60 s, the message is released and the machine told before the end."""
    machine = Machine()
    one = await Guest(world, machine).working()
    await one.busy(takes=60)
    notice = gone(world, 30)
    machine.announced = [notice]
    await one.leaves_before(notice)
    assert one.handled == []
    assert machine.told("acknowledge") == ["end"]
    assert world.store.queue.depth("orders-00").visible == 1


@simulated
async def test_an_earlier_end_shortens_a_drain_under_way(world: World) -> None:
    """A drain that has begun with all the time in the world ends in time when the machine is evicted meanwhile."""
    machine = Machine()
    one = await busy_for_long(world, machine)
    machine.announced = [Notice("reboot", End.PAUSE, "Reboot", None)]
    await world.passes(30)
    notice = gone(world, 40)
    machine.announced = [*machine.announced, notice]
    await one.leaves_before(notice)
    assert set(machine.told("acknowledge")) == {"reboot", "end"}


@simulated
async def test_of_several_ends_at_once_the_nearest_counts(world: World) -> None:
    """A machine that is scaled in, which waits, and evicted, which does not, is left in time for the eviction."""
    machine = Machine()
    one = await busy_for_long(world, machine)
    notice = gone(world, 40)
    machine.announced = [gone(world, id="scaled in"), notice]
    await one.leaves_before(notice)
    assert set(machine.told("acknowledge")) == {"scaled in", "end"}


@simulated
async def test_an_eviction_in_the_middle_of_a_scale_in_counts(world: World) -> None:
    """A drain that a scale-in has begun, and that the platform waits for, still ends before a nearer end."""
    machine = Machine()
    machine.grace = 7.0
    one = await busy_for_long(world, machine)
    machine.announced = [gone(world, id="scaled in")]
    await world.passes(30)
    notice = gone(world, 40)
    machine.announced = [*machine.announced, notice]
    await one.leaves_before(notice)
    assert [event["id"] for event in one.heard("host.notice")] == ["scaled in", "end"]
    assert "end" in machine.told("hold")  # each is held, where the platform lets it


@simulated
async def test_an_end_that_comes_nearer_is_heeded_again(world: World) -> None:
    """An announcement whose time was brought forward shortens the drain that it began."""
    machine = Machine()
    one = await busy_for_long(world, machine)
    machine.announced = [gone(world, 900)]
    await world.passes(30)
    notice = gone(world, 40)
    machine.announced = [notice]
    await one.leaves_before(notice)
    assert len(one.heard("host.notice")) == 1


@simulated
async def test_a_machine_that_pauses_is_left_and_joined_again(world: World) -> None:
    """It is drained before the pause, which is acknowledged, and a new life begins when the notice is over."""
    machine = Machine()
    one = await Guest(world, machine).working()
    machine.announced = [Notice("freeze", End.PAUSE, "Freeze", None)]
    await world.until(lambda: machine.told("acknowledge"), 60, "an acknowledgement")
    assert len(one.heard("instance.stopped")) == 1
    await world.passes(300)
    assert len(one.lives) == 1
    machine.announced = []
    await one.working(lives=2)
    assert machine.told("acknowledge") == ["freeze"]
    one.hosted.drain("TERM")
    assert await one.ends() == 0


@simulated
async def test_nothing_starts_on_a_machine_that_goes(world: World) -> None:
    """A worker that is started again on a machine that is about to go acknowledges, waits, and ends when it is told."""
    machine = Machine()
    machine.announced = [gone(world)]
    one = Guest(world, machine)
    await world.passes(100)
    assert one.lives == []
    assert machine.told("acknowledge") == ["end"]
    assert machine.told("ready") == []
    assert world.keys("beats/") == []
    one.hosted.drain("TERM")
    assert await one.ends() == 0


@simulated
async def test_a_machine_at_risk_keeps_working_and_leads_no_longer(world: World) -> None:
    """On a rebalance recommendation the leader steps down once, and its instance goes on."""
    machine = Machine()
    one = await Guest(world, machine).working()
    machine.announced = [Notice("rebalance", End.RISK, "rebalance recommendation", None)]
    await world.until(lambda: one.heard("leader.stepped_down"), 60, "the leader steps down")
    await world.passes(200)
    assert len(one.heard("leader.stepped_down")) == 1
    assert machine.told("acknowledge") == []
    assert one.heard("instance.draining") == []


@simulated
async def test_more_time_is_asked_for_while_draining(world: World) -> None:
    """Where the platform gives more time, it is asked again and again until the drain is over, and not after."""
    machine = Machine()
    machine.grace = 7.0
    one = await Guest(world, machine).working()
    await one.busy(takes=30)
    machine.announced = [gone(world)]
    assert await one.ends() == 0
    assert 3 <= len(machine.told("hold")) <= 6
    assert machine.said[-1] == ("acknowledge", "end")


@pytest.mark.parametrize("error", [Unavailable("no answer"), Misconfigured("answered 500: <html>")])
def test_a_platform_that_does_not_answer_costs_nothing(error: ProviderError) -> None:
    """An instance works on a machine whose platform is silent or hostile, says so once, and heeds it afterwards."""

    async def test(world: World) -> None:
        machine = Machine()
        machine.error = error
        one = await Guest(world, machine).working()
        await world.passes(300)
        assert len([problem for problem in world.problems if "tells no notices" in problem]) == 1
        machine.error = None
        machine.announced = [gone(world)]
        assert await one.ends() == 0
        assert machine.told("acknowledge") == ["end"]

    run(test)


@simulated
async def test_a_bug_in_a_driver_does_not_deafen_the_instance(world: World) -> None:
    """Whatever a host driver raises is reported, once, and the next notice is heeded all the same."""
    machine = Machine()
    one = await Guest(world, machine).working()
    machine.error = KeyError("EventId")
    await world.passes(3 * EVERY)
    assert [problem for problem in world.problems if "KeyError" in problem] == [
        "the machine could not be looked after: KeyError('EventId')"
    ]
    machine.error = None
    machine.announced = [gone(world)]
    assert await one.ends() == 0


@simulated
async def test_an_acknowledgement_that_fails_is_repeated(world: World) -> None:
    """The platform is told again until it has heard: otherwise it would wait for nothing, or end the machine."""
    machine = Machine()
    one = await Guest(world, machine).working()
    machine.announced = [gone(world)]
    await world.until(lambda: one.heard("instance.draining"), SOON, "a drain")
    machine.error = Unavailable("no answer")
    await world.until(lambda: one.heard("instance.stopped"), 60, "the end of the drain")
    await world.passes(30)
    assert not one.task.done()
    machine.error = None
    assert await one.ends() == 0
    assert machine.told("acknowledge") == ["end"]


@simulated
async def test_a_machine_that_is_shut_down_while_it_drains_is_acknowledged(world: World) -> None:
    """TERM in the middle of a drain for a notice changes nothing: the platform hears of its end."""
    machine = Machine()
    one = await Guest(world, machine).working()
    await one.busy(takes=10)
    machine.announced = [gone(world)]
    await world.until(lambda: one.heard("instance.draining"), SOON, "a drain")
    one.hosted.drain("TERM")
    assert await one.ends() == 0
    assert machine.told("acknowledge") == ["end"]


@simulated
async def test_a_busy_machine_is_protected(world: World) -> None:
    """Protection is asked for while handlers run, and given up some time after the last one."""
    machine = Machine()
    one = await Guest(world, machine).working()
    await world.passes(SOON)
    assert machine.told("protect") == [False]  # a life before this one may have ended while it was busy
    await one.busy(takes=100)
    await world.passes(SOON)
    assert machine.told("protect") == [False, True]
    await world.passes(100 + QUIET + 2 * EVERY)
    assert machine.told("protect") == [False, True, False]


@simulated
async def test_the_leader_publishes_the_backlog(world: World) -> None:
    """Once a minute one figure is published: all that waits or is being handled, intake included, dead letters not."""
    machine = Machine()
    one = await Guest(world, machine).working()
    await one.busy(takes=1000)
    world.store.queue.send("orders-00", [b"1", b"2"])
    world.store.queue.ensure("orders-dlq")
    world.store.queue.send("orders-dlq", [b"dead"])
    machine.said.clear()
    await world.passes(BACKLOG_EVERY + 10)
    assert machine.told("backlog") == [("default", 3)]


@simulated
async def test_who_does_not_lead_publishes_nothing(world: World) -> None:
    """A follower's figure would be another sum of the same messages: only the leader's counts."""
    machines = {name: Machine() for name in "ab"}
    guests = [Guest(world, machine, name) for name, machine in machines.items()]
    await world.passes(3 * BACKLOG_EVERY)
    for guest in guests:
        assert bool(guest.machine.told("backlog")) == guest.lives[-1].elector.acting
    assert sum(bool(machine.told("backlog")) for machine in machines.values()) == 1


@simulated
async def test_a_machine_is_ready_once_its_instance_takes_part(world: World) -> None:
    """The platform may count on a machine from the moment its instance has joined, not before, and is told once."""
    machine = Machine()
    world.network.always("documents.create", DOWN)
    one = Guest(world, machine)
    await world.passes(30)
    assert one.heard("instance.started")
    assert machine.told("ready") == []
    world.network.always("documents.create", None)
    await one.working()
    await world.passes(100)
    assert machine.told("ready") == [True]


@simulated
async def test_a_machine_that_could_not_be_called_ready_is_called_so_later(world: World) -> None:
    """A platform that does not answer is told again, or it would take a good machine for one that never came up."""
    machine = Machine()
    machine.error = Unavailable("no answer")
    await Guest(world, machine).working()
    await world.passes(30)
    assert len([problem for problem in world.problems if "not told that it is ready" in problem]) == 1
    machine.error = None
    await world.passes(SOON)
    assert machine.told("ready") == [True]


@simulated
async def test_the_machine_is_named_in_the_first_event(world: World) -> None:
    """What the platform calls the machine stands beside what the fleet calls the instance."""
    one = await Guest(world, Machine()).working()
    [started] = one.heard("instance.started")
    assert (started["machine"], started["zone"], started["group"]) == ("vm-1", "zone-1", "set-1")
