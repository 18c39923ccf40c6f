"""The threads of a store's requests: total times enforced from outside, clients that hang, shutting down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from providers.interface import Client, Misconfigured, OutcomeUnknown, Unavailable
from providers.lanes import CLIENTS_PER_SLOT, ThreadLane
from providers.memory import MemoryDriver

SHORT = 0.2
"""Total time of calls that hang on purpose."""

LONG = 30.0
"""Total time of calls that must not hang."""


class Gate:
    """A driver that counts its clients, and a place where its calls hang until the test lets them go."""

    def __init__(self) -> None:
        self.url = "memory:"
        self.capabilities = MemoryDriver().capabilities
        self.open_now = 0
        self.opened = 0
        self.passed = 0
        self.let_go = threading.Event()
        self.hang_in_open = False
        self.fail_in_open: Exception | None = None

    def open(self, total: float) -> Client:
        if self.hang_in_open:
            self.let_go.wait(LONG)
        if self.fail_in_open is not None:
            raise self.fail_in_open
        self.opened += 1
        self.open_now += 1
        return _Counted(self)

    def hang(self, client: Client) -> str:
        self.let_go.wait(LONG)
        self.passed += 1
        return "late"


class _Counted:
    """A client that says when it was closed."""

    def __init__(self, gate: Gate) -> None:
        inner = MemoryDriver().open(1.0)
        self.documents, self.queue, self.lease = inner.documents, inner.queue, inner.lease
        self._gate = gate

    def close(self) -> None:
        self._gate.open_now -= 1


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go.set()


def run(gate: Gate, story: Callable[[ThreadLane[Client]], Awaitable[Any]], slots: int = 1) -> ThreadLane[Client]:
    """Tell a story on a lane of its own, and close it."""
    lane = ThreadLane(gate, LONG, slots=slots)

    async def main() -> None:
        try:
            await story(lane)
        finally:
            lane.close()

    asyncio.run(main())
    return lane


async def until(condition: Callable[[], bool]) -> None:
    """Poll a condition that another thread makes true."""
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 - it changes on a thread that knows no event loop
            await asyncio.sleep(0.005)


async def read(lane: ThreadLane[Client], total: float = LONG) -> str:
    return await lane.call("documents.read", lambda client: "answer", total=total, changes=False)


def test_answers_and_errors_pass_through(gate: Gate) -> None:
    """What a driver returns or raises reaches the caller as it is, bugs included."""

    async def story(lane: ThreadLane[Client]) -> None:
        assert await read(lane) == "answer"

        def bug(client: Client) -> None:
            raise ZeroDivisionError("a bug")

        with pytest.raises(ZeroDivisionError, match="a bug"):
            await lane.call("documents.read", bug, total=LONG, changes=True)
        assert await read(lane) == "answer"
        assert gate.opened == 1

    run(gate, story)


def test_overdue_write(gate: Gate) -> None:
    """A write that was started and is overdue may have happened: OutcomeUnknown, naming operation and time."""

    async def story(lane: ThreadLane[Client]) -> None:
        with pytest.raises(OutcomeUnknown, match=r"documents\.replace.*0\.2 s"):
            await lane.call("documents.replace", gate.hang, total=SHORT, changes=True)

    run(gate, story)


def test_overdue_read(gate: Gate) -> None:
    """A read that is overdue has changed nothing: Unavailable."""

    async def story(lane: ThreadLane[Client]) -> None:
        with pytest.raises(Unavailable):
            await lane.call("documents.read", gate.hang, total=SHORT, changes=False)

    run(gate, story)


def test_next_call_gets_another_client(gate: Gate) -> None:
    """While a call is overdue the next one goes on with a client of its own."""

    async def story(lane: ThreadLane[Client]) -> None:
        with pytest.raises(Unavailable):
            await lane.call("documents.read", gate.hang, total=SHORT, changes=False)
        assert await read(lane) == "answer"
        assert gate.opened == 2

    run(gate, story)


def test_at_most_three_clients(gate: Gate) -> None:
    """With three clients hanging a write is not started: Unavailable, and it does not happen later either."""
    written = []

    async def story(lane: ThreadLane[Client]) -> None:
        for _ in range(CLIENTS_PER_SLOT):
            with pytest.raises(Unavailable):
                await lane.call("documents.read", gate.hang, total=SHORT, changes=False)
        with pytest.raises(Unavailable, match="earlier calls hang"):
            await lane.call("documents.create", lambda client: written.append(1), total=SHORT, changes=True)
        assert gate.opened == CLIENTS_PER_SLOT
        gate.let_go.set()
        await until(lambda: gate.passed == CLIENTS_PER_SLOT)
        assert await read(lane) == "answer"
        assert gate.opened == CLIENTS_PER_SLOT

    run(gate, story)
    assert written == []


def test_waiting_call_starts_when_a_client_is_free(gate: Gate) -> None:
    """A call that waits for a hanging client is started as soon as that client is back."""

    async def story(lane: ThreadLane[Client]) -> None:
        first = asyncio.ensure_future(lane.call("documents.read", gate.hang, total=LONG, changes=False))
        second = asyncio.ensure_future(read(lane))
        done, _ = await asyncio.wait({second}, timeout=SHORT)
        assert not done
        gate.let_go.set()
        assert await second == "answer"
        assert await first == "late"
        assert gate.opened == 1

    run(gate, story)


def test_waiting_call_gets_the_slot_of_an_overdue_one(gate: Gate) -> None:
    """A call that waits behind one that becomes overdue is started then, with another client."""

    async def story(lane: ThreadLane[Client]) -> None:
        hanging = asyncio.ensure_future(lane.call("documents.read", gate.hang, total=SHORT, changes=False))
        await asyncio.sleep(0)  # the first call takes the slot
        assert await read(lane) == "answer"
        assert gate.opened == 2
        with pytest.raises(Unavailable):
            await hanging

    run(gate, story)


def test_slots(gate: Gate) -> None:
    """A lane runs as many calls at the same time as it has slots, each with a client of its own."""

    async def story(lane: ThreadLane[Client]) -> None:
        barrier = threading.Barrier(3)
        together = [
            lane.call("documents.read", lambda client: barrier.wait(LONG), total=LONG, changes=False) for _ in range(3)
        ]
        assert sorted(await asyncio.gather(*together)) == [0, 1, 2]
        assert gate.opened == 3

    run(gate, story, slots=3)


def test_hanging_open(gate: Gate) -> None:
    """A write whose client never opens was not sent: Unavailable, and it is not sent when the client opens at last."""
    gate.hang_in_open = True
    written = []

    async def story(lane: ThreadLane[Client]) -> None:
        with pytest.raises(Unavailable):
            await lane.call("documents.create", lambda client: written.append(1), total=SHORT, changes=True)
        gate.let_go.set()
        await until(lambda: gate.opened == 1)
        assert await read(lane) == "answer"

    run(gate, story)
    assert written == []


def test_failing_open(gate: Gate) -> None:
    """A client that cannot be opened is every call's own error, until it can be opened."""
    gate.fail_in_open = Misconfigured("no such bucket")

    async def story(lane: ThreadLane[Client]) -> None:
        for _ in range(2):
            with pytest.raises(Misconfigured, match="no such bucket"):
                await read(lane)
        gate.fail_in_open = None
        assert await read(lane) == "answer"

    run(gate, story)


