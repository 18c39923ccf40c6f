"""The program that `worker exec NAME -- CMD` runs while it holds a lease: started, ended, and seen to have ended.

The program gets a process group of its own and our stdin, stdout and stderr. "Ended" means: it and everything that it
has started, daemons in sessions of their own included, is gone. For that this process becomes a subreaper. What the
program leaves behind when it ends by itself is killed: it must stay in the foreground, as in a container.

If this process dies, the kernel kills the program (PDEATHSIG), and the launcher whatever the program had started.

The program is started through a few lines of Python that tie its life to ours and then become it: forking by hand is
not safe in a process with threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from worker import processes
from worker.errors import Exit, WorkerError

_BECOME = """\
import ctypes, os, signal, sys
parent, report, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
os.set_inheritable(report, False)
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != parent:
    os._exit(1)
for number in signal.SIGPIPE, signal.SIGXFSZ:
    signal.signal(number, signal.SIG_DFL)
with open("/proc/self/environ", "rb") as file:
    env = dict(item.split(b"=", 1) for item in file.read().split(b"\\0") if b"=" in item)
try:
    os.execvpe(program[0], program, env)
except OSError as exc:
    os.write(report, b"%d" % exc.errno)
    os._exit(127)
"""
"""What the new process runs first. Python ignores two signals and may set LC_CTYPE: the program inherits neither."""


class CannotStart(WorkerError):
    """The program is not there, or may not be run. A usage error: trying again would not help."""

    exit_code = Exit.USAGE


class ProgramChild:
    """One run of one program.

    `start()` on the main thread (the kernel kills the program when the thread that started it ends); `wait()` in any
    one thread, which does the watching; the rest from any thread. While it runs, this process must start no others:
    they would be taken for the program's.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Prepare to run `argv`, found through the PATH of `env`, with exactly the environment `env`."""
        if not argv:
            raise CannotStart("no program given: worker exec NAME -- CMD [ARGUMENT ...]")
        self._argv = list(argv)
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._others: set[int] = set()  # children from before, not the program's
        self._signals = threading.Lock()  # nobody signals a pid while it is being reaped
        self._waiting = threading.Lock()  # one thread watches, further ones wait for it
        self._kill_at: float | None = None  # of the monotonic clock; None: nobody has asked it to end
        self._killed = False
        self._timer: threading.Timer | None = None
        self._code: int | None = None

    def start(self) -> None:
        """Start the program; returns once it runs (a few hundredths of a second).

        Raises CannotStart when it cannot be run, RuntimeError off the main thread or a second time.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start() belongs on the main thread: the program would end with the thread it came from")
        if self._process is not None:
            raise RuntimeError("start() was called before")
        processes.adopt_orphans()
        self._others = set(processes.descendants(os.getpid()))
        if not processes.LINUX:
            self._process = self._start_untied()
            return
        reading, writing = os.pipe()
        try:
            become = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), str(writing), *self._argv]
            self._process = subprocess.Popen(become, env=self._env, pass_fds=(writing,), start_new_session=True)
        finally:
            os.close(writing)
            with open(reading, "rb") as report:
                refused = report.read()  # ends with exec, or with an error number
        if refused:
            self._process.wait()
            self._code = 127
            raise self._cannot_start(int(refused))

    def _start_untied(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._argv, env=self._env, start_new_session=True)
        except OSError as exc:
            raise self._cannot_start(exc.errno or 0) from exc

    def _cannot_start(self, number: int) -> CannotStart:
        return CannotStart(f"cannot run {self._argv[0]!r}: {os.strerror(number)}")

    @property
    def pid(self) -> int:
        """The program's process id, which is also its group's. Raises RuntimeError before start()."""
        if self._process is None:
            raise RuntimeError("the program has not been started")
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether nothing is left of the program, as wait() has seen: only then is its work over."""
        return self._code is not None

    @property
    def running(self) -> bool:
        """Whether it was started, and has not been seen to have ended."""
        return self._process is not None and self._code is None

    def wait(self) -> int:
        """Block until nothing is left of the program; return its exit code, 128 + n if signal n ended it.

        Somebody must be in here for a kill to reach what the program starts at that very moment.
        """
        pid = self.pid
        with self._waiting:
            if self._code is None:
                if processes.LINUX:
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # its pid stays taken while we look around
                self._finish(pid)
            assert self._code is not None
            return self._code

    def terminate(self, grace: float) -> None:
        """Ask all of the program's processes to end (TERM); kill what is left after `grace` seconds.

        Returns at once. TERM is sent once: a further call only brings the kill forward, never puts it off. Without a
        running program nothing happens.
        """
        with self._signals:
            kill_at = time.monotonic() + grace
            if self._process is None or self._code is not None:
                return
            if self._kill_at is None:
                self._send_all(signal.SIGTERM)
            elif kill_at >= self._kill_at:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._kill_at = kill_at
            self._timer = threading.Timer(grace, self.kill)
            self._timer.daemon = True
            self._timer.start()

    def kill(self) -> None:
        """Kill all of the program's processes now, stopped ones too. Returns at once; wait() says when all are gone."""
        with self._signals:
            if self._process is not None and self._code is None:
                self._killed = True
                self._send_all(signal.SIGKILL)

    def _send_all(self, number: int) -> None:
        processes.send_group(self.pid, number)  # the group at once: nobody slips through by forking
        for pid in self._descendants():
            if not processes.in_group(pid, self.pid):  # many programs take a second TERM for impatience
                processes.send(pid, number)

    def _descendants(self) -> list[int]:
        return [pid for pid in processes.descendants(os.getpid()) if pid not in self._others]

    def _finish(self, pid: int) -> None:
        """The program itself has ended: wait for the rest, killing it unless it was given time, and keep the code.

        An empty list is proof: orphans become our own children, and only this thread takes those away.
        """
        assert self._process is not None
        while left := [other for other in self._descendants() if other != pid]:
            if self._killed or self._kill_at is None:
                self.kill()
            self._reap_one(left)
        if not processes.LINUX:
            self._process.wait()
            processes.send_group(pid, signal.SIGKILL)
        with self._signals:
            code = self._process.wait()
            self._code = code if code >= 0 else 128 - code
            if self._timer is not None:
                self._timer.cancel()

    def _reap_one(self, left: list[int]) -> None:
        """Wait for one of our own children among `left` to end, and reap it: orphans come to us."""
        for pid in left:
            try:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                continue  # somebody else's child as yet
            with self._signals:
                os.waitpid(pid, 0)
            return
