"""Does to machines, network and store what a schedule says, and undoes it when the time has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from worker.core.intents import Drain, Order, StepDown
from worker.testing.lane import Network, Outage, Trap
from worker.testing.machine import Machine
from worker.testing.schedule import Fault, Schedule
from worker.testing.timeline import Timeline
from worker.testing.weather import CLEAR, STORM

GLIMPSE = 0.05
"""True seconds for which a stuttering machine is awake between two stops."""


class Trouble:
    """The faults of one run.

    `leader` says who leads now, and in which term; `order` makes the operator give one; `wipe` empties the store.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        network: Network,
        timeline: Timeline,
        events: Schedule,
        leader: Callable[[], tuple[Machine, int] | None],
        order: Callable[[Order], None],
        wipe: Callable[[], None],
    ) -> None:
        self._machines, self._network, self._timeline, self._events = machines, network, timeline, events
        self._leader, self._order, self._wipe = leader, order, wipe
        self._loop = network.loop
        self._over = False

    def schedule(self) -> None:
        """Set every fault in motion, from now on."""
        self._network.local.update(zip((one.name for one in self._machines), self._events.local, strict=False))
        for fault in self._events.faults:
            self._loop.outside(fault.at, self._strike, fault)

    def end(self) -> None:
        """End every fault, for good; whoever is down comes back."""
        self._timeline.add("", "[all faults end]")
        self._over = True
        network = self._network
        network.weather, network.outage = CLEAR, None
        for records in (network.cut, network.local, network.traps):
            records.clear()
        for machine in self._machines:
            machine.resume()
            machine.boot()

    def _strike(self, fault: Fault) -> None:
        machine = self._machines[fault.target]
        leads = self._leader()
        if fault.leader and leads is not None:
            machine = leads[0]
        match fault.kind:
            case "crash":
                machine.crash()
            case "last words":
                spring = partial(machine.crash, "crash with a write under way")
                key = "plan" if fault.leader else "state/"
                self._network.traps[machine.name] = Trap("documents.replace", spring, fault.value, key)
            case "half a claim":
                spring = partial(machine.crash, "crash with a claim under way")
                self._network.traps[machine.name] = Trap("lease.claim", spring)
            case "stutter":
                self._network.traps[machine.name] = Trap("lease.renew", partial(self._stutter, machine, fault))
            case "pause":
                machine.pause()
                self._later(fault.seconds, machine.resume)
            case "cut":
                self._cut(machine, fault.seconds)
            case "step-down":
                if leads is not None:
                    self._say(None, "step-down", term=leads[1])
                    self._order(StepDown(leads[1]))
            case "storm":
                self._say(None, "storm", seconds=fault.seconds)
                self._network.weather = STORM
                self._later(fault.seconds, self._calm_down)
            case "rate":
                self._say(machine, "clock rate", rate=fault.value)
                machine.clock.set_rate(fault.value)
            case "wall":
                self._say(machine, "wall clock stepped", by=fault.value)
                machine.clock.jump_wall(fault.value)
            case "term":
                machine.term()
                self._later(fault.seconds, machine.boot)
            case "drain":
                self._drain(machine, fault.seconds)
            case "outage":
                self._say(None, "outage", seconds=fault.seconds)
                self._network.outage = Outage.SILENT if fault.value < 0.5 else Outage.REFUSING
                self._later(fault.seconds, self._store_answers)
            case "wipe":
                self._say(None, "all documents deleted")
                self._wipe()
            case _:
                raise ValueError(f"there is no fault {fault.kind!r}")

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Act, unless all faults have ended by then."""
        self._loop.outside(seconds, lambda: None if self._over else action())

    def _stutter(self, machine: Machine, fault: Fault) -> None:
        if self._over:
            return

        def wake() -> None:
            machine.resume()
            self._cut(machine, fault.seconds)
            self._later(GLIMPSE, machine.pause)
            self._later(fault.seconds, machine.resume)

        machine.pause()
        self._later(fault.value, wake)

    def _cut(self, machine: Machine, seconds: float) -> None:
        def reconnect() -> None:
            if self._network.cut.pop(machine.name, None):
                self._say(machine, "connected again")

        self._say(machine, "cut off", seconds=seconds)
        self._network.cut[machine.name] = True
        self._later(seconds, reconnect)

    def _drain(self, machine: Machine, seconds: float) -> None:
        session = machine.life.runtime.session if machine.life is not None else None
        if session is not None:
            self._say(machine, "drain", session=session)
            self._order(Drain(session.partition("~")[2], machine.name))
            self._later(seconds, machine.boot)

    def _calm_down(self) -> None:
        self._network.weather = self._events.weather

    def _store_answers(self) -> None:
        if self._network.outage is not None:
            self._say(None, "store answers again")
            self._network.outage = None

    def _say(self, machine: Machine | None, what: str, **fields: Any) -> None:
        self._timeline.add(machine.name if machine else "", f"[{what}]", **fields)
