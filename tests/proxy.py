"""A TCP proxy before any HTTP store that loses, cuts, delays and falsifies what passes through it, as a test asks.

    with FaultProxy(store_url) as proxy:
        proxy.inject(Fault.CUT_ANSWER, when=renewal, times=50)
        ...                                   # the client talks to proxy.url
        assert proxy.seen(renewal) ...

Requests are read whole and forwarded byte by byte as they came (signatures hold), on one connection to the store for
each of the client's. When the store ends an idle one, the client's ends too: a fault that nobody asked for is none.
h11 only tells where a message ends; a client that sends a request before it has the answer to the last one is not
served. What has passed is counted in `proxy.log`.
"""

from __future__ import annotations

import contextlib
import enum
import re
import selectors
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from types import TracebackType
from urllib.parse import urlsplit

import h11

CHUNK = 65_536
START = 1024
"""Bytes of a request's body that the log keeps."""
FORGOTTEN = 120.0
"""Seconds after which a request in a black hole is let go, whatever the test has forgotten."""


class Fault(enum.Enum):
    """What happens to one request."""

    CUT_REQUEST = "the connection is cut, and the store never hears of the request"
    CUT_AFTER_REQUEST = "the store gets the request, and the connection is cut at once"
    CUT_ANSWER = "the store has answered, and the connection is cut before the answer"
    DELAY = "the request waits before it is forwarded"
    BLACK_HOLE = "nothing is forwarded, and nothing is answered, until the test lets go"
    ANSWER = "the proxy answers itself: throttled, broken, not a store at all"
    DATE = "the store's clock, as its answer tells it, is wrong"


@dataclass(frozen=True)
class Request:
    """One request as it passed."""

    method: str
    target: str  # path and query, as sent
    headers: dict[str, str]  # names in lower case
    start: bytes = field(default=b"", repr=False)  # of the body: enough to tell what is asked where one path serves all

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True)
class Passed:
    """One request, what was done to it, and the status of the answer that the client got (None: none)."""

    request: Request
    fault: Fault | None
    status: int | None


