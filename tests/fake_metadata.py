"""The metadata service of a machine in Azure and in AWS at once, on loopback, which answers well or badly as told.

    with FakeMetadata() as server:
        server.schedule("Terminate", id="e1", resources=["set_0"])     # Azure's Scheduled Events
        server.say("/latest/meta-data/autoscaling/target-lifecycle-state", "Terminated")   # AWS
        server.disturb(SILENT, path="/metadata/scheduledevents", times=1)
        ...                                                            # the driver talks to server.url
        assert server.started == ["e1"]

It also takes the custom metrics that are meant for Azure Monitor, of whoever shows a token: `metrics`.

It is as strict as the real ones: Azure's refuses requests without `Metadata: true` and a version, AWS's those without
the token that a PUT gives, and both what has come through a proxy. Everything that was asked is in `asked`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

COMPUTE = "/metadata/instance/compute"
EVENTS = "/metadata/scheduledevents"
TOKEN = "/latest/api/token"
IDENTITY = "/latest/dynamic/instance-identity/document"
REGION = "eu-central-1"
INSTANCE_ID = "/latest/meta-data/instance-id"
LIFECYCLE = "/latest/meta-data/autoscaling/target-lifecycle-state"
SPOT = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"

SET = "/subscriptions/s-1/resourceGroups/rg-1/providers/Microsoft.Compute/virtualMachineScaleSets/set"

AZURE_MACHINE: dict[str, Any] = {
    "azEnvironment": "AzurePublicCloud",
    "location": "westeurope",
    "name": "set_0",
    "resourceId": f"{SET}/virtualMachines/0",
    "vmScaleSetName": "set",
    "zone": "2",
}
AWS_MACHINE: dict[str, str] = {
    INSTANCE_ID: "i-0123456789abcdef0",
    "/latest/meta-data/placement/availability-zone": f"{REGION}a",
    "/latest/meta-data/placement/region": REGION,
    LIFECYCLE: "InService",
    IDENTITY: json.dumps({"instanceId": "i-0123456789abcdef0", "availabilityZone": f"{REGION}a", "region": REGION}),
}

FORGOTTEN = 60.0
"""Seconds after which a held answer is let go, whatever the test has forgotten."""


@dataclass(frozen=True)
class Answer:
    """What is answered in place of the truth."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None  # what Content-Length says, where that is a lie
    hold: bool = False  # nothing is said until the server ends
    drip: bool = False  # one byte of the body every fifth of a second
    raw: bytes | None = None  # this instead of HTTP


SILENT = Answer(hold=True)
DRIPPING = Answer(body=b'{"name": "' + b"x" * 1000 + b'"}', drip=True)
FAILING = Answer(500, b"Internal error:\r\n\x1b[31mtry\tagain\x00")
REPLACED = Answer(410, b"Gone")
THROTTLED = Answer(429, b"Too many requests")
REFUSING = Answer(400, b'{"error": "Bad request. api-version was not specified"}')
ABSENT = Answer(404, b"<?xml version='1.0'?><title>404 - Not Found</title>")
PAGE = Answer(200, b"\n<!doctype html><title>Sign in to the hotel's network</title>", (("Content-Type", "text/html"),))
GARBAGE = Answer(200, b"\x80\xff\x00{")
EMPTY = Answer(200)
DEEP = Answer(200, b"[" * 200_000)
NUMBER = Answer(200, b"7" * 5000)
LIST = Answer(200, b"[1]")
HUGE = Answer(200, b'{"name": "' + b"x" * 600_000 + b'"}')
CUT = Answer(200, b'{"name": "s', length=500)
NO_HTTP = Answer(raw=b"220 mail.example ESMTP\r\n")
HANGING_UP = Answer(raw=b"")


def redirecting(to: str) -> Answer:
    """Return an answer that sends the client somewhere else."""
    return Answer(302, b"", (("Location", to),))


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class _Disturbance:
    answer: Answer
    path: str
    method: str | None
    times: int | None


@dataclass
class _Machine:
    """What is true of the machine, and what has been asked and told, guarded by `lock`."""

    compute: dict[str, Any] = field(default_factory=lambda: dict(AZURE_MACHINE))
    events: list[dict[str, Any]] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=lambda: dict(AWS_MACHINE))
    metrics: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    disturbances: list[_Disturbance] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    over: threading.Event = field(default_factory=threading.Event)


