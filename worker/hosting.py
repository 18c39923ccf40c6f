"""An instance that heeds its machine: it leaves before the machine goes, and comes back when the machine has paused.

    notice    asked for every few seconds, from before the start on
    gone      drain within what time there is; acknowledge only then: the machine may go at once
    pause     the same, and then wait until the notice is over, and start anew: new sessions, nothing remembered
    risk      the leader steps down: another one leads before this machine can take the lease with it

Several may be announced at once, or one after the other: every one of them is heeded, whatever is under way already.
The nearest end says how much time there is, and a machine that goes is gone, even if it was to pause first.

A new machine is said to be ready once its first instance takes part. From then on it is protected from being scaled in
while handlers run on it, and the leader publishes the fleet's backlog, the figure that autoscaling goes by. A platform
that does not answer costs the instance nothing but these: it is asked again, and reported once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from providers.host import End, Notice
from providers.interface import NotFound, ProviderError
from providers.portable_host import PortableHost
from worker import handlers
from worker.clock import wait_for
from worker.core.names import partition_names
from worker.errors import Exit
from worker.ports import Ports
from worker.process import Service
from worker.supervisor import Supervisor
from worker.web.health import not_ready

EVERY = 5.0
"""Seconds between two questions for notices. The shortest notice there is, of an eviction, comes 30 s ahead."""

BACKLOG_EVERY = 60.0
"""Seconds between two figures of the backlog: what autoscaling can make use of."""

QUIET = 60.0
"""Seconds without a handler call after which the machine is protected no longer."""


Facts = Mapping[str, str | None]
"""What the machine's platform calls it: for the event `instance.started`."""

Start = Callable[[Facts], tuple[Supervisor, Service]]


