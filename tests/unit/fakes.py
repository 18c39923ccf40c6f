"""A small world in virtual time for tests of the runtime: one store, scripted requests, one clock, recorded events.

    @simulated
    async def test_something(world: World) -> None:
        world.network.next("lease.renew", ANSWER_LOST)

Every request takes `LATENCY` seconds each way unless its fate is scripted. A world ends with its test; whatever
an exception handler of the loop has heard, other than what was expected, fails the test.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

from providers.body import decode, encode
from providers.interface import (
    Bid,
    Capabilities,
    Client,
    Driver,
    Grant,
    Lease,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Unavailable,
)
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import CAPABILITIES
from providers.provider import Provider
from worker.core.timings import Timings, leader_timings, member_timings
from worker.ports import Ports
from worker.telemetry import Events, silent
from worker.testing.clock import EPOCH, SimClock, stream
from worker.testing.deadman import SimDeadMan
from worker.testing.handlers import SimHandlers
from worker.testing.loop import VirtualLoop
from worker.testing.node import LocalClock, Node
from worker.testing.steps import SteppedDriver

T = TypeVar("T")

LATENCY = 0.01
"""Seconds that a request travels, and as many that its answer does."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one request: seconds there and back (None: never), and who does what in between."""

    there: float | None = LATENCY
    back: float | None = LATENCY
    error: ProviderError | None = None  # answered instead of being applied
    before: Callable[[], object] | None = None  # called just before it is applied
    after: Callable[[], object] | None = None  # called just after it was applied
    parts: int | None = None  # of a call of several requests: how many are sent before its sender falls silent


FINE = Fate()
LOST = Fate(there=None)
ANSWER_LOST = Fate(back=None)
DOWN = Fate(error=Unavailable("the store is down"))


def late(seconds: float) -> Fate:
    """Applied at once; its answer travels for so long."""
    return Fate(back=seconds)


def stray(seconds: float) -> Fate:
    """Applied only after so long, and never answered."""
    return Fate(there=seconds, back=None)


