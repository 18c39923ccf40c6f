"""The program of `worker exec`: runs with our streams, ends as a whole, and is seen to have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import alive, until
from worker.processes import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="subreapers and PDEATHSIG (Linux)")

HOST = """\
import os, signal, sys, threading, time
from worker.child import CannotStart, ProgramChild
def say(*words): print(*words, flush=True)
def until_said(path):
    while not (os.path.exists(path) and os.path.getsize(path)): time.sleep(0.005)
child = ProgramChild(sys.argv[2:], dict(os.environ))
"""
"""The process that holds the child: one of its own, as it becomes a subreaper."""

DAEMON = "setsid sh -c 'echo $$ > {file}; trap \"\" TERM; exec sleep 600' & "


@dataclass
class Result:
    """What the holding process said."""

    code: int
    output: list[str]
    errors: str


def hold(steps: str, *argv: str, given: str = "", env: dict[str, str] | None = None) -> Result:
    """Run `argv` as a child of a process that does `steps` with it."""
    done = subprocess.run(
        [sys.executable, "-c", HOST + steps, "--", *argv],
        input=given,
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(env or {})},
    )
    return Result(done.returncode, done.stdout.splitlines(), done.stderr)


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_exit_code_is_passed_on(script: str, code: int) -> None:
    """The program's code is the result, and 128 + n when signal n ended it."""
    result = hold("child.start(); say(child.ended); say(child.wait(), child.ended)", "sh", "-c", script)
    assert result.output == ["False", f"{code} True"]


def ignored_here() -> int:
    """Return the signals that whoever started this test run ignores: a program inherits them, as it always would."""
    mask = int(Path("/proc/self/status").read_text().split("SigIgn:")[1].split()[0], 16)
    return mask & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)  # those two are Python's own


def test_program_gets_our_streams_and_exactly_its_environment() -> None:
    """stdin, stdout and stderr are ours; nothing of how the program was started shows in environment or signals."""
    steps = "child._env = {'A': 'é', 'PATH': os.environ['PATH']}; child.start(); say(child.wait())"
    result = hold(steps, "sh", "-c", "cat; echo oops >&2; env | sort; grep SigIgn /proc/self/status", given="in\n")
    assert result.output[0] == "in"
    assert [line.split("=")[0] for line in result.output[1:-2]] == ["A", "PATH", "PWD"]
    assert result.output[-2:] == [f"SigIgn:\t{ignored_here():016x}", "0"]
    assert result.errors == "oops\n"


def test_program_has_a_group_of_its_own() -> None:
    """The program leads its own process group, so that it can be signalled as a whole, and only it."""
    steps = "child.start(); say(os.getpgid(child.pid) == child.pid); child.kill(); say(child.wait())"
    assert hold(steps, "sleep", "600").output == ["True", "137"]


@pytest.mark.parametrize("program, reason", [("no-such-program", "No such file"), ("/etc/passwd", "Permission denied")])
def test_program_that_cannot_run(program: str, reason: str) -> None:
    """A program that is missing or not executable gives one clear line, and a usage error's exit code."""
    steps = "try: child.start()\nexcept CannotStart as exc: say(exc); sys.exit(exc.exit_code)"
    result = hold(steps, program)
    assert result.code == 2
    assert f"cannot run '{program}': {reason}" in result.output[0]


def test_start_belongs_on_the_main_thread() -> None:
    """Started from another thread the program would die with it: refused."""
    steps = """
def start():
    try: child.start()
    except RuntimeError as exc: say(exc)
thread = threading.Thread(target=start); thread.start(); thread.join()
"""
    assert "main thread" in hold(steps, "true").output[0]


def test_terminate_asks_first(tmp_path: Path) -> None:
    """A program that ends on TERM ends with its own code, and its grace is not waited for."""
    ready = tmp_path / "ready"
    steps = f"child.start(); until_said({str(ready)!r}); child.terminate(600); say(child.wait())"
    result = hold(steps, "sh", "-c", f"trap 'exit 6' TERM; echo 1 > {ready}; while :; do sleep 0.01; done")
    assert result.output == ["6"]