class Hosted:
    """A service around instances of one worker process: one after the other, as the machine allows."""

    def __init__(self, host: PortableHost, ports: Ports, start: Start) -> None:
        """Heed `host`. `start` makes an instance, and the service that runs it, for every new life."""
        self._host, self._ports, self._start = host, ports, start
        self._life: Supervisor | None = None
        self._holding: asyncio.Task[None] | None = None
        self._notices: list[Notice] = []
        self._heeded: list[Notice] = []  # what the present life is drained for, as it was announced
        self._told: set[str] = set()  # notices that were acted on
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self._counted_on = False  # the platform was told that this machine is ready
        self._protected: bool | None = None  # as the platform knows it; None: it was never told
        self._busy_until = float("-inf")
        self._failing: set[str] = set()  # operations whose failure has been reported

    def drain(self, reason: str) -> None:
        """End for good: finish, release and return from `run`. Called on the control thread, perhaps more than once."""
        self._stopping.set()
        self._changed.set()
        if self._life is not None:
            self._life.drain(reason)

    async def run(self) -> int:
        """Run instances until told to stop, or until one ends by itself; return the exit code."""
        facts, _ = await asyncio.gather(self._identify(), self._ask_for_notices())
        watching = [
            asyncio.create_task(self._again(EVERY, self._watch)),
            asyncio.create_task(self._again(BACKLOG_EVERY, self._publish)),
        ]
        code = int(Exit.OK)
        try:
            while await self._machine_is_calm():
                code = await self._live(facts)
                await self._protect(False)
                for notice in self._going() if self._heeded else ():
                    await self._acknowledge(notice)
                if not self._heeded or any(notice.end is End.GONE for notice in self._heeded):
                    break
            return code
        finally:
            for task in watching:
                task.cancel()
            await handlers.ended(*watching)
            self._host.close()

    async def _live(self, facts: Facts) -> int:
        """Run one instance; return its exit code when nothing of it acts any more."""
        self._heeded = []
        self._life, service = self._start(facts)
        self._heed()  # what came in between
        try:
            return await service.run()
        finally:
            self._life = None
            if self._holding is not None:
                self._holding.cancel()

    async def _machine_is_calm(self) -> bool:
        """Wait while the machine is about to go or to pause; False once told to stop."""
        while not self._stopping.is_set():
            self._changed.clear()
            going = self._going()
            if not going:
                return True
            for notice in going:  # nothing of ours acts here: it may happen
                if self._tell(notice):
                    await self._acknowledge(notice)
            await self._changed.wait()
        return False

    def _going(self) -> list[Notice]:
        """What the machine cannot go through with a working instance on it."""
        return [notice for notice in self._notices if notice.end is not End.RISK]

    # --- the machine ---

    async def _again(self, every: float, look: Callable[[], Awaitable[None]]) -> None:
        """Do something every so many seconds. A bug in it must not end it: the machine's end would not be heard."""
        while True:
            await self._ports.clock.sleep(every)
            try:
                await look()
            except Exception as exc:
                self._failed(f"{exc!r}", f"the machine could not be looked after: {exc!r}")

    async def _watch(self) -> None:
        """Act on what is new."""
        await self._ask_for_notices()
        self._heed()
        await self._tell_when_ready()
        await self._protect_if_busy()

    async def _identify(self) -> Facts:
        try:
            found = await self._host.identity()
        except ProviderError as exc:
            self._ports.events.problem(f"the machine's platform does not say which machine this is: {exc}")
            return {}
        return {"machine": found.machine, "zone": found.zone, "group": found.group}

    async def _ask_for_notices(self) -> None:
        try:
            notices = await self._host.notices()
        except ProviderError as exc:
            self._failed("notices", f"the machine's platform tells no notices: {exc}")
            return
        self._failing.discard("notices")
        if notices != self._notices:
            self._notices = notices
            self._changed.set()

    def _heed(self) -> None:
        """Act on notices that the present life has not heard of."""
        if self._life is None:
            return
        for notice in self._notices:
            if notice.end is End.RISK:
                if self._tell(notice) and self._life.elector.term is not None:
                    self._life.elector.term.step_down(f"the machine may be taken away: {notice.cause}")
            elif notice not in self._heeded:  # new, or with another time than before
                self._tell(notice)
                self._heeded.append(notice)
                self._life.drain(f"the machine: {notice.cause}", within=self._time_for(notice))
                if self._holding is None or self._holding.done():
                    self._holding = asyncio.create_task(self._hold())

    def _tell(self, notice: Notice) -> bool:
        """Say it in an event, once; return whether it was new."""
        if notice.id in self._told:
            return False
        self._told.add(notice.id)
        at = None if notice.at is None else datetime.fromtimestamp(notice.at, UTC).isoformat(timespec="seconds")
        self._ports.events.emit("host.notice", id=notice.id, end=notice.end.value, cause=notice.cause, at=at)
        return True

    def _time_for(self, notice: Notice) -> float | None:
        """Seconds for handlers to finish in, so that what has to be cancelled has ended and is told in time."""
        if notice.at is None:
            return None
        after = self._ports.member.grace + self._ports.member.margin + 2 * self._ports.leader.total
        return notice.at - self._ports.clock.wall() - after

    async def _hold(self) -> None:
        """Ask for more time while draining, where the platform gives any."""
        while self._life is not None:
            pauses = [await self._hold_one(notice) for notice in [*self._heeded]]
            again = [pause for pause in pauses if pause is not None]
            if not again:
                return
            await self._ports.clock.sleep(min(again))

    async def _hold_one(self, notice: Notice) -> float | None:
        """Return after how many seconds to ask again; None: not at all."""
        try:
            return await self._host.hold(notice)
        except ProviderError as exc:
            self._failed("hold", f"the platform was not asked for more time: {exc}")
            return EVERY

    async def _acknowledge(self, notice: Notice) -> None:
        """Tell the platform, which waits for it: until it has heard, or until told to stop, but once at the least."""
        while notice in self._notices:
            try:
                await self._host.acknowledge(notice)
                self._ports.events.emit("host.acknowledged", id=notice.id, cause=notice.cause)
                return
            except ProviderError as exc:
                self._failed("acknowledge", f"{notice.cause} could not be acknowledged: {exc}")
                if await wait_for(self._stopping, EVERY):
                    return

    async def _tell_when_ready(self) -> None:
        """Once an instance takes part in the fleet, and not before, the platform may count on this machine."""
        if self._counted_on or not_ready(self._life) is not None:
            return
        try:
            await self._host.ready()
            self._counted_on = True
            self._failing.discard("ready")
        except ProviderError as exc:
            self._failed("ready", f"the machine's platform was not told that it is ready: {exc}")

    async def _protect_if_busy(self) -> None:
        now, here = self._ports.clock.now(), self._life is not None and not self._life.draining
        if here and self._life is not None and self._life.handling:
            self._busy_until = now + QUIET
        await self._protect(here and now < self._busy_until)

    async def _protect(self, busy: bool) -> None:
        if busy == self._protected:
            return
        try:
            await self._host.protect(busy)
            self._protected = busy
            self._failing.discard("protect")
        except ProviderError as exc:
            self._failed("protect", f"the machine's protection could not be changed: {exc}")

    # --- the backlog ---

    async def _publish(self) -> None:
        """While this instance leads: count what waits in all queues, and publish the sum."""
        if self._life is None or not self._life.elector.acting:
            return
        try:
            await self._host.publish_backlog(self._ports.fleet, await self._backlog(self._life))
            self._failing.discard("backlog")
        except ProviderError as exc:
            self._failed("backlog", f"the backlog is not published: {exc}")

    async def _backlog(self, supervisor: Supervisor) -> int:
        """Messages that wait or are being handled, dead letters aside: one request for each queue, one at a time."""
        plan = supervisor.member.board.plan
        waiting = 0
        for spec in supervisor.app.queues.values():
            count = plan.queues.get(spec.name, spec.partitions) if plan is not None else spec.partitions
            partitions = partition_names(spec.name, count) if spec.mode == "assigned" else []
            for name in (spec.name, *partitions):
                try:
                    depth = await self._ports.provider.queue.depth(name)
                except NotFound:
                    continue
                waiting += depth.visible + depth.hidden
        return waiting

    def _failed(self, operation: str, problem: str) -> None:
        if operation not in self._failing:
            self._failing.add(operation)
            self._ports.events.problem(problem)
