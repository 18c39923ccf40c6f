"""Starting a command twice: as the launcher, and by it as the worker."""

from __future__ import annotations

import sys
from collections.abc import Collection

from worker.launcher import launch
from worker.lifeline import Lifeline
from worker.settings import Settings


def start(settings: Settings, *, stop_grace: float, restart_codes: Collection[int] = (1,)) -> int:
    """Be the launcher: run this very command line as the worker, and return the exit code to end with."""
    from worker.telemetry import configure

    events = configure(settings.log_level.upper()).bind(fleet=settings.fleet, instance=settings.instance_name)
    command = [sys.executable, "-m", "worker", *sys.argv[1:]]
    return launch(command, stop_grace=stop_grace, log=events.emit, restart_codes=restart_codes)


def lifeline() -> Lifeline | None:
    """Return what ties this process to its launcher; None when this is the launcher itself."""
    return Lifeline.inherited()
