"""An instance with its admin port: what `worker run` runs on the control thread."""

from __future__ import annotations

import asyncio
import socket

from prometheus_client import CollectorRegistry

from worker.process import Service
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
        """Return the service that answers for this instance on the port, until nothing of it acts any more."""
        return Watched(self, supervisor)

    def serving(self, service: Service) -> Served:
        """Return a service that ends together with this port."""
        return Served(self, service)


class Watched:
    """A supervisor that can be asked how it is until nothing of it acts any more."""

    def __init__(self, port: AdminPort, supervisor: Supervisor) -> None:
        self._port, self._supervisor = port, supervisor
        self._samples = Samples(supervisor)

    def drain(self, reason: str) -> None:
        """Finish, release and end; answered for until then."""
        self._supervisor.drain(reason)

    async def run(self) -> int:
        """Run the instance, and answer for it meanwhile."""
        self._port.supervisor = self._supervisor
        self._port.metrics.watch(self._supervisor, self._samples)
        sampling = asyncio.create_task(self._samples.keep())
        sampling.add_done_callback(self._sampled)
        try:
            return await self._supervisor.run()
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            self._port.metrics.unwatch()
            self._port.supervisor = None

    def _sampled(self, sampling: asyncio.Task[None]) -> None:
        if not sampling.cancelled():
            self._port.report(f"queues are not sampled any more: {sampling.exception()!r}")


class Served:
    """A service, and a port that answers for its instances until it has ended."""

    def __init__(self, port: AdminPort, service: Service) -> None:
        self._port, self._service = port, service

    def drain(self, reason: str) -> None:
        """Finish, release and end."""
        self._service.drain(reason)

    async def run(self) -> int:
        """Run the service, and close the port after it."""
        try:
            return await self._service.run()
        finally:
            await self._port.stop()