@dataclass(frozen=True)
class Canned:
    """An answer that comes from the proxy."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/xml"),)

    def to_bytes(self) -> bytes:
        """Return it as it travels."""
        lines = [f"HTTP/1.1 {self.status} Canned", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


SLOW_DOWN = Canned(503, b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>slow</Message></Error>")
SERVER_BUSY = Canned(
    503,
    b"<?xml version='1.0'?><Error><Code>ServerBusy</Code><Message>busy</Message></Error>",
    (("Content-Type", "application/xml"), ("x-ms-error-code", "ServerBusy"), ("x-ms-request-id", "canned")),
)
BROKEN = Canned(500, b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>broken</Message></Error>")
TOO_MANY = Canned(429, b"<?xml version='1.0'?><Error><Code>TooManyRequests</Code><Message>many</Message></Error>")
WEB_PAGE = Canned(200, b"<!doctype html><title>It works!</title>", (("Content-Type", "text/html"),))


@dataclass
class Rule:
    """One fault in force. `hits` counts the requests that it has met."""

    fault: Fault
    when: Callable[[Request], bool]
    times: int | None = None  # None: until `clear`
    seconds: float = 0.0  # of DELAY, or by which DATE is wrong
    answer: Canned = SLOW_DOWN
    hits: int = 0
    released: threading.Event = field(default_factory=threading.Event)


class _Cut(Exception):
    """This connection ends here."""


class FaultProxy:
    """Stands before one store until the block ends. Any thread may call."""

    def __init__(self, store: str, *, strip: Sequence[str] = ()) -> None:
        """Stand before a store. `strip` names headers that it never gets to see: a store that ignores them."""
        self._strip = [re.compile(rf"(?im)^{name}:[^\r]*\r\n".encode()) for name in strip]
        parts = urlsplit(store)
        self._store = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._path = parts.path
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._port = 0
        self.log: list[Passed] = []

    def __enter__(self) -> FaultProxy:
        self.accept()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self.refuse()

    @property
    def url(self) -> str:
        """Where clients find the store, with the path that the store's own URL has."""
        return f"http://127.0.0.1:{self._port}{self._path}"

    def inject(
        self,
        fault: Fault,
        *,
        when: Callable[[Request], bool] = lambda request: True,
        times: int | None = None,
        seconds: float = 0.0,
        answer: Canned = SLOW_DOWN,
    ) -> Rule:
        """Do this to the next requests that match: to so many, or to all until `clear`. Earlier rules come first."""
        rule = Rule(fault, when, times, seconds, answer)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Let everything pass again, and go on what is held."""
        with self._lock:
            rules, self._rules = self._rules, []
        for rule in rules:
            rule.released.set()

    def refuse(self) -> None:
        """Refuse connections, and cut those that there are."""
        with self._lock:
            listener, self._listener = self._listener, None
            for one in [*self._sockets, *([listener] if listener else [])]:
                with contextlib.suppress(OSError):  # it is not connected any more
                    one.shutdown(socket.SHUT_RDWR)  # its thread wakes, and closes it
        if listener is not None:
            listener.close()

    def accept(self) -> None:
        """Accept connections, at the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen(128)
        with self._lock:
            self._port, self._listener = listener.getsockname()[1], listener
        threading.Thread(target=self._listen, args=(listener,), name="fault-proxy", daemon=True).start()

    def seen(self, when: Callable[[Request], bool]) -> list[Passed]:
        """Return what has passed of these requests."""
        with self._lock:
            return [passed for passed in self.log if when(passed.request)]

    # --- connections ---

    def _listen(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        store: socket.socket | None = None
        try:
            self._keep(client)
            while True:
                store = self._await_request(client, store)
                message = _read_request(client)
                if message is None:
                    return
                request, raw = message
                rule = self._rule_for(request)
                self._before(rule, client)
                if rule is not None and rule.fault is Fault.ANSWER:
                    self._note(request, rule, rule.answer.status)
                    head, blank, body = rule.answer.to_bytes().partition(b"\r\n\r\n")
                    client.sendall(head + blank + (b"" if request.method == "HEAD" else body))
                    continue
                if store is None:
                    store = socket.create_connection(self._store, timeout=FORGOTTEN)
                    store.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._keep(store)
                for header in self._strip:
                    raw = header.sub(b"", raw, count=1)
                store.sendall(raw)
                if rule is not None and rule.fault is Fault.CUT_AFTER_REQUEST:
                    self._note(request, rule, None)
                    raise _Cut
                status, answer = _read_answer(store, request.method)
                cut = rule is not None and rule.fault is Fault.CUT_ANSWER
                self._note(request, rule, None if cut else status)
                if cut:
                    raise _Cut
                client.sendall(_at_another_time(answer, rule.seconds) if rule and rule.fault is Fault.DATE else answer)
        except (OSError, _Cut, h11.ProtocolError):
            pass  # the connection is over, which is all that this thread is for
        finally:
            for one in (client, store):
                if one is not None:
                    self._drop(one)

    def _await_request(self, client: socket.socket, store: socket.socket | None) -> socket.socket | None:
        """Wait until the client says something; return the store's connection, or None: a new one is needed.

        Raises _Cut when the store ends its connection first: without a proxy, the client would see it end.
        """
        with selectors.DefaultSelector() as selector:
            for one in (client, store):
                if one is not None:
                    selector.register(one, selectors.EVENT_READ)
            spoken = {key.fileobj for key, _ in selector.select()}
        if store is None or store not in spoken:
            return store
        if client not in spoken:
            raise _Cut
        self._drop(store)
        return None

    def _rule_for(self, request: Request) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if (rule.times is None or rule.hits < rule.times) and rule.when(request):
                    rule.hits += 1
                    if rule.fault in (Fault.CUT_REQUEST, Fault.BLACK_HOLE):
                        self.log.append(Passed(request, rule.fault, None))
                    return rule
        return None

    def _before(self, rule: Rule | None, client: socket.socket) -> None:
        if rule is None:
            return
        if rule.fault is Fault.CUT_REQUEST:
            raise _Cut
        if rule.fault is Fault.DELAY:
            rule.released.wait(rule.seconds)
        elif rule.fault is Fault.BLACK_HOLE:
            rule.released.wait(FORGOTTEN)
            raise _Cut

    def _note(self, request: Request, rule: Rule | None, status: int | None) -> None:
        with self._lock:
            self.log.append(Passed(request, rule.fault if rule else None, status))

    def _keep(self, one: socket.socket) -> None:
        with self._lock:
            if self._listener is None:
                raise _Cut  # accepted just before all were to be refused
            self._sockets.add(one)

    def _drop(self, one: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(one)
            one.close()  # not while another thread ends it


def _read_request(client: socket.socket) -> tuple[Request, bytes] | None:
    """Read one whole request; None when the client has gone. One that asks is told to send its body."""
    parser, raw, found = h11.Connection(h11.SERVER), b"", None
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if found is not None and parser.they_are_waiting_for_100_continue:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                parser.send(h11.InformationalResponse(status_code=100, headers=[]))
            data = client.recv(CHUNK)
            if not data:
                return None
            raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.Request):
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in event.headers}
            found = Request(event.method.decode(), event.target.decode(), headers)
        elif isinstance(event, h11.Data) and found is not None:
            found = replace(found, start=(found.start + bytes(event.data))[:START])
        elif isinstance(event, h11.EndOfMessage) and found is not None:
            return found, raw


def _read_answer(store: socket.socket, method: str) -> tuple[int, bytes]:
    """Read one whole answer: its status, and its bytes without any interim ones."""
    parser, raw, status, body = h11.Connection(h11.CLIENT), b"", 0, 0
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x"), ("Content-Length", "0")]))
    parser.send(h11.EndOfMessage())
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            data = store.recv(CHUNK)
            raw += data
            parser.receive_data(data)
        elif isinstance(event, h11.InformationalResponse):
            body = raw.index(b"\r\n\r\n", body) + 4
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage):
            return status, raw[body:]


def _at_another_time(answer: bytes, seconds: float) -> bytes:
    """Return an answer whose Date is so many seconds later."""
    head, blank, body = answer.partition(b"\r\n\r\n")

    def shifted(found: re.Match[bytes]) -> bytes:
        told = parsedate_to_datetime(found.group(2).decode()).timestamp()
        return found.group(1) + formatdate(told + seconds, usegmt=True).encode()

    return re.sub(rb"(?im)^(date: *)([^\r]+)", shifted, head) + blank + body


__all__ = [
    "BROKEN",
    "SERVER_BUSY",
    "SLOW_DOWN",
    "TOO_MANY",
    "WEB_PAGE",
    "Canned",
    "Fault",
    "FaultProxy",
    "Passed",
    "Request",
    "Rule",
]
