"""One simulated machine: its clock, and one life of the worker after the other, as the launcher would start them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from providers.interface import ProviderError
from providers.provider import Provider
from worker.app import App
from worker.core.backoff import delay
from worker.core.timings import Timings, member_timings
from worker.errors import Exit
from worker.ports import Ports
from worker.telemetry import silent
from worker.testing.clock import SimClock, stream
from worker.testing.deadman import SimDeadMan
from worker.testing.handlers import SimHandlers, Watcher
from worker.testing.lane import Network
from worker.testing.loop import VirtualLoop
from worker.testing.node import Condition, LocalClock, Node
from worker.testing.timeline import Timeline

FIRST_PAUSE, LONGEST_PAUSE, STEADY = 0.5, 30.0, 60.0
"""Seconds before a dead worker is started again, at first and at most, and after how long a life it counts afresh."""


class Runtime(Protocol):
    """The runtime under test, and what the invariants look at."""

    async def run(self) -> int:
        """Run until stopped; return the exit code."""

    def stop(self) -> None:
        """What TERM does."""

    @property
    def leading(self) -> int | None:
        """The term in which work may be running here now, or None."""

    @property
    def active(self) -> Mapping[str, int]:
        """The partitions in which work may be running here now, with their fences."""

    @property
    def session(self) -> str | None:
        """The present session, once there is one."""


Build = Callable[[App, Ports], Runtime]


@dataclass(slots=True)
class Life:
    """One worker process on one machine."""

    node: Node
    runtime: Runtime
    deadman: SimDeadMan
    provider: Provider
    task: asyncio.Task[int]
    started: float


class World(Protocol):
    """What a machine needs of the simulation it is in."""

    loop: VirtualLoop
    network: Network
    timeline: Timeline
    app: App
    build: Build
    seed: int

    def watcher(self, node: Node) -> Watcher:
        """Return what sees the calls of user code in this life."""

    def born(self, life: Life) -> None:
        """Take note of a new life, which has not run yet."""

    def died(self, life: Life, code: int | None) -> None:
        """Take note that nothing of this life acts any more; with an exit code it has ended by itself."""

    def told(self, machine: Machine, fields: Mapping[str, Any]) -> None:
        """Take note of an event of the runtime."""


class Machine:
    """One instance. `boot` starts the launcher, which starts the worker again whenever it has died."""

    def __init__(self, world: World, name: str, clock: LocalClock, wall_error: float, leader: Timings) -> None:
        self.name = name
        self.leader, self.member = leader, member_timings(leader)
        self.clock = SimClock(world.loop, clock, world.seed, name, wall_error=wall_error)
        self.life: Life | None = None
        self.wanted = False  # the launcher runs, and has not been told to stop
        self.deaths = 0  # in a row, without a steady life between
        self.codes: list[int] = []
        self._world = world
        self._lives = 0
        self._dice = stream(world.seed, name, "machine")

    def boot(self) -> None:
        """Start the launcher, unless it runs."""
        if not self.wanted:
            self.wanted = True
            self._start()

    def _start(self) -> None:
        world = self._world
        if not self.wanted or self.life is not None:
            return
        self._lives += 1
        node = Node(f"{self.name}#{self._lives}", self.clock.local)
        deadman = SimDeadMan(world.loop, self.clock, self._dead_man, stream(world.seed, node.name, "dead-man"))
        provider = Provider(world.network.driver, total=self.leader.total, lane=world.network.lane(self.name))
        ports = Ports(
            fleet="simulated",
            instance=self.name,
            provider=provider,
            clock=self.clock,
            deadman=deadman,
            handlers=SimHandlers(world.watcher(node), stream(world.seed, node.name, "handlers")),
            events=silent(lambda fields: world.told(self, fields)),
            leader=self.leader,
            member=self.member,
        )
        world.timeline.add(self.name, "[start]", life=self._lives)
        runtime = world.build(world.app, ports)
        task = world.loop.spawn(node, runtime.run, name=f"{node.name} run")
        self.life = Life(node, runtime, deadman, provider, task, world.loop.true)
        world.born(self.life)
        task.add_done_callback(self._ended)

    # --- what happens to it ---

    def crash(self, why: str = "crash") -> None:
        """SIGKILL, also of a paused process; the launcher starts another one."""
        life = self.life
        if life is None:
            return
        self._world.loop.kill(life.node)
        self._gone(life, why)
        self._again(life)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.life is not None and self.life.node.condition is Condition.RUNNING:
            self._world.timeline.add(self.name, "[pause]")
            self._world.loop.pause(self.life.node)

    def resume(self) -> None:
        """SIGCONT; nothing when it has died meanwhile."""
        if self.life is not None and self.life.node.condition is Condition.PAUSED:
            self._world.timeline.add(self.name, "[resume]")
            self._world.loop.resume(self.life.node)

    def term(self) -> None:
        """SIGTERM to the launcher: the worker drains and ends, and is not started again."""
        self.wanted = False
        if self.life is not None:
            self._world.timeline.add(self.name, "[TERM]")
            self._world.loop.call_in(self.life.node, self.life.runtime.stop)

    def _dead_man(self, entry: str) -> None:
        self.crash(f"dead-man: {entry}")

    def _ended(self, task: asyncio.Task[int]) -> None:
        life = self.life
        if life is None or life.task is not task:
            return
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ProviderError):
            code = int(Exit.STORE)  # as the command line answers it
        else:
            code = int(Exit.FAILED) if task.cancelled() or error is not None else task.result()
        self.codes.append(code)
        self._world.loop.kill(life.node)  # the process has ended: whatever it left behind ends with it
        self._gone(life, f"exit {code}" if error is None else f"failed: {error!r}", code)
        if error is not None and not isinstance(error, ProviderError):
            raise error
        if code != 0:
            self._again(life)
        else:
            self.wanted = False

    def _gone(self, life: Life, why: str, code: int | None = None) -> None:
        life.deadman.stop()
        self.life = None
        self._world.timeline.add(self.name, "[end]", why=why)
        self._world.died(life, code)

    def _again(self, life: Life) -> None:
        if self.wanted:
            loop = self._world.loop
            self.deaths = 0 if loop.true - life.started > STEADY else self.deaths + 1
            pause = delay(self.deaths, FIRST_PAUSE, LONGEST_PAUSE, self._dice.random())
            loop.outside(pause, self._start)
