"""What can happen to one request between an instance and the store, and how likely it is."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from worker.testing.clock import Stream


class Fate(enum.Enum):
    """What becomes of one request."""

    FINE = "fine"
    REQUEST_LOST = "request lost"  # never applied, never answered
    ANSWER_LOST = "answer lost"  # applied, never answered
    ANSWER_LATE = "answer late"  # applied, answered when nobody waits any more
    THROTTLED = "throttled"  # refused at the door: `Unavailable`
    CONFLICT = "conflict"  # 409: somebody else writes at this instant; `Unavailable`
    STRAY = "stray"  # applied long after the caller has given up


@dataclass(frozen=True, slots=True)
class Weather:
    """Probabilities of each fate, and ranges in units of one request's total time. A range is drawn log-uniformly."""

    request_lost: float = 0.0
    answer_lost: float = 0.0
    answer_late: float = 0.0
    throttled: float = 0.0
    conflict: float = 0.0
    stray: float = 0.0
    latency: tuple[float, float] = (0.001, 0.025)  # of a request on its way to the store
    answer: tuple[float, float] | None = None  # of the answer, where it differs
    late: tuple[float, float] = (0.5, 10.0)  # how much later than a normal answer a late one comes
    astray: tuple[float, float] = (1.0, 150.0)  # how much later than normal a stray request is applied
    stuck: tuple[float, float] = (0.05, 15.0)  # how long an overdue request keeps its client, after the caller gave up

    def fate(self, dice: Stream, changes: bool) -> Fate:
        """Draw what becomes of a request. Reads meet no conflicts and gain nothing by straying."""
        at = dice.random()
        chances = (
            (Fate.REQUEST_LOST, self.request_lost),
            (Fate.ANSWER_LOST, self.answer_lost),
            (Fate.ANSWER_LATE, self.answer_late),
            (Fate.THROTTLED, self.throttled),
            (Fate.CONFLICT, self.conflict if changes else 0.0),
            (Fate.STRAY, self.stray if changes else 0.0),
        )
        for fate, chance in chances:
            if at < chance:
                return fate
            at -= chance
        return Fate.FINE


CLEAR = Weather()
"""Nothing goes wrong."""

ROUGH = Weather(
    request_lost=0.01,
    answer_lost=0.01,
    answer_late=0.01,
    throttled=0.01,
    conflict=0.01,
    stray=0.005,
    latency=(0.001, 0.1),
)
"""One request in twenty meets trouble."""

STORM = Weather(
    request_lost=0.05,
    answer_lost=0.06,
    answer_late=0.05,
    throttled=0.05,
    conflict=0.05,
    stray=0.03,
    latency=(0.01, 0.45),
)
"""Nearly a third of all requests meet trouble: nobody can hold a lease for long."""

QUICK = Weather(answer_lost=0.02, conflict=0.01, stray=0.04)
"""Fast, but what gets lost comes back when nobody expects it any more."""

LAGGING = Weather(answer_lost=0.02, stray=0.02, answer=(0.3, 0.95))
"""Requests are applied at once, and answered just in time: a deadline counted from the answer is far too late."""


def draw(dice: Stream, between: tuple[float, float]) -> float:
    """Draw log-uniformly: short times are as likely as long ones."""
    low, high = between
    return math.exp(dice.uniform(math.log(low), math.log(high)))
