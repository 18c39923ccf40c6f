"""Calls of several requests on the simulated way to the store: what may happen between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from providers.interface import Bid, Grant, OutcomeUnknown, Unavailable
from providers.memory import MemoryStore
from providers.memory.driver import KEEPS_LEASES
from providers.memory.leases import LeaseState
from providers.provider import Provider
from worker.testing.lane import Network, Outage
from worker.testing.loop import VirtualLoop
from worker.testing.node import LocalClock, Node
from worker.testing.steps import SteppedDriver

KEY = "leases/leader"


class World:
    """One machine with one node, and a store that keeps leases."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.store = MemoryStore(now=lambda: self.loop.true)
        driver = SteppedDriver(self.store, capabilities=KEEPS_LEASES)
        self.network = Network(self.loop, driver, seed=1, unit=2.0)
        self.provider = Provider(driver, total=2.0, lane=self.network.lane("a"))
        self.node = Node("a", LocalClock(100.0))
        self.store.documents.create(KEY, b"")
        self.acted = False

    async def claim(self) -> Grant:
        """Claim the lease over an empty record: acquire, then write."""
        lease = self.provider.lease("leader")
        return await lease.claim(await lease.observe(), Bid("s", "a", "default", 1, 15.0, "nonce"))

    def once_acquired(self, act: Callable[[], object]) -> None:
        """Do something when the first of the claim's requests has been applied, before its answer arrives."""

        def applied(_: object) -> None:
            if not self.acted and self.store.leases.state(KEY) is LeaseState.LEASED:
                self.acted = True
                act()

        self.network.applied = applied

    def later(self, seconds: float) -> None:
        """Let true time pass."""
        done = self.loop.create_future()
        self.loop.outside(seconds, done.set_result, None)
        self.loop.run_until_complete(done)

    def written(self) -> bool:
        """Say whether the record has been written."""
        document = self.store.documents.read(KEY)
        return document is not None and b"nonce" in document.body


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.loop.close()


def test_a_call_of_several_requests_returns_what_the_last_one_gives(world: World) -> None:
    """In clear weather a claim acquires and writes, takes the time of both, and returns the grant."""
    grant = world.loop.run_until_complete(world.loop.spawn(world.node, world.claim))
    assert (grant.term, grant.session) == (1, "s")
    assert world.written()
    assert sum(world.network.fates.values()) == 3  # a look and two requests


def test_a_dead_process_sends_no_second_request(world: World) -> None:
    """A process killed after its acquisition leaves a lease without a record behind."""
    world.once_acquired(lambda: world.loop.kill(world.node))
    task = world.loop.spawn(world.node, world.claim)
    world.later(10.0)
    assert not task.done()
    assert world.store.leases.state(KEY) is LeaseState.LEASED
    assert not world.written()


def test_a_paused_process_sends_its_second_request_late(world: World) -> None:
    """A process stopped in mid-claim goes on where it was, although its caller has given up by then."""
    world.once_acquired(lambda: world.loop.pause(world.node))
    task = world.loop.spawn(world.node, world.claim)
    world.later(10.0)
    assert not world.written()
    world.loop.resume(world.node)
    world.later(1.0)
    assert world.written()
    with pytest.raises(OutcomeUnknown):
        task.result()


def test_a_lease_that_ran_out_in_mid_claim_refuses_the_record(world: World) -> None:
    """When the second request comes after the lease's end, nothing is written, whoever holds it by then."""
    world.once_acquired(lambda: world.loop.pause(world.node))
    task = world.loop.spawn(world.node, world.claim)
    world.later(16.0)
    world.loop.resume(world.node)
    world.later(1.0)
    assert not world.written()
    assert world.store.leases.state(KEY) is LeaseState.EXPIRED
    assert isinstance(task.exception(), OutcomeUnknown)


def test_a_second_request_that_the_store_turns_away_leaves_the_call_unclear(world: World) -> None:
    """Once something has happened, not even a refused connection means that nothing has."""

    def refuse() -> None:
        world.network.outage = Outage.REFUSING

    async def main() -> None:
        world.once_acquired(refuse)
        with pytest.raises(OutcomeUnknown):
            await world.claim()
        with pytest.raises(Unavailable):
            await world.claim()

    world.loop.run_until_complete(world.loop.spawn(world.node, main))
    assert not world.written()
