"""The launcher's own program: `python -m worker.standby ORDERS COMMAND…`.

`worker run` and `worker exec` check their settings and then become this: a process that waits for years for a death
should not carry pydantic, click and structlog with it (12 MB instead of 40). That is also why its few events are
written by hand here, in the form of docs/events.md.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn

from worker.launcher import launch


class Orders(NamedTuple):
    """What the launcher must know."""

    stop_grace: float  # seconds from TERM to KILL
    restart_codes: Sequence[int]  # exit codes after which the worker is started again
    bound: dict[str, str]  # what every event carries


def become(orders: Orders, command: Sequence[str]) -> NoReturn:
    """Replace this process by the launcher of `command`."""
    arguments = [sys.executable, "-m", "worker.standby", json.dumps(orders), *command]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)


def main(arguments: Sequence[str]) -> int:
    """Launch the command that follows the orders; return the exit code to end with."""
    orders = Orders(*json.loads(arguments[0]))

    def log(event: str, **fields: Any) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        level = "error" if event == "instance.killed" else "warning"
        line = json.dumps({**orders.bound, **fields, "event": event, "level": level, "timestamp": at}, default=str)
        print(line, file=sys.stderr, flush=True)

    return launch(arguments[1:], stop_grace=orders.stop_grace, log=log, restart_codes=orders.restart_codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
