"""What the virtual loop hands out: handles that know their node, tasks and futures that hash by number."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from worker.testing.node import LocalClock, Node

T = TypeVar("T")


class Handle(asyncio.Handle):
    __slots__ = ("node",)
    node: Node | None


class Timer(asyncio.TimerHandle):
    __slots__ = ("clock", "node")
    node: Node | None
    clock: LocalClock


Owned = Handle | Timer


class NumberedTask(asyncio.Task[T]):
    """A task that hashes by its number, so that sets of tasks have the same order in every run."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class NumberedFuture(asyncio.Future[T]):
    def __init__(self, number: int, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number
