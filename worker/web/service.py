"""An instance with its admin port: what `worker run` runs on the control thread."""

from __future__ import annotations

import asyncio
import socket

from prometheus_client import CollectorRegistry

from worker.supervisor import Supervisor
from worker.web.application import application
from worker.web.metrics import Metrics
from worker.web.sampling import Samples
from worker.web.server import AdminServer, bind


class AdminPort:
    """A port that is taken, answered and counted for before there is an instance, which may take a while."""

    def __init__(self, taken: socket.socket) -> None:
        self.metrics = Metrics()
        self.supervisor: Supervisor | None = None
        self._server = AdminServer(application(self), taken, self.report)

    @classmethod
    def take(cls, host: str, port: int | None) -> AdminPort | None:
        """Take the port; None when there is none to take. Raises ConfigurationError. See `worker.web.server.bind`."""
        taken = bind(host, port)
        return None if taken is None else cls(taken)

    @property
    def registry(self) -> CollectorRegistry:
        """What `/metrics` shows."""
        return self.metrics.registry

    def report(self, problem: str) -> None:
        """Write a problem as an event of the instance, where there is one."""
        if self.supervisor is not None:
            self.supervisor.ports.events.problem(problem)

    def start(self) -> None:
        """Answer from now on. On the control thread's loop, as all that follows."""
        self._server.start()

    async def stop(self) -> None:
        """Answer no more."""
        await self._server.stop()

    def watching(self, supervisor: Supervisor) -> Watched:
        """Return the service that answers for this instance on the port."""
        self.supervisor = supervisor
        return Watched(self, supervisor)


class Watched:
    """A supervisor that can be asked how it is until nothing of it acts any more."""

    def __init__(self, port: AdminPort, supervisor: Supervisor) -> None:
        self._port, self._supervisor = port, supervisor
        self._samples = Samples(supervisor)
        port.metrics.watch(supervisor, self._samples)

    def drain(self, reason: str) -> None:
        """Finish, release and end; answered for until then."""
        self._supervisor.drain(reason)

    async def run(self) -> int:
        """Run the instance, and answer for it meanwhile."""
        sampling = asyncio.create_task(self._samples.keep())
        sampling.add_done_callback(self._sampled)
        try:
            return await self._supervisor.run()
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            await self._port.stop()

    def _sampled(self, sampling: asyncio.Task[None]) -> None:
        if not sampling.cancelled():
            self._port.report(f"queues are not sampled any more: {sampling.exception()!r}")
