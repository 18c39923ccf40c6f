"""The real runtime, as a simulated machine starts it and as the invariants look at it."""

from __future__ import annotations

from collections.abc import Mapping

from worker.app import App
from worker.ports import Ports
from worker.supervisor import Supervisor

NOTHING: Mapping[str, int] = {}


class RealRuntime:
    """A `worker.testing.machine.Runtime` over the supervisor, unchanged."""

    def __init__(self, app: App, ports: Ports, *, drain_timeout: float) -> None:
        self._supervisor = Supervisor(app, ports, session=ports.clock.token(), drain_timeout=drain_timeout)

    async def run(self) -> int:
        return await self._supervisor.run()

    def stop(self) -> None:
        self._supervisor.drain("TERM")

    @property
    def leading(self) -> int | None:
        elector = self._supervisor.elector
        return elector.term.number if elector.acting and elector.term is not None else None

    @property
    def active(self) -> Mapping[str, int]:
        session = self._supervisor.member.session
        return NOTHING if session is None or not session.ownership.busy else session.ownership.active

    @property
    def session(self) -> str | None:
        session = self._supervisor.member.session
        return None if session is None else session.id
