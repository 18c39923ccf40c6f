"""An app whose handler leaves a process behind that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.acceptance.apps.acts import act
from worker import App

app = App()

_TWICE = """\
import os, sys; sys.path.insert(0, sys.argv[1])
from tests.acceptance.apps.acts import act, asked, tick
if os.fork() == 0:
    os.setsid()
    while os.getppid() != 1:
        tick(0.01)
    act("orphaned")
    while not asked("end"):
        tick(0.01)
"""


@app.queue("orphans", partitions=1)
def leave_one(body: object) -> None:
    """Start a process that starts another one and ends."""
    subprocess.run([sys.executable, "-c", _TWICE, str(Path(__file__).resolve().parents[2])], check=True)
    act("left")
