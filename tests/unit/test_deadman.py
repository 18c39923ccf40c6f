"""The table of deadlines over the dead-man's timer, with the system calls replaced by a list."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.deadman import KernelDeadMan, KernelTimer
from worker.errors import ConfigurationError


class Recorder:
    """A timer that remembers what it was set to."""

    def __init__(self) -> None:
        self.calls: list[float | None] = []

    def set(self, deadline: float | None) -> None:
        self.calls.append(deadline)


class Switch:
    """A dead-man's switch over recorders."""

    def __init__(self, between: Callable[[], None] = lambda: None) -> None:
        self.timer = Recorder()
        self.published: list[tuple[str | None, float | None]] = []
        self.stacks: list[float | None] = []
        self.between = between
        self.deadman = KernelDeadMan(self.timer, publish=self._publish, stacks=self.stacks.append)

    def _publish(self, entry: str | None, deadline: float | None) -> None:
        self.published.append((entry, deadline))
        self.between()


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(1, 9).map(float))), max_size=40
)


@given(operations=OPERATIONS)
def test_timer_carries_the_earliest_deadline(operations: list[tuple[str, float | None]]) -> None:
    """After every change the timer, the launcher's record and the stack dump stand at the earliest deadline left."""
    switch, entries = Switch(), dict[str, float]()
    for name, deadline in operations:
        if deadline is None:
            switch.deadman.disarm(name)
            entries.pop(name, None)
        else:
            switch.deadman.arm(name, deadline)
            entries[name] = deadline
        earliest = min(entries.values(), default=None)
        assert (switch.timer.calls or [None])[-1] == earliest
        assert (switch.stacks or [None])[-1] == earliest
        entry, published = (switch.published or [(None, None)])[-1]
        assert published == earliest
        assert entry is None or entries[entry] == earliest


@given(operations=OPERATIONS)
def test_unchanged_minimum_costs_no_system_call(operations: list[tuple[str, float | None]]) -> None:
    """The timer is never set to what it is set to already."""
    switch = Switch()
    for name, deadline in operations:
        if deadline is None:
            switch.deadman.disarm(name)
        else:
            switch.deadman.arm(name, deadline)
    assert all(one != next_one for one, next_one in zip([None, *switch.timer.calls], switch.timer.calls, strict=False))


def test_thousand_handlers_under_one_lease() -> None:
    """Entries that come and go behind an earlier one cost neither a system call nor a new stack dump."""
    switch = Switch()
    switch.deadman.arm("leader", 10.0)
    for number in range(1000):
        switch.deadman.arm(f"handler:{number}", 300.0)
        switch.deadman.disarm(f"handler:{number}")
    assert switch.timer.calls == [10.0]
    assert switch.stacks == [10.0]


def test_two_threads_never_lose_the_earlier_deadline() -> None:
    """A thread interrupted between taking the minimum and setting the timer keeps out one with an earlier deadline."""
    interrupted, tried = threading.Event(), threading.Event()

    def between() -> None:
        if threading.current_thread() is first:
            interrupted.set()
            assert not tried.wait(0.2), "the second thread got in between"

    def arm_earlier() -> None:
        assert interrupted.wait(10)
        switch.deadman.arm("earlier", 1.0)
        tried.set()

    switch = Switch(between)
    first = threading.Thread(target=switch.deadman.arm, args=("later", 2.0))
    second = threading.Thread(target=arm_earlier)
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join(10)
    assert switch.timer.calls == [2.0, 1.0]
    assert switch.stacks[-1] == 1.0


def test_many_threads_end_at_the_minimum() -> None:
    """However many threads change their entries at once, timer and stacks end at the minimum of what is left."""
    switch = Switch()

    def change(number: int) -> None:
        for step in range(200):
            switch.deadman.arm(f"entry:{number}", 1000.0 + step * 7 % 100 + number)
        if number % 2:
            switch.deadman.disarm(f"entry:{number}")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    expected = 1000.0 + 199 * 7 % 100
    assert switch.timer.calls[-1] == expected
    assert switch.stacks[-1] == expected


@pytest.mark.parametrize("deadline", [float("inf"), float("-inf"), float("nan")])
def test_deadline_must_be_finite(deadline: float) -> None:
    """A deadline that never comes is refused, and leaves the table as it was."""
    switch = Switch()
    with pytest.raises(ValueError, match="finite"):
        switch.deadman.arm("leader", deadline)
    assert switch.timer.calls == []


def test_timer_that_cannot_be_set_is_tried_again() -> None:
    """When the system refuses, the caller hears of it, and the next change does not take the timer for set."""
    switch = Switch()

    def refuse(deadline: float | None) -> None:
        raise OSError("no timer")

    accept, switch.timer.set = switch.timer.set, refuse  # type: ignore[method-assign]  # one call must fail
    with pytest.raises(OSError, match="no timer"):
        switch.deadman.arm("leader", 5.0)
    switch.timer.set = accept  # type: ignore[method-assign]  # and the next one work again
    switch.deadman.arm("leader", 5.0)
    assert switch.timer.calls == [5.0]


def test_refused_in_pid_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """In PID 1, where the kernel ignores the timer, the switch cannot be built, and the message names the launcher."""
    monkeypatch.setattr("os.getpid", lambda: 1)
    with pytest.raises(ConfigurationError, match=r"PID 1.*launcher"):
        KernelTimer()
