"""The launcher with real processes: what it passes on, what it ends, and whom it never leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import require
from tests.waiting import alive, boottime, until
from worker.processes import LINUX

pytestmark = pytest.mark.skipif(not LINUX, reason="subreapers and PDEATHSIG (Linux)")

LAUNCHER = """\
import json, sys
from worker.launcher import Backoff, launch
def log(event, **fields): print(json.dumps({"event": event, **fields}), file=sys.stderr, flush=True)
options, command = json.loads(sys.argv[1]), sys.argv[2:]
backoff = Backoff(*options.pop("backoff", (0.05, 0.4)))
sys.exit(launch(command, log=log, backoff=backoff, **{"stop_grace": 60, **options}))
"""

BEGIN = """\
import os, re, signal, sys, time
def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole lines, whoever else writes
def on(number, what): signal.signal(number, lambda *_: what())
def forever():
    while True: signal.pause()
def daemon():
    if os.fork(): os.wait(); return
    os.setsid()
    if os.fork(): os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
    say("daemon", os.getpid())
    forever()
"""


class Launched:
    """One launcher and what it and its workers have said."""

    def __init__(self, folder: Path, options: dict[str, Any], command: list[str], before: list[str]) -> None:
        self.out, self.err = folder / "out", folder / "err"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            launcher = [sys.executable, "-c", LAUNCHER, json.dumps(options)]
            self.process = subprocess.Popen(
                [*before, *launcher, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )

    def said(self, word: str) -> list[list[str]]:
        """What workers said after `word`, one entry for each time."""
        lines = [line.split() for line in self.out.read_text().splitlines()]
        return [line[1:] for line in lines if line[:1] == [word]]

    def hear(self, word: str, times: int = 1) -> list[str]:
        """Wait until `word` has been said so often; return what came with it the last time."""
        until(lambda: len(self.said(word)) >= times, 20, f"{word!r} {times} times; stderr: {self.err.read_text()}")
        return self.said(word)[times - 1]

    def events(self) -> list[dict[str, Any]]:
        """What the launcher has logged."""
        return [json.loads(line) for line in self.err.read_text().splitlines() if line.startswith('{"event"')]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def asked_to_stop(self) -> bool:
        """Ask (again) for the end of everything; return whether it has come."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.poll() is not None

    def code(self) -> int:
        """Wait for the launcher's end; return its exit code."""
        return self.process.wait(20)


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Launch `BEGIN + program` as the worker; whatever is left at the end of the test is ended."""
    started: list[Launched] = []

    def start(program: str, *, before: list[str] | None = None, **options: Any) -> Launched:
        launched = Launched(tmp_path, options, [sys.executable, "-c", BEGIN + program], before or [])
        started.append(launched)
        return launched

    yield start
    for launched in started:
        until(launched.asked_to_stop, 20, "the launcher's end after the test")


@pytest.mark.parametrize("code", [0, 2, 3, 7, 255])
def test_passes_an_answer_on(launch: Launch, code: int) -> None:
    """A worker that ends with an answer is not started again: its exit code is the launcher's."""
    launched = launch(f"say('up'); sys.exit({code})")
    assert launched.code() == code
    assert len(launched.said("up")) == 1
    assert launched.events() == []


