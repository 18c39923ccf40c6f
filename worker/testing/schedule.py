"""Which faults a seed brings, and when: drawn ahead, so that a run's faults can be listed and replayed."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from worker.testing.clock import Stream, stream
from worker.testing.weather import CLEAR, LAGGING, QUICK, ROUGH, Weather, draw

WEIGHTS = {
    "crash": 4,  # SIGKILL; the launcher starts it again
    "last words": 2,  # it dies just after it has sent a write, which lands much later
    "half a claim": 2,  # it dies just after it has begun to claim the lease
    "stutter": 1,  # stopped while a renewal is under way, awake for a moment without a network, stopped again
    "pause": 4,  # SIGSTOP, then SIGCONT
    "cut": 3,  # one instance cannot reach the store
    "step-down": 3,  # the operator asks the present leader
    "storm": 2,  # a third of all requests meet trouble
    "rate": 2,  # one clock goes at another rate from now on
    "wall": 1,  # one wall clock is stepped
    "term": 2,  # SIGTERM, and a new boot later
    "drain": 1,  # the operator drains a session; a new boot later
    "outage": 1,  # the store answers nobody
    "wipe": 0,  # every document is deleted, queues are not; only where asked for: who starts then cannot know anything
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
    local: Sequence[Weather]  # of single machines, from the first one; empty when all have the same
    rates: Sequence[float]  # of the machines' clocks
    faults: Sequence[Fault]
    sendings: Sequence[Sending]


class Profile(enum.Enum):
    """What kind of a time the fleet has."""

    MIXED = "mixed"  # some of everything
    HARD = "hard"  # what breaks the promises of others: slow answers, stopped leaders, crashes, and nothing else


HARD_WEIGHTS = {
    **dict.fromkeys(WEIGHTS, 0),
    "crash": 1,
    "last words": 4,
    "stutter": 3,
    "pause": 3,
    "cut": 1,
    "step-down": 1,
}


def faults(seed: int, machines: int, duration: float, lease: float, profile: Profile) -> list[Fault]:
    """Draw the faults of a run; pauses, cuts and outages last from a moment to several leases."""
    dice = stream(seed, "faults")
    weights = HARD_WEIGHTS if profile is Profile.HARD else WEIGHTS
    hard = profile is Profile.HARD
    gap = lease * (2.0 if hard else dice.choice((0.5, 1, 3)))  # of this run, on average
    found: list[Fault] = []
    at = lease * dice.uniform(0.5, 3)
    while at < duration:
        kind = dice.choices(list(weights), list(weights.values()))[0]
        found.append(
            Fault(
                at=at,
                kind=kind,
                target=dice.randrange(machines),
                leader=dice.random() < (0.8 if hard else 0.5),
                seconds=draw(dice, (lease if hard else lease / 30, lease * 5)),
                value=_value(kind, dice, lease),
            )
        )
        at += dice.expovariate(1 / gap)
    return found


def _value(kind: str, dice: Stream, lease: float) -> float:
    if kind == "rate":
        return _rate(dice)
    if kind == "wall":
        return dice.choice((-1, 1)) * draw(dice, (0.05, 10 * lease))
    if kind == "last words":
        return lease * dice.uniform(0.8, 2.0)  # until they are heard: about when a successor opens its term
    if kind == "stutter":
        return lease * dice.uniform(0.1, 0.6)  # the first stop
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


def schedule(seed: int, machines: int, duration: float, lease: float, profile: Profile | None = None) -> Schedule:
    """Draw everything that happens to the fleet of a seed; without a profile, the seed chooses one."""
    dice = stream(seed, "weather")
    drawn = dice.choice((Profile.MIXED, Profile.MIXED, Profile.MIXED, Profile.HARD))
    profile = profile or drawn
    hard = profile is Profile.HARD
    weather = CLEAR if hard else dice.choice((CLEAR, ROUGH, ROUGH))
    local = [dice.choice((QUICK, QUICK, LAGGING)) for _ in range(machines)] if hard else []
    rates = [dice.choice((0.9, 1.1)) if hard else _rate(dice) for _ in range(machines)]
    return Schedule(weather, local, rates, faults(seed, machines, duration, lease, profile), sendings(seed, duration))


def _rate(dice: Stream) -> float:
    return dice.choice((1.0, 0.9, 1.1, dice.uniform(0.9, 1.1)))


__all__ = ["WEIGHTS", "Fault", "Profile", "Schedule", "Sending", "faults", "schedule", "sendings"]