class Network:
    """Decides the fate of every request, and remembers what was sent."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.sent: list[tuple[float, str, str]] = []  # true time, who, operation
        self._next: defaultdict[str, deque[Fate]] = defaultdict(deque)
        self._always: dict[str, Fate] = {}

    def next(self, operation: str, *fates: Fate) -> None:
        """Script the next requests of an operation: `lease.renew`, or `a:lease.renew` for those of `a` only."""
        self._next[operation].extend(fates)

    def always(self, operation: str, fate: Fate | None) -> None:
        """Give every request of an operation (`*` for all, `a:*` for all of `a`) this fate; None ends that."""
        if fate is None:
            self._always.pop(operation, None)
        else:
            self._always[operation] = fate

    def times(self, operation: str, who: str | None = None) -> list[float]:
        """Return when requests of an operation were sent."""
        return [at for at, whose, name in self.sent if name == operation and who in (None, whose)]

    def lane(self, who: str) -> Callable[[Driver, str], ScriptedLane]:
        """Return what a `Provider` takes as its `lane`."""
        return lambda driver, _: ScriptedLane(self, who, driver)

    def fate(self, who: str, operation: str) -> Fate:
        self.sent.append((self.loop.true, who, operation))
        for name in (f"{who}:{operation}", operation):
            if self._next[name]:
                return self._next[name].popleft()
        for name in (f"{who}:{operation}", operation, f"{who}:*", "*"):
            if name in self._always:
                return self._always[name]
        return FINE


class _Silent(Exception):
    """The sender of a call of several requests sends no more."""


def _sent(steps: Generator[None, None, Any], parts: int | None) -> Any:
    """Send the requests of one call, all at one instant, and return what it returns."""
    for _ in itertools.count() if parts is None else range(parts):
        try:
            next(steps)
        except StopIteration as end:
            return end.value
    raise _Silent


class ScriptedLane:
    """A `providers.lanes.Lane` whose requests meet the fate that the test has written for them."""

    def __init__(self, network: Network, who: str, driver: Driver) -> None:
        self._network, self._who, self._driver = network, who, driver

    async def call(self, operation: str, function: Callable[[Client], T], *, total: float, changes: bool) -> T:
        loop = self._network.loop
        fate = self._network.fate(self._who, operation)
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if not answer.done():
                if error is None:
                    answer.set_result(value)
                else:
                    answer.set_exception(error)
                    answer.exception()  # seen: nobody may be waiting any more

        def arrive() -> None:
            value, error = None, fate.error
            if fate.before is not None:
                fate.before()
            if error is None:
                try:
                    value = function(self._driver.open(total))
                    if isinstance(value, Generator):
                        value = _sent(value, fate.parts)
                except _Silent:
                    return
                except Exception as exc:  # the caller's to see, as on the real lane
                    error = exc  # type: ignore[assignment] # any exception
            if fate.after is not None:
                fate.after()
            if fate.back is not None:
                loop.outside(fate.back, settle, value, error)

        overdue = OutcomeUnknown(f"{operation}: no answer") if changes else Unavailable(f"{operation}: no answer")
        timer = loop.call_later(total, settle, None, overdue)
        if fate.there is not None:
            loop.outside(fate.there, arrive)
        try:
            result: T = await answer
            return result
        finally:
            timer.cancel()

    def close(self) -> None:
        """There is nothing to close."""


class Watched:
    """Sees every call of a user's function."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.started_calls: list[str] = []

    def started(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        self.running.append(function.__name__)
        self.started_calls.append(function.__name__)

    def ended(self, function: Callable[..., Any], args: Sequence[Any], error: BaseException | None) -> None:
        self.running.remove(function.__name__)


class RecordingDeadMan(SimDeadMan):
    """Also remembers what it was told, with the time on its clock."""

    def __init__(self, loop: VirtualLoop, clock: SimClock, kill: Callable[[str], None]) -> None:
        super().__init__(loop, clock, kill, stream(0, "dead-man"))
        self.told: list[tuple[float, str, str]] = []
        self._own_clock = clock

    def arm(self, name: str, deadline: float) -> None:
        self.told.append((self._own_clock.now(), "arm", name))
        super().arm(name, deadline)

    def disarm(self, name: str) -> None:
        if name in self.deadlines:
            self.told.append((self._own_clock.now(), "disarm", name))
        super().disarm(name)


@dataclass
class World:
    """One store and whoever the test lets loose on it."""

    usual: ClassVar[Capabilities] = CAPABILITIES
    """Of the store where a test does not say; a fixture may change it for all tests of a module."""

    lease: float = 15.0
    capabilities: Capabilities | None = None
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    said: list[dict[str, Any]] = field(default_factory=list)  # events, each with `at` (true time)
    killed: list[tuple[float, str]] = field(default_factory=list)  # true time, entry of the dead-man's switch

    def __post_init__(self) -> None:
        self._watchers: list[Callable[[], object]] = []
        self._awaited: list[tuple[Callable[[], object], asyncio.Future[bool]]] = []
        self.loop.on_step = self._step
        self.store = MemoryStore(now=lambda: EPOCH + self.loop.true)
        self.driver = SteppedDriver(self.store, capabilities=self.capabilities or self.usual)
        self.network = Network(self.loop)
        self.leader: Timings = leader_timings(self.lease)
        self.member: Timings = member_timings(self.leader)
        self.clock = self.clock_of("a")
        self.deadman = RecordingDeadMan(self.loop, self.clock, self._kill)
        self.watched = Watched()
        self.handlers = SimHandlers(self.watched, stream(0, "handlers"))
        self.provider = self.provider_of("a")

    # --- parts ---

    def clock_of(self, name: str, rate: float = 1.0, offset: float = 1000.0) -> SimClock:
        return SimClock(self.loop, LocalClock(offset, rate), 1, name)

    def provider_of(self, who: str) -> Provider:
        return Provider(self.driver, total=self.leader.total, lane=self.network.lane(who))

    def events(self, **bound: Any) -> Events:
        return silent(self._hear).bind(**bound)

    def ports(self, instance: str = "a", **changed: Any) -> Ports:
        mine = instance == "a"
        clock = self.clock if mine else self.clock_of(instance)
        ports = Ports(
            fleet="default",
            instance=instance,
            provider=self.provider if mine else self.provider_of(instance),
            clock=clock,
            deadman=self.deadman if mine else RecordingDeadMan(self.loop, clock, self._kill),
            handlers=self.handlers,
            events=self.events(instance=instance),
            leader=self.leader,
            member=self.member,
        )
        return replace(ports, **changed)

    def _hear(self, fields: Mapping[str, Any]) -> None:
        self.said.append({"at": self.loop.true, **fields})

    def _kill(self, name: str) -> None:
        self.killed.append((self.loop.true, name))

    # --- what was said ---

    def heard(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Return the events of one kind that carry these fields."""
        return [
            said for said in self.said if said["event"] == event and all(said.get(k) == v for k, v in fields.items())
        ]

    @property
    def problems(self) -> list[str]:
        return [said["problem"] for said in self.heard("problem")]

    # --- the store, looked at and changed behind everyone's back, at once ---

    def put(self, key: str, fields: Mapping[str, Any] | bytes) -> None:
        """Write a document over whatever was there."""
        body = fields if isinstance(fields, bytes) else encode(fields)
        try:
            found = self.store.documents.read(key)
        except NotFound:
            self.store.documents.create(key, body)
        else:
            assert found is not None
            self.store.documents.replace(found.stamp, body)

    def get(self, key: str) -> dict[str, Any]:
        """Return a document's fields."""
        return decode(self.raw(key), key)

    def raw(self, key: str) -> bytes:
        """Return a document's bytes."""
        found = self.store.documents.read(key)
        assert found is not None
        return found.body

    def has(self, key: str) -> bool:
        """Say whether a document exists."""
        return any(stamp.key == key for stamp in self.store.documents.list(key).stamps)

    def remove(self, key: str) -> None:
        """Delete a document."""
        found = self.store.documents.read(key)
        assert found is not None
        self.store.documents.delete(found.stamp)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys under a prefix."""
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self.store.documents.list(prefix, after=after or None)
            found += [stamp.key for stamp in page.stamps]
            after = page.after
        return found

    def take_lease(self, holder: str = "rival", term: int = 1, *, role: str = "leader", **changed: Any) -> Grant:
        """Let somebody else claim the lease now, whoever has it."""
        self.store.leases.break_now(f"leases/{role}")
        lease = self.lease_of(role)
        bid = Bid(holder, f"{holder}-host", "default", term, self.lease, f"nonce of {holder} {term}")
        return lease.claim(lease.observe(), replace(bid, **changed))

    def holder(self, role: str = "leader") -> str | None:
        """Return the session that everybody sees as the lease's holder."""
        return self.lease_of(role).observe().holder

    def lease_of(self, role: str) -> Lease:
        """Return a lease, for whoever asks the store directly."""
        return MemoryDriver(self.store, capabilities=self.driver.capabilities).open(self.leader.total).lease(role)

    def bodies(self, queue: str) -> list[bytes]:
        """Return the bodies of all visible messages of a queue."""
        return [message.body for message in self.store.queue.peek(queue, 10_000)]

    def left(self, queue: str) -> int:
        """Count the messages of a queue, hidden ones too."""
        depth = self.store.queue.depth(queue)
        return depth.visible + depth.hidden

    # --- time ---

    def watch(self, check: Callable[[], object]) -> None:
        """Call this after every step of the loop; what it raises fails the test."""
        self._watchers.append(check)

    def _step(self) -> None:
        for check in self._watchers:
            check()
        for predicate, met in self._awaited:
            if not met.done() and predicate():
                met.set_result(True)

    async def until(self, predicate: Callable[[], object], within: float, what: str = "") -> None:
        """Let virtual time pass until something holds; fail when it does not within so many true seconds."""
        met: asyncio.Future[bool] = self.loop.create_future()
        entry = (predicate, met)
        self._awaited.append(entry)

        def give_up() -> None:
            if not met.done():
                met.set_result(False)

        timer = self.loop.outside(within, give_up)
        try:
            assert predicate() or await met, f"not within {within:g} s: {what or predicate}; said: {self.said[-8:]}"
        finally:
            timer.cancel()
            self._awaited.remove(entry)

    async def passes(self, seconds: float) -> None:
        """Let true virtual time pass."""
        done = self.loop.create_future()
        self.loop.outside(seconds, done.set_result, None)
        await done

    def at(self, delay: float, *actions: Callable[[], object]) -> None:
        """Do something after so many true seconds, whatever the test is waiting for."""
        for action in actions:
            self.loop.outside(delay, action)

    def run(self, test: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a test's body on this world's loop, then take the world apart."""
        try:
            result = self.loop.run_until_complete(self.loop.spawn(Node("test", self.clock.local), test))
            unheard = [error for error in self.loop.errors if "destroyed" not in str(error.get("message"))]
            assert not unheard, unheard
            return result
        finally:
            self.loop.close()


def run(test: Callable[[World], Coroutine[Any, Any, T]], **options: Any) -> T:
    """Run a test's body in a fresh world."""
    world = World(**options)
    return world.run(lambda: test(world))


def simulated(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Turn a coroutine function over a world into a test."""

    def in_a_world() -> None:
        async def body(world: World) -> None:
            await test(world)

        run(body)

    in_a_world.__name__ = getattr(test, "__name__", "test")
    in_a_world.__qualname__ = in_a_world.__name__
    in_a_world.__doc__ = test.__doc__
    in_a_world.__module__ = test.__module__
    return in_a_world


def started(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    """Start coroutines as tasks of the test's node."""
    return [asyncio.create_task(coroutine) for coroutine in coroutines]
