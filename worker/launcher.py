"""The parent process: starts the worker, outlives it, and leaves nobody behind.

A worker can be ended at any moment by the dead-man's switch, and then somebody must end its children before the lease
may pass on, say why it died, and start it again. That is the launcher, and as it does nothing else, nothing can hang
it. It is light (the standard library only: one runs beside every worker), single-threaded, and may be PID 1.

    start the worker, in a session of its own, to die with this process
    wait for a signal or a deadline                         never for anything else
      SIGCHLD          reap whoever has ended: the worker, or an orphan of a handler's making
      TERM, INT, ...   pass it on; a second one, or `stop_grace` passed: KILL
      trust runs out   KILL every descendant: the worker's own timer ends only the worker, and not always in no time
    the worker is dead: KILL every descendant, until the kernel says that there are none       milliseconds
    say why it died (`lifeline`); start again after a pause, or end with its exit code

Descendants are found by parentage, as a subreaper sees it: a daemon that forked twice into a session of its own does
not get away. Not covered: SIGKILL of the launcher itself ends the worker (PDEATHSIG) and a program of `worker exec`,
but children that a handler has started then end only with their container. On macOS there are neither subreapers nor
PDEATHSIG: only the worker's process group is ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from worker import processes
from worker.core.backoff import delay
from worker.lifeline import Lifeline, Record

Log = Callable[..., None]

SAME_REQUEST = 0.5
"""Seconds within which stop signals count as one: `timeout`, systemd and terminals send the same one twice."""

STUBBORN = 5.0
"""Seconds after which descendants that SIGKILL has not ended are reported (hung in the kernel, or another user's)."""

STEADY = 60.0
"""Seconds that a worker must have lived for its next death to count as a first one."""

_CLEAR_AGAIN = 0.05  # seconds: a descendant that nobody signals us about is looked for again
_LONGEST_WAIT = 1e6  # seconds: select takes no infinity
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
_SWALLOWED = (signal.SIGTSTP,)  # Ctrl-Z would stop the one who must always be able to act
_HANDLED = (*_STOP, *_PASSED_ON, *_SWALLOWED, signal.SIGCHLD)
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # as in clock.py


class Backoff(NamedTuple):
    """How long to wait before a worker is started again, in seconds (`core.backoff.delay`)."""

    base: float = 0.5
    cap: float = 30.0
    steady: float = STEADY


class Death(NamedTuple):
    """How one worker ended."""

    pid: int
    code: int  # as a shell would say it: 128 + n for signal n
    signal: int | None
    why: str
    record: Record
    lived: float  # seconds


def launch(
    command: Sequence[str],
    *,
    stop_grace: float,
    log: Log,
    restart: bool = True,
    restart_codes: Collection[int] = (1,),
    env: Mapping[str, str] | None = None,
    backoff: Backoff | None = None,
) -> int:
    """Run `command` as the worker until it ends for good; return the exit code to end with.

    A worker that died by a signal or with a code in `restart_codes` is started again, unless `restart` is off or a
    stop was asked for; `worker exec` passes none, as a program's own code 1 is an answer. Any other code is returned,
    128 + n for signal n. `stop_grace` (seconds) is what the worker gets from TERM to KILL. `log(event, **fields)`
    receives `instance.killed`.

    For the main thread of a process without other threads or children, as the last thing it does: signals stay
    handled, and afterwards blocked. Raises OSError or ConfigurationError if this system cannot hold what is promised.
    """
    processes.adopt_orphans()
    launcher = _Launcher(list(command), stop_grace, log, env, _handle_signals())
    code = launcher.run(restart_codes if restart else None, backoff or Backoff())
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)  # a late request must not replace the code that we end with
    return code


def why_dead(code: int, record: Record, now: float) -> str:
    """Say why a worker died, from `waitstatus_to_exitcode`, what it wrote ahead, and the time its death was noticed."""
    if code >= 0:
        return f"exited with code {code}"
    if -code in (signal.SIGKILL, signal.SIGALRM) and record.deadline is not None and now >= record.deadline:
        return f"trust ran out: {record.entry}"
    return f"killed by signal {-code} ({_name(-code)})"


