"""A host driver, awaited: one request at a time, each within a total time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from providers.host import Host, Identity, Notice
from providers.lanes import Opens, ThreadLane

T = TypeVar("T")

TOTAL = 10.0
"""Seconds that one question may take: Azure may need minutes for the first one, which is then asked again."""


class PortableHost:
    """`Host`, awaited. Used by one event loop; raises what `Host` does."""

    def __init__(self, driver: Opens[Host], *, total: float = TOTAL) -> None:
        self._total = total
        self._lane: ThreadLane[Host] = ThreadLane(driver, total, name="host")

    async def identity(self) -> Identity:
        """Ask which machine this is."""
        return await self._ask("host.identity", lambda host: host.identity(), changes=False)

    async def notices(self) -> list[Notice]:
        """Ask what is announced for this machine, the soonest first."""
        return await self._ask("host.notices", lambda host: host.notices(), changes=False)

    async def hold(self, notice: Notice) -> float | None:
        """Ask for more time; return the seconds after which to ask again, None where that is not needed."""

        def ask(host: Host) -> float | None:
            host.hold(notice)
            return host.grace

        return await self._ask("host.hold", ask, changes=True)

    async def acknowledge(self, notice: Notice) -> None:
        """Say that the machine is ready for what was announced."""
        await self._ask("host.acknowledge", lambda host: host.acknowledge(notice), changes=True)

    async def ready(self) -> None:
        """Say that the platform may count on this machine."""
        await self._ask("host.ready", lambda host: host.ready(), changes=True)

    async def protect(self, busy: bool) -> None:
        """Keep the platform from choosing this machine when it scales in, or let it."""
        await self._ask("host.protect", lambda host: host.protect(busy), changes=True)

    async def publish_backlog(self, fleet: str, messages: int) -> None:
        """Publish how many messages wait or are being handled in all of the fleet."""
        await self._ask("host.publish_backlog", lambda host: host.publish_backlog(fleet, messages), changes=True)

    def close(self) -> None:
        """Close connections. A request that is overdue is left to end by itself."""
        self._lane.close()

    async def _ask(self, operation: str, function: Callable[[Host], T], *, changes: bool) -> T:
        return await self._lane.call(operation, function, total=self._total, changes=changes)
