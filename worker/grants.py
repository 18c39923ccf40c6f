"""Grants that nobody takes up: taken back after a while, and that owner left out for some time.

A member can be alive, beat, and still not serve a partition (an old bug, a hung thread). The plan must not wait for
it for ever; and it must not hand the partition straight back to the same member.
"""

from __future__ import annotations

from worker.census import Count
from worker.core.plan import Plan
from worker.ports import Ports

OVERDUE = 2
"""Member leases within which a grant must have become active."""

LEFT_OUT = 4
"""Member leases for which an owner that did not take up a partition is not granted it again."""


class Grants:
    """Watches, for one term, whether what the plan grants is taken up."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._waiting: dict[tuple[str, int], float] = {}  # (partition, fence) -> since when
        self._barred: dict[tuple[str, str], float] = {}  # (partition, member) -> until when

    def barred(self, plan: Plan, count: Count) -> dict[str, frozenset[str]]:
        """Return who must not own which partition for now."""
        now, lease = self._ports.clock.now(), self._ports.member.lease
        waiting: dict[tuple[str, int], float] = {}
        for name, item in plan.partitions.items():
            status = count.statuses.get(item.owner) if item.owner is not None else None
            if item.owner is None or item.next is not None or (status and status.active.get(name) == item.fence):
                continue
            since = waiting[name, item.fence] = self._waiting.get((name, item.fence), now)
            if now - since > OVERDUE * lease and (name, item.owner) not in self._barred:
                self._barred[name, item.owner] = now + LEFT_OUT * lease
                self._ports.events.problem(f"{item.owner} did not take up {name} and is left out for a while")
        self._waiting = waiting
        self._barred = {who: until for who, until in self._barred.items() if until > now}
        result: dict[str, frozenset[str]] = {}
        for name, member in self._barred:
            result[name] = result.get(name, frozenset()) | {member}
        return result
