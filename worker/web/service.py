"""An instance with its admin port: what `worker run` runs on the control thread."""

from __future__ import annotations

import asyncio
import socket

from worker.supervisor import Supervisor
from worker.web.metrics import Metrics
from worker.web.sampling import Samples
from worker.web.server import AdminServer, application, bind


class AdminPort:
    """A port that was taken before the instance starts, and the metrics that count from then on."""

    def __init__(self, taken: socket.socket) -> None:
        self.metrics = Metrics()
        self._taken = taken

    @classmethod
    def take(cls, host: str, port: int | None) -> AdminPort | None:
        """Take the port; None when there is none to take. Raises ConfigurationError. See `worker.web.server.bind`."""
        taken = bind(host, port)
        return None if taken is None else cls(taken)

    def watching(self, supervisor: Supervisor) -> Watched:
        """Return the service that answers for this instance on the port."""
        return Watched(supervisor, self.metrics, self._taken)


class Watched:
    """A supervisor that can be asked how it is, from before its first request until nothing acts any more."""

    def __init__(self, supervisor: Supervisor, metrics: Metrics, taken: socket.socket) -> None:
        self._supervisor = supervisor
        self._samples = Samples(supervisor)
        metrics.watch(supervisor, self._samples)
        self._server = AdminServer(application(supervisor, metrics), taken)

    def drain(self, reason: str) -> None:
        """Finish, release and end; answered for until then."""
        self._supervisor.drain(reason)

    async def run(self) -> int:
        """Run the instance, and answer for it meanwhile."""
        self._server.start()
        sampling = asyncio.create_task(self._samples.keep())
        try:
            return await self._supervisor.run()
        finally:
            sampling.cancel()
            await self._server.stop()
