"""The admin port's server: uvicorn on the control thread's loop, bound before the instance starts its work.

It answers until the instance has ended, and never holds up its end. Whoever opens many connections, or sends slowly
or much, is cut off: this loop also renews the lease.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.errors import ConfigurationError
from worker.supervisor import Supervisor
from worker.web.health import azure_health, not_ready
from worker.web.metrics import Metrics

DEFAULT_PORT = 8080
"""Where an instance listens unless a setting says otherwise; it does without when somebody else has that port."""

ENDING = 1.0
"""Seconds that open connections get when the instance has ended."""

CONNECTIONS = 64
HEAD = 16 * 1024
"""Bytes of a request's head."""

IDLE = 5.0
"""Seconds that an idle connection stays open."""


def bind(host: str, port: int | None) -> socket.socket | None:
    """Take the admin port, before anything starts; None for no server.

    `port` None: the default port, or none when it is taken. Raises ConfigurationError when a port that was asked for
    cannot be had.
    """
    if port == 0:
        return None
    wanted = DEFAULT_PORT if port is None else port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, wanted))
        taken.listen(CONNECTIONS)
    except OSError as exc:
        taken.close()
        if port is None:
            return None
        raise ConfigurationError(
            f"WORKER_ADMIN_PORT={port}: cannot listen on {host} ({exc.strerror}): choose another port or address, or 0 "
            "for no admin port"
        ) from exc
    return taken


def application(supervisor: Supervisor, metrics: Metrics) -> Starlette:
    """Return what answers. Every answer is made from memory."""

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        reason = not_ready(supervisor)
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    async def azure(request: Request) -> Response:
        return JSONResponse(azure_health(supervisor))

    async def exposition(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), headers={"Content-Type": kind})

    paths: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/livez": livez,
        "/readyz": readyz,
        "/healthz/azure": azure,
        "/metrics": exposition,
    }
    return Starlette(
        routes=[Route(path, endpoint) for path, endpoint in paths.items()],
        exception_handlers={HTTPException: _problem},
    )


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)  # it is registered for these only
    return JSONResponse({"error": problem.detail}, problem.status_code, headers=dict(problem.headers or {}))


class AdminServer:
    """Serves on a bound socket until stopped."""

    def __init__(self, app: Starlette, taken: socket.socket) -> None:
        self._socket = taken
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="critical",  # stderr is for events
                access_log=False,
                lifespan="off",
                http="h11",
                ws="none",
                server_header=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=int(IDLE),
                timeout_graceful_shutdown=int(ENDING),
                h11_max_incomplete_event_size=HEAD,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Serve from now on. On the control thread's loop, which keeps uvicorn away from the process's signals."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))

    async def stop(self) -> None:
        """End within about `ENDING` seconds, whoever is still connected."""
        self._server.should_exit = True
        if self._serving is not None:
            await asyncio.wait({self._serving}, timeout=2 * ENDING)
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        self._socket.close()
