"""Where work crosses from the control thread to the user's code: a call has ended when the function has returned."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.waiting import until
from worker import handlers
from worker.context import State
from worker.errors import Fenced
from worker.handlers import HandlerTimeout, MainLoopHandlers

SOON = 10.0
"""Seconds within which everything here must have happened: a test that waits longer has failed."""


class TwoThreads:
    """A main loop on a thread of its own, as the user's code has it; the test's thread runs the control loop."""

    def __init__(self) -> None:
        self.main = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.main.run_forever, name="main loop", daemon=True)
        self.thread.start()
        self.handlers = MainLoopHandlers(self.main)
        self.exceptions: list[dict[str, Any]] = []
        self.main.set_exception_handler(lambda _, context: self.exceptions.append(context))

    def call(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Call a function on the user's side, as the control thread does; return its result."""
        return asyncio.run(self._bounded(handlers.call(self.handlers, function, args, timeout)))

    async def _bounded(self, coroutine: Any) -> Any:
        async with asyncio.timeout(SOON):
            return await coroutine

    def control(self, function: Callable[[], Any]) -> Any:
        """Run a coroutine function as the control thread."""
        return asyncio.run(self._bounded(function()))

    def close(self) -> None:
        assert self.thread.is_alive(), "the main loop has died"
        self.main.call_soon_threadsafe(self.main.stop)
        self.thread.join(SOON)
        self.main.close()


@pytest.fixture
def two() -> Iterator[TwoThreads]:
    two = TwoThreads()
    yield two
    two.close()


class Gate:
    """Lets a function stop until the test says go, and tells the test how far it is."""

    def __init__(self) -> None:
        self.entered, self.go, self.left = threading.Event(), threading.Event(), threading.Event()

    def plain(self, *_: Any) -> str:
        self.entered.set()
        assert self.go.wait(SOON)
        self.left.set()
        return "done"


async def happens(event: threading.Event) -> None:
    """Let the control loop turn until another thread has said so: it must not block meanwhile."""
    turns = 0
    while not event.is_set():
        turns += 1
        await asyncio.sleep(0)


def test_functions_run_where_they_belong(two: TwoThreads) -> None:
    """Coroutine functions run on the main loop's thread, plain ones in a thread of their own named after them."""

    async def on_main(value: int) -> tuple[int, str]:
        return value, threading.current_thread().name

    def in_thread(value: int) -> tuple[int, str]:
        return value, threading.current_thread().name

    assert two.call(on_main, 1) == (1, "main loop")
    assert two.call(in_thread, 2) == (2, "in_thread")
    assert two.call(partial(on_main, 3)) == (3, "main loop")
    assert two.call(partial(in_thread, 4))[0] == 4


@pytest.mark.parametrize(
    "error", [ValueError("no"), TimeoutError("the user's own"), Fenced("newer"), BaseException("x")]
)
@pytest.mark.parametrize("kind", ["async", "plain"])
def test_what_a_function_raises_comes_out_as_it_is(two: TwoThreads, kind: str, error: BaseException) -> None:
    """Every exception passes through unchanged, a TimeoutError of the function's own too, with a timeout set or not."""

    async def fails_async() -> None:
        raise error

    def fails_plain() -> None:
        raise error

    for timeout in (None, 5.0):
        with pytest.raises(type(error)) as caught:
            two.call(fails_async if kind == "async" else fails_plain, timeout=timeout)
        assert caught.value is error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(7)], ids=repr)
@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_function_that_wants_to_end_the_process_only_fails(two: TwoThreads, kind: str, error: BaseException) -> None:
    """SystemExit and its kind in a handler are a failure of that handler, and the main loop lives on."""

    async def fails_async() -> None:
        raise error

    def fails_plain() -> None:
        raise error

    with pytest.raises(RuntimeError):
        two.call(fails_async if kind == "async" else fails_plain)

    async def works() -> int:
        return 1

    assert two.call(works) == 1
    assert two.thread.is_alive()


