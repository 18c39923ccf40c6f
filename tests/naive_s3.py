"""A server that speaks enough S3 for documents, and accepts every condition without looking at it. On loopback."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

LISTING = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<IsTruncated>false</IsTruncated>{}</ListBucketResult>"
)
NO_SUCH_KEY = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>'


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}  # by /bucket/key


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.objects[self._key] = body
        self._answer(200, etag=_etag(body))

    def do_GET(self) -> None:
        if "list-type" in parse_qs(urlsplit(self.path).query):
            self._list()
        elif (body := self.server.objects.get(self._key)) is None:
            self._answer(404, NO_SUCH_KEY.encode())
        else:
            self._answer(200, body, etag=_etag(body))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.server.objects.pop(self._key, None)
        self._answer(204)

    def _list(self) -> None:
        bucket = self._key.rstrip("/") + "/"
        prefix = bucket + parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        found = sorted((key, body) for key, body in self.server.objects.items() if key.startswith(prefix))
        items = [
            f"<Contents><Key>{escape(key.removeprefix(bucket))}</Key><ETag>{_etag(body)}</ETag></Contents>"
            for key, body in found
        ]
        self._answer(200, LISTING.format("".join(items)).encode())

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _answer(self, status: int, body: bytes = b"", *, etag: str | None = None) -> None:
        self.send_response(status)
        self.send_header("x-amz-request-id", "naive")
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        if etag is not None:
            self.send_header("ETag", etag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@contextmanager
def naive_s3() -> Iterator[str]:
    """Run the server and give its URL, until the block ends."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
