"""Faults for any driver: a wrapper that loses requests and answers, or holds them back until a test lets go."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from providers.interface import Client, Documents, Driver, Lease, OutcomeUnknown, Queue

PATIENCE = 30.0
"""Seconds after which a call that a test has forgotten goes on, so that no thread stays for ever."""


class Fault(enum.Enum):
    """What happens to one call."""

    LOSE_REQUEST = "the store never hears of it, and the caller is not told"
    LOSE_ANSWER = "the store does it, and the caller is not told"
    HOLD_REQUEST = "it reaches the store only when the test lets go"
    HOLD_ANSWER = "the store does it, and the answer arrives only when the test lets go"


class Held:
    """One call that will be disturbed: a test waits for what it does, and lets it go."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.reached = threading.Event()  # the call is at the point where it is held
        self.ended = threading.Event()  # the driver's own call is over, whatever became of it
        self._released = threading.Event()

    def release(self) -> None:
        """Let the call go on."""
        self._released.set()

    def run(self, operation: str, call: Callable[[], Any]) -> Any:
        """Do what the driver does, disturbed. Runs on a thread of the provider's."""
        try:
            if self.fault is Fault.LOSE_REQUEST:
                raise OutcomeUnknown(f"{operation}: the request was lost")
            if self.fault is Fault.HOLD_REQUEST:
                self._hold()
            answer = call()
            if self.fault is Fault.LOSE_ANSWER:
                raise OutcomeUnknown(f"{operation}: the answer was lost")
            if self.fault is Fault.HOLD_ANSWER:
                self._hold()
            return answer
        finally:
            self.ended.set()

    def _hold(self) -> None:
        self.reached.set()
        self._released.wait(PATIENCE)


class Faults:
    """Which of the next calls are disturbed, by operation ("documents.replace", "lease.renew", …)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: dict[str, deque[Held]] = {}
        self._all: list[Held] = []

    def disturb(self, operation: str, fault: Fault) -> Held:
        """Disturb the next call of this operation that is not disturbed yet."""
        held = Held(fault)
        with self._lock:
            self._coming.setdefault(operation, deque()).append(held)
            self._all.append(held)
        return held

    def release(self) -> None:
        """Let everything go on that is held."""
        for held in self._all:
            held.release()

    def run(self, operation: str, call: Callable[[], Any]) -> Any:
        """Do a driver's call, disturbed if it is its turn."""
        with self._lock:
            coming = self._coming.get(operation)
            held = coming.popleft() if coming else None
        return call() if held is None else held.run(operation, call)


class FaultyDriver:
    """A driver whose calls `faults` disturbs. `opened` counts its clients."""

    def __init__(self, driver: Driver, faults: Faults) -> None:
        self.url = driver.url
        self.capabilities = driver.capabilities
        self.opened = 0
        self._driver = driver
        self._faults = faults

    def open(self, total: float) -> Client:
        """Open a client of the driver underneath."""
        self.opened += 1
        return _FaultyClient(self._driver.open(total), self._faults)


class _FaultyClient:
    def __init__(self, client: Client, faults: Faults) -> None:
        self._client = client
        self._faults = faults
        self.documents = cast("Documents", _Part("documents", client.documents, faults))
        self.queue = cast("Queue", _Part("queue", client.queue, faults))

    def lease(self, role: str) -> Lease:
        return cast("Lease", _Part("lease", self._client.lease(role), self._faults))

    def close(self) -> None:
        self._client.close()


class _Part:
    """Stands before one part of a client: every method goes through the faults."""

    def __init__(self, name: str, target: object, faults: Faults) -> None:
        self._name = name
        self._target = target
        self._faults = faults

    def __getattr__(self, method: str) -> Any:
        target = getattr(self._target, method)
        if not callable(target):
            return target
        return lambda *args, **named: self._faults.run(f"{self._name}.{method}", lambda: target(*args, **named))
