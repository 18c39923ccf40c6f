"""What an app did, in its own words: one line of JSON for each act, in a file that outlives every process.

One `write` to a file that is open for appending: lines of several processes never mix, and whoever is killed leaves
whole lines. Times are seconds of CLOCK_BOOTTIME, the same clock for all processes of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["ACTS_FOLDER"])
INSTANCE = os.environ.get("WORKER_INSTANCE", "")

_TICKING = """\
import sys; sys.path.insert(0, sys.argv[1])
from tests.acceptance.apps.acts import act, tick
while True:
    act("child")
    tick(0.01)
"""

_file = os.open(FOLDER / "acts.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def act(what: str, **fields: Any) -> None:
    """Write down one act, with the process and the time."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    line = {"act": what, "at": now, "pid": os.getpid(), "instance": INSTANCE, **fields}
    os.write(_file, json.dumps(line).encode() + b"\n")


def tick(seconds: float) -> None:
    """Block for a moment."""
    time.sleep(seconds)


def asked(flag: str) -> bool:
    """Say whether the test has raised a flag."""
    return (FOLDER / flag).exists()


def take(flag: str) -> bool:
    """Say whether the test has raised a flag, and lower it: whoever takes it is the only one."""
    try:
        (FOLDER / flag).unlink()
    except FileNotFoundError:
        return False
    return True


def start_child() -> int:
    """Start a process that acts a hundred times a second until somebody ends it; return its pid."""
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen([sys.executable, "-c", _TICKING, str(root)], start_new_session=True).pid
