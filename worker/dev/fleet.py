"""A fleet of real `worker run` processes on this machine, whose events come together on one clock.

    with LocalFleet("sqlite:///fleet.db", count=3) as fleet:
        leader = fleet.wait_for(named("leader.elected"), within=10).instance
        mark = fleet.mark()
        fleet.kill_worker(leader)
        fleet.wait_for(named("leader.elected"), within=10, since=mark)

Every instance is two processes: the launcher, which this one starts, and the worker below it. One thread per instance
reads what they write; whoever waits is woken by the line that he waits for. Only processes started here are signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from worker.clock import SystemClock
from worker.dev import tied
from worker.dev.events import ENDED, KILLED, RESUMED, STOPPED, Event, parse_line
from worker.dev.instance import Instance

T = TypeVar("T")

PIPE = 1 << 20
"""Bytes between an instance and its reader: an instance must never wait for us to write an event."""

NO_ADMIN_PORT = {"WORKER_ADMIN_PORT": "0"}
"""Several instances on one machine would all want the same one."""

CLOSE_GRACE = 20.0
"""Seconds for an orderly end of all instances before `close` kills those that are left."""


class NotWithin(AssertionError):
    """What was waited for has not come in time. The message says what it was, and what came last."""


class NoProcess(LookupError):
    """The instance has no such process at the moment."""


def named(*names: str, **fields: Any) -> Callable[[Event], bool]:
    """Return what matches events of these names that carry these fields; `instance` is one of them."""

    def matches(event: Event) -> bool:
        known = {**event.fields, "instance": event.instance}
        return event.name in names and all(known.get(field) == value for field, value in fields.items())

    return matches


class LocalFleet:
    """Starts instances, keeps their events and facts, and does to them what a bad day does. Any thread may call."""

    def __init__(
        self,
        store: str,
        *,
        count: int = 3,
        app: str = "jobs:app",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        arguments: Sequence[str] = ("run",),
        program: Sequence[str] = (sys.executable, "-m", "worker"),
    ) -> None:
        self.store = store
        self.instances = {f"i-{number}": Instance(f"i-{number}") for number in range(1, count + 1)}
        self.history: list[Event] = []  # in the order of arrival; only ever appended to
        self._env = {**os.environ, **NO_ADMIN_PORT, "WORKER_STORE": store, "WORKER_APP": app, **(env or {})}
        self._cwd, self._command = cwd, [*program, *arguments]
        self._clock = SystemClock()
        self._changed = threading.Condition()
        self._launchers: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> LocalFleet:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- start and end ---

    def start(self, *names: str) -> None:
        """Start these instances, all of them by default. One whose processes still run is left alone.

        For a thread that lives as long as they may: they are told to stop (TERM) when it ends.
        """
        for name in names or self.instances:
            if (running := self._launchers.get(name)) is not None and running.poll() is None:
                continue
            process = subprocess.Popen(  # in a session of its own: a terminal's Ctrl-C is the keeper's affair
                [sys.executable, "-I", "-S", tied.__file__, str(os.getpid()), *self._command],
                env={**self._env, **self.instances[name].env, "WORKER_INSTANCE": name},
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pipesize=PIPE,
                start_new_session=True,
            )
            with self._changed:
                self._launchers[name] = process
                self.instances[name].state = "starting"
                self.instances[name].launcher = process.pid
            self._threads += [_thread(self._read, name, process), _thread(self._wait, name, process)]

    def terminate(self, name: str) -> None:
        """TERM one instance: it drains and ends."""
        with contextlib.suppress(NoProcess):
            os.kill(self._launcher(name), signal.SIGTERM)

    def close(self, grace: float = CLOSE_GRACE) -> None:
        """End all instances: TERM, then KILL for whoever is left after `grace` seconds. May be called again."""
        for name in self.instances:
            with contextlib.suppress(NoProcess):
                launcher, worker = self._launcher(name), self.instances[name].worker
                if worker is not None and _is_child(worker, launcher):
                    _signal(worker, signal.SIGCONT)
                _signal(launcher, signal.SIGCONT)
                _signal(launcher, signal.SIGTERM)
        deadline = self._clock.now() + grace
        for process in self._launchers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - self._clock.now()))
            if process.poll() is None:
                process.kill()  # the kernel then kills the worker
                process.wait()
        for thread in self._threads:
            thread.join(1.0)  # a handler's orphan may keep the pipe open: nobody waits for it
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    # --- bad days ---

    def kill_worker(self, name: str) -> Event:
        """SIGKILL one worker; its launcher starts it again. Returns the fault, dated before the kill."""
        return self._hurt(KILLED, name, signal.SIGKILL, machine=False)

    def kill_machine(self, name: str) -> Event:
        """SIGKILL one launcher: the worker dies with it, and nothing starts them but `start(name)`."""
        return self._hurt(KILLED, name, signal.SIGKILL, machine=True)

    def stop(self, name: str, *, machine: bool = False) -> Event:
        """SIGSTOP one worker, and with `machine` its launcher too, as a host does that freezes a VM.

        The kernel still ends a stopped worker whose trust has run out. A running launcher then starts a new one.
        """
        return self._hurt(STOPPED, name, signal.SIGSTOP, machine=machine)

    def resume(self, name: str) -> Event:
        """SIGCONT one instance, launcher and worker. The event says whether the worker was `alive` to be woken."""
        launcher, worker = self._launcher(name), self.instances[name].worker
        there = worker is not None and _is_child(worker, launcher)
        alive = there and worker is not None and _state(worker) != "Z"
        event = self._note(RESUMED, name, alive=alive)
        if there and worker is not None:
            _signal(worker, signal.SIGCONT)
        _signal(launcher, signal.SIGCONT)
        return event

    def _hurt(self, fault: str, name: str, number: int, *, machine: bool) -> Event:
        launcher, worker = self._launcher(name), self.instances[name].worker
        there = worker is not None and _is_child(worker, launcher)
        if not there and not (machine and number == signal.SIGKILL):
            raise NoProcess(f"{name} has no worker at the moment (it is {self.instances[name].state})")
        term = self.instances[name].term
        led = {} if term is None else {"term": term}
        event = self._note(fault, name, what="machine" if machine else "worker", pid=worker, **led)
        if machine:
            _signal(launcher, number)
        if there and worker is not None and not (machine and number == signal.SIGKILL):  # else the kernel kills it
            _signal(worker, number)
        return event

    # --- looking and waiting ---

    @property
    def leader(self) -> Instance | None:
        """The instance that leads, by what has been read so far; the one with the highest term if there are two."""
        leading = [it for it in self.instances.values() if it.term is not None]
        return max(leading, key=lambda it: it.term or 0, default=None)

    def mark(self) -> int:
        """Return the present length of the history, for `since`."""
        return len(self.history)

    def events(self, *names: str, since: int = 0) -> list[Event]:
        """Return the events of these names, all of them without any, that arrived from a mark on."""
        return [event for event in self.history[since:] if not names or event.name in names]

    def wait_for(self, matches: Callable[[Event], bool], within: float, *, since: int = 0, what: str = "") -> Event:
        """Return the first event from a mark on that matches. Raises NotWithin after so many seconds."""
        looked = since

        def look() -> Event | None:
            nonlocal looked
            while looked < len(self.history):
                looked += 1
                if matches(self.history[looked - 1]):
                    return self.history[looked - 1]
            return None

        return self.wait_until(look, within, what or "an event")

    def wait_until(self, condition: Callable[[], T | None], within: float, what: str) -> T:
        """Return the condition's first true value: asked now and after every event. Raises NotWithin."""
        deadline = self._clock.now() + within
        with self._changed:
            while not (value := condition()):
                left = deadline - self._clock.now()
                if left <= 0 or not self._changed.wait(left):
                    if value := condition():
                        break
                    raise NotWithin(f"not within {within:g} s: {what}; {self._last_words()}")
            return value

    def _last_words(self) -> str:
        states = ", ".join(f"{it.name} {it.state} {it.role}" for it in self.instances.values())
        last = [event.to_line() for event in self.history if not event.name.startswith("message.")][-3:]
        raw = [f"{it.name}: {line}" for it in self.instances.values() for line in list(it.raw)[-3:]]
        return "\n  ".join([states, *last, *raw])

    # --- reading ---

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # it was asked for
        with process.stdout as lines:
            for line in lines:
                event = parse_line(name, line, received=self._clock.now(), wall=self._clock.wall())
                if event is None:
                    self.instances[name].raw.append(line.rstrip("\n"))
                else:
                    self._add(event)

    def _wait(self, name: str, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        if self._launchers.get(name) is process:
            self._note(ENDED, name, exit_code=code if code >= 0 else 128 - code)

    def _note(self, fault: str, name: str, /, **fields: Any) -> Event:
        now = self._clock.now()
        event = Event(now, now, name, fault, {"event": fault, "instance": name, **fields})
        self._add(event)
        return event

    def _add(self, event: Event) -> None:
        with self._changed:
            self.history.append(event)
            self.instances[event.instance].apply(event)
            self._changed.notify_all()

    def _launcher(self, name: str) -> int:
        process = self._launchers.get(name)
        if process is None or process.poll() is not None:
            raise NoProcess(f"{name} is not running")
        return process.pid


def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """Return what /proc tells after the command's name: state, parent, and so on; nothing when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _state(pid: int) -> str | None:
    return next(iter(_stat(pid)), None)


def _is_child(pid: int, parent: int) -> bool:
    """Say whether the process is still the one that was meant: a pid may be somebody else's by now."""
    if not os.path.isdir("/proc/self"):
        return True  # macOS: there is only the launcher's word
    return _stat(pid)[1:2] == [str(parent)]
