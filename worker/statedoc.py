"""State: fenced documents as handlers and leader jobs see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from worker.app import QueueSpec
from worker.context import State
from worker.core.names import partition_index, partition_name
from worker.fenced import FencedDocument
from worker.ports import Ports


class _Content:
    """A fenced document whose user's part lives under `content`."""

    def __init__(self, document: FencedDocument) -> None:
        self._document = document

    async def open(self) -> dict[str, Any]:
        content = (await self._document.open()).get("content", {})
        return content if isinstance(content, dict) else {}

    async def save(self, content: dict[str, Any]) -> None:
        await self._document.save({"content": content})


def partition_state(ports: Ports, spec: QueueSpec, partition: str, fence: int | None) -> Callable[[str], State]:
    """Return what `Message.state` does in one partition: documents `state/<queue>/<name>` under the owner's fence."""

    def state(name: str) -> State:
        if fence is None:
            raise ValueError(f"queue {spec.name!r} is shared: nobody owns a message, so nobody owns its state")
        head = name.partition("/")[0]
        home = partition_name(spec.name, partition_index(head, spec.partitions), spec.partitions)
        if not head or home != partition:
            raise ValueError(
                f"state {name!r} belongs to partition {home}, and this message is in {partition}: "
                "name it by the message's key, or start it with the key and '/'"
            )
        return _state(ports, f"state/{spec.name}/{_part(name)}", fence)

    return state


def leader_state(ports: Ports, term: int) -> Callable[[str], State]:
    """Return what `Leadership.state` does: documents `state/~leader/<name>` under the term."""
    return lambda name: _state(ports, f"state/~leader/{_part(name)}", term)


def _part(name: str) -> str:
    """Return a name as one part of a document's key: no slash, and no dot at its end, which some stores drop."""
    part = quote(name, safe="")
    return f"{part[:-1]}%2E" if part.endswith(".") else part


def _state(ports: Ports, key: str, fence: int) -> State:
    document = _Content(FencedDocument(ports.provider.documents, key, fence, ports.clock))
    return State(document, ports.handlers.run, ports.handlers.run_async)
