"""The leader's broom: what nobody needs any more is deleted, a little every round, and never in a hurry.

Sessions that have left, once no plan names them; dead ones after a day; term records beyond the newest thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from providers.interface import ProviderError, Stamp
from worker.census import BEATS, MEMBERS, Count
from worker.core.plan import Plan
from worker.opening import terms_prefix
from worker.ports import Ports

KEEP_DEAD = timedelta(hours=24)
"""For people who look for what happened: a dead session's documents stay for a day."""

KEEP_TERMS = 1000
"""Term records that stay; their numbers are never reused, because the lease and the plan remember the highest."""

EVERY = 60.0
"""Seconds between two sweeps."""

AT_ONCE = 50
"""Documents deleted in one sweep at the most: it stands between two rounds of the plan."""


class Janitor:
    """Sweeps for one term."""

    def __init__(self, ports: Ports, progress: Callable[[], None]) -> None:
        self._ports, self._progress = ports, progress
        self._next = ports.clock.now() + EVERY

    async def tidy(self, plan: Plan | None, count: Count | None) -> None:
        """Sweep, if it is time to. A store that refuses costs nothing: the next sweep tries again."""
        now = self._ports.clock.now()
        if now < self._next or plan is None or count is None:
            return
        self._next = now + EVERY
        try:
            await self._sweep_members(plan, count)
            await self._sweep_terms()
        except ProviderError as exc:
            self._ports.events.problem(f"sweeping stopped early: {exc}")

    async def _sweep_members(self, plan: Plan, count: Count) -> None:
        named = {who for item in plan.partitions.values() for who in (item.owner, item.next)}
        wall = datetime.fromtimestamp(self._ports.clock.wall(), UTC)
        useless = [
            status
            for status in count.statuses.values()
            if status.id in count.gone
            and status.id not in named
            and (status.state == "left" or wall - _when(status.at, wall) > KEEP_DEAD)
        ]
        for status in useless[:AT_ONCE]:
            if status.id in count.beats:
                await self._delete(Stamp(BEATS + status.id, count.beats[status.id]))
            await self._delete(Stamp(MEMBERS + status.id, status.version))
        nameless = [id for id in count.beats if id in count.dead and id not in named and id not in count.statuses]
        for id in nameless[:AT_ONCE]:  # killed before they had said anything
            await self._delete(Stamp(BEATS + id, count.beats[id]))

    async def _sweep_terms(self) -> None:
        stamps = await self._ports.provider.documents.list(terms_prefix("leader"))
        for stamp in stamps[:-KEEP_TERMS][:AT_ONCE]:
            await self._delete(stamp)

    async def _delete(self, stamp: Stamp) -> None:
        await self._ports.provider.documents.delete(stamp)
        self._progress()


def _when(text: str, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return otherwise
