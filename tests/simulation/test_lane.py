"""The simulated way to the store: what its faults do to a request, and what the caller is told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from providers.interface import OutcomeUnknown, Refused, Unavailable
from providers.memory import MemoryDriver, MemoryStore
from providers.provider import Provider
from worker.testing.lane import Network, Outage
from worker.testing.loop import VirtualLoop
from worker.testing.node import LocalClock, Node
from worker.testing.weather import CLEAR, Fate, Weather


class World:
    """One machine with one node, and a store."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.store = MemoryStore(now=lambda: self.loop.true)
        self.network = Network(self.loop, MemoryDriver(self.store), seed=1, unit=2.0)
        self.provider = Provider(self.network.driver, total=2.0, lane=self.network.lane("a"))
        self.node = Node("a", LocalClock(100, 0.9))

    def weather(self, **chances: Any) -> None:
        self.network.weather = replace(CLEAR, **chances)

    def run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run a coroutine function in the node and return its result."""
        return self.loop.run_until_complete(self.loop.spawn(self.node, function))

    def later(self, seconds: float) -> None:
        """Let true time pass."""
        done = self.loop.create_future()
        self.loop.outside(seconds, done.set_result, None)
        self.loop.run_until_complete(done)

    @property
    def keys(self) -> list[str]:
        return [stamp.key for stamp in self.store.documents.list("").stamps]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_a_request_takes_time_and_is_answered(world: World) -> None:
    """In clear weather a request is applied and answered, and time has passed."""

    async def main() -> bytes:
        stamp = await world.provider.documents.create("plan", b"one")
        with pytest.raises(Refused):
            await world.provider.documents.create("plan", b"two")
        await world.provider.documents.replace(stamp, b"three")
        document = await world.provider.documents.read("plan")
        return document.body if document else b""

    assert world.run(main) == b"three"
    assert 0 < world.loop.true < 1


@pytest.mark.parametrize(
    "fate, landed",
    [("request_lost", False), ("answer_lost", True), ("answer_late", True), ("stray", False)],
)
def test_a_change_without_an_answer_is_unknown(world: World, fate: str, landed: bool) -> None:
    """A caller that gets no answer is told so after its total, by its own clock, whether or not the change landed."""
    world.weather(**{fate: 1.0})

    async def main() -> float:
        with pytest.raises(OutcomeUnknown):
            await world.provider.documents.create("plan", b"one")
        return world.loop.time()

    assert world.run(main) == pytest.approx(102)
    assert world.loop.true == pytest.approx(2 / 0.9)
    assert world.keys == (["plan"] if landed else [])
    world.later(600)
    assert world.keys == ([] if fate == "request_lost" else ["plan"])


@pytest.mark.parametrize("fate", ["request_lost", "answer_lost", "answer_late"])
def test_a_read_without_an_answer_has_changed_nothing(world: World, fate: str) -> None:
    """An overdue read may simply be repeated."""
    world.weather(**{fate: 1.0})

    async def main() -> None:
        with pytest.raises(Unavailable):
            await world.provider.documents.list("beats/")

    world.run(main)


@pytest.mark.parametrize("weather", [Weather(throttled=1.0), Weather(conflict=1.0)])
def test_a_request_refused_at_the_door_changes_nothing(world: World, weather: Weather) -> None:
    """Throttling and 409 are `Unavailable`, at once, and nothing was written."""
    world.network.weather = weather

    async def main() -> None:
        with pytest.raises(Unavailable):
            await world.provider.documents.create("plan", b"one")

    world.run(main)
    assert world.loop.true < 1
    assert world.keys == []


def test_an_outage_and_a_cut_let_nothing_through(world: World) -> None:
    """A store that is down refuses or keeps silent; a machine that is cut off hears nothing."""

    async def main() -> list[type[BaseException]]:
        seen: list[type[BaseException]] = []
        for outage, cut in ((Outage.REFUSING, {}), (Outage.SILENT, {}), (None, {"a": True})):
            world.network.outage, world.network.cut = outage, cut
            try:
                await world.provider.documents.create("plan", b"one")
            except (Unavailable, OutcomeUnknown) as exc:
                seen.append(type(exc))
        return seen

    assert world.run(main) == [Unavailable, OutcomeUnknown, OutcomeUnknown]
    assert world.keys == []


def test_a_write_lands_although_its_writer_is_dead(world: World) -> None:
    """A request that is under way is applied, whether its sender was paused or killed meanwhile."""

    async def main() -> None:
        await world.provider.documents.create("plan", b"one")

    task = world.loop.spawn(world.node, main)
    world.loop.outside(0.0005, world.loop.kill, world.node)
    world.later(5)
    assert world.keys == ["plan"]
    assert not task.done()


def test_a_paused_caller_finds_the_answer_after_its_resume(world: World) -> None:
    """An answer that arrived during a stop is taken before the total that has passed meanwhile: callers must check."""

    async def main() -> float:
        await world.provider.documents.create("plan", b"one")
        return world.loop.true

    task = world.loop.spawn(world.node, main)
    world.loop.outside(0.0005, world.loop.pause, world.node)
    world.loop.outside(50, world.loop.resume, world.node)
    assert world.loop.run_until_complete(task) == 50


def test_stuck_clients_hold_up_what_comes_after_them(world: World) -> None:
    """While all clients of a lane hang in overdue requests, nothing is sent: `Unavailable`, as on the real lane."""
    world.weather(request_lost=1.0, stuck=(20.0, 30.0))

    async def main() -> list[type[BaseException]]:
        seen: list[type[BaseException]] = []
        for _ in range(8):
            try:
                await world.provider.lease("leader").resign(None, "n")  # type: ignore[arg-type] # it never arrives
            except (Unavailable, OutcomeUnknown) as exc:
                seen.append(type(exc))
        return seen

    assert world.run(main) == [OutcomeUnknown] * 6 + [Unavailable] * 2
    assert world.network.fates[Fate.REQUEST_LOST] == 6
