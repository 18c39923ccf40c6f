"""The durations of a lease, and the sums that must hold between them before anyone may rely on it.

One number, the lease duration D, gives the rest by fixed ratios; each may be overridden. Every rule is checked
in the constructor, so that an impossible set of timings cannot exist.
"""

from __future__ import annotations

from dataclasses import dataclass

RHO = 0.10
"""How far two honest clocks may differ in rate: slewing really moves CLOCK_BOOTTIME by up to 8.3 %."""

TIMER_LATENCY = 0.1
"""Seconds by which the kernel may be late with the timer that ends a process, on a busy machine."""


class ImpossibleTimings(ValueError):
    """Two durations contradict each other; the message names both and the sum that must hold."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The durations of one kind of lease, in seconds."""

    lease: float  # D: what the holder is granted
    renew: float  # i: from one renewal's send to the next one's
    total: float  # T: most time one request may take, all its parts together
    margin: float  # m: trust ends this much before the lease may, for a late kernel timer
    grace: float  # g: what work gets to end in, once it is cancelled
    jitter: float  # j: random delay on top of a wait
    latency: float = TIMER_LATENCY  # f: of the kernel timer

    def __post_init__(self) -> None:
        for name in ("lease", "renew", "total", "margin", "grace", "jitter", "latency"):
            value = getattr(self, name)
            if not value > 0 or value == float("inf"):
                raise ImpossibleTimings(f"{name} is {value} s: it must be a positive number of seconds")
        shortest = self.lease * (1 - RHO)
        needed = self.renew + 3 * self.total + self.jitter + self.grace + self.margin
        if needed > shortest + 1e-9:
            raise ImpossibleTimings(
                f"renew {self.renew:g} + 3 x total {self.total:g} + jitter {self.jitter:g} + grace {self.grace:g} "
                f"+ margin {self.margin:g} = {needed:g} s exceeds lease {self.lease:g} x {1 - RHO:g} = {shortest:g} s: "
                "one lost request would depose a healthy holder. Shorten one of the five, or lengthen the lease"
            )
        if self.total >= self.grace:
            raise ImpossibleTimings(
                f"total {self.total:g} s must be shorter than grace {self.grace:g} s: "
                "a request in flight at stop time must be over before the grace is"
            )
        if self.margin < 2 * self.latency - 1e-9:
            raise ImpossibleTimings(
                f"margin {self.margin:g} s must be at least twice the kernel timer's latency {self.latency:g} s"
            )

    @property
    def trusted(self) -> float:
        """Seconds from a successful request's send for which its sender may act, at the most."""
        return self.lease * (1 - RHO) - self.margin

    @property
    def patience(self) -> float:
        """Seconds one version must stand still, on an observer's own clock, before the lease may be claimed."""
        return self.lease * (1 + RHO)


def leader_timings(
    lease: float,
    *,
    renew: float | None = None,
    total: float | None = None,
    margin: float | None = None,
    grace: float | None = None,
    jitter: float | None = None,
) -> Timings:
    """Derive a leader's timings from its lease duration; whatever is given overrides the ratio."""
    return Timings(
        lease=lease,
        renew=lease / 5 if renew is None else renew,
        total=lease * 2 / 15 if total is None else total,
        margin=lease / 15 if margin is None else margin,
        grace=lease / 5 if grace is None else grace,
        jitter=lease / 30 if jitter is None else jitter,
    )


def member_timings(leader: Timings, *, lease: float | None = None, grace: float | None = None) -> Timings:
    """Derive a member's timings from the leader's: three times the lease, and far more grace for handlers."""
    duration = 3 * leader.lease if lease is None else lease
    return Timings(
        lease=duration,
        renew=duration * 2 / 9,
        total=leader.total,
        margin=leader.margin,
        grace=duration * 4 / 9 if grace is None else grace,
        jitter=leader.jitter,
    )