class _Launcher:
    def __init__(
        self,
        command: list[str],
        stop_grace: float,
        log: Log,
        env: Mapping[str, str] | None,
        wait: Callable[[float], list[int]],
    ) -> None:
        self._command = command
        self._stop_grace = stop_grace
        self._log = log
        self._env = dict(os.environ if env is None else env)
        self._wait = wait  # up to so many seconds, for signals
        self._worker: int | None = None  # pid, until reaped
        self._status: int | None = None  # of the worker, once reaped
        self._stopping: float | None = None  # when the first stop signal came
        self._kill_at: float | None = None
        self._killed_because: str | None = None

    def run(self, restart_codes: Collection[int] | None, backoff: Backoff) -> int:
        attempt = 0
        while True:
            death = self._one_life()
            again = (
                restart_codes is not None
                and self._stopping is None
                and (death.signal is not None or death.code in restart_codes)
            )
            if death.lived >= backoff.steady:
                attempt = 0
            pause = delay(attempt, backoff.base, backoff.cap, os.urandom(1)[0] / 256) if again else None
            if again or (death.signal is not None and not (self._stopping and death.signal in _STOP)):
                self._report(death, pause)
            if pause is None or not self._pause(pause):
                return death.code
            attempt += 1

    def _one_life(self) -> Death:
        lifeline = Lifeline.create()
        started = _now()
        pid = processes.spawn(self._command, {**self._env, **lifeline.environment()}, handled=_HANDLED)
        self._worker = pid
        while self._reap() and self._status is None:
            now = _now()
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_worker(f"did not stop within {self._stop_grace:g} s")
            for number in self._wait(self._wake_at(lifeline, now) - now):
                self._on_signal(number)
        noticed = _now()
        self._clear(pid)
        assert self._status is not None
        code, self._status = os.waitstatus_to_exitcode(self._status), None
        record = lifeline.read()
        lifeline.close()
        why = self._killed_because if code == -signal.SIGKILL and self._killed_because else None
        return Death(
            pid=pid,
            code=code if code >= 0 else 128 - code,
            signal=None if code >= 0 else -code,
            why=why or why_dead(code, record, noticed),
            record=record,
            lived=noticed - started,
        )

    def _wake_at(self, lifeline: Lifeline, now: float) -> float:
        """Return when something is to be done next; end the whole family if its trust has run out already."""
        times = [] if self._kill_at is None else [self._kill_at]
        deadline = lifeline.watch()
        if deadline is not None and now >= deadline:
            self._kill_all(self._worker)
            times.append(now + _CLEAR_AGAIN)
        elif deadline is not None:
            times.append(deadline)
        return min(times, default=float("inf"))

    def _on_signal(self, number: int) -> None:
        if self._worker is None or number == signal.SIGCHLD:
            return
        if number in _PASSED_ON:
            processes.send(self._worker, number)
        elif number in _STOP:
            now = _now()
            if self._stopping is None:
                self._stopping, self._kill_at = now, now + self._stop_grace
                processes.send(self._worker, signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            elif now - self._stopping >= SAME_REQUEST:
                self._kill_worker(f"asked twice to stop ({_name(number)})")

    def _kill_worker(self, why: str) -> None:
        """KILL works on a stopped worker too. Nothing to wait for after it but its death."""
        self._kill_at = None
        self._killed_because = why
        if self._worker is not None:
            processes.send(self._worker, signal.SIGKILL)

    def _reap(self) -> bool:
        """Reap everybody who has ended; return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._worker:
                self._worker, self._status = None, status

    def _clear(self, group: int) -> None:
        """Kill and reap every descendant.

        The kernel has the last word: a process without children has no descendants, as orphans become its children.
        """
        started, reported = _now(), False
        while True:
            self._kill_all(group)
            if not self._reap():
                return
            for number in self._wait(_CLEAR_AGAIN):
                if number in _STOP and self._stopping is None:
                    self._stopping = _now()
            if not reported and _now() - started > STUBBORN:
                reported = True
                left = processes.descendants(os.getpid())
                self._log("problem", problem="processes outlive SIGKILL: waiting for them to end", pids=left)

    def _kill_all(self, group: int | None) -> None:
        if not processes.LINUX and group is not None:
            processes.send_group(group, signal.SIGKILL)
        for pid in processes.descendants(os.getpid()):
            processes.send(pid, signal.SIGKILL)

    def _pause(self, seconds: float) -> bool:
        """Wait before a restart; return False when asked to stop meanwhile."""
        until = _now() + seconds
        while self._stopping is None and (left := until - _now()) > 0:
            for number in self._wait(left):
                if number in _STOP:
                    self._stopping = _now()
        return self._stopping is None

    def _report(self, death: Death, pause: float | None) -> None:
        fields: dict[str, object] = {"why": death.why, "pid": death.pid, "exit_code": death.code}
        if death.record.session is not None:
            fields["session"] = death.record.session
        if death.record.term is not None:
            fields["term"] = death.record.term
        if pause is not None:
            fields["restart_in"] = round(pause, 3)
        self._log("instance.killed", **fields)


def _handle_signals() -> Callable[[float], list[int]]:
    """Handle the launcher's signals from now on; return a function that waits for some, up to so many seconds.

    They arrive as bytes in a pipe: waiting costs nothing, and PID 1 gets what it has a handler for.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def wait(seconds: float) -> list[int]:
        with contextlib.suppress(BlockingIOError):
            select.select([reading], [], [], min(max(0.0, seconds), _LONGEST_WAIT))
            return list(os.read(reading, 4096))
        return []

    def ignore(number: int, frame: FrameType | None) -> None:
        """The pipe has it already."""

    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _HANDLED:
        # What our caller ignores (HUP under nohup) stays ignored; what we cannot work without does not.
        if number in (signal.SIGCHLD, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, ignore)
    return wait


def _now() -> float:
    return time.clock_gettime(_BOOTTIME)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time signal between SIGRTMIN and SIGRTMAX


__all__ = ["Backoff", "Death", "launch", "why_dead"]
