"""What the demo plays on: a fleet, a provider of its own, and the waits between two acts, each with its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from providers.connect import connect
from worker.admin.inputs import Item
from worker.admin.routing import Route, read_plan, route_for
from worker.admin.send import send
from worker.app import App
from worker.clock import SystemClock
from worker.core.bounds import bounds
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, NotWithin, named
from worker.dev.instance import Instance
from worker.dev.narrator import Narrator
from worker.settings import Settings

T = TypeVar("T")

STARTING = 30.0
"""Seconds that a process may take to start, on a busy machine: no promise of ours, so beyond every bound."""

PATIENT = 10.0
"""Seconds that a request of the demo itself may take: nobody's trust hangs on it."""

LOOK_AGAIN = 0.1
"""Seconds between two looks at the plan."""

A_MOMENT = 3.0
"""Seconds for the handling of a wave to begin."""

QUIET = 30.0
"""Seconds without any message handled after which handling has stopped, once every partition has an owner again."""


class Stage:
    """A fleet that is being watched. Used by one thread."""

    def __init__(self, settings: Settings, app: App, queue: str, count: int) -> None:
        store = settings.need_store()
        found = bounds(settings.leader, settings.member, drain_timeout=settings.drain_seconds)
        self.bounds = {bound.name: bound for bound in found}
        self.queue, self.sent = queue, 0
        self._hidden = settings.member.lease  # what a message is hidden for that an owner held as it died
        self.fleet = LocalFleet(store, count=count, app=settings.app, env={"WORKER_LOG_LEVEL": "info"})
        self.provider = connect(store, total=PATIENT, options=settings.store_options)
        self.narrator = Narrator()
        self._app = app
        self._runner = asyncio.Runner()
        self.ask(self.provider.prepare())
        self._looked = 0
        self._settled: set[str] = set()

    def close(self) -> None:
        """End the fleet and give everything back."""
        self.fleet.close()
        self._runner.run(self.provider.close())
        self._runner.close()

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Do something that talks to the store."""
        return self._runner.run(question)

    # --- messages ---

    @property
    def settled(self) -> int:
        """Messages that have been handled or dead-lettered so far, each counted once."""
        news = self.fleet.history[self._looked :]
        self._looked += len(news)
        self._settled |= {str(e.get("message")) for e in news if e.name in ("message.handled", "message.dead_lettered")}
        return len(self._settled)

    @property
    def open(self) -> int:
        """Messages that are neither handled nor dead-lettered yet."""
        return self.sent - self.settled

    @property
    def handled(self) -> int:
        """Handler calls that ended well."""
        return sum(it.handled for it in self.fleet.instances.values())

    def send(self, to_intake: Sequence[Any], hashed: Sequence[Any]) -> None:
        """Send some messages as a producer that knows nothing, and some as one that knows the partitions."""
        self.ask(self._send(to_intake, hashed))
        self.sent += len(to_intake) + len(hashed)

    async def _send(self, to_intake: Sequence[Any], hashed: Sequence[Any]) -> None:
        route = await route_for(self.provider, self.queue, self._app)
        intake = Route(self.queue, None, route.key_field)
        for way, bodies in ((intake, to_intake), (route, hashed)):
            items = (Item(body, f"message {number}") for number, body in enumerate(bodies, 1))
            await send(self.provider, SystemClock(), way, items)

    # --- waiting ---

    def await_leader(self, since: int, fault: Event | None = None) -> Instance:
        """Wait for the next term after a mark, and say how long it took after the fault."""
        promise = self.bounds["failover"].worst
        event = self._wait_for(named("leader.elected"), since, promise + STARTING, "a leader")
        gap = "" if fault is None else f", {event.at - fault.at:.1f} s later (promised: at most {promise:.1f} s)"
        self.narrator.say(f"{event.instance} is elected leader of term {event.term}{gap}", mark="=")
        return self.fleet.instances[event.instance]

    def await_ownership(self) -> None:
        """Wait until every partition of the queue is owned."""
        count = self._app.queues[self.queue].partitions

        def owned() -> bool:
            return sum(len(it.partitions) for it in self.fleet.instances.values()) >= count

        self.wait(owned, self.bounds["leader-loss"].worst + STARTING, "an owner for every partition")
        shares = ", ".join(f"{it.name} {len(it.partitions)}" for it in self.fleet.instances.values())
        self.narrator.say(f"the leader has granted all {count} partitions: {shares}", mark="=")

    def await_whole(self) -> Instance:
        """Wait until every instance runs and is a member, and return the one that leads."""

        def whole() -> Instance | None:
            everybody = all(it.worker and it.member for it in self.fleet.instances.values())
            return self.fleet.leader if everybody else None

        within = self.bounds["failover"].worst + STARTING
        leader = self.wait(whole, within, "a whole fleet")
        self.ask(self._await_successor(within))
        return leader

    async def _await_successor(self, within: float) -> None:
        """Wait until the plan names a successor who lives: what is promised is said of a fleet that has one."""
        clock = SystemClock()
        async with asyncio.timeout(within):
            while True:
                plan, _ = await read_plan(self.provider)
                living = {f"{it.name}~{it.member}" for it in self.fleet.instances.values()}
                if plan is not None and living & set(plan.successors):
                    return
                await clock.sleep(LOOK_AGAIN)

    def await_handled(self, more: int) -> None:
        """Wait until so many more messages have been handled, or for a moment: their owners may be dead."""
        goal = self.handled + more
        with contextlib.suppress(NotWithin):
            self.wait(lambda: self.handled >= goal, A_MOMENT, "messages being handled")

    def await_settled(self) -> None:
        """Wait until no message is open: for owners as long as is promised, then for as long as handling goes on.

        How fast it goes is the store's business: an emulator may handle some tens of messages in a second.
        """
        self.await_ownership()
        while self.open:
            more = partial(self._settled_more_than, self.settled)
            self.wait(more, self._hidden + QUIET, f"one more of {self.open:,} open messages handled or dead-lettered")

    def _settled_more_than(self, before: int) -> bool:
        return self.settled > before

    def wait(self, condition: Callable[[], T | None], within: float, what: str) -> T:
        """Wait for a condition, and show on a terminal how things stand. Raises NotWithin."""

        def look() -> T | None:
            leader = self.fleet.leader
            led = f"{leader.name} leads term {leader.term}" if leader is not None else "nobody leads"
            done = f"{self.settled:,} of {self.sent:,} messages handled; " if self.sent else ""
            self.narrator.status(done + led)
            return condition()

        return self.fleet.wait_until(look, within, what)

    def _wait_for(self, matches: Callable[[Event], bool], since: int, within: float, what: str) -> Event:
        looked = since

        def found() -> Event | None:
            nonlocal looked
            while looked < len(self.fleet.history):
                looked += 1
                if matches(self.fleet.history[looked - 1]):
                    return self.fleet.history[looked - 1]
            return None

        return self.wait(found, within, what)
