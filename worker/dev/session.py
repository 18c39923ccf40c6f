"""One run of `worker dev`: starts a fleet, shows it or prints its events, does what is asked, and judges it."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import click

from providers.connect import connect
from providers.interface import ProviderError
from worker.admin.control import Orders, operator
from worker.admin.watcher import Watcher
from worker.clock import SystemClock
from worker.core.bounds import bounds
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, NoProcess
from worker.dev.history import check, gaps
from worker.dev.keys import Command, Keys, keyboard
from worker.dev.look import Look
from worker.dev.spans import spans
from worker.dev.summary import gap_table, message_table, table
from worker.dev.view import QUIET, Scene, draw
from worker.errors import Exit, WorkerError
from worker.loader import load_app
from worker.settings import Settings

TICK = 0.1
"""Seconds between two drawings, or two batches of lines."""

RATE_OVER = 2.0
"""Seconds over which message rates are taken."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks for. Times in seconds."""

    count: int
    live: bool  # a view on a terminal; else lines of JSON
    quiet: bool = False
    ends_after: float | None = None
    until_idle: bool = False
    kill_leader_every: float | None = None
    seed: int = 0


class Session:
    """Runs once. Everything but the fleet's readers is on one loop."""

    def __init__(self, settings: Settings, wishes: Wishes) -> None:
        app, store = load_app(settings.app), settings.need_store()
        level = "debug" if settings.log_level == "debug" else "info"  # events are what all this is made of
        self._settings, self._wishes, self._clock = settings, wishes, SystemClock()
        self._fleet = LocalFleet(store, count=wishes.count, app=settings.app, env={"WORKER_LOG_LEVEL": level})
        self._provider = connect(store, total=settings.leader.total, options=settings.store_options)
        self._look = Look(Watcher(self._provider, self._clock), self._clock, settings, app)
        found = bounds(settings.leader, settings.member, drain_timeout=settings.drain_seconds)
        self._promises = {bound.name: bound for bound in found}
        self._keys, self._note, self._stop = Keys(), "", asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._printed = self._noticed = 0
        self._recent: deque[Event] = deque(maxlen=50)
        self._changes_of_leader: list[Event] = []
        self._samples: deque[tuple[float, dict[str, int]]] = deque()
        self._began = self._clock.now()

    async def run(self) -> int:
        """Run until told to end, and return the exit code: 0 when the history broke no rule."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        await self._check()
        self._fleet.start()
        for duty in (self._look.keep_fresh(), self._until_due(), self._kill_leaders()):
            self._spawn(duty)
        try:
            if self._wishes.live:
                await self._show_live(loop)
            else:
                await self._print_until(self._stop.is_set)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            failed = self._failed()
            await self._end()
        return self._judge(failed)

    async def _check(self) -> None:
        """Refuse a store that no instance could use: once, and not in every instance's words. Raises ProviderError."""
        try:
            await self._provider.prepare()
            await self._provider.lease("leader").observe()
        except ProviderError:
            await self._provider.close()
            raise

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

    async def _end(self) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self._fleet.close))
        if self._wishes.live:
            click.echo("the fleet is told to stop (SIGTERM), and drains", err=True)
            await closing
        else:
            await self._print_until(closing.done)
            await closing
        await self._provider.close()

    def _failed(self) -> int | None:
        """Return the exit code of an instance that ended by itself, unless others still run."""
        if self._stop.is_set() and any(it.launcher is not None for it in self._fleet.instances.values()):
            return None
        codes = [int(event.get("exit_code", 0)) for event in self._fleet.events("process.ended")]
        return next((code for code in codes if code), None)

    def _judge(self, failed: int | None) -> int:
        report = check(self._fleet.history)
        if report.events["instance.started"] and (not self._wishes.quiet or report.problems):
            lines = [*table(*gap_table(report, self._promises)), ""] if report.gaps else []
            for line in [*lines, *table(*message_table(report))]:
                click.echo(line, err=True)
        for problem in report.problems:
            click.echo(f"error: {problem}", err=True)
        if failed is not None:
            for it in self._fleet.instances.values():
                for line in it.raw:
                    click.echo(f"{it.name}: {line}", err=True)
            return failed
        return int(Exit.OK if report.ok else Exit.FAILED)

    # --- when it ends, and what happens until then ---

    async def _until_due(self) -> None:
        due = None if self._wishes.ends_after is None else self._began + self._wishes.ends_after
        while not self._stop.is_set():
            everybody = self._fleet.instances.values()
            over = due is not None and self._clock.now() >= due
            idle = self._wishes.until_idle and self._look.idle and all(it.worker for it in everybody)
            if over or idle or all(it.launcher is None for it in everybody):
                self._stop.set()
            await self._clock.sleep(TICK)

    async def _kill_leaders(self) -> None:
        every, dice = self._wishes.kill_leader_every, random.Random(self._wishes.seed)
        while every is not None:
            await self._clock.sleep(every * dice.uniform(0.75, 1.25))
            while (leader := self._fleet.leader) is None or leader.worker is None:
                await self._clock.sleep(TICK)
            self._do(Command("kill", list(self._fleet.instances).index(leader.name) + 1))

    def _press(self, key: str) -> None:
        command = self._keys.press(key)
        if command is not None:
            self._do(command)

    def _do(self, command: Command) -> None:
        names = list(self._fleet.instances)
        if command.verb == "quit":
            self._stop.set()
        elif command.verb == "step down":
            self._spawn(self._step_down())
        elif command.number is None or command.number > len(names):
            self._note = f"there is no instance {command.number}"
        else:
            name = names[command.number - 1]
            try:
                self._note = self._act(command, name)
            except NoProcess as exc:
                self._note = str(exc)

    def _act(self, command: Command, name: str) -> str:
        if command.verb == "kill":
            self._fleet.kill_worker(name)
            return f"{name}'s worker was killed; its launcher starts another one"
        if command.verb == "stop":
            self._fleet.stop(name, machine=True)
            return f"{name} is stopped; when its trust has run out, the kernel ends it"
        if self._fleet.instances[name].launcher is None:
            self._fleet.start(name)
            return f"{name} is started again"
        alive = self._fleet.resume(name).get("alive")
        return f"{name} is woken" if alive else f"{name} is woken, and its worker is dead: trust had run out"

    async def _step_down(self) -> None:
        try:
            by = f"{operator()} in worker dev"
            term = await Orders(self._provider, self._clock, by).step_down()
            self._note = f"the leader of term {term} was told to step down"
        except (WorkerError, ProviderError) as exc:
            self._note = str(exc)

    # --- showing ---

    async def _print_until(self, over: Callable[[], bool]) -> None:
        """Print every event as a line of JSON, until it is over and all that came until then is printed."""
        while True:
            last = over()
            news = self._fleet.history[self._printed :]
            self._printed += len(news)
            try:
                sys.stdout.write("".join(event.to_line() + "\n" for event in news))
                sys.stdout.flush()
            except BrokenPipeError:  # nobody reads any more
                self._stop.set()
            if last:
                return
            await self._clock.sleep(TICK)

    async def _show_live(self, loop: asyncio.AbstractEventLoop) -> None:
        from rich.live import Live

        with keyboard(loop, self._press), Live(screen=True, auto_refresh=False) as live:
            while not self._stop.is_set():
                live.update(draw(self._scene()), refresh=True)
                await self._clock.sleep(TICK)

    def _scene(self) -> Scene:
        now, fleet = self._clock.now(), self._fleet
        news = fleet.history[self._noticed :]
        self._noticed += len(news)
        self._recent.extend(event for event in news if event.name not in QUIET)
        self._changes_of_leader += [
            e for e in news if e.name.startswith(("leader.", "instance.", "fault.", "process."))
        ]
        terms = [s for s in spans(sorted(self._changes_of_leader, key=lambda e: e.at)) if s.what == "leader"]
        last, changes = (terms[-1] if terms else None), gaps(terms)
        return Scene(
            title=f"fleet {self._settings.fleet}: {self._settings.app} on {fleet.store}, {now - self._began:.0f} s",
            hint=f"from another terminal: worker --store {fleet.store} send QUEUE …",
            instances=list(fleet.instances.values()),
            trust={it.name: self._trust(it.name) for it in fleet.instances.values()},
            rates=self._rates(now),
            status=self._look.status,
            leaderless=now - last.end if last is not None and last.end is not None else None,
            led=bool(terms),
            last_gap=changes[-1].seconds if changes else None,
            promise=self._promises["failover"].worst,
            recent=list(self._recent),
            now=now,
            prompt=self._keys.prompt,
            note=self._look.problem or self._note,
        )

    def _trust(self, name: str) -> float | None:
        it = self._fleet.instances[name]
        return self._look.leader_trust() if it.term is not None else self._look.member_trust(it.member)

    def _rates(self, now: float) -> dict[str, float]:
        counts = {it.name: it.handled for it in self._fleet.instances.values()}
        self._samples.append((now, counts))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_OVER:
            self._samples.popleft()
        began, before = self._samples[0]
        return {name: (count - before[name]) / max(now - began, TICK) for name, count in counts.items()}
