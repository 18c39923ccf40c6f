"""EC2's instance metadata service, version 2: a session token first, and every question under it.

A token is asked for the longest time there is, kept, and renewed when the service does not accept it any more: it has
run out, or the machine has been stopped and started. No clock is needed for that, and none can be wrong.
"""

from __future__ import annotations

from providers.interface import Misconfigured, Unavailable
from providers.metadata import MetadataServer, Rejected, read_line

SESSION = "X-aws-ec2-metadata-token"
LIFETIME = "X-aws-ec2-metadata-token-ttl-seconds"

SIX_HOURS = "21600"
"""Seconds: the longest that the service gives."""

HOPS = (
    "in a container behind a bridge the answer gets lost unless the instance's metadata options allow two hops "
    "(http_put_response_hop_limit = 2)"
)
OFF = "the instance's metadata options must enable the endpoint (http_endpoint = enabled)"


class Imds:
    """One machine's metadata. Every call may raise Unavailable or Misconfigured."""

    def __init__(self, server: MetadataServer) -> None:
        self._server = server
        self._token: str | None = None

    @property
    def url(self) -> str:
        """Where it is asked, for people."""
        return self._server.url

    def get(self, path: str) -> bytes | None:
        """Return what the machine's metadata has at `path` ("spot/instance-action"); None where it has nothing."""
        if self._token is None:
            self._token = self._signed_in()
        try:
            return self._ask(path, self._token)
        except Rejected as exc:
            if exc.status != 401:
                raise
        self._token = self._signed_in()
        return self._ask(path, self._token)

    def line(self, path: str) -> str | None:
        """Return what is at `path` where that is one word or line; None where there is nothing."""
        body = self.get(path)
        return None if body is None else read_line(body, path)

    def needed(self, path: str) -> str:
        """Return the line at `path`. Raises Misconfigured where every EC2 instance has one, and this has none."""
        found = self.line(path)
        if found is None:
            raise Misconfigured(f"{self.url} knows no {path}: this is no EC2 instance; correct WORKER_HOST or the URL")
        return found

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _ask(self, path: str, token: str) -> bytes | None:
        return self._server.get(f"/latest/meta-data/{path}", {SESSION: token})

    def _signed_in(self) -> str:
        """Return a new token. What keeps one from coming is mostly an option of the instance: the errors name it."""
        try:
            return read_line(self._server.put("/latest/api/token", {LIFETIME: SIX_HOURS}), "the metadata token")
        except Unavailable as exc:
            raise Unavailable(f"{exc}; {HOPS}") from exc
        except Rejected as exc:
            if exc.status == 403:
                raise Misconfigured(f"{exc}; {OFF}") from exc
            if exc.status == 404:
                raise Misconfigured(f"{exc}: this is no EC2 instance; correct WORKER_HOST or the URL") from exc
            raise
