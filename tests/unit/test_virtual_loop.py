"""The virtual-time loop: what it does to time, to paused and to killed processes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from worker.testing.clock import EPOCH, SimClock, stream
from worker.testing.deadman import SimDeadMan
from worker.testing.loop import Stalled, VirtualLoop
from worker.testing.node import NODE, LocalClock, Node

ROOT = Path(__file__).parents[2]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.close()


def node(name: str = "a", offset: float = 0.0, rate: float = 1.0) -> Node:
    return Node(name, LocalClock(offset, rate))


def run(loop: VirtualLoop, seconds: float) -> None:
    """Let `seconds` of true time pass."""
    loop.run_until_complete(asyncio.wait_for(_elapsed(loop, seconds), None))


async def _elapsed(loop: VirtualLoop, seconds: float) -> None:
    done = loop.create_future()
    loop.outside(seconds, done.set_result, None)
    await done


def start(loop: VirtualLoop, one: Node, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Start a task that nobody waits for."""
    loop.spawn(one, function).add_done_callback(lambda _: None)


def ticker(log: list[float], every: float, clock: Callable[[], float]) -> Callable[[], Coroutine[Any, Any, None]]:
    async def tick() -> None:
        while True:
            await asyncio.sleep(every)
            log.append(round(clock(), 6))

    return tick


def test_an_hour_passes_without_waiting(loop: VirtualLoop) -> None:
    """Time jumps to the next timer, and is exact."""

    async def main() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert loop.run_until_complete(main()) == 3600


def test_the_tools_of_asyncio_work(loop: VirtualLoop) -> None:
    """Timeouts, gather, task groups, events, queues and locks behave as on a real loop."""

    async def main() -> list[object]:
        seen: list[object] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.Event().wait()
        seen.append(loop.time())
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        event = asyncio.Event()

        async def produce() -> None:
            for number in range(3):
                await asyncio.sleep(1)
                await queue.put(number)
            event.set()

        async def consume() -> list[int]:
            return [await queue.get() for _ in range(3)]

        results = await asyncio.gather(produce(), consume(), event.wait())
        seen.extend((results[1], loop.time()))
        with pytest.raises(ExceptionGroup):
            await _group()
        seen.append(loop.time())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.sleep(50)), 1)
        done, pending = await asyncio.wait(
            [asyncio.create_task(asyncio.sleep(delay)) for delay in (1, 2)], return_when=asyncio.FIRST_COMPLETED
        )
        seen.extend((len(done), len(pending), loop.time()))
        return seen

    assert loop.run_until_complete(main()) == [2, [0, 1, 2], 5, 5, 1, 1, 7]


async def _group() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asyncio.sleep(100)), group.create_task(_fail())]
        await tasks[0]


async def _fail() -> None:
    raise ValueError("as asked")


def test_a_node_lives_in_its_own_time(loop: VirtualLoop) -> None:
    """Inside a node, sleeping and `loop.time()` follow its clock; a fast clock sleeps shorter in truth."""
    woke: list[tuple[float, float]] = []

    async def main() -> None:
        await asyncio.sleep(110)
        woke.append((round(loop.time(), 6), round(loop.true, 6)))

    start(loop, node(offset=1000, rate=1.1), main)
    run(loop, 200)
    assert woke == [(1110, 100)]


def test_a_change_of_rate_moves_pending_timers(loop: VirtualLoop) -> None:
    """A timer is due when its clock says so, also when the clock's rate changes while it is pending."""
    one = node(rate=1.0)
    woke: list[float] = []

    async def main() -> None:
        await asyncio.sleep(10)
        woke.append(loop.true)

    start(loop, one, main)
    loop.outside(5, loop.change_rate, one.clock, 0.5)
    run(loop, 50)
    assert woke == [15]


def test_a_timer_never_fires_before_its_own_clock_says_so(loop: VirtualLoop) -> None:
    """Rounding between true and local time never wakes a node early: a loop until a deadline would spin."""
    early: list[float] = []

    async def main() -> None:
        for step in range(2000):
            deadline = loop.time() + 0.1 + step / 7000
            await asyncio.sleep(deadline - loop.time())
            if loop.time() < deadline - 1e-9:
                early.append(deadline)

    tasks = [loop.spawn(node(str(rate), 12345.678, rate), main) for rate in (0.9, 0.97, 1.0, 1.0803, 1.1)]
    loop.run_until_complete(asyncio.wait(tasks))
    assert not early
    for rate in (0.9, 1.0803, 1.1):
        clock = LocalClock(98765.4321, rate)
        assert all(clock.read(clock.when(98766 + n / 7)) >= 98766 + n / 7 for n in range(1000))


