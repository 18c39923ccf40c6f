"""The dead-man's switch against processes that do everything to survive it: real kernel, real clock."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.support import require
from tests.waiting import boottime
from worker.deadman import KernelTimer

LIFE = 0.5
"""Seconds for which the victims are armed: long enough for the stacks to be dumped ahead."""

BEGIN = f"""\
import os, re, signal, sys, threading, time
from worker.deadman import IntervalTimer, KernelDeadMan, deadman
def now(): return time.clock_gettime(time.CLOCK_BOOTTIME)
def armed(deadline): print(deadline, flush=True)
deadline = now() + {LIFE}
switch = deadman()
"""

ARM = """\
switch.arm("leader", deadline)
armed(deadline)
"""

HOLD_THE_GIL = """\
def hold_the_gil_in_c(): re.match(r"(a+)+$", "a" * 60 + "b")
hold_the_gil_in_c()
"""

BLOCK_EVERYTHING = """\
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
while True: pass
"""

DISARM_ALARMS = """\
signal.alarm(0)
signal.setitimer(signal.ITIMER_REAL, 0)
while True: signal.pause()
"""

pytestmark = pytest.mark.skipif(not KernelTimer.available(), reason="POSIX timers (Linux)")


@dataclass
class End:
    """How a victim ended."""

    code: int
    deadline: float
    ended: float
    output: str
    errors: str


def run(program: str) -> End:
    """Run a program that is to be ended by its own timer; fail if that has not happened within 20 s."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=20,
    )
    ended = boottime()
    first, _, rest = done.stdout.partition("\n")
    assert first, done.stderr
    return End(done.returncode, float(first), ended, rest, done.stderr)


@pytest.mark.parametrize(
    "resistance",
    [
        pytest.param(HOLD_THE_GIL, id="GIL held in C"),
        pytest.param(BLOCK_EVERYTHING, id="all signals ignored and blocked"),
        pytest.param(DISARM_ALARMS, id="after alarm(0)"),
        pytest.param("os.kill(os.getpid(), signal.SIGSTOP)", id="stopped"),
        pytest.param("threading.Thread(target=lambda: time.sleep(60)).start()", id="thread that outlives main"),
    ],
)
def test_nothing_outlives_its_deadline(resistance: str) -> None:
    """Whatever the process does, the kernel ends it, and not before its deadline."""
    end = run(BEGIN + ARM + resistance)
    assert end.code == -signal.SIGKILL
    assert end.ended >= end.deadline


def test_armed_late_ends_at_once() -> None:
    """A deadline that is past when it is armed lets not one more line run."""
    end = run(BEGIN + 'armed(now() - 1)\nswitch.arm("leader", now() - 1)\nprint("still here", flush=True)')
    assert end.code == -signal.SIGKILL
    assert end.output == ""


def test_earliest_of_several_entries_counts() -> None:
    """A handler's earlier deadline ends the process although the leader's is far away."""
    end = run(
        BEGIN + 'switch.arm("leader", now() + 600)\nswitch.arm("handler", deadline)\narmed(deadline)\n' + HOLD_THE_GIL
    )
    assert end.code == -signal.SIGKILL
    assert end.ended >= end.deadline


def test_disarmed_process_lives_on() -> None:
    """After work has ended and its entry is removed, neither the end nor the stacks come."""
    end = run(BEGIN + ARM + 'switch.disarm("leader")\nwhile now() < deadline + 0.3: pass\nprint("alive")')
    assert (end.code, end.output, end.errors) == (0, "alive\n", "")


def test_renewed_process_lives_on() -> None:
    """An entry that is moved in time never ends the process, nor dumps its stacks."""
    renew = 'for step in range(100):\n    switch.arm("leader", now() + 0.6)\n    time.sleep(0.01)\nprint("alive")'
    end = run(BEGIN + ARM + renew + '\nswitch.disarm("leader")')
    assert (end.code, end.output, end.errors) == (0, "alive\n", "")


def test_stacks_tell_who_held_the_gil() -> None:
    """Before the end the stack of the function that would not stop is on stderr, though it held the GIL throughout."""
    end = run(BEGIN + ARM + HOLD_THE_GIL)
    assert "hold_the_gil_in_c" in end.errors
    assert "most recent call first" in end.errors


def test_forked_child_has_no_timer() -> None:
    """The timer ends one process: a forked child lives on, which is why the launcher ends the children."""
    program = """\
if os.fork() == 0:
    os.setsid()
    while os.getppid() == parent: time.sleep(0.005)
    print("orphan", flush=True)
else:
    while True: signal.pause()
"""
    end = run(BEGIN + "parent = os.getpid()\n" + ARM + program)
    assert end.code == -signal.SIGKILL
    assert end.output == "orphan\n"


def test_forked_child_ends_by_itself() -> None:
    """A child forked by a handler can end while the stack dump is pending, and the dump still comes."""
    program = """\
if os.fork() == 0: sys.exit(0)
os.wait()
print("reaped", flush=True)
"""
    end = run(BEGIN + ARM + program + HOLD_THE_GIL)
    assert end.output == "reaped\n"
    assert "hold_the_gil_in_c" in end.errors


def test_forked_child_cannot_arm_the_timer() -> None:
    """A forked child that tries to arm the switch hears that it has none, instead of trusting it."""
    program = """\
if os.fork() == 0:
    try: switch.arm("child", deadline - 0.1)
    except OSError as exc: print(exc.strerror, flush=True)
else:
    os.wait()
    switch.disarm("leader")
"""
    end = run(BEGIN + ARM + program)
    assert end.output == "timer_settime: Invalid argument\n"


def test_refuses_to_be_pid_1() -> None:
    """As PID 1 of a namespace, where the kernel would ignore the timer, the switch refuses to be built."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    require(shutil.which("unshare") and os.geteuid() == 0, "root and unshare(1), to be PID 1 of a namespace")
    program = "from worker.deadman import deadman; deadman()"
    done = subprocess.run(
        [*namespace, sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "ConfigurationError: this process is PID 1" in done.stderr


def test_interval_timer_stands_in() -> None:
    """The fallback for systems without kernel timers ends an ordinary process at its deadline too, GIL held or not."""
    end = run(BEGIN + "switch = KernelDeadMan(IntervalTimer())\n" + ARM + HOLD_THE_GIL)
    assert end.code == -signal.SIGALRM
    assert end.ended >= end.deadline
    assert "hold_the_gil_in_c" in end.errors
