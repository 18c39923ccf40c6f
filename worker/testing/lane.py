"""The way from an instance to the store: requests take time, get lost, come late, and land after their sender died.

A request is applied to the store at one instant, in no node's context: a paused or dead sender does not stop it.
Its answer is delivered as a callback of the sender's node, so that a paused sender finds it after the resume, and
its `total` runs on the sender's own clock. What the caller sees is what `providers.lanes.ThreadLane` shows: the
same slots, the same queueing, and overdue is `OutcomeUnknown` for what changes something and `Unavailable` otherwise.

A call of several requests (`worker.testing.steps`) sends them one after the other, each with a fate of its own, from
the caller's process: a dead one sends no more, a paused one goes on when it is resumed, whoever waits for it or not.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from providers.interface import Client, Driver, OutcomeUnknown, ProviderError, Stamp, Unavailable
from providers.lanes import CLIENTS_PER_SLOT
from providers.provider import SLOTS
from worker.testing.clock import stream
from worker.testing.loop import VirtualLoop
from worker.testing.node import NODE, Node
from worker.testing.weather import CLEAR, Fate, Weather, draw

T = TypeVar("T")


NEVER = 3600.0
"""Seconds within which a driver should give up by itself: here the lane alone decides what is overdue."""


class Outage(enum.Enum):
    """How a store is down."""

    REFUSING = "refusing"  # connections are refused at once
    SILENT = "silent"  # nothing is ever answered


@dataclass(slots=True)
class Request:
    """One request under way, for whoever watches the store."""

    machine: str
    node: Node | None
    operation: str
    changes: bool
    function: Callable[[Client], Any]
    answer: asyncio.Future[Any]
    context: contextvars.Context  # of the caller: its answer is a callback of its node
    sent: float | None = None  # true time; None while it waits for a slot
    fate: Fate = Fate.FINE
    error: BaseException | None = None  # once it has been applied
    steps: Generator[None, None, Any] | None = None  # of a call of several requests, once the first has been applied

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Answer, unless nobody waits any more."""
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)
            self.answer.exception()  # retrieved: a caller that was cancelled meanwhile leaves no complaint behind


@dataclass(frozen=True, slots=True)
class Trap:
    """Something that happens right after a machine has sent a certain request, which gets through all the same."""

    operation: str
    spring: Callable[[], None]
    astray: float | None = None  # seconds by which the request is late; None: it is fine
    key: str = ""  # of the document that is replaced: how it starts

    def matches(self, request: Request) -> bool:
        """Say whether this is the request that the trap waits for."""
        return request.operation == self.operation and _key_of(request).startswith(self.key)


class _Asked(Exception):
    """Carries the key of a document."""


class _Asking:
    """Stands for a client, to ask a request which document it replaces."""

    @property
    def documents(self) -> _Asking:
        return self

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        raise _Asked(old.key)


def _key_of(request: Request) -> str:
    if request.operation == "documents.replace":
        try:
            request.function(cast("Client", _Asking()))
        except _Asked as exc:
            return str(exc)
    return ""


