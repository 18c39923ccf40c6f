"""What a user's functions receive: `Message` for a queue's handler, `Leadership` for a leader job.

Both are thin views. What they can do comes in as a few functions, so that a unit test (`worker.testing`) and the
real runtime build the same objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import structlog


class NotLeader(Exception):
    """This term is over. Stop: nothing that you write now would be accepted."""


class StateDocument(Protocol):
    """One opened fenced document. Reading and writing happen on the control thread (`worker.fenced`)."""

    async def open(self) -> dict[str, Any]:
        """Claim the document for this fence and return its content."""

    async def save(self, content: dict[str, Any]) -> None:
        """Write the content back, unless a newer owner has opened the document."""


class State:
    """A fenced document as a context manager: opened on entry, saved on exit, untouched when the body raises.

    `async with` in an `async def` handler, `with` in a plain one. The document belongs to the fence it was opened
    under: once a newer owner has opened it, saving raises `worker.Fenced` and changes nothing.
    """

    def __init__(
        self,
        document: StateDocument,
        run: Callable[[Coroutine[Any, Any, Any]], Any],
        run_async: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
    ) -> None:
        self._document = document
        self._run = run
        self._run_async = run_async
        self._content: dict[str, Any] = {}

    async def __aenter__(self) -> dict[str, Any]:
        self._content = await self._run_async(self._document.open())
        return self._content

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._run_async(self._document.save(self._content))

    def __enter__(self) -> dict[str, Any]:
        self._content = self._run(self._document.open())
        return self._content

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._run(self._document.save(self._content))


@dataclass(frozen=True)
class Message:
    """One message in the hands of its handler."""

    id: str  # stays the same over redeliveries and through the intake: an idempotency key
    queue: str  # logical queue
    partition: str  # physical queue
    key: str | None
    body: Any  # parsed JSON
    attempt: int  # this start of the handler is the attempt-th
    fence: int | None  # grows with every change of owner; None in a shared queue
    enqueued_at: float  # Unix seconds
    log: structlog.typing.FilteringBoundLogger
    _state: Callable[[str], State]

    def state(self, name: str) -> State:
        """Open a fenced document of this queue: `async with message.state(order.customer) as balance:`.

        What stands before the first `/` of the name must be the message's key, or hash to the same partition:
        otherwise two owners would share a document. Raises ValueError when it does not, and in a shared queue.
        """
        return self._state(name)


@dataclass(frozen=True)
class Leadership:
    """One term in the hands of a leader job."""

    term: int
    log: structlog.typing.FilteringBoundLogger
    _trust_left: Callable[[], float]
    _state: Callable[[str], State]

    @property
    def trust_left(self) -> float:
        """Seconds for which this instance may go on acting as leader, unless it renews; at most 0 when over."""
        return self._trust_left()

    def check(self) -> None:
        """Raise NotLeader when the term is over. Call it in long loops, before each effect."""
        if self._trust_left() <= 0:
            raise NotLeader(f"term {self.term} is over")

    def state(self, name: str) -> State:
        """Open a document that only the newest term may change."""
        return self._state(name)


__all__ = ["Leadership", "Message", "NotLeader", "State", "StateDocument"]
