"""A machine's platform as the runtime sees it, for tests: what is announced is set, what is told to it is kept."""

from __future__ import annotations

from typing import Any

from providers.host import Identity, Notice


class Machine:
    """A platform as `PortableHost` shows it: what is announced is a list, what is said to it another."""

    def __init__(self) -> None:
        self.announced: list[Notice] = []
        self.said: list[tuple[str, Any]] = []
        self.error: Exception | None = None
        self.grace: float | None = None
        self.closed = False

    async def identity(self) -> Identity:
        self._answer()
        return Identity("vm-1", "zone-1", "set-1")

    async def notices(self) -> list[Notice]:
        self._answer()
        return list(self.announced)

    async def hold(self, notice: Notice) -> float | None:
        self._say("hold", notice.id)
        return self.grace

    async def acknowledge(self, notice: Notice) -> None:
        self._say("acknowledge", notice.id)

    async def ready(self) -> None:
        self._say("ready", True)

    async def protect(self, busy: bool) -> None:
        self._say("protect", busy)

    async def publish_backlog(self, fleet: str, messages: int) -> None:
        self._say("backlog", (fleet, messages))

    def close(self) -> None:
        self.closed = True

    def _say(self, what: str, value: object) -> None:
        self._answer()
        self.said.append((what, value))

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error

    def told(self, what: str) -> list[Any]:
        """Return all that was said of one kind."""
        return [value for kind, value in self.said if kind == what]
