"""Events: one JSON object a line on stderr, with the fixed names of docs/events.md.

Every event carries `fleet`, `instance`, `session` and an ISO timestamp in UTC, and `term` where there is one.
structlog does the work; this module fixes what is bound and where it goes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast


@contextmanager
def _unseen(package: str) -> Iterator[None]:
    """Let imports go as if a package were not installed."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # this is how Python says that there is no such module
    try:
        yield
    finally:
        del sys.modules[package]


with _unseen("rich"):  # structlog loads it for a coloured console, which no worker has: 60 modules, 4 MB
    import structlog

LEVELS = {
    "write.refused": "warning",
    "leader.lost": "warning",
    "lease.renew_failed": "warning",
    "message.retried": "warning",
    "message.dead_lettered": "error",
    "instance.killed": "error",
}
"""Events that are not plain information; everything else is `info`."""

Sink = Callable[[Mapping[str, Any]], None]


class Events:
    """Emits events with what is bound to it. Cheap to bind; any thread may emit."""

    def __init__(self, log: structlog.typing.FilteringBoundLogger, sink: Sink | None = None) -> None:
        self.log = log
        self._sink = sink
        self._bound: dict[str, Any] = {}

    def bind(self, **fields: Any) -> Events:
        """Return events that carry these fields as well."""
        bound = Events(self.log.bind(**fields), self._sink)
        bound._bound = {**self._bound, **fields}
        return bound

    def emit(self, event: str, **fields: Any) -> None:
        """Emit one event. A sink, where there is one, sees it first: simulations and tests listen there."""
        if self._sink is not None:
            self._sink({**self._bound, "event": event, **fields})
        getattr(self.log, LEVELS.get(event, "info"))(event, **fields)

    def problem(self, message: str, **fields: Any) -> None:
        """Report something wrong that the runtime survives: one line, `event` = `problem`."""
        if self._sink is not None:
            self._sink({**self._bound, "event": "problem", "problem": message, **fields})
        self.log.warning("problem", problem=message, **fields)


def configure(level: str = "INFO", sink: Sink | None = None) -> Events:
    """Return the process's events, written to stderr from `level` up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    return Events(cast("structlog.typing.FilteringBoundLogger", structlog.get_logger()), sink)


def silent(sink: Sink) -> Events:
    """Return events that go to `sink` and nowhere else: for simulations and tests."""
    log = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    return Events(cast("structlog.typing.FilteringBoundLogger", log), sink)
