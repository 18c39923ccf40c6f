"""Starting a command twice: as the launcher, and by it as the worker."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import NoReturn

from worker.lifeline import Lifeline
from worker.settings import Settings
from worker.standby import Orders, become


def start(settings: Settings, *, stop_grace: float, restart_codes: Collection[int] = (1,)) -> NoReturn:
    """Become the launcher: run this very command line as the worker, for as long as it takes."""
    bound = {"fleet": settings.fleet, "instance": settings.instance_name}
    orders = Orders(stop_grace, sorted(restart_codes), bound)
    become(orders, [sys.executable, "-m", "worker", *sys.argv[1:]])


def lifeline() -> Lifeline | None:
    """Return what ties this process to its launcher; None when this is the launcher itself."""
    return Lifeline.inherited()
