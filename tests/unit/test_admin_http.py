"""The admin port over real HTTP: what it answers, to whom it does not listen for long, and how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tests.waiting import boottime, until
from worker.supervisor import Supervisor
from worker.web.application import FRESH, application
from worker.web.connections import CONNECTIONS, Connections
from worker.web.metrics import Metrics
from worker.web.server import HEAD, AdminServer, bind

HEALTH = {
    "/livez": (200, {"status": "alive"}),
    "/readyz": (503, {"status": "not ready", "reason": "starting"}),
    "/healthz/azure": (200, {"ApplicationHealthState": "Healthy"}),
}
"""What is answered before there is an instance."""

SHORT = 0.3
"""Seconds that a connection lasts in tests that wait for its end."""


class Port:
    """A server on a thread of its own, as in a worker: a subject, its port, and what was reported."""

    supervisor: Supervisor | None = None

    def __init__(self, lifetime: float) -> None:
        self.metrics = Metrics()
        self.reported: list[str] = []
        self.connections = Connections(lifetime=lifetime)
        self._socket = bind_any()
        self.number: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._server = AdminServer(application(self), self._socket, self.report, self.connections)
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def registry(self) -> CollectorRegistry:
        return self.metrics.registry

    def report(self, problem: str) -> None:
        self.reported.append(problem)

    def start(self) -> None:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._server.start)

    def stop(self) -> float:
        """Stop the server and return how many seconds that took."""
        began = boottime()
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        return boottime() - began

    def close(self) -> None:
        if self._thread.is_alive():
            self.stop()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()

    def ask(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """Return an answer, its body read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.number, timeout=10)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            answer.read = lambda amt=None: body  # type: ignore[method-assign]  # as often as one likes
            return answer
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.number), timeout=10)


def bind_any() -> socket.socket:
    """Take a free port as `bind` takes a named one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    taken = bind("127.0.0.1", number)
    assert taken is not None
    return taken


@contextmanager
def serving(lifetime: float = 60.0) -> Iterator[Port]:
    port = Port(lifetime)
    try:
        port.start()
        yield port
    finally:
        port.close()


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    """A server that no test harms."""
    with serving() as one:
        yield one


def ended(connection: socket.socket) -> bool:
    """Say whether the other side has ended a connection, waiting for that."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("path", HEALTH)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_answered_before_there_is_an_instance(port: Port, path: str, method: str) -> None:
    """While its start is checked, an instance is alive and healthy, and not ready."""
    answer = port.ask(path, method)
    status, body = HEALTH[path]
    assert (answer.status, answer.getheader("Content-Type")) == (status, "application/json")
    assert answer.read() == (b"" if method == "HEAD" else json.dumps(body, separators=(",", ":")).encode())


@pytest.mark.parametrize("path", ["/", "/livez/", "/metrics/x", "/healthz", "//livez", "/status"])
def test_other_paths_are_not_found(port: Port, path: str) -> None:
    """A path that is not one of ours is answered with 404 and JSON, and leads nowhere else."""
    answer = port.ask(path)
    assert (answer.status, json.loads(answer.read())) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"])
@pytest.mark.parametrize("path", [*HEALTH, "/metrics"])
def test_nothing_can_be_done_here(port: Port, path: str, method: str) -> None:
    """A method other than GET and HEAD is answered with 405, JSON, and the methods that there are."""
    answer = port.ask(path, method)
    assert (answer.status, json.loads(answer.read())) == (405, {"error": "Method Not Allowed"})
    assert {name.strip() for name in str(answer.getheader("Allow")).split(",")} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "accept, kind, end",
    [
        ("*/*", "text/plain", b"\n"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
    ],
)
def test_metrics_come_in_the_form_that_is_asked_for(port: Port, accept: str, kind: str, end: bytes) -> None:
    """A scrape gets Prometheus' text, or OpenMetrics when it says that it understands it."""
    answer = port.ask("/metrics", Accept=accept)
    assert answer.status == 200
    assert str(answer.getheader("Content-Type")).startswith(kind)
    assert b"\nworker_lease_renew_failures_total 0.0\n" in answer.read()
    assert b"\nprocess_resident_memory_bytes " in answer.read()
    assert answer.read().endswith(end)


