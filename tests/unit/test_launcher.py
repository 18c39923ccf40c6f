"""The launcher's verdict on a death, and its view of the process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.support import require
from worker import processes
from worker.launcher import why_dead
from worker.lifeline import Record

ARMED = Record("s", 3, True, "leader", 100.0)


@pytest.mark.parametrize(
    "code, record, now, why",
    [
        (-signal.SIGKILL, ARMED, 100.001, "trust ran out: leader"),
        (-signal.SIGALRM, ARMED, 100.001, "trust ran out: leader"),  # the weaker switch of macOS
        (-signal.SIGKILL, ARMED, 99.0, "killed by signal 9 (SIGKILL)"),
        (-signal.SIGKILL, Record("s", 3), 100.001, "killed by signal 9 (SIGKILL)"),
        (-signal.SIGSEGV, ARMED, 100.001, "killed by signal 11 (SIGSEGV)"),
        (1, ARMED, 100.001, "exited with code 1"),
        (0, Record(), 0.0, "exited with code 0"),
    ],
)
def test_says_why_a_worker_died(code: int, record: Record, now: float, why: str) -> None:
    """Trust ran out only if the kill came at the deadline that the worker had written ahead, not before."""
    assert why_dead(code, record, now) == why


def test_both_ways_to_read_the_tree_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the kernel's lists of children and scanning all of /proc show the same children and grandchildren."""
    require(os.path.exists("/proc/thread-self/children"), "Linux with CONFIG_PROC_CHILDREN")
    child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        grandchild = int(child.stdout.readline())
        listed = processes.descendants(os.getpid())
        monkeypatch.setattr("os.path.exists", lambda path: False)
        scanned = processes.descendants(os.getpid())
        assert {child.pid, grandchild} <= set(listed)
        assert set(listed) == set(scanned)
        assert listed.index(child.pid) < listed.index(grandchild)
        os.kill(grandchild, signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_signal_to_nobody_is_no_error() -> None:
    """A process that has ended meanwhile cannot be signalled, and that is said instead of raised."""
    child = subprocess.Popen(["true"])
    child.wait()
    assert not processes.send(child.pid, signal.SIGKILL)
    assert not processes.send_group(child.pid, signal.SIGKILL)
    assert not processes.in_group(child.pid, child.pid)


def test_launcher_is_light() -> None:
    """One launcher runs beside every worker: it imports nothing beyond the standard library, and not asyncio either."""
    program = "import sys, worker.launcher; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"asyncio", "click", "dataclasses", "pydantic", "rich", "structlog", "subprocess", "tempfile", "providers"}
    assert not heavy & set(loaded)
