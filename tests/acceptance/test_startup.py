"""What a command loads, how a worker starts, and how it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.acceptance.support import (
    BOUNDS,
    ROOT,
    SLACK,
    STARTING,
    Inside,
    acted,
    acts,
    all_owned,
    fleet_of,
    ok,
    send,
    worker,
)
from tests.waiting import alive, until
from worker.dev.fleet import named
from worker.dev.history import check

PARTITIONS = 8
LOAD = 200

SDKS = frozenset({"boto3", "botocore", "azure", "aiohttp", "requests", "msal"})
FRAMEWORKS = frozenset({"rich", "pytest", "hypothesis", "psutil", "fastapi", "flask", "django", "uvicorn", "httpx"})
HEAVY = frozenset({"pydantic", "pydantic_settings", "structlog", "sqlite3", "asyncio", "rich"})
"""What `worker --help` can do without."""


def _roots(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_worker_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """A worker on SQLite, in the middle of its first message, has loaded no cloud's SDK and no unused framework."""
    with fleet_of(tmp_path, "plain", count=1) as fleet:
        all_owned(fleet, PARTITIONS)
        send(tmp_path, "items", [{"number": 0}], app="plain")
        loaded = acted(tmp_path, "modules")["names"]
    assert _roots(loaded) & (SDKS | FRAMEWORKS) == set()
    assert "providers.local" in loaded
    assert [name for name in loaded if name.startswith(("providers.memory", "worker.testing", "worker.dev"))] == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_loads_next_to_nothing(arguments: list[str]) -> None:
    """What needs no settings and no store loads neither the one's framework nor the other's driver."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "worker", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "click" in loaded
    assert _roots(loaded) & (SDKS | FRAMEWORKS | HEAVY) == set()


def test_terminated_under_load(tmp_path: Path) -> None:
    """A worker that is terminated in the middle of its work ends with 0, and nothing is lost or acknowledged twice."""
    with fleet_of(tmp_path, "plain", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        send(tmp_path, "items", [{"number": number} for number in range(LOAD)], app="plain")
        acted(tmp_path, "done", times=PARTITIONS)
        mark = fleet.mark()
        fleet.terminate("i-1")
        ended = fleet.wait_for(named("process.ended", instance="i-1"), BOUNDS["drain"].worst + SLACK, since=mark)
        assert ended.get("exit_code") == 0
        assert len(acts(tmp_path, "done")) < LOAD, "there was no load any more"
        begun = {one["number"] for one in acts(tmp_path, "begun", instance="i-1")}
        assert begun == {one["number"] for one in acts(tmp_path, "done", instance="i-1")}, "something was broken off"
        fleet.wait_until(
            lambda: len(acts(tmp_path, "done")) >= LOAD, BOUNDS["leader-loss"].worst + STARTING, "all to be handled"
        )
        fleet.wait_until(lambda: not check(fleet.history, sent=LOAD).problems, STARTING, "all to be acknowledged")
        report = check(fleet.history, sent=LOAD)
        assert (report.handled, report.duplicates, report.dead_lettered) == (LOAD, 0, 0)
        assert len(acts(tmp_path, "done")) == LOAD
        until(lambda: Inside(tmp_path).messages() == 0, STARTING, "empty queues")


def test_drained_by_an_operator(tmp_path: Path) -> None:
    """An instance that an operator drains leaves with 0, and the others take over at once what it released."""
    with fleet_of(tmp_path, "plain", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        leader = fleet.leader
        assert leader is not None
        mark = fleet.mark()
        assert ok(worker(tmp_path, "drain", leader.name, "--wait")).splitlines()[0].endswith(" has left")
        ended = fleet.wait_for(named("process.ended", instance=leader.name), BOUNDS["drain"].worst, since=mark)
        assert ended.get("exit_code") == 0
        [other] = [it for it in fleet.instances.values() if it is not leader]
        within = BOUNDS["hand-over"].worst + BOUNDS["move"].worst
        fleet.wait_until(lambda: len(other.partitions) == PARTITIONS, within, "the other one to own all")
        fleet.wait_for(named("leader.elected", instance=other.name), within, since=mark, what="the other one to lead")
        assert fleet.events("leader.lost", "instance.killed") == []
        again = worker(tmp_path, "drain", leader.name)
        assert again.returncode == 7, "an order for a session that has left"
        assert check(fleet.history).problems == []


def test_terminated_before_it_has_begun(tmp_path: Path) -> None:
    """A worker that is terminated while it is still loading ends at once, for good, and leaves nobody behind."""
    with fleet_of(tmp_path, "plain", count=1) as fleet:
        launcher = psutil.Process(fleet.instances["i-1"].launcher)
        [child] = until(launcher.children, STARTING, "the launcher to start its worker")
        fleet.terminate("i-1")
        ended = fleet.wait_for(named("process.ended", instance="i-1"), STARTING)
        assert ended.get("exit_code") in (0, 128 + signal.SIGTERM)  # it may not have got as far as catching signals
        assert not alive(child.pid)
        assert fleet.events("instance.killed", "member.joined") == []
