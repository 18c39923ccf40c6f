"""A container engine that runs nothing: what Docker's client asks of it, answered over its socket, and remembered."""

from __future__ import annotations

import json
import re
import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread
from typing import Any

NAME = "cloud-worker"
UPGRADE = (
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n"
    b"Upgrade: tcp\r\n\r\n"
)


class Container:
    """One life of the worker's container."""

    def __init__(self) -> None:
        self.started = Event()
        self.ended = Event()
        self.code = 0

    def end(self, code: int) -> None:
        """End it, as its process would."""
        self.code = code
        self.ended.set()


class Engine:
    """An engine with one image to pull and one name for a container."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.lives: list[Container] = []
        self.has_image = False
        self.drained = Event()  # cleared: a container that was told to stop is still busy
        self.drained.set()

    @property
    def running(self) -> Container | None:
        """The container that runs now."""
        last = self.lives[-1] if self.lives else None
        return last if last and last.started.is_set() and not last.ended.is_set() else None

    def of(self, what: str) -> list[str]:
        """Return the requests that hold these words."""
        return [request for request in self.asked if what in request]


class Handler(BaseHTTPRequestHandler):
    """The part of the engine's interface that the units use."""

    protocol_version = "HTTP/1.1"
    server: Server

    def handle_one_request(self) -> None:
        """Read one request, whatever its method, and answer it."""
        self.raw_requestline = self.rfile.readline(65537)
        self.close_connection = True
        if self.raw_requestline and self.parse_request():
            self.close_connection = True  # each has a connection of its own
            self.answer()

    def answer(self) -> None:
        """Do what the path says."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        engine, path = self.server.engine, re.sub(r"^/v[0-9.]+", "", self.path)
        if path == "/_ping":
            return self.reply(200, "OK")
        engine.asked.append(f"{self.command} {path}")
        if path == "/auth":
            return self.reply(200, {"Status": "Login Succeeded"})
        if path.startswith("/images/create"):
            engine.has_image = True
            return self.reply(200, {"status": "Downloaded"})
        if path.startswith("/images/"):
            return self.reply(200, {"Id": "sha256:0"}) if engine.has_image else self.missing("image")
        if path.startswith("/containers/create"):
            engine.lives.append(Container())
            return self.reply(201, {"Id": "c" * 64, "Warnings": []})
        if path.startswith(f"/containers/{NAME}/stop"):
            return self.stop(engine.running)
        if not engine.lives or path.startswith(f"/containers/{NAME}"):
            return self.missing("container")
        return self.act(path.rpartition("/")[2].partition("?")[0], engine.lives[-1])

    def act(self, what: str, container: Container) -> None:
        """Do what Docker's client asks for between `create` and the end."""
        if what == "attach":
            self.wfile.write(UPGRADE)
            container.ended.wait()
        elif what == "wait":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.flush()
            container.ended.wait()
            self.wfile.write(json.dumps({"StatusCode": container.code}).encode())
        elif what == "start":
            container.started.set()
            self.reply(204, None)
        else:
            self.reply(204, None)

    def stop(self, container: Container | None) -> None:
        """Tell the container to end, and answer when it has."""
        if container is None:
            return self.missing("container")
        self.server.engine.drained.wait()
        container.end(0)
        return self.reply(204, None)

    def missing(self, what: str) -> None:
        """Say that there is none."""
        self.reply(404, {"message": f"No such {what}"})

    def reply(self, status: int, body: object) -> None:
        """Answer with JSON, or with nothing at all."""
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("API-Version", "1.43")
        self.send_header("Ostype", "linux")
        self.send_header("Content-Type", "application/json")
        if body is not None:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def handle(self) -> None:
        """Bear a client that has gone, as killed ones do."""
        with suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        """Bear that at the end too."""
        with suppress(ConnectionError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Keep a test's output clean."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """HTTP over a Unix socket."""

    daemon_threads = True
    engine: Engine

    def get_request(self) -> tuple[socket.socket, Any]:
        """Give the peer an address, which HTTP's handler wants and a Unix socket has not."""
        connection, _ = super().get_request()
        return connection, ("engine", 0)


@contextmanager
def listening(path: Path) -> Iterator[Engine]:
    """Serve an engine at a socket until the block ends."""
    with Server(str(path), Handler) as server:
        server.engine = Engine()
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.engine
        finally:
            server.engine.drained.set()
            for life in server.engine.lives:
                life.ended.set()
            server.shutdown()
            thread.join()
