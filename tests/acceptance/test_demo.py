"""`make demo` and `worker dev`, as a newcomer runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.feed import routes
from tests.waiting import alive, until

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, within: float, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python module of this checkout, with nobody's settings; `folder` is where temporary files go."""
    env = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_is_true_and_ends_by_itself(tmp_path: Path) -> None:
    """The demo ends by itself with exit code 0, its table and its two closing lines, and leaves nothing behind."""
    done = run("jobs.demo", within=200, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
    lines = done.stdout.splitlines()
    refused = re.fullmatch(
        r"2 leaders killed, 1 woken from the dead: the store refused its write \(term (\d+) < (\d+)\)", lines[-2]
    )
    assert refused is not None, lines[-2]
    assert int(refused[1]) < int(refused[2])
    assert lines[-1] == "5,366 messages, 7,009,728 flights counted: every airport's total equals the file"
    killed = re.findall(r"SIGKILL for i-\d, leader of term (\d+), with [1-9][\d,]* messages open", done.stdout)
    assert killed == ["1", "2"]
    assert len(re.findall(r"SIGKILL for i-\d, a follower with \d+ partitions, with [1-9]", done.stdout)) == 1
    assert done.stdout.count(": refused (") == 2
    assert len(re.findall(r"^ +\d  i-\d  .*at most 8\.3 s", done.stdout, re.MULTILINE)) == 3


def test_the_demo_is_not_true_of_a_store_that_counted_already(tmp_path: Path) -> None:
    """A flight too many in the store ends the demo's audit with an error that names the airport."""
    script = (
        "import asyncio\n"
        "from jobs.demo import audit\n"
        "from providers.body import encode\n"
        "from providers.connect import connect\n"
        f"provider = connect('sqlite:///{tmp_path}/store.db')\n"
        "async def main():\n"
        "    await provider.documents.create('state/routes/ABE', encode({'content': {'ATL': 854}, 'nonce': 'n'}))\n"
        "    await audit(provider)\n"
        "asyncio.run(main())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert re.search(r"Broken: the flights of \d+ airports differ from the file: ABE", done.stderr)


def test_dev_runs_until_idle_and_prints_every_event(tmp_path: Path) -> None:
    """`worker dev --until-idle` handles what is sent to its store, prints events as JSON lines, and ends with 0."""
    store = f"sqlite:///{tmp_path}/store.db"
    some = tmp_path / "some.jsonl"
    some.write_text("".join(json.dumps(route) + "\n" for _, route in zip(range(200), routes(), strict=False)))
    sent = run("worker", "--store", store, "send", "routes", "--file", str(some), within=30, folder=tmp_path)
    assert sent.returncode == 0, sent.stderr
    done = run("worker", "dev", "-n", "2", "--json", "--until-idle", "--store", store, within=120, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    handled = {event["message"] for event in events if event["event"] == "message.handled"}
    assert len(handled) == 200
    assert {event["instance"] for event in events} == {"i-1", "i-2"}
    assert all(isinstance(event["at"], float) for event in events)
    assert [event["event"] for event in events[-2:]].count("process.ended") >= 1
    assert re.search(r"^ +200 +0 ", done.stderr, re.MULTILINE)


def test_dev_kills_leaders_and_says_how_long_it_took(tmp_path: Path) -> None:
    """`--kill-leader-every` kills leaders, `--for` ends it, and each gap stands beside its promise."""
    done = run("worker", "dev", "--for", "14", "--kill-leader-every", "7", "--seed", "1", within=120, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["what"] for event in events if event["event"] == "fault.killed"][:1] == ["worker"]
    assert re.search(r"i-\d +killed +\d\.\d\d s +3\.7 s, at most 8\.3 s", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dev_refuses_what_cannot_work(tmp_path: Path) -> None:
    """A store that cannot be used and an app that is not there are each one line and an exit code."""
    (tmp_path / "file").touch()
    for arguments, code, words in (
        (["--store", f"sqlite:///{tmp_path}/file/store.db"], 4, "file"),
        (["--store", "memory:"], 3, "cannot be shared by processes"),
        (["--app", "nonsense:app"], 3, "there is no module 'nonsense'"),
    ):
        done = run("worker", "dev", *arguments, within=30, folder=tmp_path)
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_dev_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Whether `worker dev` is told to stop or killed, its fleet drains and ends."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "worker", "dev", "-n", "1", "--json"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        started = next(event for line in process.stdout if (event := json.loads(line))["event"] == "instance.started")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 0
        assert '"instance.stopped"' in out
    until(lambda: not alive(started["pid"]) and not alive(started["launcher"]), 30, "the end of the fleet's processes")
