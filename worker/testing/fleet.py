"""A whole fleet in virtual time: the real runtime, many instances, seeded faults, invariants at every step.

    FleetSim(seed=7).run()

One seed is one run, always the same. A broken promise raises `SimulationFailed` with the seed and the timeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

from providers.interface import Expiry
from providers.memory import MemoryStore
from providers.memory.driver import CAPABILITIES
from providers.provider import Provider
from worker.app import App
from worker.core import bounds
from worker.core.timings import RHO, leader_timings, member_timings
from worker.testing.clock import EPOCH, stream
from worker.testing.handlers import Watcher
from worker.testing.invariants import Violation
from worker.testing.judge import Judge
from worker.testing.lane import Network
from worker.testing.loop import Stalled, VirtualLoop
from worker.testing.machine import LONGEST_PAUSE, Build, Life, Machine
from worker.testing.node import LocalClock, Node
from worker.testing.operator import Operator
from worker.testing.runtime import RealRuntime
from worker.testing.sample import QUEUE, TIMEOUT, sample_app
from worker.testing.schedule import Profile, Schedule, Sending, schedule
from worker.testing.steps import SteppedDriver
from worker.testing.timeline import Timeline
from worker.testing.trouble import Trouble

DRAIN_TIMEOUT = 60.0
"""Seconds that a drained instance may use to finish what runs."""

STORE_RATES = (1.0, 0.9, 1.03)
"""Of the clock of a store that keeps leases itself: a little fast is what the margin is for, slow only costs time."""

MESSAGES_LATE = 900.0
"""Seconds after the last fault within which every message must be settled: attempts, back-offs, stray receives."""


class SimulationFailed(AssertionError):
    """A promise was broken. The text has the seed, what happened, and the end of the timeline."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run came to."""

    seed: int
    expiry: Expiry
    seconds: float  # of true virtual time
    steps: int
    requests: int
    elections: int
    killed_by_dead_man: int
    crashes: int
    messages: int
    handled_again: int
    buried: int
    digest: str  # of the timeline


