"""What the runtime needs from outside, in one value: a simulation passes other ones."""

from __future__ import annotations

from dataclasses import dataclass

from providers.provider import Provider
from worker.clock import Clock
from worker.core.timings import Timings
from worker.deadman import DeadMan
from worker.handlers import Handlers
from worker.telemetry import Events


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything between the runtime and the world, and the timings it lives by."""

    fleet: str
    instance: str
    provider: Provider
    clock: Clock
    deadman: DeadMan
    handlers: Handlers
    events: Events
    leader: Timings
    member: Timings
    idle_poll: float = 1.0  # longest pause, in seconds, between two looks at an empty queue
