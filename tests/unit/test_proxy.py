"""The fault proxy does to requests what it says, and nothing else."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.proxy import SLOW_DOWN, Fault, FaultProxy, Request
from tests.waiting import until

PATIENCE = 10.0


class Store(ThreadingHTTPServer):
    """Remembers every request that reached it, and answers with its body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reached: list[tuple[str, str, bytes]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that answers do not arrive is what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_PUT(self) -> None:
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        body = self.chunks() if chunked else self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.reached.append((self.command, self.path, body))
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:2], body[2:], b""))
        elif self.path != "/endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")
        self.close_connection = self.path in ("/endless", "/last")

    def chunks(self) -> bytes:
        """Read a body whose length comes in pieces."""
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_HEAD = do_PUT  # noqa: N815 - http.server wants these names

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(store: Store) -> Iterator[FaultProxy]:
    with FaultProxy(f"http://127.0.0.1:{store.server_port}") as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=PATIENCE)
    yield connection
    connection.close()


def ask(client: http.client.HTTPConnection, method: str = "PUT", path: str = "/x", body: bytes = b"hello") -> bytes:
    """Send one request and return the body of its answer."""
    client.request(method, path, body)
    with client.getresponse() as answer:
        return answer.read()


def lost(client: http.client.HTTPConnection, path: str = "/x") -> None:
    """Send one request whose answer must never come."""
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(client, path=path)
    client.close()


def test_without_faults(store: Store, proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """Requests and answers pass unchanged over one connection, large ones and those without a body too."""
    large = bytes(range(256)) * 4096
    assert ask(client) == b"hello"
    assert ask(client, body=large, path="/large?a=1") == large
    assert ask(client, method="HEAD", body=b"") == b""
    assert ask(client, method="GET", body=b"") == b""
    assert [method for method, _, _ in store.reached] == ["PUT", "PUT", "HEAD", "GET"]
    assert [(passed.request.target, passed.status, passed.fault) for passed in proxy.log][1] == (
        "/large?a=1",
        200,
        None,
    )


def test_expect_continue(store: Store, client: http.client.HTTPConnection) -> None:
    """A client that waits to be told to send its body is told, and gets one answer."""
    client.putrequest("PUT", "/x")
    client.putheader("Content-Length", "5")
    client.putheader("Expect", "100-continue")
    client.endheaders()
    client.send(b"hello")
    with client.getresponse() as answer:
        assert (answer.status, answer.read()) == (200, b"hello")
    assert len(store.reached) == 1


def test_bodies_without_a_length(store: Store, client: http.client.HTTPConnection) -> None:
    """Bodies in chunks pass unchanged both ways, and so does an answer that only the end of the connection ends."""
    client.request("PUT", "/chunked", iter([b"hel", b"lo"]), encode_chunked=True)
    with client.getresponse() as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.read() == b"hello"
    assert ask(client, path="/endless") == b"hello"
    assert ask(client) == b"hello"
    assert [body for _, _, body in store.reached] == [b"hello"] * 3


def test_idle_connection_ends_with_the_stores(store: Store, proxy: FaultProxy) -> None:
    """When the store ends an idle connection the client sees it end, and its next request is not lost in it."""
    address = urlsplit(proxy.url)
    with socket.create_connection((str(address.hostname), address.port or 0), timeout=PATIENCE) as client:
        client.sendall(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in received.lower()
    assert [passed.status for passed in proxy.log] == [200]


@pytest.mark.parametrize(
    "fault, reaches", [(Fault.CUT_REQUEST, 0), (Fault.CUT_AFTER_REQUEST, 1), (Fault.CUT_ANSWER, 1)]
)
def test_cuts(store: Store, proxy: FaultProxy, client: http.client.HTTPConnection, fault: Fault, reaches: int) -> None:
    """A cut comes before or after the store has the request, meets so many as asked, and then all is well again."""
    rule = proxy.inject(fault, when=lambda request: request.path == "/x", times=2)
    assert ask(client, path="/other") == b"hello"
    lost(client)
    lost(client)
    assert ask(client) == b"hello"
    until(lambda: len(store.reached) == 2 + 2 * reaches, PATIENCE, "the requests that were not lost on the way")
    assert rule.hits == 2
    assert len(proxy.seen(lambda request: request.path == "/x")) == 3


def test_black_hole(store: Store, proxy: FaultProxy) -> None:
    """A black hole takes requests and never answers, until it is cleared."""
    proxy.inject(Fault.BLACK_HOLE)
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=0.2)
    with pytest.raises(TimeoutError):
        ask(connection)
    connection.close()
    proxy.clear()
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=PATIENCE)
    assert ask(connection) == b"hello"
    connection.close()
    assert len(store.reached) == 1


def test_refused(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """A proxy that refuses cuts what there is and accepts nobody, and is back at the same port."""
    url = proxy.url
    assert ask(client) == b"hello"
    proxy.refuse()
    lost(client)
    with pytest.raises(ConnectionRefusedError):
        ask(client)
    client.close()
    proxy.accept()
    assert proxy.url == url
    assert ask(client) == b"hello"


def test_canned_answer(store: Store, proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """A throttled request gets the proxy's own answer, and the store never hears of it."""
    proxy.inject(Fault.ANSWER, answer=SLOW_DOWN, times=1)
    client.request("PUT", "/x", b"hello")
    with client.getresponse() as answer:
        assert answer.status == 503
        assert b"SlowDown" in answer.read()
    assert store.reached == []
    assert ask(client) == b"hello"


def test_canned_answer_to_head(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """An answer to HEAD has no body, which would be taken for the next answer."""
    proxy.inject(Fault.ANSWER, answer=SLOW_DOWN, times=1)
    client.request("HEAD", "/x")
    with client.getresponse() as answer:
        assert (answer.status, answer.read()) == (503, b"")
    assert ask(client) == b"hello"


def test_delay(store: Store, proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """A delayed request waits, reaches the store when it is let go, and is answered."""
    proxy.inject(Fault.DELAY, seconds=PATIENCE)
    client.request("PUT", "/x", b"hello")
    until(lambda: proxy._rules[0].hits == 1, PATIENCE, "the request to be held")
    assert store.reached == []
    proxy.clear()
    with client.getresponse() as answer:
        assert answer.read() == b"hello"


def test_wrong_clock(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """The Date of an answer is as wrong as was asked, and the rest of it is as it was."""

    def date() -> float:
        client.request("GET", "/x")
        with client.getresponse() as answer:
            answer.read()
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()

    right = date()
    proxy.inject(Fault.DATE, seconds=3600)
    assert 3590 < date() - right < 3700


def test_predicates_see_headers(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """A rule may look at a request's headers, by their names in lower case."""

    def renewal(request: Request) -> bool:
        return request.headers.get("x-ms-lease-action") == "renew"

    proxy.inject(Fault.ANSWER, when=renewal)
    assert ask(client) == b"hello"
    client.request("PUT", "/x", b"", {"X-Ms-Lease-Action": "renew"})
    with client.getresponse() as answer:
        assert answer.status == 503
        answer.read()
    assert len(proxy.seen(renewal)) == 1
