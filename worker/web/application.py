"""What the admin port answers, by path. Every answer is made from memory, on the control thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from worker.supervisor import Supervisor
from worker.web.health import azure_health, not_ready

FRESH = 1.0
"""Seconds for which a page of metrics is given out again. One takes milliseconds to make, and with many queues and
partitions up to a tenth of a second: however often it is asked for, the control loop must have time for its work."""


class Subject(Protocol):
    """Whom the port answers for."""

    @property
    def supervisor(self) -> Supervisor | None:
        """The instance; None while its start is being checked."""

    @property
    def registry(self) -> CollectorRegistry:
        """Its metrics."""

    def report(self, problem: str) -> None:
        """Take note of a bug in an answer."""


def application(subject: Subject) -> Starlette:
    """Return what answers for one instance, from before it is there until it has ended."""
    pages: dict[str, tuple[float, bytes]] = {}  # by content type: when it was made, and the page

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        reason = not_ready(subject.supervisor)
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    async def azure(request: Request) -> Response:
        return JSONResponse(azure_health(subject.supervisor))

    async def exposition(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        now = asyncio.get_running_loop().time()
        if kind not in pages or now - pages[kind][0] >= FRESH:
            pages.clear()  # who asks chooses the kind, and there must not be many
            pages[kind] = now, encode(subject.registry)
        return Response(pages[kind][1], headers={"Content-Type": kind})

    async def bug(request: Request, error: Exception) -> Response:
        subject.report(f"the admin port could not answer {request.url.path}: {error!r}")
        return JSONResponse({"error": "Internal Server Error"}, 500)

    paths: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/livez": livez,
        "/readyz": readyz,
        "/healthz/azure": azure,
        "/metrics": exposition,
    }
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in paths.items()],
        exception_handlers={HTTPException: _refuse, Exception: bug},
    )
    app.router.redirect_slashes = False  # another path is another path
    return app


async def _refuse(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPException)  # it is registered for these only
    return JSONResponse({"error": refusal.detail}, refusal.status_code, headers=dict(refusal.headers or {}))