def test_a_paused_node_is_parked_and_resumes_in_order(loop: VirtualLoop) -> None:
    """Nothing of a paused node runs; on resume all that fell due runs at once, in its order; others never notice."""
    paused, other = node("a"), node("b")
    mine: list[float] = []
    theirs: list[float] = []
    order: list[str] = []
    start(loop, paused, ticker(mine, 1.0, lambda: loop.true))
    start(loop, other, ticker(theirs, 1.0, lambda: loop.true))

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    for name, seconds in (("late", 6.2), ("early", 4.1), ("middle", 5.3)):
        start(loop, paused, partial(sleeper, name, seconds))
    loop.outside(3.5, loop.pause, paused)
    loop.outside(8.25, loop.resume, paused)
    run(loop, 10)
    assert mine == [1, 2, 3, 8.25, 9.25]
    assert theirs == list(range(1, 10))
    assert order == ["early", "middle", "late"]


def test_a_result_for_a_paused_node_waits(loop: VirtualLoop) -> None:
    """A future that is set from outside wakes a paused node's task only after the resume."""
    one = node()
    woke: list[float] = []
    future: asyncio.Future[int] = loop.create_future()

    async def main() -> None:
        await future
        woke.append(loop.true)

    start(loop, one, main)
    loop.outside(1, loop.pause, one)
    loop.outside(2, future.set_result, 7)
    loop.outside(5, loop.resume, one)
    run(loop, 6)
    assert woke == [5]


def test_parked_callbacks_can_be_cancelled(loop: VirtualLoop) -> None:
    """A callback that is cancelled while it is parked does not run, and a task cancelled while paused is cancelled."""
    one = node()
    seen: list[Any] = []

    async def main() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def timers() -> None:
        wrong, _ = (loop.call_later(1, seen.append, text) for text in ("wrong", "right"))
        loop.outside(2, wrong.cancel)

    task = loop.spawn(one, main)
    start(loop, one, timers)
    loop.outside(0.5, loop.pause, one)
    loop.outside(3, loop.resume, one)
    second = loop.spawn(one, main)
    loop.outside(0.7, second.cancel)
    run(loop, 4)
    assert seen == ["cancelled", "right"]
    assert task.done()
    assert second.cancelled()


def test_a_killed_node_runs_nothing_more(loop: VirtualLoop) -> None:
    """A kill drops callbacks and timers for ever and runs no finally block, not even through the garbage collector."""
    one = node()
    seen: list[Any] = []

    async def main() -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(seen.append, "exit stack")
                await asyncio.gather(*(asyncio.sleep(2) for _ in range(3)))
                seen.append("woke")
        finally:
            seen.append("finally")

    future: asyncio.Future[None] = loop.create_future()

    async def waiter() -> None:
        try:
            await future
        finally:
            seen.append("waiter")

    start(loop, one, main)
    start(loop, one, waiter)
    loop.outside(1, loop.kill, one)
    loop.outside(3, future.set_result, None)
    run(loop, 5)
    gc.collect()
    assert seen == []
    assert not loop.errors


def test_a_paused_node_can_be_killed(loop: VirtualLoop) -> None:
    """SIGKILL reaches a stopped process; a later SIGCONT wakes nobody."""
    one = node()
    seen: list[Any] = []
    start(loop, one, ticker(seen, 1.0, lambda: loop.true))
    loop.outside(1.5, loop.pause, one)
    loop.outside(3, loop.kill, one)
    loop.outside(4, loop.resume, one)
    run(loop, 6)
    assert seen == [1]
    assert not one.alive


def test_tasks_inherit_their_node(loop: VirtualLoop) -> None:
    """Whatever a node's task starts belongs to the node, and what the simulation starts belongs to none."""
    one = node()
    seen: list[Any] = []

    async def child() -> None:
        await asyncio.sleep(1)
        seen.append(NODE.get())

    async def main() -> None:
        inner = [asyncio.create_task(child())]
        loop.outside(2, lambda: seen.append(NODE.get()))
        loop.call_soon(lambda: seen.append(NODE.get()))
        await asyncio.wait(inner)

    start(loop, one, main)
    run(loop, 3)
    assert seen == [one, one, None]