class FleetSim:
    """One simulated fleet. `run` returns a `Report`, or raises `SimulationFailed`.

    What is not given is drawn from the seed: `instances` (3 to 5), `lease` (3 or 15 s), `duration` of the faults (40
    leases, true seconds), and `events`, of a `profile` if one is given. `leases` are those of single machines, from
    the first one, where a setting is being changed; the promised bounds are those of `lease`, so let it be the
    longest. Every other seed has a store that keeps leases itself, unless `expiry` says who does. `echo` sees each
    line of the timeline.
    """

    def __init__(
        self,
        seed: int,
        *,
        instances: int | None = None,
        partitions: int = 6,
        lease: float | None = None,
        leases: Sequence[float] = (),
        duration: float | None = None,
        profile: Profile | None = None,
        events: Schedule | None = None,
        build: Build | None = None,
        expiry: Expiry | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        dice = stream(seed, "fleet")
        drawn_lease, drawn_instances = dice.choice((3.0, 15.0)), dice.randrange(3, 6)
        lease, instances = lease or drawn_lease, instances or drawn_instances
        self.seed = seed
        self.expiry = expiry or (Expiry.OBSERVER, Expiry.STORE)[seed % 2]
        self.duration = 40 * lease if duration is None else duration
        self.events = events or schedule(seed, instances, self.duration, lease, profile)
        self.leader = leader_timings(lease)
        self.member = member_timings(self.leader)
        self.partitions = partitions
        self.loop = VirtualLoop(self._step)
        self.timeline = Timeline(lambda: self.loop.true, echo)
        rate = stream(seed, "store").choice(STORE_RATES) if self.expiry is Expiry.STORE else 1.0
        self.store = MemoryStore(now=lambda: EPOCH + self.loop.true * rate, date=lambda: EPOCH + self.loop.true)
        driver = SteppedDriver(self.store, capabilities=replace(CAPABILITIES, expiry=self.expiry))
        self.network = Network(self.loop, driver, seed, self.events.weather, unit=self.leader.total)
        self.judge = Judge(self.store)
        self.judge.watch_store(self.network)
        self.build: Build = build or (lambda app, ports: RealRuntime(app, ports, drain_timeout=DRAIN_TIMEOUT))
        self.app: App = sample_app(
            partitions,
            stream(seed, "app"),
            self.judge.finished,
            self.judge.acts_as_leader,
            self.judge.growing.opened,
        )
        self.machines = [
            Machine(
                self,
                f"i-{number}",
                LocalClock(dice.uniform(10, 1e6), self.events.rates[number]),
                dice.choice((0.0, dice.uniform(-100, 100))),
                leader_timings(own),
            )
            for number, own in zip(range(instances), chain(leases, repeat(lease)), strict=False)
        ]
        self._operator = self._hire()
        self._trouble = Trouble(
            self.machines,
            self.network,
            self.timeline,
            self.events,
            self._leading,
            lambda order: self._start(self._operator.order(order)),
            self.judge.wipe_store,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._dice = dice

    def _hire(self) -> Operator:
        self.network.calm["operator"] = True
        provider = Provider(self.network.driver, total=60.0, lane=self.network.lane("operator"))
        tokens = stream(self.seed, "operator")
        return Operator(provider, lambda: EPOCH + self.loop.true, lambda: f"{tokens.getrandbits(64):016x}")

    # --- running ---

    def run(self) -> Report:
        """Run everything to its end."""
        try:
            self.loop.run_until_complete(self._script())
        except (Violation, Stalled, TimeoutError) as exc:
            raise SimulationFailed(
                f"seed {self.seed}: {exc}\n{self.timeline.tail()}\n"
                f"replay: python -m worker.testing.simulate --seed {self.seed} --expiry {self.expiry.value} --verbose"
            ) from exc
        finally:
            self.loop.close()
        ends = [str(entry.fields["why"]) for entry in self.timeline.entries if entry.event == "[end]"]
        return Report(
            seed=self.seed,
            expiry=self.expiry,
            seconds=self.loop.true,
            steps=self.loop.steps,
            requests=sum(self.network.fates.values()),
            elections=self.timeline.count("leader.elected"),
            killed_by_dead_man=sum(why.startswith("dead-man") for why in ends),
            crashes=sum(why.startswith("crash") for why in ends),
            messages=len(self.judge.messages.accepted),
            handled_again=self.judge.messages.again,
            buried=len(self.judge.messages.buried),
            digest=self.timeline.digest(),
        )

    async def _script(self) -> None:
        await self._operator.ensure(QUEUE, self.partitions)
        for machine in self.machines:
            self.loop.outside(self._dice.uniform(0, self.leader.lease), machine.boot)
        self._trouble.schedule()
        for sending in self.events.sendings:
            self.loop.outside(sending.at, self._start_sending, sending)
        await self._elapse(self.duration)
        self._trouble.end()
        await self._whole()
        await self._shut_down()

    async def _elapse(self, seconds: float) -> None:
        done: asyncio.Future[None] = self.loop.create_future()
        self.loop.outside(seconds, done.set_result, None)
        await done

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self.loop.create_task(work))

    def _start_sending(self, sending: Sending) -> None:
        self._start(self._send(sending))

    async def _send(self, sending: Sending) -> None:
        await self._operator.send(QUEUE, self.partitions, sending)
        self.judge.messages.accepted[sending.number] = self.loop.true

    async def _whole(self) -> None:
        """Wait until the fleet is whole again, within the bound that `worker bounds` prints."""
        begun = self.loop.true
        restart = LONGEST_PAUSE / (1 - RHO)
        limit = bounds.outage(self.leader, self.member).worst + restart + TIMEOUT + self.member.grace
        while (lacking := self.judge.lacking(self.machines, self.partitions)) is not None:
            if self.loop.true - begun > limit:
                raise Violation(f"not whole {limit:.0f} s after the last fault: {lacking}")
            for machine in self.machines:
                machine.boot()  # one that was told to stop just before
            await self._elapse(1.0)
        self.timeline.add("", "[the fleet is whole]", after=self.loop.true - begun)
        while lost := self.judge.open_messages():
            if self.loop.true - begun > MESSAGES_LATE:
                raise Violation(f"messages lost: {lost} neither handled nor dead letters")
            await self._elapse(1.0)
        self.timeline.add("", "[every message is settled]", after=self.loop.true - begun)
        self.judge.check_state(self.events.sendings)

    async def _shut_down(self) -> None:
        for machine in self.machines:
            machine.codes.clear()  # of lives that ended in the storm
            machine.term()
        begun = self.loop.true
        limit = bounds.drain(self.leader, self.member, DRAIN_TIMEOUT).worst + 1
        while any(machine.life is not None for machine in self.machines):
            if self.loop.true - begun > limit:
                raise Violation(f"not drained after {limit:.0f} s")
            await self._elapse(1.0)
        codes = {machine.name: machine.codes for machine in self.machines}
        if any(any(ended) for ended in codes.values()):
            raise Violation(f"a drain ended with an exit code other than 0: {codes}")

    def _step(self) -> None:
        self.judge.step(self.loop)

    def _leading(self) -> tuple[Machine, int] | None:
        acting = self.judge.one_leader.acting
        if acting is None:
            return None
        lives = ((machine, machine.life) for machine in self.machines)
        leading = (machine for machine, life in lives if life is not None and life.node.name == acting.who)
        return next(leading), acting.number

    # --- what the machines tell ---

    def watcher(self, node: Node) -> Watcher:
        return self.judge.watcher(node.name)

    def born(self, life: Life) -> None:
        self.judge.born(life)

    def died(self, life: Life, code: int | None) -> None:
        self.judge.died(life, code)

    def told(self, machine: Machine, fields: Mapping[str, Any]) -> None:
        self.judge.told(fields)
        rest = {name: value for name, value in fields.items() if name not in ("event", "session")}
        self.timeline.add(machine.name, str(fields["event"]), **rest)


__all__ = ["FleetSim", "Report", "SimulationFailed"]