def test_a_function_that_cannot_be_called_is_a_failure(two: TwoThreads) -> None:
    """Wrong arguments are an error of the call, never a call that does not end."""

    async def on_main(one: int, two: int) -> None: ...

    def in_thread(one: int, two: int) -> None: ...

    for function in (on_main, in_thread):
        with pytest.raises(TypeError):
            two.call(function, 1)


def test_a_coroutine_that_a_plain_function_returns_is_not_a_success(two: TwoThreads) -> None:
    """A wrapper that hands back a coroutine which nobody runs has not handled anything, and says how to fix it."""

    async def inner() -> None:
        raise AssertionError("never run")

    def wrapper() -> Any:
        return inner()

    with pytest.raises(TypeError, match="async def"):
        two.call(wrapper)
    gc.collect()


def test_a_timeout_cancels_a_coroutine_function(two: TwoThreads) -> None:
    """When its time is up, a coroutine function is cancelled, and the call says how long it was given."""
    cancelled = threading.Event()

    async def sleeps() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(HandlerTimeout, match=r"within 0\.05 s"):
        two.call(sleeps, timeout=0.05)
    assert cancelled.is_set()


def test_a_timeout_waits_for_a_plain_function_to_return(two: TwoThreads) -> None:
    """A thread cannot be ended: the call is over only when the function has returned, and is a timeout all the same."""
    gate = Gate()

    async def control() -> None:
        call = asyncio.create_task(handlers.call(two.handlers, gate.plain, [], 0.05))
        await happens(gate.entered)
        done, _ = await asyncio.wait({call}, timeout=0.2)
        assert not done
        assert not gate.left.is_set()
        gate.go.set()
        with pytest.raises(HandlerTimeout):
            await call
        assert gate.left.is_set()

    two.control(control)


@pytest.mark.parametrize("times", [1, 3])
def test_cancelling_waits_until_a_plain_function_has_returned(two: TwoThreads, times: int) -> None:
    """However often the caller is cancelled, it does not end before the function in its thread has."""
    gate = Gate()

    async def control() -> None:
        call = asyncio.create_task(handlers.call(two.handlers, gate.plain, [], None))
        await happens(gate.entered)
        for _ in range(times):
            call.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        done, _ = await asyncio.wait({call}, timeout=0.1)
        assert not done
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert gate.left.is_set()

    two.control(control)


def test_cancelling_waits_for_what_a_coroutine_function_still_does(two: TwoThreads) -> None:
    """A cancelled coroutine function may clean up, and the call is over when it has."""
    entered, cleaned = threading.Event(), threading.Event()

    async def cleans_up() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(50):
                await asyncio.sleep(0)
            cleaned.set()

    async def control() -> None:
        call = asyncio.create_task(handlers.call(two.handlers, cleans_up, [], None))
        await happens(entered)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert cleaned.is_set()

    two.control(control)


def test_a_call_cancelled_before_it_began_never_begins(two: TwoThreads) -> None:
    """While the main loop is blocked, a cancelled call waits for it, and the function does not run afterwards."""
    blocked, ran = Gate(), threading.Event()

    async def runs() -> None:
        ran.set()

    async def control() -> None:
        two.main.call_soon_threadsafe(blocked.plain)
        await happens(blocked.entered)
        call = asyncio.create_task(handlers.call(two.handlers, runs, [], None))
        await asyncio.wait({call}, timeout=0.05)  # it has been asked for, and cannot begin
        call.cancel()
        done, _ = await asyncio.wait({call}, timeout=0.05)
        assert not done
        blocked.go.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    two.control(control)
    assert not ran.is_set()


