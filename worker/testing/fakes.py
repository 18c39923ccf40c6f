"""What handlers and leader jobs receive, without a fleet: for unit tests of user code."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from worker.context import Leadership, Message, State
from worker.core.names import partition_name
from worker.errors import Fenced
from worker.telemetry import silent

Documents = dict[str, dict[str, Any]]
"""What `state(name)` reads and writes: look into it after the call."""


def fake_message(
    body: Any,
    *,
    key: str | None = None,
    queue: str = "test",
    partition: str | None = None,
    id: str = "message-1",
    attempt: int = 1,
    fence: int = 1,
    enqueued_at: float = 0.0,
    documents: Documents | None = None,
    fenced: bool = False,
) -> Message:
    """Return a message as a handler receives it. `fenced=True`: a newer owner refuses every save of its state."""
    return Message(
        id=id,
        queue=queue,
        partition=partition or partition_name(queue, 0, 1),
        key=key,
        body=body,
        attempt=attempt,
        fence=fence,
        enqueued_at=enqueued_at,
        log=silent(lambda _: None).log,
        _state=_states(documents, fenced),
    )


def fake_leadership(
    *,
    term: int = 1,
    trust_left: float | Callable[[], float] = 10.0,
    documents: Documents | None = None,
    fenced: bool = False,
) -> Leadership:
    """Return a leadership as a leader job receives it. A function as `trust_left` is asked each time: let it fall."""
    left = trust_left if callable(trust_left) else lambda: trust_left
    return Leadership(term=term, log=silent(lambda _: None).log, _trust_left=left, _state=_states(documents, fenced))


class _InMemory:
    def __init__(self, documents: Documents, name: str, fenced: bool) -> None:
        self._documents, self._name, self._fenced = documents, name, fenced

    async def open(self) -> dict[str, Any]:
        return copy.deepcopy(self._documents.get(self._name, {}))

    async def save(self, content: dict[str, Any]) -> None:
        if self._fenced:
            raise Fenced(f"state {self._name!r} belongs to a newer owner: it was refused, as the test has asked")
        self._documents[self._name] = copy.deepcopy(content)


def _states(documents: Documents | None, fenced: bool) -> Callable[[str], State]:
    kept: Documents = {} if documents is None else documents
    return lambda name: State(_InMemory(kept, name, fenced), _run, _run_async)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the fake state waits for nobody")


def _run_async(coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    return coroutine
