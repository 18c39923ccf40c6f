"""One instance: checks before it starts, starts in order, drains in order, and says how it ended.

    start   the store's content must fit the code; queues exist; then membership, election, shared consumers
    drain   stop receiving and hand partitions back, hand the lease over, and only when nothing acts any more: leave

Runs on the control thread (`worker.process`), or in a simulation, where there are many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, Heir, NotFound, OutcomeUnknown, Unavailable
from worker import handlers
from worker.app import App
from worker.candidacy import Candidate
from worker.consumer import Consumer, Share
from worker.core.plan import plan_from_fields
from worker.elector import Elector
from worker.errors import ConfigurationError, Exit
from worker.leader import LeaderDuties
from worker.member import Member
from worker.ports import Ports

ENSURING = 4
"""Queues that are created at once at the start: no more than requests may be under way."""


class Supervisor:
    """Runs one instance of an app. `run` returns an exit code once nothing acts any more."""

    def __init__(
        self,
        app: App,
        ports: Ports,
        *,
        session: str,
        concurrency: int = 100,
        drain_timeout: float = 60.0,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        ports = replace(ports, events=ports.events.bind(session=session))
        slots = asyncio.Semaphore(concurrency)
        self._app, self._ports, self._drain_timeout = app, ports, drain_timeout
        self._draining, self._hurry = asyncio.Event(), asyncio.Event()
        self._drain_by = float("inf")  # by the clock: what runs is cancelled then, if it has not finished
        self._reason = ""
        self.member = Member(app, ports, slots, self._become_heir, self.drain, facts or {})
        self.duties = LeaderDuties(app, ports, self.member)
        self.elector = Elector(
            Candidate(ports.fleet, ports.instance, session),
            ports.provider,
            ports.clock,
            ports.deadman,
            ports.events,
            ports.leader,
            self.duties,
            rank=lambda: self.member.rank,
        )
        share = Share(slots, lambda queue: queue in self.member.board.control.paused, lambda: True)
        self._shared = [
            Consumer(spec, spec.name, None, ports, share)
            for spec in app.queues.values()
            if spec.mode == "shared"
            for _ in range(spec.concurrency)
        ]

    def _become_heir(self) -> Heir:
        return self.elector.become_heir()

    @property
    def app(self) -> App:
        """What this instance runs."""
        return self._app

    @property
    def ports(self) -> Ports:
        """What it runs on."""
        return self._ports

    @property
    def draining(self) -> bool:
        """Whether this instance is on its way out."""
        return self._draining.is_set()

    @property
    def handling(self) -> int:
        """How many handler calls are under way."""
        session = self.member.session
        owned = 0 if session is None else session.ownership.handling
        return owned + sum(consumer.handling for consumer in self._shared)

    @property
    def overlong(self) -> bool:
        """Whether a handler call has been under way for longer than a drain would wait for one."""
        session = self.member.session
        owned = 0.0 if session is None else session.ownership.handling_for
        return max(owned, *(consumer.handling_for for consumer in self._shared), 0.0) > self._drain_timeout

    def drain(self, reason: str, within: float | None = None) -> None:
        """Finish, release, hand over and end. Control thread only; the first reason stands, and the shortest time.

        `within` is in seconds, for what runs to finish in: where the machine gives less than the drain timeout.
        """
        if not self._draining.is_set():
            self._reason = reason
            self._draining.set()
        if within is not None:
            self._drain_by = min(self._drain_by, self._ports.clock.now() + max(within, 0.0))
            self._hurry.set()

    async def run(self) -> int:
        """Run until drained. Raises ConfigurationError and ProviderError before anything has been started."""
        await self.check()
        await self._ensure_queues()
        self._ports.events.emit("instance.started", **self.member.facts)
        tasks = [asyncio.create_task(self.member.run()), asyncio.create_task(self.elector.run())]
        tasks += [asyncio.create_task(consumer.run()) for consumer in self._shared]
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({*tasks, draining}, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in tasks if task.done()]
            return await self._wind_up(tasks, failed)
        finally:
            draining.cancel()

    async def _wind_up(self, tasks: list[asyncio.Task[None]], failed: list[asyncio.Task[None]]) -> int:
        self._report(failed)
        self._ports.events.emit("instance.draining", reason=self._reason or "a part of the runtime has failed")
        self.member.close()
        self.elector.close("drain")
        for consumer in self._shared:
            consumer.stop()
        if not await self._finish(tasks):
            for consumer in self._shared:
                consumer.revoke()
            if self.member.session is not None:
                self.member.session.ownership.revoke()
            self._ports.deadman.arm("drain", self._ports.clock.now() + self._ports.member.grace)
            await handlers.ended(*tasks)
            self._ports.deadman.disarm("drain")
        late = [task for task in tasks if task not in failed and task.exception() is not None]
        self._report(late)
        code = Exit.FAILED if failed or late else Exit.OK
        self._ports.events.emit("instance.stopped", exit_code=int(code))
        return int(code)

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> bool:
        """Wait until everything has ended; False when there is no more time to wait."""
        clock = self._ports.clock
        begun = clock.now()
        self._drain_by = min(self._drain_by, begun + self._drain_timeout)
        ended = asyncio.gather(*tasks, return_exceptions=True)
        while not ended.done():
            left = self._drain_by - clock.now()
            if left <= 0:
                self._ports.events.problem(f"not drained within {clock.now() - begun:.3g} s: handlers are cancelled")
                return False
            self._hurry.clear()
            hurry = asyncio.create_task(self._hurry.wait())
            either: set[asyncio.Future[Any]] = {ended, hurry}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        return True

    def _report(self, failed: list[asyncio.Task[None]]) -> None:
        for task in failed:
            self._ports.events.problem(f"a part of the runtime has failed: {task.exception()!r}")

    # --- before anything starts ---

    async def check(self) -> None:
        """Refuse to start where the store's content contradicts the code or the settings."""
        view = await self._ports.provider.lease("leader").observe()
        if view.garbled is None and view.fleet not in (None, self._ports.fleet):
            raise ConfigurationError(
                f"this store prefix belongs to fleet {view.fleet!r}, and WORKER_FLEET is {self._ports.fleet!r}: "
                "set WORKER_FLEET, or give this fleet a prefix of its own in WORKER_STORE"
            )
        keeps_order = self._ports.provider.capabilities.keeps_order
        for spec in self._app.queues.values():
            if spec.order == "strict" and not keeps_order(spec.name):
                raise ConfigurationError(
                    f"queue {spec.name!r} has order='strict', which the queues of {self._ports.provider.url} cannot "
                    "keep: use order='key', or a store that can (SQLite; SQS, for a queue whose name ends in '.fifo')"
                )
        longest, grace = self._ports.provider.capabilities.longest_hidden, self._ports.member.grace
        for spec in self._app.queues.values():
            if longest is not None and spec.timeout + grace > longest:
                raise ConfigurationError(
                    f"queue {spec.name!r} gives its handler timeout={spec.timeout:g} s and {grace:g} s to end in, but "
                    f"{self._ports.provider.url} hides a message for {longest:g} s at the most: another instance would "
                    "get it meanwhile; lower the timeout, and do longer work in several messages"
                )
        for name, count in (await self._planned()).items():
            declared = self._app.queues.get(name)
            if declared is not None and declared.mode == "assigned" and declared.partitions != count:
                raise ConfigurationError(
                    f"queue {name!r}: the code declares {declared.partitions} partitions and the fleet's plan has "
                    f"{count}: declare partitions={count}, or change the plan first with "
                    f"`worker partitions {name} --count {declared.partitions}`"
                )

    async def _planned(self) -> Mapping[str, int]:
        try:
            document = await self._ports.provider.documents.read("plan")
            plan, _ = plan_from_fields(decode(document.body if document else b"", "plan"))
        except NotFound:
            return {}
        except BadDocument as exc:
            self._ports.events.problem(f"the plan cannot be read, so partition counts are not compared: {exc}")
            return {}
        return plan.queues

    async def _ensure_queues(self) -> None:
        wanted = [queue for spec in self._app.queues.values() for queue in spec.physical.items()]
        limit = asyncio.Semaphore(ENSURING)

        async def ensure(name: str, ordered: bool) -> None:
            async with limit:
                try:
                    await self._ports.provider.queue.ensure(name, ordered=ordered)
                except (Unavailable, OutcomeUnknown) as exc:  # whoever uses it first creates it
                    self._ports.events.problem(f"queue {name} could not be created yet: {exc}")

        await asyncio.gather(*(ensure(name, ordered) for name, ordered in wanted))