class Network:
    """One store and everything between it and the instances of one simulation.

    `applied` is called after each request that reached the store, whatever it answered; `weather`, `outage` and
    `cut` may be changed at any time.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        driver: Driver,
        seed: int,
        weather: Weather = CLEAR,
        unit: float = 2.0,
        applied: Callable[[Request], None] | None = None,
    ) -> None:
        self.loop = loop
        self.driver = driver
        self.seed = seed
        self.weather = weather
        self.unit = unit  # seconds: the total time of a request, which latencies are multiples of
        self.applied = applied
        self.applying: Request | None = None  # the request that is changing the store at this very moment
        self.outage: Outage | None = None
        self.cut: dict[str, bool] = {}  # machines that cannot reach the store
        self.local: dict[str, Weather] = {}  # machines with a weather of their own
        self.traps: dict[str, Trap] = {}  # by machine
        self.calm: dict[str, bool] = {}  # machines whose requests are always fine, and fast
        self.fates = dict.fromkeys(Fate, 0)

    def lane(self, machine: str) -> Callable[[Driver, str], SimLane]:
        """Return what a `Provider` of this machine takes as its `lane`."""
        return lambda driver, name: SimLane(self, machine, driver, name)


class SimLane:
    """A `providers.lanes.Lane` through the network of a simulation."""

    def __init__(self, network: Network, machine: str, driver: Driver, name: str) -> None:
        self._network = network
        self._loop = network.loop
        self._machine = machine
        self._dice = stream(network.seed, machine, "network", name)
        self._driver = driver
        self._client: Client | None = None
        self._slots = SLOTS[name]
        self._busy = 0  # requests that somebody waits for
        self._stuck = 0  # overdue ones, which keep their clients
        self._pending: deque[Request] = deque()

    async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
        """See `providers.lanes.Lane.call`."""
        request = Request(
            self._machine,
            NODE.get(),
            operation,
            changes,
            function,
            self._loop.create_future(),
            contextvars.copy_context(),
        )
        timer = self._loop.call_later(total, self._overdue, request, total)
        self._pending.append(request)
        self._dispatch()
        try:
            answer: T = await request.answer
            return answer
        finally:
            timer.cancel()
            if request.sent is None:
                self._pending.remove(request)
            else:
                self._busy -= 1
                if not request.answer.done() or request.answer.cancelled():
                    self._keep_client()
                self._dispatch()

    def close(self) -> None:
        """See `providers.lanes.Lane.close`."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _dispatch(self) -> None:
        while self._pending and self._busy < self._slots:
            if self._busy + self._stuck >= self._slots * CLIENTS_PER_SLOT:
                return
            self._busy += 1
            self._send(self._pending.popleft())

    def _overdue(self, request: Request, total: float) -> None:
        if request.answer.done():
            return
        unknown = request.changes and request.sent is not None
        error = OutcomeUnknown if unknown else Unavailable
        request.settle(None, error(f"{request.operation} took longer than {total:g} s"))
        if request.sent is not None:
            self._keep_client()

    def _keep_client(self) -> None:
        def give_back() -> None:
            self._stuck -= 1

        self._stuck += 1
        self._loop.outside(self._draw(self._network.weather.stuck), give_back)

    def _draw(self, between: tuple[float, float]) -> float:
        return self._network.unit * draw(self._dice, between)

    def _send(self, request: Request) -> None:
        network, dice = self._network, self._dice
        weather = CLEAR if self._machine in network.calm else network.local.get(self._machine, network.weather)
        request.sent, request.fate = self._loop.true, weather.fate(dice, request.changes)
        there, back = self._draw(weather.latency), self._draw(weather.answer or weather.latency)
        trap = network.traps.get(self._machine)
        if trap is not None and trap.matches(request):
            del network.traps[self._machine]
            request.fate = Fate.FINE if trap.astray is None else Fate.STRAY
            there += trap.astray or 0.0
            self._loop.outside(0.0, trap.spring)
        elif request.fate is Fate.STRAY:
            there += self._draw(weather.astray)
        network.fates[request.fate] += 1
        if request.fate is Fate.ANSWER_LATE:
            back += self._draw(weather.late)
        self._loop.outside(there, self._arrive, request, back)

    def _arrive(self, request: Request, back: float) -> None:
        network, fate = self._network, request.fate
        if request.machine not in network.calm:
            if fate is Fate.REQUEST_LOST or network.outage is Outage.SILENT:
                return
            if request.machine in network.cut and fate is not Fate.STRAY:  # a stray one has left its machine long ago
                return
            refusing = network.outage is Outage.REFUSING
            if refusing or fate in (Fate.THROTTLED, Fate.CONFLICT):
                error = Unavailable if request.steps is None else OutcomeUnknown  # the first of several has happened
                what = error("connection refused" if refusing else fate.value)
                self._loop.outside(back, self._answer, request, None, what)
                return
        more, result = self._apply(request)
        if fate in (Fate.ANSWER_LOST, Fate.STRAY):
            return
        if more:
            self._loop.outside(back, self._go_on, request)
        else:
            self._loop.outside(back, self._answer, request, result, request.error)

    def _apply(self, request: Request) -> tuple[bool, Any]:
        """Do one request to the store; say whether the call has another one, and what it returns if not."""
        self._network.applying = request
        more, result = False, None
        try:
            if request.steps is None:
                if self._client is None:
                    self._client = self._driver.open(NEVER)
                result = request.function(self._client)
                request.steps = result if isinstance(result, Generator) else None
            if request.steps is not None:
                next(request.steps)
                more = True
        except StopIteration as end:
            result = end.value
        except ProviderError as exc:
            request.error = exc
        except Exception as exc:  # a bug of the driver is the caller's to see, as on the real lane
            request.error = exc
        self._network.applying = None
        if self._network.applied is not None:
            self._network.applied(request)
        return more, result

    def _go_on(self, request: Request) -> None:
        if request.machine not in self._network.cut:
            self._loop.call_soon(self._send, request, context=request.context)

    def _answer(self, request: Request, result: Any, error: BaseException | None) -> None:
        if request.machine not in self._network.cut:
            self._loop.call_soon(request.settle, result, error, context=request.context)