def test_the_dead_man_kills_a_paused_process_on_its_own_clock(loop: VirtualLoop) -> None:
    """The earliest deadline kills, paused or not, on the machine's clock and at most the timer's latency late."""
    local = LocalClock(500, 0.9)
    one, clock = Node("a", local), SimClock(loop, local, 1, "a")
    killed: list[tuple[str, float]] = []

    def kill(name: str) -> None:
        loop.kill(one)
        killed.append((name, clock.now()))

    deadman = SimDeadMan(loop, clock, kill, stream(1, "deadman"))
    acted: list[float] = []
    start(loop, one, ticker(acted, 1.0, clock.now))
    deadman.arm("leader", 540)
    deadman.arm("member", 520)
    deadman.arm("handler", 510)
    deadman.disarm("handler")
    deadman.arm("member", 530)
    loop.outside(5, loop.pause, one)
    run(loop, 60)
    assert [name for name, _ in killed] == ["member"]
    assert 530 <= killed[0][1] <= 530.1
    assert max(acted) < 505


def test_wall_time_jumps_and_boot_time_does_not(loop: VirtualLoop) -> None:
    """A step of the wall clock changes only the wall clock."""
    clock = SimClock(loop, LocalClock(100), 1, "a", wall_error=-3)
    assert clock.wall() == EPOCH - 3
    run(loop, 10)
    clock.jump_wall(60)
    assert clock.now() == 110
    assert clock.wall() == EPOCH + 67


def test_a_stalled_simulation_says_who_waits(loop: VirtualLoop) -> None:
    """When nothing can ever happen again, the run ends with the names of the tasks that wait."""

    async def main() -> None:
        await asyncio.Event().wait()

    task = loop.spawn(node(), main, name="waits for nobody")
    with pytest.raises(Stalled, match="waits for nobody"):
        loop.run_until_complete(task)


def test_a_spinning_loop_ends_the_run(loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that never lets time move on is an error, not a hang."""
    monkeypatch.setattr("worker.testing.loop.MOST_AT_ONE_INSTANT", 1000)

    async def main() -> None:
        for _ in range(10_000):
            await asyncio.sleep(0)

    with pytest.raises(Stalled, match="1000 callbacks"):
        loop.run_until_complete(main())


def test_threads_are_refused(loop: VirtualLoop) -> None:
    """Work sent to a thread would escape virtual time, so it is an error."""

    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="thread"):
        loop.run_until_complete(main())


def test_every_step_is_seen() -> None:
    """The hook runs after every callback, in no node's context, and what it raises ends the run."""
    seen: list[Node | None] = []

    def check() -> None:
        seen.append(NODE.get())
        if virtual.true >= 3:
            raise AssertionError("three")

    virtual = VirtualLoop(on_step=check)
    start(virtual, Node("a", LocalClock()), ticker([], 1.0, lambda: 0.0))
    with pytest.raises(AssertionError, match="three"):
        run(virtual, 10)
    virtual.close()
    assert len(seen) == virtual.steps
    assert set(seen) == {None}


def test_an_exception_that_nobody_catches_is_kept(loop: VirtualLoop) -> None:
    """What a callback raises is recorded with its node and its time."""

    async def main() -> None:
        loop.call_later(2, lambda: 1 / 0)

    start(loop, node(), main)
    run(loop, 3)
    assert [(error["node"], error["true"], type(error["exception"])) for error in loop.errors] == [
        ("a", 2, ZeroDivisionError)
    ]


PROGRAM = """
import asyncio
from worker.testing.clock import stream
from worker.testing.loop import VirtualLoop
from worker.testing.node import LocalClock, Node

loop = VirtualLoop()
dice = stream(7, "test")
log = []

async def worker(name):
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(step(name, number))

async def step(name, number):
    for _ in range(20):
        waits = {asyncio.create_task(asyncio.sleep(dice.random()), name=str(n)) for n in range(4)}
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
            log.append((name, number, task.get_name(), loop.time()))

nodes = [Node(name, LocalClock(dice.random(), 0.9 + dice.random() / 5)) for name in "abc"]
tasks = [loop.spawn(node, lambda node=node: worker(node.name)) for node in nodes]
for node in nodes:
    loop.outside(dice.random() * 5, loop.pause, node)
    loop.outside(5 + dice.random() * 5, loop.resume, node)
loop.outside(7.5, loop.kill, nodes[2])
loop.run_until_complete(asyncio.wait(tasks[:2]))
print(hash(tuple(f"{entry}".__len__() for entry in log)), log[-1], len(log), sum(entry[3] for entry in log))
"""


def test_the_same_seed_gives_the_same_run() -> None:
    """Two processes with different string hashing and memory addresses run the same steps at the same times."""

    def once(hash_seed: str, padding: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        program = f"padding = [object() for _ in range({padding})]\n{PROGRAM}"
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert once("1", 10) == once("2", 4321)
