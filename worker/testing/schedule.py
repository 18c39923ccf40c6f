"""Which faults a seed brings, and when: drawn ahead, so that a run's faults can be listed and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.testing.clock import Stream, stream
from worker.testing.weather import CLEAR, ROUGH, STORM, Weather, draw

WEIGHTS = {
    "crash": 4,  # SIGKILL; the launcher starts it again
    "pause": 4,  # SIGSTOP, then SIGCONT
    "cut": 3,  # one instance cannot reach the store
    "step-down": 3,  # the operator asks the present leader
    "storm": 2,  # a third of all requests meet trouble
    "rate": 2,  # one clock goes at another rate from now on
    "wall": 1,  # one wall clock is stepped
    "term": 2,  # SIGTERM, and a new boot later
    "drain": 1,  # the operator drains a session; a new boot later
    "outage": 1,  # the store answers nobody
}
"""How often each kind of fault is drawn, relative to the others."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `target` counts machines; `leader` means whoever leads then, if anybody does."""

    at: float
    kind: str
    target: int = 0
    leader: bool = False
    seconds: float = 0.0  # how long it lasts, where it does
    value: float = 0.0  # a rate, a step of the wall clock, a choice


@dataclass(frozen=True, slots=True)
class Sending:
    """One message that somebody sends."""

    at: float
    number: int
    key: str
    kind: str  # what its handler does with it
    intake: bool  # sent to the intake, for the leader to route; otherwise straight to its partition


@dataclass(frozen=True, slots=True)
class Schedule:
    """All that happens to a fleet from outside."""

    weather: Weather
    faults: Sequence[Fault]
    sendings: Sequence[Sending]


def faults(seed: int, machines: int, duration: float, lease: float) -> list[Fault]:
    """Draw the faults of a run; pauses, cuts and outages last from a moment to several leases."""
    dice = stream(seed, "faults")
    gap = lease * dice.choice((1, 2, 4))  # of this run, on average
    found: list[Fault] = []
    at = lease * dice.uniform(0.5, 3)
    while at < duration:
        kind = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        found.append(
            Fault(
                at=at,
                kind=kind,
                target=dice.randrange(machines),
                leader=dice.random() < 0.5,
                seconds=draw(dice, (lease / 30, lease * 5)),
                value=_value(kind, dice, lease),
            )
        )
        at += dice.expovariate(1 / gap)
    return found


def _value(kind: str, dice: Stream, lease: float) -> float:
    if kind == "rate":
        return dice.uniform(0.9, 1.1)
    if kind == "wall":
        return dice.choice((-1, 1)) * draw(dice, (0.05, 10 * lease))
    return dice.random()


def sendings(seed: int, duration: float) -> list[Sending]:
    """Draw the messages of a run."""
    dice = stream(seed, "messages")
    kinds = ("fine", "slow", "stubborn", "flaky", "poison", "plain")
    return [
        Sending(
            at=dice.uniform(0, duration),
            number=number,
            key=f"k{dice.randrange(20)}",
            kind=dice.choices(kinds, (70, 8, 5, 10, 3, 4))[0],
            intake=dice.random() < 0.3,
        )
        for number in range(dice.randrange(40, 160))
    ]


def schedule(seed: int, machines: int, duration: float, lease: float) -> Schedule:
    """Draw everything that happens to the fleet of a seed."""
    weather = stream(seed, "weather").choice((CLEAR, ROUGH, ROUGH))
    return Schedule(weather, faults(seed, machines, duration, lease), sendings(seed, duration))


__all__ = ["STORM", "WEIGHTS", "Fault", "Schedule", "Sending", "faults", "schedule", "sendings"]
