"""What a user can get wrong before anything runs: one exit code and one clear line each, and nothing is started."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import (
    ROOT,
    STARTING,
    Inside,
    acted,
    all_owned,
    environment,
    fleet_of,
    key_for,
    ok,
    send,
    worker,
)
from tests.support import require
from tests.waiting import until
from worker.dev.fleet import LocalFleet
from worker.processes import LINUX


@dataclass(frozen=True)
class Mistake:
    """Settings that cannot work, and what must be said about them."""

    code: int
    says: tuple[str, ...]
    env: dict[str, str | None] = field(default_factory=dict)


BROKEN = "import json\n\njson.loads('{')\n"
STRANGE_NAME = 'from worker import App\napp = App()\n@app.queue("My_Queue")\ndef handle(body): ...\n'
NO_APP = "application = 1\n"

MISTAKES = {
    "no store": Mistake(
        3,
        ("WORKER_STORE is not set", "sqlite:///PATH", "azure://ACCOUNT/CONTAINER", "s3://BUCKET"),
        {"WORKER_STORE": None},
    ),
    "store of no known kind": Mistake(
        3, ("WORKER_STORE", "redis://here", "sqlite:///"), {"WORKER_STORE": "redis://here"}
    ),
    "unknown variable": Mistake(3, ("WORKER_LEESE", "did you mean WORKER_LEASE?"), {"WORKER_LEESE": "4"}),
    "no number": Mistake(3, ("WORKER_LEASE='soon'", "a positive number of seconds"), {"WORKER_LEASE": "soon"}),
    "impossible timings": Mistake(
        3,
        ("renew 2.5", "lease 3", "one lost request would depose a healthy holder", "WORKER_LEASE_RENEW=2.5"),
        {"WORKER_LEASE": "3", "WORKER_LEASE_RENEW": "2.5"},
    ),
    "margin below the timer's latency": Mistake(
        3, ("margin 0.1 s", "latency 0.1 s", "WORKER_LEASE_MARGIN=0.1"), {"WORKER_LEASE_MARGIN": "0.1"}
    ),
    "missing app": Mistake(3, ("WORKER_APP='nothere:app'", "no module 'nothere'"), {"WORKER_APP": "nothere:app"}),
    "broken app": Mistake(
        3, ("WORKER_APP='broken:app'", "broken.py:3", "JSONDecodeError"), {"WORKER_APP": "broken:app"}
    ),
    "module without an app": Mistake(3, ("no attribute 'app'", "no App at all"), {"WORKER_APP": "noapp:app"}),
    "queue name that no cloud takes": Mistake(
        3, ("'My_Queue'", "3 to 50 lower-case letters", "name.py:3"), {"WORKER_APP": "name:app"}
    ),
    "store that is no database": Mistake(
        4, ("garbage.db", "not a SQLite database"), {"WORKER_STORE": "sqlite:///garbage.db"}
    ),
    "another program's database": Mistake(
        4, ("other.db", "another program's database"), {"WORKER_STORE": "sqlite:///other.db"}
    ),
    "folder that is not there": Mistake(
        4, ("no/such", "cannot create the folder"), {"WORKER_STORE": "sqlite:///no/such/store.db"}
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line(tmp_path: Path, name: str) -> None:
    """A mistake ends `worker run` with its exit code and one line that names what is wrong and what would be right."""
    mistake = MISTAKES[name]
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "name.py").write_text(STRANGE_NAME)
    (tmp_path / "noapp.py").write_text(NO_APP)
    (tmp_path / "garbage.db").write_bytes(b"\0garbage" * 1000)
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE theirs (id)")
    other.close()
    env: dict[str, Any] = {"WORKER_APP": "tests.acceptance.apps.three:app", **mistake.env}
    done = worker(tmp_path, "run", cwd=tmp_path, **env)
    _is_one_line(done, mistake.code, *mistake.says)


def test_unwritable_folder(tmp_path: Path) -> None:
    """A store in a folder that this user may not write to ends `worker run` with one line that names the folder."""
    require(LINUX or os.getuid() != 0, "a user whom permissions bind (root on macOS is not)")
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(0o500)
    run = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    bound = [sys.executable, "-c", run] if os.getuid() == 0 else []  # root without the right to ignore permissions
    done = subprocess.run(
        [*bound, sys.executable, "-m", "worker", "run"],
        cwd=ROOT,
        env=environment(folder, WORKER_APP="tests.acceptance.apps.three:app", ACTS_FOLDER=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    _is_one_line(done, 4, "sealed", "not writable")


def test_store_of_another_fleet(tmp_path: Path) -> None:
    """A store that another fleet has used is refused, by every command, in one line that names both fleets."""
    with fleet_of(tmp_path, "three", count=1, WORKER_FLEET="north") as fleet:
        all_owned(fleet, 3)
        for command in (["run"], ["status"], ["step-down"], ["send", "orders", "1"]):
            done = worker(tmp_path, *command, app="three", WORKER_FLEET="south")
            _is_one_line(done, 3, "'north'", "'south'", "WORKER_FLEET")


def test_code_with_another_partition_count(tmp_path: Path) -> None:
    """Code that declares another partition count is refused with the command that changes it, which then works."""
    with fleet_of(tmp_path, "three", count=1) as fleet:
        all_owned(fleet, 3)
        refused = worker(tmp_path, "run", app="four", WORKER_INSTANCE="new")
        _is_one_line(refused, 3, "'orders'", "4 partitions", "has 3", "`worker partitions orders --count 4`")

        busy = worker(tmp_path, "partitions", "orders", "--count", "4")
        _is_one_line(busy, 7, "not paused", "`worker pause orders`")
        ok(worker(tmp_path, "pause", "orders"))
        ok(worker(tmp_path, "partitions", "orders", "--count", "4"))
        inside = Inside(tmp_path)
        until(
            lambda: inside.fields("plan").get("queues") == {"orders": 4}, STARTING, "the plan to have four partitions"
        )
        assert not fleet.instances["i-1"].partitions
        with _one_more(tmp_path) as new:
            new.wait_until(lambda: len(new.instances["i-2"].partitions) == 4, STARTING, "the new code to own all")
            ok(worker(tmp_path, "resume", "orders"))
            send(tmp_path, "orders", ["hello"], app="four", key=key_for(3, 4))
            assert acted(tmp_path, "order")["partition"] == "orders-03"


def test_command_line_mistakes(tmp_path: Path) -> None:
    """What is wrong on the command line itself is a usage error, which names the command's own help."""
    for arguments in (["rnu"], ["exec"], ["exec", "job"], ["send", "orders"], ["drain"]):
        done = worker(tmp_path, *arguments)
        assert done.returncode == 2, arguments
        assert "--help" in done.stderr or "Usage:" in done.stderr, arguments
        assert "Traceback" not in done.stderr


def _one_more(folder: Path) -> LocalFleet:
    """Return an instance that runs the newer code on the same store; its name is its own."""
    name = "tests.acceptance.apps.four:app"
    fleet = LocalFleet(
        f"sqlite:///{folder / 'store.db'}", count=2, app=name, env={"ACTS_FOLDER": str(folder)}, cwd=ROOT
    )
    del fleet.instances["i-1"]  # that is the old one
    return fleet


def _is_one_line(done: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    for words in says:
        assert words in line
