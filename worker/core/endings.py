"""How long an instance takes to end, and what it is given: one chain of inequalities, checked in one place.

    drain timeout + member grace  <=  stop grace  <=  notice
    what a drain needs                TERM to KILL     notice of the machine's end to its end

A drain that is cut off loses nothing: messages come back, and the lease runs out. But what was being handled is handled
again, and the fleet waits for the leases of an instance that could have handed them over.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endings:
    """All in seconds; None where nobody has said."""

    drain_timeout: float  # what running handlers get to finish in
    member_grace: float  # what cancelled handlers get to end in
    stop_grace: float | None = None  # what the container's platform gives it, from SIGTERM to SIGKILL
    notice: float | None = None  # what the machine's platform gives it: terminate notification, hook's heartbeat

    @property
    def needed(self) -> float:
        """What an instance takes to end at the most."""
        return self.drain_timeout + self.member_grace

    def problems(self) -> list[str]:
        """Return what cannot work, one sentence each, with both values and the fix."""
        needs = f"a drain takes up to {self.needed:g} s (drain timeout {self.drain_timeout:g} + member grace "
        needs += f"{self.member_grace:g})"
        found = []
        if self.stop_grace is not None and self.stop_grace < self.needed:
            found.append(
                f"WORKER_STOP_GRACE={self.stop_grace:g}: {needs}: give the container {self.needed:g} s to stop in, or "
                "lower WORKER_DRAIN_TIMEOUT"
            )
        if self.notice is not None and self.notice < self.needed:
            found.append(
                f"WORKER_HOST_NOTICE={self.notice:g}: {needs}: announce the machine's end {self.needed:g} s ahead, or "
                "lower WORKER_DRAIN_TIMEOUT"
            )
        if self.stop_grace is not None and self.notice is not None and self.stop_grace > self.notice:
            found.append(
                f"WORKER_STOP_GRACE={self.stop_grace:g} is more than WORKER_HOST_NOTICE={self.notice:g}: the machine "
                "would be gone before its container had to stop; announce its end earlier, or give the container less"
            )
        return found
