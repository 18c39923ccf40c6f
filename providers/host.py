"""What a machine says of itself and of its end, and what the fleet tells it: what a host driver must offer.

Drivers are synchronous and dumb, as those of a store are: one call is one or two requests, which are answered or raise
one of the interface's errors. They never retry, wait or decide; `worker.hosting` does. One thread calls at a time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class End(enum.Enum):
    """What is going to happen to the machine, and so what its worker does about it."""

    GONE = "gone"
    """It is taken away (scaled in, evicted, deleted): drain, acknowledge, and do not come back."""
    PAUSE = "pause"
    """It stands still or restarts, and goes on (Freeze, Reboot, Redeploy): drain, acknowledge, come back afterwards."""
    RISK = "risk"
    """It may be taken away soon (rebalance recommendation): let another one lead, and go on working."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One announcement. The same announcement is an equal value every time that it is read."""

    id: str  # as the platform calls it, or made from what it said: one announcement, one id
    end: End
    cause: str  # in the platform's own words: "Terminate", "spot/instance-action", …
    at: float | None  # Unix time after which it may happen; None: not told


@dataclass(frozen=True, slots=True)
class Identity:
    """Which machine this is, in the platform's own words."""

    machine: str  # the name or id that events and logs of the platform use
    zone: str | None = None
    group: str | None = None  # the scale set, or the Auto Scaling Group


class Host(Protocol):
    """One machine's side of its platform. Every call may raise Unavailable, OutcomeUnknown or Misconfigured."""

    @property
    def grace(self) -> float | None:
        """Seconds that one acknowledgement at the least keeps the machine waiting; None: it need not be repeated."""

    def identity(self) -> Identity:
        """Ask which machine this is. Asked once, at the start."""

    def notices(self) -> list[Notice]:
        """Ask what is announced for this machine, and only for this one, the soonest first."""

    def hold(self, notice: Notice) -> None:
        """Ask for more time, where the platform gives any. Called every `grace` seconds while draining."""

    def acknowledge(self, notice: Notice) -> None:
        """Say that the machine is ready for what was announced. It may happen at once. May be called again."""

    def ready(self) -> None:
        """Say that the worker takes part: the platform may count on this machine from now on. May be called again."""

    def protect(self, busy: bool) -> None:
        """Keep the platform from choosing this machine when it scales in, or let it."""

    def publish_backlog(self, fleet: str, messages: int) -> None:
        """Publish how many messages wait or are being handled in all of the fleet: what autoscaling goes by."""

    def close(self) -> None:
        """Close connections."""
