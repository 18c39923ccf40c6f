"""The portable provider: what it adds to a driver, on a store that has less than others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from providers.conformance import Fault, Faults, FaultyDriver
from providers.interface import (
    Call,
    Client,
    Driver,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Received,
    Refused,
    Stamp,
    Version,
)
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import CAPABILITIES
from providers.portable import LONGEST_KEY, check_key
from providers.provider import Provider

T = TypeVar("T")

LESSER = replace(CAPABILITIES, atomic_move=False, ordered=False, batch=2)
"""What a store without transactions can do."""


class InlineLane:
    """A lane without threads, as a simulation has them; it notes what it was asked."""

    def __init__(self, driver: Driver, asked: list[tuple[str, float, bool]]) -> None:
        self._client = driver.open(1.0)
        self._asked = asked

    async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
        self._asked.append((operation, total, changes))
        return function(self._client)

    def close(self) -> None:
        self._asked.append(("close", 0.0, False))


def lesser(faults: Faults, **options: object) -> Provider:
    """Return a provider of a store in memory that can do less, on lanes without threads."""
    store = MemoryStore()
    driver = FaultyDriver(MemoryDriver(store, capabilities=replace(LESSER, **options)), faults)  # type: ignore[arg-type]  # fields by name
    return Provider(driver, lane=lambda opened, _: InlineLane(opened, []))


async def moved(provider: Provider) -> Received:
    """Put one message into a queue, receive it, and create a queue to move it to."""
    await provider.queue.ensure("orders-00")
    await provider.queue.ensure("orders-dlq")
    await provider.queue.send_one("orders-00", b"1")
    [received] = await provider.queue.receive("orders-00", 1, 30.0)
    return received


def test_lanes_are_opened_by_kind_with_their_time() -> None:
    """Each kind of call has a lane of its own, its total time, and says whether it changes anything."""
    asked: list[tuple[str, float, bool]] = []
    opened: list[str] = []

    def lane(driver: Driver, name: str) -> InlineLane:
        opened.append(name)
        return InlineLane(driver, asked)

    async def story() -> None:
        driver = MemoryDriver(capabilities=replace(CAPABILITIES, long_poll=True))
        provider = Provider(driver, total=2.0, lane=lane)
        await provider.documents.list("")
        await provider.lease("leader").observe()
        await provider.queue.ensure("orders-00")
        await provider.queue.receive("orders-00", 1, 30.0, wait=20.0)
        await provider.close()

    asyncio.run(story())
    assert opened == ["documents", "lease", "queue", "poll"]
    assert asked[:4] == [
        ("documents.list", 2.0, False),
        ("lease.observe", 2.0, False),
        ("queue.ensure", 2.0, True),
        ("queue.receive", 22.0, True),
    ]
    assert asked[4:] == [("close", 0.0, False)] * 4


def test_a_slow_first_opening_costs_no_request_its_time() -> None:
    """What a driver needs long for once, it is given time for before the first request has to be answered."""
    opened: list[float] = []

    class Slow(MemoryDriver):
        def open(self, total: float) -> Client:
            if not opened:
                threading.Event().wait(0.3)  # an SDK is imported, a token fetched
            opened.append(total)
            return super().open(total)

    async def story() -> None:
        provider = Provider(Slow(), total=0.1)
        await provider.prepare()
        assert await provider.documents.list("") == []
        await provider.close()

    asyncio.run(story())
    assert opened == [0.1, 0.1]


def test_what_cannot_be_opened_is_told_before_the_first_request() -> None:
    """A driver that says what is wrong with its credentials is heard when the provider is prepared."""

    class Wrong(MemoryDriver):
        def open(self, total: float) -> Client:
            raise Misconfigured("no credentials: set them")

    with pytest.raises(Misconfigured, match="no credentials"):
        asyncio.run(Provider(Wrong()).prepare())


def test_no_wait_without_long_poll() -> None:
    """A store that cannot wait is not asked to, and does not occupy a lane for it."""
    asked: list[tuple[str, float, bool]] = []

    async def story() -> None:
        provider = Provider(MemoryDriver(), total=2.0, lane=lambda driver, _: InlineLane(driver, asked))
        await provider.queue.ensure("orders-00")
        assert await provider.queue.receive("orders-00", 1, 30.0, wait=20.0) == []

    asyncio.run(story())
    assert asked[-1] == ("queue.receive", 2.0, True)


def test_batches() -> None:
    """Messages are sent in batches of what the store takes, and their ids come back in order."""
    calls: list[Call] = []

    async def story() -> None:
        provider = Provider(MemoryDriver(capabilities=LESSER), on_call=calls.append)
        await provider.queue.ensure("orders-00")
        ids = await provider.queue.send("orders-00", [b"1", b"2", b"3", b"4", b"5"])
        got = await provider.queue.receive("orders-00", 10, 30.0)
        assert [(m.id, m.body) for m in got] == list(zip(ids, (b"1", b"2", b"3", b"4", b"5"), strict=True))
        assert await provider.queue.send("orders-00", []) == []
        await provider.close()

    asyncio.run(story())
    assert [call.operation for call in calls].count("queue.send") == 3


def test_failure_between_batches() -> None:
    """When a later batch fails, the answer is not "nothing changed": some messages were sent."""

    async def story() -> None:
        store = MemoryStore()
        sent = 0

        class Full(InlineLane):
            async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
                nonlocal sent
                sent += operation == "queue.send"
                if sent == 2:
                    raise Refused("no more")
                return await super().call(operation, function, total=total, changes=changes)

        driver = MemoryDriver(store, capabilities=LESSER)
        provider = Provider(driver, lane=lambda opened, _: Full(opened, []))
        await provider.queue.ensure("orders-00")
        with pytest.raises(OutcomeUnknown, match=r"2 of 3 messages.*no more"):
            await provider.queue.send("orders-00", [b"1", b"2", b"3"])

    asyncio.run(story())


def test_move_in_two_steps() -> None:
    """Without transactions a message is sent there before it is deleted here."""

    async def story() -> None:
        provider = lesser(Faults())
        received = await moved(provider)
        await provider.queue.move("orders-00", received, "orders-dlq", b"1 and why")
        assert (await provider.queue.depth("orders-00")).hidden == 0
        [dead] = await provider.queue.peek("orders-dlq", 10)
        assert dead.body == b"1 and why"

    asyncio.run(story())


def test_move_to_nowhere() -> None:
    """A move to a queue that does not exist leaves the message where it was."""

    async def story() -> None:
        provider = lesser(Faults())
        received = await moved(provider)
        with pytest.raises(NotFound):
            await provider.queue.move("orders-00", received, "nowhere", b"1")
        await provider.queue.delete("orders-00", received.receipt)

    asyncio.run(story())


def test_half_a_move() -> None:
    """A move whose second step is not answered, or refused, never loses the message: it exists at least once."""

    async def story(fault: Fault | None) -> None:
        faults = Faults()
        provider = lesser(faults)
        received = await moved(provider)
        if fault is None:
            await provider.queue.extend("orders-00", received.receipt, 30.0)  # makes the receipt stale
        else:
            faults.disturb("queue.delete", fault)
        with pytest.raises(Refused if fault is None else OutcomeUnknown):
            await provider.queue.move("orders-00", received, "orders-dlq", b"1")
        assert len(await provider.queue.peek("orders-dlq", 10)) == 1

    for fault in (None, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER):
        asyncio.run(story(fault))


def test_bugs_and_cancellations_are_counted() -> None:
    """A bug in a driver is counted as an error, and a caller that stopped waiting as cancelled."""
    calls: list[Call] = []

    async def story() -> None:
        provider = Provider(MemoryDriver(), on_call=calls.append)
        with pytest.raises(ZeroDivisionError):
            await provider.ask("lease", "lease.observe", lambda client: 1 / 0, changes=False)
        waiting = asyncio.ensure_future(provider.ask("lease", "lease.observe", lambda client: None, changes=False))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await provider.close()

    asyncio.run(story())
    assert [call.outcome for call in calls] == ["error", "cancelled"]


@pytest.mark.parametrize("key", ["plan", "members/i-0~s", "state/a.b", "state/ü", "a/" * 100 + "b"])
def test_good_keys(key: str) -> None:
    """A key of ordinary parts is taken as it is."""
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    ["", "/plan", "plan/", "a//b", ".", "a/../b", "a/./b", "a./b", "a\\b", "a\nb", "a\0b", "k" * (LONGEST_KEY + 1)],
)
def test_bad_keys(key: str) -> None:
    """A key that some store would change, split or refuse is a ValueError before anything is sent."""

    async def story() -> None:
        provider = Provider(MemoryDriver())
        with pytest.raises(ValueError, match="document key"):
            await provider.documents.read(key)
        with pytest.raises(ValueError, match="document key"):
            await provider.documents.create(key, b"")

    asyncio.run(story())


@pytest.mark.parametrize("total", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_total(total: float) -> None:
    """A request must have a time in which it is over."""
    with pytest.raises(ValueError, match="total"):
        Provider(MemoryDriver(), total=total)


def test_circular_listing() -> None:
    """A driver whose listing does not advance is a bug that is told, not an endless loop."""

    class Circular(InlineLane):
        async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
            answer = await super().call(operation, function, total=total, changes=changes)
            return replace(answer, stamps=[Stamp("a", Version("1"))], after="a")  # type: ignore[type-var]  # a Page

    async def story() -> None:
        provider = Provider(MemoryDriver(), lane=lambda driver, _: Circular(driver, []))
        with pytest.raises(RuntimeError, match="circles"):
            await provider.documents.list("")

    asyncio.run(story())
