"""The leader's count of the fleet: who is alive, what each handles, holds and has released.

One listing of beats and one of statuses a round; a status is read only when its version has changed. Absence is not
death, and neither is an answer that came late: `worker.core.roster` judges.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, NotFound, Version
from worker.core.plan import Plan
from worker.core.planner import Candidate
from worker.core.roster import Roster, patience_told
from worker.core.versions import Release, newest, release
from worker.ports import Ports

BEATS, MEMBERS = "beats/", "members/"

_MEMBER = re.compile(r"[A-Za-z0-9._-]+~[A-Za-z0-9._-]+")

AT_ONCE = 4
"""Statuses read at once: a new leader reads them all, and must not be deposed over it."""

GAP = 2
"""Member renew intervals without a listing after which the leader trusts none of its clocks and starts them afresh."""


@dataclass(frozen=True, slots=True)
class Status:
    """What one session says of itself."""

    id: str
    state: str  # "ready", "draining" or "left"
    queues: Mapping[str, int]
    active: Mapping[str, int]
    released: Mapping[str, int]
    heir: Mapping[str, Any] | None
    at: str
    patience: float  # seconds for which its beat must stand still before it cannot act any more
    release: Release
    version: Version


@dataclass(frozen=True, slots=True)
class Count:
    """One round's facts."""

    statuses: Mapping[str, Status]
    alive: frozenset[str]
    dead: frozenset[str]  # verdicts: these sessions can not act any more
    beats: Mapping[str, Version] = field(default_factory=dict)

    @property
    def candidates(self) -> list[Candidate]:
        """Those that may own partitions, or still do."""
        return [
            Candidate(id=status.id, queues=status.queues, released=status.released, draining=status.state != "ready")
            for status in self.statuses.values()
            if status.id in self.alive and status.state != "left"
        ]

    @property
    def newest(self) -> frozenset[str]:
        """Those candidates that run the newest release."""
        return newest({one.id: self.statuses[one.id].release for one in self.candidates})

    def outdated(self, leader: str, successors: Sequence[str]) -> bool:
        """Say whether the next in line runs a newer release than this leader."""
        now, then = self.statuses.get(leader), self.statuses.get(next(iter(successors), ""))
        return now is not None and then is not None and now.release < then.release

    @property
    def held(self) -> frozenset[str]:
        """Partitions on which somebody says to be active still."""
        return frozenset(
            name for status in self.statuses.values() if status.id not in self.gone for name in status.active
        )

    def patience(self, own: float) -> float:
        """Return how long, in seconds, nobody can act any more who has heard nothing: the longest of all, or `own`."""
        return max((own, *(status.patience for status in self.statuses.values())))

    @property
    def gone(self) -> frozenset[str]:
        """Sessions that are proven unable to act: judged dead, or left in good order."""
        return self.dead | {status.id for status in self.statuses.values() if status.state == "left"}


class Census:
    """Counts the fleet for one term: a new leader starts its observation afresh."""

    def __init__(self, ports: Ports, progress: Callable[[], None]) -> None:
        self._ports, self._progress = ports, progress
        self._roster = Roster(gap=GAP * ports.member.renew)
        self._statuses: dict[str, Status] = {}
        self._reported: set[tuple[str, Version]] = set()
        self._reading = asyncio.Semaphore(AT_ONCE)

    async def take(self, plan: Plan) -> Count:
        """List beats and statuses, read what has changed, and judge. Raises ProviderError."""
        sent = self._ports.clock.now()
        beats = await self._list(BEATS)
        received = self._ports.clock.now()
        self._roster.told({id: status.patience for id, status in self._statuses.items()})
        self._roster.expect((item.owner for item in plan.partitions.values() if item.owner is not None), received)
        self._roster.saw(beats, sent=sent, received=received)
        listed = await self._list(MEMBERS)
        for id in self._statuses.keys() - listed.keys():
            del self._statuses[id]
        known = {id: status.version for id, status in self._statuses.items()}
        await asyncio.gather(*(self._read(id, seen) for id, seen in listed.items() if known.get(id) != seen))
        return Count(dict(self._statuses), self._roster.alive, self._roster.dead, beats)

    async def _list(self, prefix: str) -> dict[str, Version]:
        """Return the sessions under a prefix. Whatever else lies there (a folder's marker, say) is not ours."""
        stamps = await self._ports.provider.documents.list(prefix)
        self._progress()
        listed = {stamp.key.removeprefix(prefix): stamp.version for stamp in stamps}
        return {id: version for id, version in listed.items() if _MEMBER.fullmatch(id)}

    async def _read(self, id: str, version: Version) -> None:
        if (id, version) in self._reported:
            return
        try:
            async with self._reading:
                document = await self._ports.provider.documents.read(MEMBERS + id)
            self._progress()
            if document is not None:
                self._statuses[id] = _status(id, decode(document.body, MEMBERS + id), document.stamp.version)
        except NotFound:
            self._statuses.pop(id, None)
        except BadDocument as exc:
            self._reported.add((id, version))  # said once; the last good status stays in force
            self._ports.events.problem(f"the status of {id} is kept out: {exc}")


def _status(id: str, fields: Mapping[str, Any], version: Version) -> Status:
    try:
        return Status(
            id=id,
            state=str(fields["state"]),
            queues=_numbers(fields["queues"]),
            active=_numbers(fields["active"]),
            released=_numbers(fields["released"]),
            heir=fields.get("heir") if isinstance(fields.get("heir"), dict) else None,
            at=str(fields.get("at", "")),
            patience=patience_told(fields.get("patience")),
            release=release(fields),
            version=version,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise BadDocument(f"{MEMBERS}{id} lacks or garbles a field: {exc!r}") from exc


def _numbers(value: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): int(number) for name, number in value.items()}
