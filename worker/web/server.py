"""The admin port's server: uvicorn on the control thread's loop, on a port that is taken before anything starts.

It answers until the instance has ended, and never holds up its end.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from worker.errors import ConfigurationError
from worker.web.connections import CONNECTIONS, Connections

DEFAULT_PORT = 8080
"""Where an instance listens unless a setting says otherwise; it does without when somebody else has that port."""

HEAD = 16 * 1024
"""Bytes of a request's head."""

IDLE = 5
"""Seconds that a connection stays open after an answer."""

ENDING = 1.0
"""Seconds after which a server that does not end is left behind. It takes about 0.2."""


def bind(host: str, port: int | None) -> socket.socket | None:
    """Take the admin port, before anything starts; None for no server.

    `port` None: the default port, or none when another process has it. Raises ConfigurationError when a port that was
    asked for cannot be had, and for an address that is not this machine's.
    """
    if port == 0:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, DEFAULT_PORT if port is None else port))
        taken.listen(CONNECTIONS)
    except OSError as exc:
        taken.close()
        if port is None and exc.errno == errno.EADDRINUSE:
            return None
        named = f"WORKER_ADMIN_HOST={host}" if port is None else f"WORKER_ADMIN_PORT={port} on {host}"
        raise ConfigurationError(
            f"{named}: cannot listen there ({exc.strerror}): choose another port or address, or WORKER_ADMIN_PORT=0 "
            "for no admin port"
        ) from exc
    return taken


class AdminServer:
    """Serves on a bound socket until stopped. `report` hears of a server that has failed."""

    def __init__(
        self,
        app: Starlette,
        taken: socket.socket,
        report: Callable[[str], None],
        connections: Connections | None = None,
    ) -> None:
        self._socket, self._report = taken, report
        self._connections = Connections() if connections is None else connections
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="critical",  # stderr is for events; what goes wrong in an answer is reported there
                access_log=False,
                lifespan="off",
                http=self._connections.protocol(),
                ws="none",
                server_header=False,
                proxy_headers=False,
                backlog=CONNECTIONS,
                timeout_keep_alive=IDLE,
                timeout_graceful_shutdown=0,  # an answer takes no time: who is still connected is slow
                h11_max_incomplete_event_size=HEAD,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve from now on. On the control thread's loop, which keeps uvicorn away from the process's signals."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        self._serving.add_done_callback(self._ended)

    def _ended(self, serving: asyncio.Task[None]) -> None:
        if not serving.cancelled() and (error := serving.exception()) is not None:
            self._report(f"the admin port has failed: {error!r}")

    async def stop(self) -> None:
        """End soon, whoever is still connected."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait({self._serving}, timeout=ENDING)
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        self._connections.abort()
        self._socket.close()
