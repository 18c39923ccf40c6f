"""How long a connection to the admin port may last, and how many there may be.

The loop that serves them also renews the lease, and the files that they take are files that requests to the store
cannot have. uvicorn itself waits for ever for a request that never comes, and for a client that never reads. Here
a connection ends after `LIFETIME`, whatever was sent on it; and when there are too many, the *oldest* gives way:
whoever hoards connections then keeps nobody from asking, as an answer takes milliseconds.
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 64
"""Connections at a time."""

LIFETIME = 10.0
"""Seconds that a connection lasts at most. A client that wants to go on opens another one."""


class Connections:
    """The open connections of one server, the oldest first. Used by one event loop."""

    def __init__(self, most: int = CONNECTIONS, lifetime: float = LIFETIME) -> None:
        self._most, self._lifetime = most, lifetime
        self._open: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, transport: asyncio.Transport) -> None:
        """Count a connection in; the oldest one ends if there are too many."""
        end = asyncio.get_running_loop().call_later(self._lifetime, transport.abort)
        self._open[transport] = end
        if len(self._open) > self._most:
            self._abort(next(iter(self._open)))

    def closed(self, transport: asyncio.Transport) -> None:
        """Count a connection out."""
        end = self._open.pop(transport, None)
        if end is not None:
            end.cancel()

    def abort(self) -> None:
        """End all connections."""
        for transport in list(self._open):
            self._abort(transport)

    def _abort(self, transport: asyncio.Transport) -> None:
        self.closed(transport)
        transport.abort()

    def protocol(self) -> type[H11Protocol]:
        """Return uvicorn's protocol, with every connection of it counted here."""
        connections = self

        class Counted(H11Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(cast("asyncio.Transport", transport))
                connections.opened(self.transport)

            def connection_lost(self, exc: Exception | None) -> None:
                connections.closed(self.transport)
                super().connection_lost(exc)

        return Counted