class FakeMetadata:
    """A metadata service until the block ends. Any thread may call."""

    def __init__(self) -> None:
        self._machine = _Machine()
        self._server = _Server(self._machine)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeMetadata:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._machine.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # what is true

    def describe(self, **fields: Any) -> None:
        """Change what Azure says of the machine; None takes a field away."""
        with self._machine.lock:
            told = {**self._machine.compute, **fields}
            self._machine.compute = {name: value for name, value in told.items() if value is not None}

    def schedule(self, kind: str, *, id: str = "e1", resources: Sequence[str] = ("set_0",), **fields: Any) -> None:
        """Announce an event in Azure, in place of one with the same id. Fields are as Azure names them."""
        event = {
            "EventId": id,
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": list(resources),
            "EventStatus": "Scheduled",
            "NotBefore": "Mon, 19 Sep 2033 18:29:47 GMT",
            "EventSource": "Platform",
            **fields,
        }
        with self._machine.lock:
            self.finish(id)
            self._machine.events.append(event)

    def finish(self, id: str) -> None:
        """Take an event of Azure's away: it is over."""
        with self._machine.lock:
            self._machine.events = [event for event in self._machine.events if event["EventId"] != id]

    def say(self, path: str, text: str) -> None:
        """Let AWS answer this at a path below /latest."""
        with self._machine.lock:
            self._machine.pages[path] = text

    def hush(self, path: str) -> None:
        """Let AWS have nothing at a path."""
        with self._machine.lock:
            self._machine.pages.pop(path, None)

    def forget_tokens(self) -> None:
        """Take every token of AWS's for expired."""
        with self._machine.lock:
            self._machine.tokens.clear()

    # what goes wrong

    def disturb(self, answer: Answer, *, path: str = "", method: str | None = None, times: int | None = None) -> None:
        """Answer so, wherever a path starts with `path`, so many times or until `calm`."""
        with self._machine.lock:
            self._machine.disturbances.append(_Disturbance(answer, path, method, times))

    def calm(self) -> None:
        """Answer the truth again."""
        with self._machine.lock:
            self._machine.disturbances.clear()

    # what has happened

    @property
    def started(self) -> list[str]:
        """The ids of Azure's events whose start was asked for, in order."""
        with self._machine.lock:
            return list(self._machine.started)

    @property
    def metrics(self) -> list[tuple[str, dict[str, Any]]]:
        """What Azure Monitor was told, in order: the path, and the document."""
        with self._machine.lock:
            return list(self._machine.metrics)

    @property
    def connections(self) -> int:
        """How many connections have been made."""
        return self._server.connections

    @property
    def asked(self) -> list[Asked]:
        """Every request so far."""
        with self._machine.lock:
            return list(self._machine.asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, machine: _Machine) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.machine = machine
        self.connections = 0

    def get_request(self) -> tuple[socket.socket, Any]:
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that have hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait for 40 ms
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(
            self.command,
            parts.path,
            {name: values[-1] for name, values in parse_qs(parts.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length", "0"))),
        )
        machine = self.server.machine
        with machine.lock:
            machine.asked.append(asked)
            answer = _disturbed(machine, asked) or _truth(machine, asked)
        self._say(answer)

    def _say(self, answer: Answer) -> None:
        if answer.hold:
            self.server.machine.over.wait(FORGOTTEN)
            self.close_connection = True
            return
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        if answer.drip:
            for one in answer.body:
                self.wfile.write(bytes([one]))
                if self.server.machine.over.wait(0.2):
                    break
        else:
            self.wfile.write(answer.body)
        if answer.drip or answer.length is not None:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _disturbed(machine: _Machine, asked: Asked) -> Answer | None:
    for one in machine.disturbances:
        if asked.path.startswith(one.path) and one.method in (None, asked.method) and one.times != 0:
            if one.times is not None:
                one.times -= 1
            return one.answer
    return None


def _truth(machine: _Machine, asked: Asked) -> Answer:
    if "x-forwarded-for" in asked.headers or "via" in asked.headers:
        return Answer(403, b"through a proxy")
    if asked.path.startswith("/metadata/"):
        return _azure(machine, asked)
    if asked.path.startswith("/subscriptions/"):
        return _monitor(machine, asked)
    return _aws(machine, asked)


def _azure(machine: _Machine, asked: Asked) -> Answer:
    if asked.headers.get("metadata", "").lower() != "true":
        return Answer(400, b'{"error": "Bad request. Required metadata header not specified"}')
    if "api-version" not in asked.query:
        return REFUSING
    if asked.path == COMPUTE and asked.method == "GET":
        return Answer(200, json.dumps(machine.compute).encode())
    if asked.path == EVENTS and asked.method == "GET":
        return Answer(200, json.dumps({"DocumentIncarnation": 1, "Events": machine.events}).encode())
    if asked.path == EVENTS and asked.method == "POST":
        ids = [one["EventId"] for one in json.loads(asked.body)["StartRequests"]]
        if not set(ids) <= {event["EventId"] for event in machine.events}:
            return Answer(400, b'{"error": "unknown EventId"}')
        machine.started.extend(ids)
        return Answer(200)
    return ABSENT


def _monitor(machine: _Machine, asked: Asked) -> Answer:
    if asked.method != "POST" or not asked.path.endswith("/metrics"):
        return ABSENT
    if not asked.headers.get("authorization", "").startswith("Bearer "):
        return Answer(401, b'{"error": {"code": "Unauthorized"}}')
    machine.metrics.append((asked.path, json.loads(asked.body)))
    return Answer(200, b"{}", (("Content-Type", "application/json"),))


def _aws(machine: _Machine, asked: Asked) -> Answer:
    if asked.path == TOKEN and asked.method == "PUT":
        seconds = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdecimal() or not 1 <= int(seconds) <= 21_600:
            return Answer(400, b"Bad Request")
        token = f"token-{len(machine.asked)}=="
        machine.tokens.add(token)
        return Answer(200, token.encode(), (("X-aws-ec2-metadata-token-ttl-seconds", seconds),))
    if asked.headers.get("x-aws-ec2-metadata-token") not in machine.tokens:
        return Answer(401, b"Unauthorized")
    page = machine.pages.get(asked.path)
    return ABSENT if page is None else Answer(200, page.encode())
