"""A store in memory some of whose operations are another thing than they should be: they deny, ignore, or forget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from providers.interface import Capabilities, Client, Documents, Lease, Misconfigured, Queue, Stamp
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import CAPABILITIES
from providers.provider import Provider

Altered = Callable[..., Any]
"""Does an operation in its own way. Called with the real one, and then with what that takes."""


@dataclass
class AlteredDriver:
    """Opens clients of a memory store whose operations ("documents.create", …) are done by `ways`, where they say."""

    ways: Mapping[str, Altered] = field(default_factory=dict)
    capabilities: Capabilities = CAPABILITIES
    store: MemoryStore = field(default_factory=lambda: MemoryStore(now=time.time, date=time.time))
    url: str = "memory:"

    def open(self, total: float) -> Client:
        """Open a client; "open" may have a way of its own too."""
        inner = MemoryDriver(self.store, capabilities=self.capabilities)
        if "open" in self.ways:
            self.ways["open"](inner.open, total)
        return _Client(inner.open(total), self.ways)

    def provider(self, total: float = 5.0, **options: Any) -> Provider:
        """Return a provider over this driver."""
        return Provider(self, total=total, **options)

    def stored(self) -> list[str]:
        """Return the keys of all documents, leases included."""
        return [stamp.key for stamp in self.store.documents.list("").stamps]


class _Client:
    def __init__(self, client: Client, ways: Mapping[str, Altered]) -> None:
        self._client, self._ways = client, ways
        self.documents = cast("Documents", _Part("documents", client.documents, ways))
        self.queue = cast("Queue", _Part("queue", client.queue, ways))

    def lease(self, role: str) -> Lease:
        return cast("Lease", _Part("lease", self._client.lease(role), self._ways))

    def close(self) -> None:
        self._client.close()


class _Part:
    def __init__(self, name: str, target: object, ways: Mapping[str, Altered]) -> None:
        self._name, self._target, self._ways = name, target, ways

    def __getattr__(self, method: str) -> Any:
        real, way = getattr(self._target, method), self._ways.get(f"{self._name}.{method}")
        return real if way is None else lambda *args, **named: way(real, *args, **named)


# --- ways ---


def denied(role: str) -> Altered:
    """Deny, and name the role that is missing, as drivers do."""

    def way(real: Altered, *args: Any, **named: Any) -> Any:
        raise Misconfigured(f"access is denied; it needs the role {role}")

    return way


def creates_over(real: Altered, key: str, body: bytes) -> Stamp:
    """Create a document, also when there is one."""
    documents = real.__self__  # type: ignore[attr-defined]  # a bound method
    with documents._lock:
        return cast("Stamp", documents._write(key, body) if key in documents._found else real(key, body))


def replaces_any(real: Altered, old: Stamp, body: bytes) -> Stamp:
    """Replace a document, whatever its version is."""
    documents = real.__self__  # type: ignore[attr-defined]
    with documents._lock:
        return cast("Stamp", documents._write(old.key, body))


def deletes_any(real: Altered, old: Stamp) -> None:
    """Delete a document, whatever its version is."""
    documents = real.__self__  # type: ignore[attr-defined]
    with documents._lock:
        real(replace(documents._found[old.key].stamp, store_time=None))
