"""The dead-man's switch: when trust runs out and work has not ended, the kernel ends this process.

Code that should stop may be unable to: stuck in C with the GIL held, every signal blocked, stopped by SIGSTOP. So
nothing of this process takes part in its end. A kernel timer is armed ahead, at an absolute time of CLOCK_BOOTTIME,
and its SIGKILL needs neither a thread, nor the GIL, nor the process's consent:

    arm("leader", trust)      before the work starts, and again at each renewal
    disarm("leader")          only after the work has *ended* (returned in its own thread, its children reaped)

The timer carries the earliest deadline of all entries. One lock is held only around {change the table, take the
minimum, set the timer}: no renewal, no handler and no logging ever runs under it. While the minimum stays the same, a
change costs no system call.

Limits. The kernel ignores such a timer in PID 1 of a PID namespace: hence the launcher, and a refusal to be built
there. The timer ends one process; its children end through the launcher, which keeps the same deadline (`lifeline`).
A forked child does not inherit the timer, and gets an OSError if it tries to arm it.

Without timer_create (macOS) setitimer takes its place, and is weaker: a user's `signal.alarm(0)` or `setitimer`
removes it, blocking SIGALRM delays it, a stop between reading the clock and arming lets it fire late, and a stopped
process is ended only once it is resumed. The launcher's watch is all that helps then. Enough to develop on; not for
production.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from worker.errors import ConfigurationError

STACKS_AHEAD = 0.2
"""Seconds before the end at which all stacks go to stderr: while the culprit is still at it, and in time to be read."""

_STDERR = 2  # the descriptor: sys.stderr may be replaced, or None
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # as in clock.py
_SIGEV_SIGNAL = 0
_TIMER_ABSTIME = 1

Publish = Callable[[str | None, float | None], None]


class DeadMan(Protocol):
    """Ends this process at the earliest of several deadlines, whatever it is doing."""

    def arm(self, name: str, deadline: float) -> None:
        """Add entry `name`, or move it, to `deadline` (seconds of `Clock.now()`). A past one ends the process at once.

        Any thread may call it, but no signal handler. Raises ValueError for a deadline that is not finite, and
        OSError when the timer cannot be set: the caller must then not act.
        """

    def disarm(self, name: str) -> None:
        """Remove an entry; nothing happens when there is none. Only after the work under it has ended."""


class Timer(Protocol):
    """What ends the process: one timer, set under the dead-man's lock."""

    def set(self, deadline: float | None) -> None:
        """Fire at `deadline` (seconds of CLOCK_BOOTTIME), at once if it is past; None: never. Raises OSError."""


class KernelDeadMan:
    """The dead-man's switch over one kernel timer.

    `publish(entry, deadline)` is called under the lock, before the timer is set, whenever the earliest entry changes:
    it must neither block nor raise (`Lifeline.set_deadline`). `stacks(deadline)` arranges the dump of all stacks.
    """

    def __init__(
        self,
        timer: Timer,
        *,
        publish: Publish | None = None,
        stacks: Callable[[float | None], None] | None = None,
    ) -> None:
        self._timer = timer
        self._publish = publish
        self._stacks = stacks or StackDump()
        self._lock = threading.Lock()
        self._entries: dict[str, float] = {}
        self._first: str | None = None  # entry with the earliest deadline
        self._armed: float | None = None  # what the timer is set to
        self._stacks_lock = threading.Lock()
        self._stacks_for: float | None = None  # the deadline before which stacks will be dumped

    def arm(self, name: str, deadline: float) -> None:
        """See `DeadMan.arm`."""
        if not math.isfinite(deadline):
            raise ValueError(f"deadline of {name!r} is {deadline}: it must be a finite number of seconds")
        with self._lock:
            self._entries[name] = deadline
            if self._armed is None or name == self._first or deadline < self._armed:
                self._settle()
        self._follow_with_stacks()

    def disarm(self, name: str) -> None:
        """See `DeadMan.disarm`."""
        with self._lock:
            if self._entries.pop(name, None) is not None and name == self._first:
                self._settle()
        self._follow_with_stacks()

    def _settle(self) -> None:
        """Take the minimum and set the timer to it. Under the lock."""
        first = min(self._entries, key=self._entries.__getitem__, default=None)
        earliest = None if first is None else self._entries[first]
        if self._publish is not None and (first, earliest) != (self._first, self._armed):
            self._publish(first, earliest)  # before the timer is set: it may end us on the spot
        if earliest != self._armed:
            self._timer.set(earliest)
            self._armed = earliest
        self._first = first

    def _follow_with_stacks(self) -> None:
        """Bring the dump in line with the timer, outside the timer's lock: it may take a thread, and stderr may block.

        Whoever finds the lock taken may go: its holder looks again after it has let go.
        """
        while self._stacks_for != self._armed and self._stacks_lock.acquire(blocking=False):
            try:
                deadline = self._armed
                self._stacks(deadline)
                self._stacks_for = deadline
            finally:
                self._stacks_lock.release()


