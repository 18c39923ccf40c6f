"""A doctor's patient in memory: a store that is altered, an app, and a clock that a test sets."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.interface import Capabilities
from providers.memory.driver import KEEPS_LEASES
from tests.unit.altered import Altered, AlteredDriver
from worker.app import App
from worker.doctor.checks import diagnose
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding
from worker.doctor.queues import queues_of
from worker.settings import load_settings


@dataclass
class SetClock:
    """A clock on which sleeping takes no time, and every look at it `tick` seconds."""

    tick: float = 0.0
    ahead: float = 0.0  # of the store's wall clock, in seconds
    _now: float = 0.0
    _tokens: Any = field(default_factory=itertools.count)

    def now(self) -> float:
        self._now += self.tick
        return self._now

    def wall(self) -> float:
        return time.time() + self.ahead

    def random(self) -> float:
        return 0.5

    def token(self) -> str:
        return f"t{next(self._tokens)}"

    async def sleep(self, seconds: float) -> None:
        self._now += seconds


def strict_app() -> App:
    """An app with two queues; one of them wants strict order."""
    app = App()

    @app.queue("orders", partitions=2, order="strict")
    def orders(body: object) -> None: ...

    @app.queue("thumbs", mode="shared")
    def thumbs(body: object) -> None: ...

    return app


def examined(
    ways: Mapping[str, Altered] | None = None,
    *,
    driver: AlteredDriver | None = None,
    capabilities: Capabilities = KEEPS_LEASES,
    app: Any = None,
    clock: SetClock | None = None,
    queues: bool = True,
    stop_grace: float | None = None,
    host: Any = None,
    **settings: Any,
) -> dict[str, Finding]:
    """Make all checks; `queues` says whether those of the app are there, `app` is it, or the error of importing it."""
    store = driver or AlteredDriver(ways or {}, capabilities)
    if queues:
        for name in queues_of(strict_app()):
            store.store.queue.ensure(name)

    def load(name: str) -> App:
        if isinstance(app, Exception):
            raise app
        return app or strict_app()

    async def whole() -> dict[str, Finding]:
        provider = store.provider()
        chosen = load_settings(store="memory:", **{"lease": 15.0, **settings})
        mine = clock or SetClock()
        try:
            patient = Patient(chosen, provider, mine, mine.token(), stop_grace, host, load)
            return await diagnose(patient, lambda name, finding: None)
        finally:
            await provider.close()

    return asyncio.run(whole())