def test_terminate_kills_after_the_grace(tmp_path: Path) -> None:
    """What ignores TERM, a daemon in a session of its own included, is killed when the grace is over."""
    ready, daemon = tmp_path / "ready", tmp_path / "daemon"
    steps = (
        f"child.start(); until_said({str(ready)!r}); until_said({str(daemon)!r})\n"
        "child.terminate(0.2); say(child.wait(), child.ended)"
    )
    script = DAEMON.format(file=daemon) + f"trap '' TERM; echo 1 > {ready}; while :; do sleep 0.01; done"
    result = hold(steps, "sh", "-c", script)
    assert result.output == ["137 True"]
    assert not alive(int(daemon.read_text()))


def test_later_request_brings_the_kill_forward(tmp_path: Path) -> None:
    """A shorter grace overrides a longer one, as when the lease is lost in a drain; a longer one changes nothing."""
    ready = tmp_path / "ready"
    steps = (
        f"child.terminate(0); child.kill(); child.start(); until_said({str(ready)!r})\n"
        "child.terminate(600); child.terminate(1); child.terminate(600); say(child.wait())"
    )
    result = hold(steps, "sh", "-c", f"trap 'echo asked' TERM; echo 1 > {ready}; while :; do sleep 0.01; done")
    assert result.output == ["asked", "137"]


def test_family_gets_its_grace_too(tmp_path: Path) -> None:
    """When the program ends on TERM before its children do, they still have the rest of the grace to finish."""
    ready, done = tmp_path / "ready", tmp_path / "done"
    worker = f"sh -c 'trap \"sleep 0.2; echo 1 > {done}; exit\" TERM; echo 1 > {ready}; while :; do sleep 0.01; done'"
    steps = f"child.start(); until_said({str(ready)!r}); child.terminate(20); say(child.wait())"
    result = hold(steps, "sh", "-c", f"trap 'exit 0' TERM; {worker} & wait")
    assert result.output == ["0"]
    assert done.read_text() == "1\n"


def test_stopped_program_can_be_ended() -> None:
    """A program that is stopped is killed all the same."""
    steps = """
child.start()
os.kill(child.pid, signal.SIGSTOP)
while ") T " not in open(f"/proc/{child.pid}/stat").read(): time.sleep(0.005)
child.terminate(0.1)
say(child.wait())
"""
    assert hold(steps, "sleep", "600").output == ["137"]


def test_what_a_program_leaves_behind_is_killed(tmp_path: Path) -> None:
    """When the program ends by itself, wait() returns only once its daemons are gone as well."""
    daemon = tmp_path / "daemon"
    script = DAEMON.format(file=daemon) + f"while ! [ -s {daemon} ]; do sleep 0.01; done; exit 4"
    result = hold("child.start(); say(child.wait())", "sh", "-c", script)
    assert result.output == ["4"]
    assert not alive(int(daemon.read_text()))


def test_wait_works_from_several_threads() -> None:
    """Every thread in wait() gets the code, and a kill from yet another one reaches the program."""
    steps = """
child.start()
codes = []
threads = [threading.Thread(target=lambda: codes.append(child.wait())) for each in range(3)]
for thread in threads: thread.start()
child.kill()
for thread in threads: thread.join()
child.kill(); child.terminate(1)
say(codes)
"""
    assert hold(steps, "sleep", "600").output == ["[137, 137, 137]"]


def test_program_dies_with_its_holder(tmp_path: Path) -> None:
    """When the holding process is killed, the kernel kills the program."""
    steps = "child.start(); say(child.pid); os.kill(os.getpid(), signal.SIGKILL)"
    result = hold(steps, "sleep", "600")
    assert result.code == -signal.SIGKILL
    until(lambda: not alive(int(result.output[0])), 20, "the program's death")