def test_a_blocked_main_loop_does_not_block_the_control_loop(two: TwoThreads) -> None:
    """While a coroutine function holds the main loop, the control loop goes on turning."""
    gate = Gate()

    async def blocks() -> str:
        return gate.plain()

    async def control() -> None:
        call = asyncio.create_task(handlers.call(two.handlers, blocks, [], None))
        turns = 0
        while not gate.entered.is_set() or turns < 100:
            await asyncio.sleep(0)
            turns += 1
        gate.go.set()
        assert await call == "done"

    two.control(control)


def test_context_variables_reach_a_plain_function(two: TwoThreads) -> None:
    """A plain function sees the context of its caller, as a coroutine would."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def control() -> str:
        variable.set("here")
        result: str = await handlers.call(two.handlers, variable.get, [], None)
        return result

    assert two.control(control) == "here"


# --- state: back from the user's code to the control thread ---


class OnControl:
    """A state document that remembers on which thread it was used."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.refuse = False

    async def open(self) -> dict[str, Any]:
        self.threads.append(threading.current_thread().name)
        await asyncio.sleep(0)
        return {"n": 1}

    async def save(self, content: dict[str, Any]) -> None:
        self.threads.append(threading.current_thread().name)
        if self.refuse:
            raise Fenced("a newer owner")
        self.saved.append(content)


@pytest.mark.parametrize("kind", ["async", "plain", "plain within async"])
def test_state_is_read_and_written_on_the_control_thread(two: TwoThreads, kind: str) -> None:
    """From either kind of function, a state's document is used on the control thread, and its content comes across."""
    document = OnControl()
    state = State(document, two.handlers.run, two.handlers.run_async)

    async def handle_async() -> None:
        async with state as content:
            content["n"] += 1

    def handle_plain() -> None:
        with state as content:
            content["n"] += 1

    async def handle_mixed() -> None:
        handle_plain()

    functions = {"async": handle_async, "plain": handle_plain, "plain within async": handle_mixed}
    two.call(functions[kind])
    assert document.saved == [{"n": 2}]
    assert set(document.threads) == {threading.current_thread().name}


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_a_refused_save_is_the_functions_error(two: TwoThreads, kind: str) -> None:
    """Fenced on saving is raised inside the user's function, at the end of its `with` block."""
    document = OnControl()
    document.refuse = True
    state = State(document, two.handlers.run, two.handlers.run_async)

    async def handle_async() -> None:
        async with state:
            pass

    def handle_plain() -> None:
        with state:
            pass

    with pytest.raises(Fenced):
        two.call(handle_async if kind == "async" else handle_plain)


def test_nothing_is_saved_when_the_body_raises(two: TwoThreads) -> None:
    """An exception inside the block leaves the document as it was."""
    document = OnControl()
    state = State(document, two.handlers.run, two.handlers.run_async)

    def handle() -> None:
        with state:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        two.call(handle)
    assert document.saved == []


# --- waiting for the end ---


def test_ended_waits_for_all_and_looks_at_no_result() -> None:
    """`ended` returns when every future is done, failed and cancelled ones too, and raises none of their errors."""

    async def body() -> None:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise ValueError("no")

        tasks = [asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0))]
        tasks[1].cancel()
        await handlers.ended(*tasks)
        assert all(task.done() for task in tasks)
        await handlers.ended()

    asyncio.run(body())


def test_ended_passes_a_cancellation_on_when_all_have_ended() -> None:
    """Whoever cancels the waiter meanwhile is answered, but only once everything has ended."""

    async def body() -> None:
        one: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = asyncio.create_task(handlers.ended(one))
        for _ in range(3):
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.sleep(0)
        assert not waiter.done()
        one.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(body())


def test_a_call_outlives_its_control_loop(two: TwoThreads) -> None:
    """When the control loop is gone, a function that returns late does no harm."""
    gate = Gate()

    async def control() -> None:
        two.handlers.start(gate.plain, [])

    two.control(control)
    gate.go.set()
    until(gate.left.is_set, SOON, "the function has returned")
    assert two.exceptions == []
