"""The metadata service of a cloud's machine: short questions over plain HTTP to one address that never leaves the host.

    nothing was sent        Unavailable
    sent, no clear answer   Unavailable for GET and PUT, which change nothing; OutcomeUnknown for POST
    410, 429                Unavailable: the service says itself that it did nothing, and to ask again
    5xx                     as without an answer
    any other, not 2xx      Rejected, which is Misconfigured and knows the status; GET takes a 404 for "there is none"

What is asked there must be asked there: never through a proxy, whatever the environment says, and never wherever a
redirect points to. Whoever answers is believed as little as any stranger: an answer is bounded in size and in time,
and what it says is one printable line, or an object of JSON, or an error that names the question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic  # noqa: TID251 - how long one answer takes, on a real connection: no simulation has one
from typing import Any, Final

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from providers.http_url import names_a_server
from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable

DEFAULT_URL: Final = "http://169.254.169.254"
"""Where both clouds answer every machine, over IPv4."""

LIMIT = 256 * 1024
"""Bytes of the largest answer that is read: everything that is asked for fits into a tenth of it."""

LONGEST_LINE = 2048
"""Characters of the longest name, path or token that is believed."""

UNSENT = (NewConnectionError, ConnectTimeoutError)
"""What ends a connection before anything of the request was sent."""

LATER = (410, 429)
"""Azure's service is being replaced for up to 70 seconds; both clouds' throttle."""

NO_HEADERS: Final[Mapping[str, str]] = {}


class Rejected(Misconfigured):
    """The service understood, and will not do it. `status` is for a driver that knows what it means there."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class MetadataServer:
    """One connection to a machine's metadata service. One thread at a time; nothing is retried.

    `timeout`, in seconds, is for connecting and waiting for an answer, and again for reading that answer whole. Every
    call may raise Unavailable or Misconfigured, and `post_json` OutcomeUnknown too.
    """

    def __init__(self, base_url: str = DEFAULT_URL, timeout: float = 2.0) -> None:
        self.url = _checked(base_url)
        self._timeout = timeout
        self._pool = PoolManager(num_pools=1, maxsize=1)  # not of the environment: that would be a ProxyManager

    def get(self, path: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes | None:
        """Return what is at this path, query included; None where the service says that there is nothing."""
        try:
            return self._ask("GET", path, headers)
        except Rejected as exc:
            if exc.status == 404:
                return None
            raise

    def put(self, path: str, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
        """Return what a PUT without a body is answered (AWS: a session token), which may be sent again at any time."""
        return self._ask("PUT", path, headers)

    def post_json(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS) -> bytes:
        """Tell the service something, and return its answer. Raises OutcomeUnknown where it may have been heard."""
        headers = {**headers, "Content-Type": "application/json"}
        return self._ask("POST", path, headers, json.dumps(body).encode(), changes=True)

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None, *, changes: bool = False
    ) -> bytes:
        what = f"{method} {self.url}{path}"
        unclear = OutcomeUnknown if changes else Unavailable
        try:
            response = self._pool.urlopen(
                method,
                self.url + path,
                body=body,
                headers=headers,
                timeout=Timeout(total=self._timeout),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            answer = self._whole(response)
        except UNSENT as exc:
            raise Unavailable(f"{what}: the metadata service cannot be reached: {shown(str(exc))}") from exc
        except (HTTPError, TimeoutError) as exc:
            raise unclear(f"{what}: no clear answer: {shown(str(exc))}") from exc
        if 200 <= response.status < 300:
            return answer
        raise _meaning_of(what, response, answer, unclear)

    def _whole(self, response: BaseHTTPResponse) -> bytes:
        """Read an answer to its end, or give it and its connection up."""
        end = monotonic() + self._timeout
        answer = bytearray()
        try:
            while some := response.read1(LIMIT):
                answer += some
                if len(answer) > LIMIT:
                    raise HTTPError(f"it is longer than {LIMIT} bytes")
                if monotonic() > end:
                    raise TimeoutError(f"it is not whole after {self._timeout:g} s")
            return bytes(answer)
        finally:
            response.close()  # a connection that carried a whole answer has been given back, and stays open
            response.release_conn()


def read_json(body: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that an answer is; `what` names the question.

    Raises Misconfigured for what no metadata service says, and Unavailable for what may be the rest of an answer.
    """
    _refuse_page(body, what)
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as exc:  # neither UTF-8, nor JSON, nor sane
        raise Unavailable(f"{what}: the answer is not JSON ({shown(str(exc))}): {_start(body)}") from exc
    if not isinstance(told, dict):
        raise Misconfigured(f"{what}: the answer is not a JSON object: {_start(body)}: correct the service's URL")
    return told


def read_text(fields: Mapping[str, Any], name: str, what: str) -> str | None:
    """Return a field of an answer; None where it is absent, null or empty. Raises Misconfigured for what is no text."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _is_line(value):
        raise Misconfigured(f"{what}: {name} is not one line of text: {shown(repr(value))}")
    return value


def read_line(body: bytes, what: str) -> str:
    """Return an answer that is one word or line of ASCII, such as a name or a token, without the space around it.

    Raises Misconfigured for a web page, and Unavailable for an empty answer and whatever else is no such line.
    """
    _refuse_page(body, what)
    text = body.decode("ascii", "replace").strip()
    if not text.isascii() or not _is_line(text):
        raise Unavailable(f"{what}: the answer is not one line of text: {_start(body)}")
    return text


def shown(text: str) -> str:
    """Return what a stranger said as one printable line of at most 200 characters, for an error."""
    line = " ".join(text[:800].split())
    return "".join(one for one in line if one.isprintable())[:200]


def _meaning_of(what: str, response: BaseHTTPResponse, answer: bytes, unclear: type[ProviderError]) -> ProviderError:
    status = response.status
    if status in LATER:
        return Unavailable(f"{what}: the metadata service says {status}, ask again later: {_start(answer)}")
    if status >= 500:
        return unclear(f"{what}: the metadata service failed with {status}: {_start(answer)}")
    if 300 <= status < 400:
        to = shown(response.headers.get("Location", ""))
        return Rejected(f"{what}: answered {status}, and no redirect is followed (to {to!r}): correct the URL", status)
    return Rejected(f"{what}: the metadata service refuses it with {status}: {_start(answer)}", status)


def _checked(url: str) -> str:
    if not names_a_server(url):
        raise Misconfigured(f"the URL of a metadata service must be one such as {DEFAULT_URL}")
    return url.rstrip("/")


def _refuse_page(body: bytes, what: str) -> None:
    if body.lstrip()[:1] == b"<":
        raise Misconfigured(f"{what}: a web page answers, no metadata service: {_start(body)}: correct its URL")


def _is_line(text: str) -> bool:
    return 0 < len(text) <= LONGEST_LINE and text.isprintable()


def _start(body: bytes) -> str:
    return shown(body[:800].decode("utf-8", "replace")) or "(nothing more)"