def test_a_page_of_metrics_is_not_made_for_everyone_who_asks() -> None:
    """Scrapes in quick succession share one page, and a later one gets a new one."""
    with serving() as port:
        made: list[float] = []

        class Counting(Collector):
            def collect(self) -> Iterator[Metric]:
                made.append(boottime())
                yield GaugeMetricFamily("pages", "Pages made.", value=len(made))

        port.registry.register(Counting())
        made.clear()  # registering looks, too

        def pages() -> int:
            return int(re.findall(rb"^pages (\d+)", port.ask("/metrics").read(), re.MULTILINE)[0])

        asked = 0
        while pages() < 3:
            asked += 1
        assert asked > len(made)
        assert min(later - earlier for earlier, later in pairwise(made)) > FRESH * 0.9


def test_a_bug_in_an_answer_is_an_event(capfd: pytest.CaptureFixture[str]) -> None:
    """An answer that fails is a JSON 500 and one report, and nothing is written past the events."""

    class Broken:
        def __getattr__(self, name: str) -> object:
            raise ZeroDivisionError(name)

    with serving() as port:
        port.supervisor = Broken()  # type: ignore[assignment]  # that is the point
        answer = port.ask("/readyz")
        assert (answer.status, json.loads(answer.read())) == (500, {"error": "Internal Server Error"})
        [said] = port.reported
        assert "/readyz" in said
        assert "ZeroDivisionError" in said
        assert port.ask("/livez").status == 200
    assert capfd.readouterr() == ("", "")


def test_signals_stay_whose_they_are() -> None:
    """A server that starts, serves and ends leaves the process's signal handlers alone."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with serving() as port:
        assert port.ask("/livez").status == 200
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_hoarded_connections_keep_nobody_out() -> None:
    """However many connections somebody holds, a question is answered, and no more than the limit stay open."""
    with serving() as port:
        hoard = [port.connect() for _ in range(3 * CONNECTIONS)]
        try:
            until(lambda: 0 < len(port.connections) <= CONNECTIONS, 10, "only so many to be left")
            answer = port.ask("/livez")
            assert answer.status == 200
            assert len(port.connections) <= CONNECTIONS
            assert ended(hoard[0]), "the oldest gave way"
        finally:
            for connection in hoard:
                connection.close()


def insist(connection: socket.socket, piece: bytes, pause: float = 0.0) -> None:
    """Send a piece again and again, for as long as the other side lets us, or takes it."""
    never = threading.Event()
    connection.settimeout(1.0)
    try:
        while not never.wait(pause):
            connection.sendall(piece)
    except (ConnectionError, TimeoutError):  # a reset may not get through to somebody who does not listen
        return


def nothing(connection: socket.socket) -> None:
    """Send nothing at all, until the other side ends it."""
    assert ended(connection)


def a_head_without_end(connection: socket.socket) -> None:
    """Send a request that never comes to its end, slowly."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
    insist(connection, b"X-More: 1\r\n", pause=SHORT / 10)


def a_body_without_end(connection: socket.socket) -> None:
    """Ask, and send a body that goes on."""
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    insist(connection, b"1000\r\n" + b"x" * 4096 + b"\r\n")


def questions_without_listening(connection: socket.socket) -> None:
    """Ask again and again without reading an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    insist(connection, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize("torment", [nothing, a_head_without_end, a_body_without_end, questions_without_listening])
def test_no_client_lasts_for_ever(torment: Callable[[socket.socket], None]) -> None:
    """A client that is slow to ask, to end or to listen is cut off when its time is over; others are served."""
    with serving(lifetime=SHORT) as port, port.connect() as connection:
        began = boottime()
        torment(connection)
        until(lambda: len(port.connections) == 0, 5, "no connection to be left")
        assert SHORT <= boottime() - began < 5
        assert port.ask("/livez").status == 200


def test_a_huge_head_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """A request whose head has no end is refused before it fills the memory, and nothing is written about it."""
    with serving() as port:
        with port.connect() as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2 * HEAD)
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
            assert ended(connection)
        with port.connect() as connection:
            connection.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert port.ask("/livez").status == 200
    assert capfd.readouterr() == ("", "")


def test_nobody_holds_up_the_end() -> None:
    """A server ends at once, whoever is still connected, and its port is free for the next one."""
    with serving() as port:
        with port.connect() as idle, port.connect() as slow, port.connect() as deaf:
            slow.sendall(b"GET /livez HTTP/1.1\r\n")
            insist(deaf, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)  # until nothing more is taken
            until(lambda: len(port.connections) == 3, 10, "all to be connected")
            assert port.stop() < 0.9
            assert ended(idle)
            assert ended(slow)
        again = bind("127.0.0.1", port.number)
        assert again is not None
        again.close()