class StackDump:
    """Has all threads' stacks written to stderr shortly before a deadline, with the GIL held or not.

    faulthandler's own thread does it, in C. It has one such appointment per process: nobody else may use it. A forked
    child has no such thread, and would wait for it for ever when it ends: the appointment is off during a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deadline: float | None = None
        os.register_at_fork(before=self._pause, after_in_parent=self._resume, after_in_child=self._forget)

    def __call__(self, deadline: float | None) -> None:
        """Dump `STACKS_AHEAD` seconds before `deadline`; None: not at all."""
        with self._lock:
            self._deadline = deadline
            self._appoint()

    def _appoint(self) -> None:
        if self._deadline is None:
            faulthandler.cancel_dump_traceback_later()
        else:
            left = self._deadline - time.clock_gettime(_BOOTTIME) - STACKS_AHEAD
            faulthandler.dump_traceback_later(max(0.001, left), file=_STDERR)

    def _pause(self) -> None:
        self._lock.acquire()
        faulthandler.cancel_dump_traceback_later()

    def _resume(self) -> None:
        self._appoint()
        self._lock.release()

    def _forget(self) -> None:
        self._deadline = None
        self._lock.release()


class _Sigval(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p)]


class _Sigevent(ctypes.Structure):
    _fields_ = [
        ("value", _Sigval),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_char * 48),  # the kernel reads 64 bytes
    ]


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class KernelTimer:
    """A POSIX timer on CLOCK_BOOTTIME that sends SIGKILL to this process: Linux only.

    Raises ConfigurationError in PID 1, where the kernel would drop the signal, and OSError when the system refuses.
    """

    def __init__(self) -> None:
        if os.getpid() == 1:
            raise ConfigurationError(
                "this process is PID 1, where the kernel ignores the dead-man's timer: "
                "start it through the launcher (`worker run`, `worker exec`), which may be PID 1"
            )
        # PyDLL keeps the GIL over a call of a microsecond: giving it up under the lock could mean waiting seconds.
        self._library = ctypes.PyDLL(None, use_errno=True)
        self._identifier = ctypes.c_void_p()
        event = _Sigevent(signal=signal.SIGKILL, notify=_SIGEV_SIGNAL)
        result = self._library.timer_create(
            ctypes.c_int(_BOOTTIME), ctypes.byref(event), ctypes.byref(self._identifier)
        )
        self._check(result, "timer_create")

    @staticmethod
    def available() -> bool:
        """Whether this system has such timers at all."""
        return sys.platform == "linux" and hasattr(ctypes.PyDLL(None), "timer_create")

    def set(self, deadline: float | None) -> None:
        """See `Timer.set`."""
        moment = 0 if deadline is None else max(1, int(deadline * 1e9))  # all zeros would disarm the timer
        seconds, nanoseconds = divmod(moment, 1_000_000_000)
        spec = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        result = self._library.timer_settime(self._identifier, _TIMER_ABSTIME, ctypes.byref(spec), None)
        self._check(result, "timer_settime")

    @staticmethod
    def _check(result: int, call: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{call}: {os.strerror(number)}")


class IntervalTimer:
    """setitimer and the default action of SIGALRM: the weaker stand-in (see the limits above). Main thread only."""

    def __init__(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def set(self, deadline: float | None) -> None:
        """See `Timer.set`."""
        left = 0.0 if deadline is None else max(1e-6, deadline - time.clock_gettime(_BOOTTIME))
        signal.setitimer(signal.ITIMER_REAL, left)


def deadman(*, publish: Publish | None = None) -> DeadMan:
    """Return the strongest dead-man's switch that this system has. Once per process, on the main thread.

    Raises ConfigurationError in PID 1, OSError when the kernel refuses a timer.
    """
    timer: Timer = KernelTimer() if KernelTimer.available() else IntervalTimer()
    return KernelDeadMan(timer, publish=publish)
