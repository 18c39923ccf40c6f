"""What a round of planning depends on, besides the plan itself: who is alive, who is gone, what operators asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

_EMPTY: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that is alive and has not left, as its own status describes it. Raises ValueError for a bad capacity."""

    id: str
    queues: Mapping[str, int] = field(default_factory=dict)  # logical queues it handles, with the declared count
    capacity: float = 1.0
    released: Mapping[str, int] = field(default_factory=dict)  # partition: highest fence released, for good
    draining: bool = False  # finishes what it has and takes nothing new

    def __post_init__(self) -> None:
        if not 0 < self.capacity < math.inf:
            raise ValueError(f"member {self.id!r}: capacity {self.capacity} must be a positive number")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a round of planning depends on, besides the plan itself. The order of its parts does not matter."""

    leader: str  # member id
    candidates: Sequence[Candidate]
    gone: AbstractSet[str] = _EMPTY  # sessions that cannot act any more: verdict, or left
    weights: Mapping[str, float] = field(default_factory=dict)  # partition: weight; 1 when not named
    barred: Mapping[str, AbstractSet[str]] = field(default_factory=dict)  # partition: members left out for a while
    forced: AbstractSet[tuple[str, int]] = frozenset()  # (partition, fence) to be taken from its owner
    withheld: AbstractSet[str] = _EMPTY  # logical queues of which nothing is granted (repartition under way)
    restored: AbstractSet[str] = _EMPTY  # partitions with a lost record on which nobody can act, says the leader
    newest: AbstractSet[str] = _EMPTY  # members that run the newest release: they come first in the succession
    balance: bool = True  # False in a new leader's first round

    def __post_init__(self) -> None:
        for partition, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"partition {partition!r}: weight {weight} must be a number, 0 or more")
