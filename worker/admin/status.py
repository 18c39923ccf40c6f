"""What a fleet looks like from outside, in values: what `status`, `partitions` and `dev` show.

The documents say who was what when they were written; whether somebody is still there can only be seen by watching
its lease or beat change. `Watcher` (worker/admin/watcher.py) looks, keeps what it saw, and tells for how long nothing
has changed, on its own clock: nobody compares two machines' clocks.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.core.roster import LONGEST_PATIENCE
from worker.errors import Exit


class Lead(enum.Enum):
    """What is known about the lease."""

    LEADING = "leading"  # seen to be renewed
    SILENT = "silent"  # it names a holder, who has not renewed it before our eyes (yet)
    EXPIRED = "expired"  # so the store says, or it has stood still for longer than anybody may act on it
    HANDED = "handed over"  # an heir is named and has not taken it yet
    VACANT = "vacant"  # given up
    ABSENT = "absent"  # there is no lease object: nobody has ever led here, or somebody has deleted it
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """The leader's lease."""

    state: Lead
    term: int
    instance: str | None
    session: str | None
    duration: float
    still: float  # seconds for which we have watched it without a change
    problem: str | None = None

    @property
    def led(self) -> bool | None:
        """Whether somebody leads; None when that cannot be told yet."""
        if self.state is Lead.LEADING:
            return True
        return None if self.state in (Lead.SILENT, Lead.HANDED) else False


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One session of an instance, as its own documents tell."""

    id: str  # instance~session
    instance: str
    session: str
    state: str  # "starting", "ready", "draining", "left", "lapsed" (watched, and silent for too long), "unreadable"
    partitions: int = 0  # that it says it is working on
    queues: Mapping[str, int] = field(default_factory=dict)
    version: str | None = None
    pid: int | None = None
    host: str | None = None
    at: str | None = None  # when it last wrote its status, by its own clock
    patience: float = LONGEST_PATIENCE  # seconds for which its beat must stand still before it cannot act any more
    still: float | None = None  # seconds for which we have watched its beat without a change; None: it has no beat

    @property
    def here(self) -> bool:
        """Whether it counts as part of the fleet."""
        return self.state in ("starting", "ready", "draining")


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of the plan."""

    name: str
    queue: str
    state: str  # "free", "granted", "moving"
    owner: str | None
    next: str | None
    fence: int | None
    visible: int | None = None  # messages; None: not counted, or the queue is not there
    hidden: int | None = None


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One logical queue: sums over its partitions, and what stands beside them."""

    name: str
    partitions: int
    paused: bool
    visible: int | None = None
    hidden: int | None = None
    oldest_age: float | None = None  # seconds
    intake: int | None = None  # messages not routed yet (all of a shared queue's)
    dead: int | None = None  # messages in the dead-letter queue


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a fleet."""

    fleet: str | None
    lease: LeaseStatus
    plan_term: int | None
    generation: int | None
    successors: Sequence[str]
    members: Sequence[MemberStatus]
    partitions: Sequence[PartitionStatus]
    queues: Sequence[QueueStatus]
    orders: Sequence[Mapping[str, Any]]  # intents that can still be carried out, pauses included
    problems: Sequence[str]
    leader: str | None = None  # its member id (instance~session), once the plan of its term tells

    @property
    def degraded(self) -> list[str]:
        """Say what is not as it should be, one sentence each, most general first."""
        reasons = list(self.problems)
        here = {member.id for member in self.members if member.here}
        free = [partition.name for partition in self.partitions if partition.owner is None]
        if free:
            reasons.append(f"{_some(free)} without an owner")
        gone = [item for item in self.partitions if item.owner is not None and item.owner not in here]
        for owner in sorted({item.owner or "" for item in gone}):
            names = [item.name for item in gone if item.owner == owner]
            reasons.append(f"{_some(names)} owned by {owner}, which is not there")
        owners = {item.owner for item in self.partitions}  # whoever owns nothing may rest in peace until it is swept
        reasons += [f"{one.id} has lapsed" for one in self.members if one.state == "lapsed" and one.id in owners]
        if self.plan_term is not None and self.lease.led and self.plan_term < self.lease.term:
            reasons.append(
                f"term {self.lease.term} has not published a plan yet (the plan is of term {self.plan_term})"
            )
        return reasons

    @property
    def exit_code(self) -> Exit:
        """Return what `worker status` ends with."""
        if not self.lease.led:
            return Exit.NO_LEADER
        return Exit.DEGRADED if self.degraded else Exit.OK

    def to_dict(self) -> dict[str, Any]:
        """Return the status for `--json`."""
        fields = asdict(self)
        fields["lease"]["state"] = self.lease.state.value
        return {**fields, "degraded": self.degraded}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"partition {shown}" if len(names) == 1 else f"partitions {shown}"