def test_cancelled_call(gate: Gate) -> None:
    """A caller that is cancelled leaves at once, and its slot goes to the next call."""

    async def story(lane: ThreadLane[Client]) -> None:
        hanging = asyncio.ensure_future(lane.call("documents.read", gate.hang, total=LONG, changes=False))
        await until(lambda: gate.opened == 1)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert await read(lane) == "answer"

    run(gate, story)


def test_close(gate: Gate) -> None:
    """Closing closes every idle client at once, and the client of an overdue call when that call ends."""

    async def story(lane: ThreadLane[Client]) -> None:
        with pytest.raises(Unavailable):
            await lane.call("documents.read", gate.hang, total=SHORT, changes=False)
        await read(lane)
        lane.close()
        assert gate.open_now == 1
        with pytest.raises(Unavailable, match="closed"):
            await read(lane)
        gate.let_go.set()
        await until(lambda: gate.open_now == 0)

    run(gate, story)


def test_close_with_waiting_call(gate: Gate) -> None:
    """Closing answers calls that wait for a client."""

    async def story(lane: ThreadLane[Client]) -> None:
        hanging = asyncio.ensure_future(lane.call("documents.read", gate.hang, total=LONG, changes=False))
        waiting = asyncio.ensure_future(read(lane))
        await until(lambda: gate.opened == 1)
        lane.close()
        with pytest.raises(Unavailable, match="closed"):
            await waiting
        gate.let_go.set()
        assert await hanging == "late"

    run(gate, story)


def test_two_loops(gate: Gate) -> None:
    """A lane outlives an event loop that ended with a call still hanging, and serves the next one."""
    lane = ThreadLane(gate, LONG)

    async def hang() -> None:
        with pytest.raises(Unavailable):
            await lane.call("documents.read", gate.hang, total=SHORT, changes=False)

    asyncio.run(hang())
    gate.let_go.set()
    assert asyncio.run(read(lane)) == "answer"
    lane.close()


EXIT_WITH_OVERDUE_CALL = """
import asyncio, threading
from providers.lanes import ThreadLane
from providers.memory import MemoryDriver
from providers.provider import Provider

async def main():
    provider = Provider(MemoryDriver(), total=0.1)
    for _ in range(2):
        try:
            await provider.ask("documents", "documents.read", lambda client: threading.Event().wait(), changes=False)
        except Exception as exc:
            print(type(exc).__name__)
    await provider.close()

asyncio.run(main())
"""


def test_exit_with_overdue_call() -> None:
    """A process ends at once although calls of its store still hang."""
    ended = subprocess.run(
        [sys.executable, "-c", EXIT_WITH_OVERDUE_CALL], capture_output=True, text=True, timeout=LONG, check=True
    )
    assert ended.stdout.split() == ["Unavailable", "Unavailable"]
    assert ended.stderr == ""
