"""The record that a worker leaves to its launcher."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigurationError
from worker.lifeline import VARIABLE, Lifeline, Record


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    lifeline = Lifeline.create()
    yield lifeline
    lifeline.close()


def test_empty_until_something_is_said(lifeline: Lifeline) -> None:
    """A worker that dies before it has said anything leaves an empty record, not a broken one."""
    assert lifeline.read() == Record(session=None, term=None, ready=False, entry=None, deadline=None)


def test_reader_sees_the_last_of_each(lifeline: Lifeline) -> None:
    """Identity and deadline are kept apart, and the last of each counts."""
    lifeline.announce(session="s1", term=None, ready=False)
    lifeline.set_deadline("leader", 100.5)
    lifeline.announce(session="s2", term=7, ready=True)
    lifeline.set_deadline("handler:ä", 12.25)
    assert lifeline.read() == Record("s2", 7, True, "handler:ä", 12.25)
    lifeline.set_deadline(None, None)
    assert lifeline.read() == Record("s2", 7, True, None, None)


def test_worker_and_launcher_share_it(lifeline: Lifeline) -> None:
    """What one mapping of the memory writes, the other reads; the variable is gone and children do not inherit it."""
    environ = {**lifeline.environment(), "HOME": "/"}
    assert os.get_inheritable(lifeline.descriptor)
    worker = Lifeline.inherited(environ)
    assert worker is not None
    worker.announce(session="s", term=1, ready=True)
    assert lifeline.read().session == "s"
    assert environ == {"HOME": "/"}
    assert not os.get_inheritable(lifeline.descriptor)


def test_earlier_deadline_wakes_the_launcher(lifeline: Lifeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher is woken exactly when a deadline falls before the time at which it would look anyway."""
    woken: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: woken.append((pid, number)))
    lifeline.set_deadline("leader", 50.0)
    assert woken == []  # nobody looks yet
    assert lifeline.watch() == 50.0
    for deadline in (60.0, 50.0, None):
        lifeline.set_deadline("leader", deadline)
    assert woken == []
    lifeline.set_deadline("handler", 49.0)
    assert woken == [(os.getpid(), signal.SIGCHLD)]
    lifeline.set_deadline(None, None)
    assert lifeline.watch() is None
    lifeline.set_deadline("leader", 1e9)
    assert len(woken) == 2


@given(cut=st.integers(0, 511), garbage=st.integers(0, 255))
def test_torn_write_leaves_the_state_before(cut: int, garbage: int) -> None:
    """Whatever byte the last write did not get right, the reader gets one of the two last states, whole."""
    lifeline = Lifeline.create()
    try:
        lifeline.set_deadline("first", 1.0)
        lifeline.set_deadline("second", 2.0)
        newest = 512 + 0  # the second write of the deadline's cell went to its first slot
        position = newest + cut % 256
        os.pwrite(lifeline.descriptor, bytes([garbage]), position)
        assert lifeline.read() in (Record(entry="first", deadline=1.0), Record(entry="second", deadline=2.0))
    finally:
        lifeline.close()


def test_overlong_names_are_cut(lifeline: Lifeline) -> None:
    """A name that does not fit is cut, inside a character too, and stays readable."""
    lifeline.set_deadline("ä" * 500, 1.0)
    lifeline.announce(session="s" * 500, term=1, ready=False)
    record = lifeline.read()
    assert record.entry == "ä" * 64
    assert record.session == "s" * 64


def test_no_launcher_no_record() -> None:
    """Without the variable there is no launcher, and that is no error."""
    assert Lifeline.inherited({}) is None


@pytest.mark.parametrize("value", ["x", "", "987654", "-1"])
def test_variable_set_by_somebody_else(value: str) -> None:
    """A variable that names no such record is refused by its name."""
    with pytest.raises(ConfigurationError, match=VARIABLE):
        Lifeline.inherited({VARIABLE: value})
