"""What the store shows of a fleet, looked at again and again: queues, trust, and whether there is anything to do."""

from __future__ import annotations

from collections.abc import Sequence

from providers.interface import ProviderError
from worker.admin.status import LeaseStatus, Status
from worker.admin.watcher import Watcher
from worker.app import App
from worker.clock import Clock
from worker.settings import Settings

STEADY = 2
"""Looks in a row that must find nothing to do: between two of them nobody has put anything back."""


class Look:
    """The last look at the store. Read it on the loop that keeps it fresh."""

    def __init__(self, watcher: Watcher, clock: Clock, settings: Settings, app: App) -> None:
        self.status: Status | None = None
        self.lease: LeaseStatus | None = None
        self.problem = ""  # why the last look failed
        self._watcher, self._clock, self._settings = watcher, clock, settings
        self._shared = [spec.name for spec in app.queues.values() if spec.mode == "shared"]
        self._lease_at = self._status_at = clock.now()
        self._idle_looks = 0

    @property
    def idle(self) -> bool:
        """Whether a leader leads, every partition has an owner who is there, and no queue holds a message."""
        return self._idle_looks >= STEADY

    async def keep_fresh(self) -> None:
        """Look until cancelled: at the lease four times per renewal, at everything else once."""
        turn = 0
        while True:
            try:
                self.lease, self._lease_at = await self._watcher.lease(), self._clock.now()
                if turn % 4 == 0:
                    await self._everything()
                self.problem = ""
            except ProviderError as exc:
                self.problem = " ".join(str(exc).split())
                self._idle_looks = 0
            turn += 1
            await self._clock.sleep(self._settings.leader.renew / 4)

    async def _everything(self) -> None:
        self.status, self._status_at = await self._watcher.look(), self._clock.now()
        shared = await self._watcher.depths(self._shared)
        waiting = sum(depth.visible + depth.hidden for depth in shared.values())
        self._idle_looks = self._idle_looks + 1 if _nothing_to_do(self.status) and not waiting else 0

    def leader_trust(self) -> float | None:
        """Estimate for how many seconds the leader may still act if it does not renew again; None: nobody leads.

        The store shows renewals, not trust: this counts from when we saw the last one, so it is up to a look too long.
        """
        if self.lease is None or not self.lease.led:
            return None
        since = self.lease.still + self._clock.now() - self._lease_at
        return max(0.0, self._settings.leader.trusted - since)

    def member_trust(self, session: str | None) -> float | None:
        """Estimate the same for the membership of a session, from its beats."""
        member = next((m for m in (self.status.members if self.status else ()) if m.session == session), None)
        if member is None or member.still is None:
            return None
        return max(0.0, self._settings.member.trusted - member.still - (self._clock.now() - self._status_at))


def _nothing_to_do(status: Status) -> bool:
    here = {member.id for member in status.members if member.here}
    owned = all(item.state == "granted" and item.owner in here for item in status.partitions)
    handled = {name for member in status.members if member.here for name in member.queues}
    planned = handled <= {item.queue for item in status.partitions}
    counts: Sequence[int | None] = [
        count for queue in status.queues for count in (queue.visible, queue.hidden, queue.intake)
    ]
    return bool(status.lease.led) and bool(here) and owned and planned and not any(counts)
