"""A whole fleet in virtual time: the real runtime, many instances, seeded faults, invariants at every step.

    FleetSim(seed=7).run()

One seed is one run, always the same. A broken promise raises `SimulationFailed` with the seed and the timeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, NotFound
from providers.memory import MemoryDriver, MemoryStore
from providers.provider import Provider
from worker.app import App
from worker.context import Message
from worker.core import bounds
from worker.core.envelope import BadMessage, unwrap
from worker.core.intents import Drain, StepDown
from worker.core.names import dead_letter_queue
from worker.core.plan import Plan, plan_from_fields
from worker.core.timings import RHO, leader_timings, member_timings
from worker.testing.clock import EPOCH, stream
from worker.testing.handlers import Watcher
from worker.testing.invariants import (
    GrowingStore,
    Holder,
    NoMessageLost,
    OneLeader,
    OneOwner,
    Violation,
    WatchedDocuments,
)
from worker.testing.lane import Network, Outage, Trap
from worker.testing.loop import NODE, LocalClock, Node, Stalled, VirtualLoop
from worker.testing.machine import LONGEST_PAUSE, Build, Life, Machine, Runtime
from worker.testing.operator import Operator
from worker.testing.runtime import RealRuntime
from worker.testing.sample import QUEUE, TIMEOUT, sample_app
from worker.testing.schedule import STORM, Fault, Profile, Sending, schedule
from worker.testing.timeline import Timeline
from worker.testing.weather import CLEAR

DRAIN_TIMEOUT = 60.0
"""Seconds that a drained instance may use to finish what runs."""

MESSAGES_LATE = 900.0
"""Seconds after the last fault within which every message must be settled: attempts, back-offs, stray receives."""


class SimulationFailed(AssertionError):
    """A promise was broken. The text has the seed, what happened, and the end of the timeline."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one run came to."""

    seed: int
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
    """One simulated fleet. `run` returns a `Report`, or raises `SimulationFailed`."""

    def __init__(
        self,
        seed: int,
        *,
        instances: int | None = None,
        partitions: int = 6,
        lease: float | None = None,
        duration: float | None = None,
        profile: Profile | None = None,
        build: Build | None = None,
        echo: Callable[[str], None] | None = None,
    ) -> None:
        dice = stream(seed, "fleet")
        self.seed = seed
        lease = dice.choice((3.0, 15.0)) if lease is None else lease
        instances = dice.randrange(3, 6) if instances is None else instances
        self.duration = 40 * lease if duration is None else duration
        self.leader = leader_timings(lease)
        self.member = member_timings(self.leader)
        self.partitions = partitions
        self.loop = VirtualLoop(self._step)
        self.timeline = Timeline(lambda: self.loop.true, echo)
        self.store = MemoryStore(now=lambda: EPOCH + self.loop.true)
        self.events = schedule(seed, instances, self.duration, lease, profile)
        self.network = Network(self.loop, MemoryDriver(self.store), seed, self.events.weather, unit=self.leader.total)
        self.build: Build = build or (lambda app, ports: RealRuntime(app, ports, drain_timeout=DRAIN_TIMEOUT))
        self.one_leader, self.one_owner, self.growing = OneLeader(), OneOwner(), GrowingStore()
        self.messages = NoMessageLost()
        self.app: App = sample_app(
            partitions, stream(seed, "app"), self._finished, self._acts_as_leader, self.growing.opened
        )
        self.store.documents = WatchedDocuments(self.store.documents, self._wrote)  # type: ignore[assignment] # same protocol
        self.machines = [
            Machine(
                self,
                f"i-{number}",
                LocalClock(dice.uniform(10, 1e6), self.events.rates[number]),
                dice.choice((0.0, dice.uniform(-100, 100))),
            )
            for number in range(instances)
        ]
        self.network.local.update(zip((machine.name for machine in self.machines), self.events.local, strict=False))
        self._healed = False
        self._runtimes: dict[str, Runtime] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._dice = dice

    # --- running ---

    def run(self) -> Report:
        """Run everything to its end."""
        try:
            self.loop.run_until_complete(self._script())
        except (Violation, Stalled, TimeoutError) as exc:
            raise SimulationFailed(
                f"seed {self.seed}: {exc}\n{self.timeline.tail()}\n"
                f"replay: python -m worker.testing.simulate --seed {self.seed} --verbose"
            ) from exc
        finally:
            self.loop.close()
        return Report(
            seed=self.seed,
            seconds=self.loop.true,
            steps=self.loop.steps,
            requests=sum(self.network.fates.values()),
            elections=self.timeline.count("leader.elected"),
            killed_by_dead_man=sum("dead-man" in str(entry.fields.get("why")) for entry in self.timeline.entries),
            crashes=sum(str(entry.fields.get("why")).startswith("crash") for entry in self.timeline.entries),
            messages=len(self.messages.accepted),
            handled_again=self.messages.again,
            buried=len(self.messages.buried),
            digest=self.timeline.digest(),
        )

    async def _script(self) -> None:
        provider = Provider(self.network.driver, total=60.0, lane=self.network.lane("operator"))
        self.network.calm["operator"] = True
        tokens = stream(self.seed, "operator")
        self.operator = Operator(provider, lambda: EPOCH + self.loop.true, lambda: f"{tokens.getrandbits(64):016x}")
        await self.operator.ensure(QUEUE, self.partitions)
        for machine in self.machines:
            self.loop.outside(self._dice.uniform(0, self.leader.lease), machine.boot)
        for fault in self.events.faults:
            self.loop.outside(fault.at, self._strike, fault)
        for sending in self.events.sendings:
            self.loop.outside(sending.at, self._start, self._send, sending)
        await self._elapse(self.duration)
        self._heal()
        await self._whole()
        await self._shut_down()

    async def _elapse(self, seconds: float) -> None:
        done: asyncio.Future[None] = self.loop.create_future()
        self.loop.outside(seconds, done.set_result, None)
        await done

    def _start(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._tasks.append(self.loop.create_task(function(*args)))

    def _heal(self) -> None:
        """End every fault; whoever is down comes back."""
        self.timeline.add("", "[all faults end]")
        self._healed = True
        self.network.weather, self.network.outage = CLEAR, None
        self.network.cut.clear()
        self.network.local.clear()
        self.network.traps.clear()
        for machine in self.machines:
            machine.resume()
            machine.boot()

    async def _whole(self) -> None:
        """Wait until the fleet is whole again, within the bound that `worker bounds` prints."""
        begun = self.loop.true
        restart = LONGEST_PAUSE / (1 - RHO)
        limit = bounds.outage(self.leader, self.member).worst + restart + TIMEOUT + self.member.grace
        while (lacking := self._lacking()) is not None:
            if self.loop.true - begun > limit:
                raise Violation(f"not whole {limit:.0f} s after the last fault: {lacking}")
            await self._elapse(1.0)
        self.timeline.add("", "[the fleet is whole]", after=self.loop.true - begun)
        while self._open_messages():
            if self.loop.true - begun > MESSAGES_LATE:
                raise Violation(f"messages lost: {self.messages.open} neither handled nor dead letters")
            await self._elapse(1.0)
        self.timeline.add("", "[every message is settled]", after=self.loop.true - begun)
        self._check_state()

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

    # --- faults ---

    def _strike(self, fault: Fault) -> None:
        machine = self.machines[fault.target]
        if fault.leader:
            machine = next((one for one in self.machines if self._leads(one)), machine)
        match fault.kind:
            case "crash":
                machine.crash()
            case "last words":
                spring = partial(machine.crash, "crash with a write under way")
                self.network.traps[machine.name] = Trap("documents.replace", spring, fault.value)
            case "stutter":
                self.network.traps[machine.name] = Trap("lease.renew", partial(self._stutter, machine, fault))
            case "pause":
                machine.pause()
                self.loop.outside(fault.seconds, machine.resume)
            case "cut":
                self._say(machine, "cut off", seconds=fault.seconds)
                self.network.cut[machine.name] = True
                self.loop.outside(fault.seconds, self._reconnect, machine)
            case "step-down":
                if self.one_leader.acting is not None:
                    self._say(None, "step-down", term=self.one_leader.acting.number)
                    self._start(self.operator.order, StepDown(self.one_leader.acting.number))
            case "storm":
                self._say(None, "storm", seconds=fault.seconds)
                self.network.weather = STORM
                self.loop.outside(fault.seconds, self._calm_down)
            case "rate":
                self._say(machine, "clock rate", rate=fault.value)
                machine.clock.set_rate(fault.value)
            case "wall":
                self._say(machine, "wall clock stepped", by=fault.value)
                machine.clock.jump_wall(fault.value)
            case "term":
                machine.term()
                self.loop.outside(fault.seconds, self._boot, machine)
            case "drain":
                life = machine.life
                session = life.runtime.session if life is not None else None
                if session is not None:
                    self._say(machine, "drain", session=session)
                    self._start(self.operator.order, Drain(session.partition("~")[2], machine.name))
                    self.loop.outside(fault.seconds + self.leader.lease, self._boot, machine)
            case "outage":
                self._say(None, "outage", seconds=fault.seconds)
                self.network.outage = Outage.SILENT if fault.value < 0.5 else Outage.REFUSING
                self.loop.outside(fault.seconds, self._outage_over)
            case _:
                raise ValueError(f"there is no fault {fault.kind!r}")

    def _stutter(self, machine: Machine, fault: Fault) -> None:
        def wake() -> None:
            self.network.cut[machine.name] = True
            machine.resume()
            self.loop.outside(0.05, machine.pause)
            self.loop.outside(fault.seconds, self._reconnect, machine)
            self.loop.outside(fault.seconds, machine.resume)

        machine.pause()
        self.loop.outside(fault.value, wake)

    def _say(self, machine: Machine | None, what: str, **fields: Any) -> None:
        self.timeline.add(machine.name if machine else "", f"[{what}]", **fields)

    def _boot(self, machine: Machine) -> None:
        if not self._healed:  # which has booted everybody
            machine.boot()

    def _reconnect(self, machine: Machine) -> None:
        if self.network.cut.pop(machine.name, None):
            self._say(machine, "connected again")

    def _calm_down(self) -> None:
        if self.network.weather is STORM:
            self.network.weather = self.events.weather

    def _outage_over(self) -> None:
        if self.network.outage is not None:
            self._say(None, "store answers again")
            self.network.outage = None

    async def _send(self, sending: Sending) -> None:
        await self.operator.send(QUEUE, self.partitions, sending)
        self.messages.accepted[sending.number] = self.loop.true

    # --- what the machines tell ---

    def watcher(self, node: Node) -> Watcher:
        return _HandlerWatch(self, node.name)

    def born(self, machine: Machine, life: Life) -> None:
        self._runtimes[life.node.name] = life.runtime

    def died(self, machine: Machine, life: Life) -> None:
        who = life.node.name
        self.one_leader.saw(who, None)
        self.one_owner.died(who)
        del self._runtimes[who]

    def told(self, machine: Machine, fields: Mapping[str, Any]) -> None:
        if fields["event"] == "leader.elected":
            self.growing.opened("plan", fields["term"])
        rest = {name: value for name, value in fields.items() if name not in ("event", "session")}
        self.timeline.add(machine.name, str(fields["event"]), **rest)

    def _finished(self, number: int) -> None:
        self.messages.handled[number] = self.messages.handled.get(number, 0) + 1

    def _acts_as_leader(self, term: int) -> None:
        node = NODE.get()
        if node is None or self.one_leader.acting != Holder(node.name, term):
            raise _broken(self, f"{node} acts as leader of term {term}, and the leader is {self.one_leader.acting}")

    # --- checking ---

    def _step(self) -> None:
        node = self.loop.running
        if self.loop.errors:
            raise Violation(f"an exception that nobody caught: {self.loop.errors[0]}")
        if self.broken is not None:
            raise self.broken
        if node is not None and node.alive:
            runtime = self._runtimes[node.name]
            self.one_leader.saw(node.name, runtime.leading)
            self.one_owner.saw(node.name, runtime.active)

    broken: Violation | None = None  # found inside of user code, where raising it would only fail the handler

    def _wrote(self, key: str, body: bytes | None) -> None:
        request = self.network.applying
        who = request.node.name if request is not None and request.node is not None else "somebody"
        try:
            self.growing.wrote(key, body, who)
        except Violation as exc:
            self.broken = self.broken or exc

    def _leads(self, machine: Machine) -> bool:
        acting = self.one_leader.acting
        return acting is not None and machine.life is not None and machine.life.node.name == acting.who

    def _plan(self) -> Plan | None:
        try:
            document = self.store.documents.read("plan")
            plan, _ = plan_from_fields(decode(document.body if document else b"", "plan"))
        except (NotFound, BadDocument):
            return None
        return plan

    def _lacking(self) -> str | None:
        """Say what the fleet lacks to be whole; None when nothing."""
        if self.one_leader.acting is None:
            return "nobody leads"
        plan = self._plan()
        if plan is None or len(plan.partitions) != self.partitions:
            return "the plan does not have every partition"
        for machine in self.machines:
            if machine.life is None or machine.life.runtime.session is None:
                return f"{machine.name} is not back"
        sessions = {life.runtime.session: life for machine in self.machines if (life := machine.life) is not None}
        for name, item in plan.partitions.items():
            life = sessions.get(item.owner)
            if item.next is not None or life is None:
                return f"{name} belongs to {item.owner} and goes to {item.next}"
            if life.runtime.active.get(name) != item.fence:
                return f"{item.owner} does not act in {name} yet"
        return None

    def _open_messages(self) -> list[Any]:
        for letter in self.store.queue.peek(dead_letter_queue(QUEUE), 100_000):
            try:
                self.messages.buried[unwrap(letter.body).body["number"]] = 1
            except BadMessage:
                continue
        return self.messages.open

    def _check_state(self) -> None:
        """A fenced document has one writer at a time: what a successful handler has saved is never lost."""
        kinds: Mapping[int, Sending] = {sending.number: sending for sending in self.events.sendings}
        for number in self.messages.handled:
            sending = kinds[number]
            if sending.kind == "plain":
                continue
            document = self.store.documents.read(f"state/{QUEUE}/{sending.key}")
            content = decode(document.body if document else b"", "state")["content"]
            if str(number) not in content:
                raise Violation(f"message {number} was handled, and what it saved in {sending.key} is lost")


class _HandlerWatch:
    def __init__(self, sim: FleetSim, who: str) -> None:
        self._sim, self._who = sim, who

    def started(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        for message in args:
            if isinstance(message, Message) and message.fence is not None:
                try:
                    self._sim.one_owner.handler_started(self._who, message.partition, message.fence)
                except Violation as exc:
                    self._sim.broken = self._sim.broken or exc

    def ended(self, function: Callable[..., Any], args: Sequence[Any], error: BaseException | None) -> None:
        for message in args:
            if isinstance(message, Message):
                self._sim.one_owner.handler_ended(self._who, message.partition)


def _broken(sim: FleetSim, text: str) -> Violation:
    sim.broken = sim.broken or Violation(text)
    return sim.broken


__all__ = ["FleetSim", "Report", "SimulationFailed"]
