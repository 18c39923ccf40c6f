"""The portable provider over a driver: async, a total time for every request, and counting. Written once.

Nothing here retries, and nothing decides: whoever calls knows what an error means to it. Requests run in lanes by
kind, so that a lease call never queues behind anything else, and an acknowledgement never behind a long poll.

Used by one event loop at a time; several providers may exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from providers.interface import (
    BadDocument,
    Call,
    Client,
    Driver,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Unavailable,
)
from providers.lanes import Lane, ThreadLane
from providers.portable import PortableDocuments, PortableLease, check_key
from providers.portable_queue import HEADROOM, PortableQueue

T = TypeVar("T")

SLOTS = {"lease": 2, "documents": 4, "queue": 4, "poll": 64}
"""Requests at the same time, by lane; a thread starts only when it is needed. "poll" is `receive` with a wait."""

PREPARING = 60.0
"""Seconds in which a client must have been opened for the first time: a token may take long on a new machine."""

_OUTCOMES: tuple[tuple[type[ProviderError], str], ...] = (
    (NotFound, "not_found"),
    (Refused, "refused"),
    (Unavailable, "unavailable"),
    (OutcomeUnknown, "outcome_unknown"),
    (Misconfigured, "misconfigured"),
    (BadDocument, "bad_document"),
)


class Provider:
    """A store, opened through its driver. `total` is the most time, in seconds, that one request may take.

    `lane(driver, name)` replaces the threads (a simulation does); `on_call` hears of every finished request, on the
    event loop. Every method of its parts raises the errors of `providers.interface`.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        total: float = 2.0,
        lane: Callable[[Driver, str], Lane] | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> None:
        if not 0 < total < float("inf"):
            raise ValueError(f"total is {total} s: it must be a positive number of seconds")
        self.driver = driver
        self.url = driver.url
        self.capabilities = driver.capabilities
        self.total = total
        self.documents = PortableDocuments(self.ask)
        self.queue = PortableQueue(self.ask, driver.capabilities)
        self._open_lane = lane
        self._on_call = on_call
        self._lanes: dict[str, Lane] = {}

    def lease(self, role: str) -> PortableLease:
        """Return the lease of one role, stored under `leases/<role>`."""
        return PortableLease(self.ask, self.capabilities, role)

    async def prepare(self, within: float = PREPARING) -> None:
        """Open one client and close it, before any request has to keep its total time. Sends the store nothing.

        What takes long only once (building an SDK's clients, fetching a token) then costs no request its time. Call
        it before the first one. Raises Misconfigured, Unavailable.
        """
        open_lane = self._open_lane
        lane = (
            open_lane(self.driver, "prepare") if open_lane else ThreadLane(self.driver, self.total, name="store-open")
        )
        try:
            await lane.call("store.open", lambda client: None, total=within, changes=False)
        finally:
            lane.close()

    async def close(self) -> None:
        """Close all connections. Requests that are overdue are left to end by themselves."""
        for lane in self._lanes.values():
            lane.close()

    async def ask(
        self, lane: str, operation: str, function: Callable[[Client], T], *, changes: bool, wait: float = 0.0
    ) -> T:
        """Send one request in a lane and count it: what the parts of this class are made of.

        `wait` is what the store itself was asked to wait for, in seconds; it comes on top of the total.
        """
        if lane not in self._lanes:
            self._lanes[lane] = self._open_lane(self.driver, lane) if self._open_lane else self._threads(lane)
        started = time.monotonic()
        outcome = "cancelled"
        try:
            answer = await self._lanes[lane].call(operation, function, total=self.total + wait, changes=changes)
            outcome = "ok"
        except Exception as exc:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(exc, kind)), "error")
            raise
        finally:
            if self._on_call is not None:
                self._on_call(Call(operation, outcome, time.monotonic() - started))
        return answer

    def _threads(self, lane: str) -> Lane:
        return ThreadLane(self.driver, self.total, slots=SLOTS[lane], name=f"store-{lane}")


__all__ = [
    "HEADROOM",
    "SLOTS",
    "Lane",
    "PortableDocuments",
    "PortableLease",
    "PortableQueue",
    "Provider",
    "ThreadLane",
    "check_key",
]