def test_restarts_after_a_signal_with_growing_pauses(launch: Launch) -> None:
    """A worker that dies by a signal is started again, after a pause that grows with each death up to a cap."""
    launched = launch("say('up', os.getpid()); os.kill(os.getpid(), signal.SIGKILL)")
    launched.hear("up", 5)
    killed = launched.events()[:4]
    assert [event["event"] for event in killed] == ["instance.killed"] * 4
    assert [event["pid"] for event in killed] == [int(pid) for (pid,) in launched.said("up")[:4]]
    assert {event["why"] for event in killed} == {"killed by signal 9 (SIGKILL)"}
    for event, longest in zip(killed, (0.05, 0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= event["restart_in"] <= longest


def test_long_life_forgets_earlier_deaths(launch: Launch) -> None:
    """A worker that has lived for a while counts as healthy: the pause after its death is a first one again."""
    launched = launch("say('up'); sys.exit(1)", backoff=(0.05, 10.0, 0.0))
    launched.hear("up", 5)
    assert all(event["restart_in"] <= 0.05 for event in launched.events()[:4])


def test_restarts_after_a_crash(launch: Launch) -> None:
    """Exit code 1, an unhandled exception's, means a crash: the worker is started again."""
    launched = launch("say('up'); sys.exit(1)")
    launched.hear("up", 2)
    assert launched.events()[0]["why"] == "exited with code 1"


@pytest.mark.parametrize("options", [{"restart": False}, {"restart_codes": []}], ids=["never", "not for a code"])
def test_code_1_can_be_an_answer(launch: Launch, options: dict[str, Any]) -> None:
    """Where it is told so, as for `exec`, the launcher passes code 1 on instead of restarting."""
    assert launch("sys.exit(1)", **options).code() == 1


def test_without_restart_a_signal_becomes_a_code(launch: Launch) -> None:
    """A worker that may not be restarted and dies by signal n gives 128 + n, and a reason."""
    launched = launch("os.kill(os.getpid(), signal.SIGSEGV)", restart=False)
    assert launched.code() == 128 + signal.SIGSEGV
    assert launched.events()[0]["why"] == "killed by signal 11 (SIGSEGV)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_forwards_the_request_to_stop(launch: Launch, number: signal.Signals) -> None:
    """TERM and INT reach the worker, which then ends in its own time and with its own code."""
    launched = launch(f"on({number:d}, lambda: sys.exit(5)); say('up'); forever()")
    launched.hear("up")
    launched.signal(number)
    assert launched.code() == 5


def test_dying_of_the_request_is_no_mishap(launch: Launch) -> None:
    """A worker that is ended by the very TERM that it was sent is not reported as killed."""
    launched = launch("say('up'); forever()")
    launched.hear("up")
    launched.signal(signal.SIGTERM)
    assert launched.code() == 128 + signal.SIGTERM
    assert launched.events() == []


def test_no_restart_once_asked_to_stop(launch: Launch) -> None:
    """A worker that crashes while it stops is not started again."""
    launched = launch("on(signal.SIGTERM, lambda: sys.exit(1)); say('up'); forever()")
    launched.hear("up")
    launched.signal(signal.SIGTERM)
    assert launched.code() == 1
    assert len(launched.said("up")) == 1


def test_stop_during_the_pause(launch: Launch) -> None:
    """Asked to stop while no worker runs, the launcher ends at once, with the code of the last death."""
    launched = launch("sys.exit(1)", backoff=(300.0, 300.0))
    until(launched.events, 20, "the worker's death")
    launched.signal(signal.SIGTERM)
    assert launched.code() == 1


def test_two_signals_at_once_are_one_request(launch: Launch, tmp_path: Path) -> None:
    """The same request that arrives twice within a moment, as `timeout` sends it, does not kill the worker."""
    launched = launch(
        """
def stop():
    say('stopping')
    while not os.path.exists(GO): time.sleep(0.005)
    sys.exit(0)
on(signal.SIGTERM, stop); say('up'); forever()
""".replace("GO", repr(str(tmp_path / "go")))
    )
    launched.hear("up")
    launched.signal(signal.SIGTERM)
    launched.signal(signal.SIGINT)
    launched.hear("stopping")
    (tmp_path / "go").touch()
    assert launched.code() == 0


def test_second_request_kills(launch: Launch) -> None:
    """Who asks again is not kept waiting: the worker is killed, long before its grace is over."""
    launched = launch("on(signal.SIGTERM, lambda: say('no')); say('up'); forever()")
    launched.hear("up")
    launched.signal(signal.SIGTERM)
    launched.hear("no")
    until(launched.asked_to_stop, 20, "the end after a second request")
    assert launched.code() == 128 + signal.SIGKILL
    assert launched.events()[-1]["why"] == "asked twice to stop (SIGTERM)"


@pytest.mark.parametrize("last_words", ["forever()", "os.kill(os.getpid(), signal.SIGSTOP)"], ids=["deaf", "stopped"])
def test_kills_who_does_not_stop(launch: Launch, last_words: str) -> None:
    """A worker that ignores the request, or cannot hear it because it is stopped, is killed after its grace."""
    launched = launch(
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN); say('up', os.getpid()); {last_words}", stop_grace=0.3
    )
    (pid,) = launched.hear("up")
    if "SIGSTOP" in last_words:
        until(lambda: psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED, 20, "the worker's stop")
    launched.signal(signal.SIGTERM)
    assert launched.code() == 128 + signal.SIGKILL
    assert launched.events()[-1]["why"] == "did not stop within 0.3 s"


def test_hangup_stops_unless_ignored(launch: Launch) -> None:
    """Under nohup a hang-up stays ignored; a TERM still stops."""
    before = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    launched = launch("on(signal.SIGTERM, lambda: sys.exit(0)); say('up', os.getpid()); forever()", before=before)
    (pid,) = launched.hear("up")
    launched.signal(signal.SIGHUP)
    os.kill(int(pid), signal.SIGHUP)
    launched.signal(signal.SIGTERM)
    assert launched.code() == 0


def test_daemon_is_gone_before_the_next_worker_starts(launch: Launch) -> None:
    """A daemon that forked twice, left the session and ignores TERM dies with the worker, before the next one lives."""
    launched = launch("""
say('up', os.getpid(), *[name for name in os.listdir('/proc') if name.isdigit()])
if not os.fork(): forever()
daemon()
forever()
""")
    worker, *_ = launched.hear("up")
    (daemon,) = launched.hear("daemon")
    assert psutil.Process(int(daemon)).ppid() == launched.process.pid
    os.kill(int(worker), signal.SIGKILL)
    _, *there = launched.hear("up", 2)
    assert daemon not in there
    assert not alive(int(daemon))


@pytest.mark.parametrize("code", [0, 3])
def test_nobody_is_left_when_the_launcher_ends(launch: Launch, code: int) -> None:
    """Even after an orderly end, nothing that the worker started lives on when the launcher ends."""
    launched = launch(f"daemon(); sys.exit({code})")
    assert launched.code() == code
    for (daemon,) in launched.said("daemon"):
        assert not alive(int(daemon))


def test_deep_and_wide_family_is_ended(launch: Launch) -> None:
    """A family of chains of processes, all ignoring TERM, ends as a whole with the worker."""
    launched = launch(
        """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for branch in range(5):
    if not os.fork():
        for depth in range(5):
            say('member', os.getpid())
            if os.fork(): forever()
        forever()
say('up', os.getpid())
forever()
""",
        restart=False,
    )
    (worker,) = launched.hear("up")
    launched.hear("member", 25)
    os.kill(int(worker), signal.SIGKILL)
    assert launched.code() == 128 + signal.SIGKILL
    assert [pid for (pid,) in launched.said("member") if alive(int(pid))] == []


def test_orphans_are_reaped_while_the_worker_lives(launch: Launch) -> None:
    """Orphans that end leave no zombies behind, however long the worker lives."""
    launched = launch("""
for each in range(20):
    if not os.fork():
        os.fork() or os._exit(0)
        os._exit(0)
    os.wait()
say('up', os.getpid())
forever()
""")
    (worker,) = launched.hear("up")

    def children() -> list[int]:
        return [child.pid for child in psutil.Process(launched.process.pid).children()]

    until(lambda: children() == [int(worker)], 20, "only the worker left")


def test_worker_dies_with_its_launcher(launch: Launch) -> None:
    """When the launcher itself is killed, the kernel kills the worker."""
    launched = launch("say('up', os.getpid()); forever()")
    (worker,) = launched.hear("up")
    launched.process.kill()
    until(lambda: not alive(int(worker)), 20, "the worker's death")


def test_says_that_trust_ran_out(launch: Launch) -> None:
    """After the dead-man's switch the log tells session, term, whose trust ran out and where the worker was stuck."""
    launched = launch(
        """
from worker.deadman import deadman
from worker.lifeline import Lifeline
lifeline = Lifeline.inherited()
switch = deadman(publish=lifeline.set_deadline)
lifeline.announce(session='5e5510', term=7, ready=True)
switch.arm('leader', time.clock_gettime(time.CLOCK_BOOTTIME) + 0.4)
say('up', '_CLOUD_WORKER_LIFELINE' in os.environ)
def hold_the_gil(): re.match(r"(a+)+$", "a" * 60 + "b")
daemon()
hold_the_gil()
""",
        restart=False,
    )
    assert launched.code() == 128 + signal.SIGKILL
    (event,) = launched.events()
    assert event["why"] == "trust ran out: leader"
    assert (event["session"], event["term"]) == ("5e5510", 7)
    assert launched.said("up") == [["False"]]
    assert "hold_the_gil" in launched.err.read_text()
    assert [daemon for (daemon,) in launched.said("daemon") if alive(int(daemon))] == []


@pytest.mark.parametrize("before", ["", "lifeline.set_deadline('handler', now() + 600)"])
def test_keeps_the_deadline_itself(launch: Launch, before: str) -> None:
    """At a worker's deadline its children are ended though the worker lives, also when it has just moved closer."""
    launched = launch(
        f"""
from worker.lifeline import Lifeline
def now(): return time.clock_gettime(time.CLOCK_BOOTTIME)
lifeline = Lifeline.inherited()
daemon()
{before}
lifeline.set_deadline('leader', now() + 0.3)
say('deadline', now() + 0.3)
forever()
""",
        restart=False,
    )
    assert launched.code() == 128 + signal.SIGKILL
    assert boottime() >= float(launched.said("deadline")[0][0])
    assert launched.events()[0]["why"] == "trust ran out: leader"
    assert [daemon for (daemon,) in launched.said("daemon") if alive(int(daemon))] == []


def test_works_as_pid_1(launch: Launch) -> None:
    """As PID 1 of a container the launcher restarts, reaps, ends daemons, hears TERM and passes the code on."""
    require(shutil.which("unshare") and os.geteuid() == 0, "root and unshare(1), to be PID 1 of a namespace")
    launched = launch(
        """
say('up', os.getppid())
on(signal.SIGTERM, lambda: sys.exit(4))
daemon()
if len([name for name in os.listdir('/proc') if name.isdigit()]) > 3: say('crowd')
if os.getpid() < 5: os.kill(os.getpid(), signal.SIGKILL)
say('steady')
forever()
""",
        before=["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
    )
    launched.hear("steady")
    assert launched.said("up") == [["1"], ["1"]]
    assert launched.said("crowd") == []
    (first,) = psutil.Process(launched.process.pid).children()
    first.send_signal(signal.SIGTERM)
    assert launched.code() == 4


def test_refuses_foreign_proc(launch: Launch) -> None:
    """Where /proc shows another namespace's processes, the launcher says so instead of leaving some alive."""
    require(shutil.which("unshare") and os.geteuid() == 0, "root and unshare(1), to be PID 1 of a namespace")
    launched = launch("say('up')", before=["unshare", "--pid", "--fork", "--kill-child"])
    assert launched.code() == 1
    assert "another PID namespace's" in launched.err.read_text()
    assert launched.said("up") == []


def test_missing_command_is_no_reason_to_restart(launch: Launch, tmp_path: Path) -> None:
    """A command that cannot be started is reported once, with code 127."""
    launched = Launched(tmp_path, {}, ["/nonexistent/worker"], [])
    assert launched.code() == 127
    assert "cannot start /nonexistent/worker" in launched.err.read_text()
