"""A logical queue's dead letters: look, send again, or throw away.

A look (`peek`) changes nothing. To replay or discard, letters are received, which hides them for `HIDE` seconds; what
was not asked for is made visible again at the end, and by itself if this process dies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from providers.interface import NotFound, OutcomeUnknown, ProviderError, Received, Refused
from providers.provider import Provider
from worker.admin.routing import Route
from worker.clock import Clock
from worker.core.dead_letter import DeadLetter, read_dead_letter, replayable
from worker.core.envelope import BadMessage
from worker.core.names import dead_letter_queue
from worker.errors import LostPrecondition

HIDE = 120.0
BATCH = 10


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a dead-letter queue under the id that operators name it by."""

    id: str
    letter: DeadLetter
    size: int  # bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the letter for `--json`."""
        envelope, failure, raw = self.letter.envelope, self.letter.failure, self.letter.raw
        facts = {} if failure is None else {name: getattr(failure, name) for name in failure.__dataclass_fields__}
        return {
            "id": self.id,
            "key": envelope.key,
            "body": envelope.body if raw is None else raw.decode("utf-8", "backslashreplace"),
            "parsed": raw is None,
            "cut": list(self.letter.cut),
            **{name: facts.get(name) for name in ("error", "error_type", "traceback", "attempts", "partition", "at")},
        }


@dataclass(slots=True)
class Done:
    """What became of the letters that were asked for."""

    ids: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # by id: why it is still there


async def peek(provider: Provider, queue: str, *, limit: int = 100) -> list[Letter]:
    """Return up to `limit` letters of a logical queue (a store may show fewer at a time). No queue, no letters."""
    try:
        return [_letter(received) for received in await provider.queue.peek(dead_letter_queue(queue), limit)]
    except NotFound:
        return []


async def find(provider: Provider, queue: str, id: str) -> Letter:
    """Return one letter. Raises LostPrecondition when it is not there (any more)."""
    for letter in await peek(provider, queue, limit=1000):
        if letter.id == id:
            return letter
    raise LostPrecondition(f"no dead letter {id!r} in queue {queue!r}: `worker dlq list {queue}` shows what is there")


async def replay(provider: Provider, clock: Clock, route: Route, ids: Collection[str] | None) -> Done:
    """Send letters to their partition again, under new ids; all of them when `ids` is None."""
    created: set[str] = set()

    async def again(received: Received, letter: Letter) -> None:
        id = clock.token()
        at = datetime.fromtimestamp(clock.wall(), UTC).isoformat()
        body = replayable(letter.letter, id=id, at=at)
        source = dead_letter_queue(route.queue)
        target = route.target(letter.letter.envelope.key, id)
        created.add(id)
        try:
            await provider.queue.move(source, received, target, body, letter.letter.envelope.key)
        except NotFound:
            await provider.queue.ensure(target)
            await provider.queue.move(source, received, target, body, letter.letter.envelope.key)

    return await _each(provider, route.queue, ids, again, created)


async def discard(provider: Provider, queue: str, ids: Collection[str] | None) -> Done:
    """Delete letters for good; all of them when `ids` is None."""

    async def drop(received: Received, letter: Letter) -> None:
        await provider.queue.delete(dead_letter_queue(queue), received.receipt)

    return await _each(provider, queue, ids, drop, set())


async def _each(
    provider: Provider,
    queue: str,
    ids: Collection[str] | None,
    act: Callable[[Received, Letter], Awaitable[None]],
    created: Collection[str],
) -> Done:
    """Act on every letter asked for. A replayed message that fails again meanwhile (`created`) is not taken twice."""
    source = dead_letter_queue(queue)
    done, spare = Done(), []
    missing = None if ids is None else set(ids)
    try:
        while missing is None or missing:
            batch = await _receive(provider, queue)
            for received in batch:
                letter = _letter(received)
                if letter.id in created or (ids is not None and letter.id not in ids):
                    spare.append(received)
                    continue
                if letter.id in done.ids:  # a copy: its message was moved here twice
                    await _settle(provider.queue.delete(source, received.receipt))
                    continue
                if missing is not None:
                    missing.discard(letter.id)
                try:
                    await act(received, letter)
                except BadMessage as exc:
                    done.failed[letter.id] = str(exc)
                    spare.append(received)
                except Refused:
                    done.failed[letter.id] = "somebody else has taken it meanwhile"
                except OutcomeUnknown as exc:
                    done.failed[letter.id] = f"it may be done or not, look before you repeat: {exc}"
                else:
                    done.ids.append(letter.id)
            if not batch:
                break
    finally:
        for received in spare:
            await _settle(provider.queue.release(source, received.receipt))
    for id in sorted(missing or ()):
        done.failed[id] = "not there: handled by somebody else, or hidden by another command for a while"
    return done


async def _receive(provider: Provider, queue: str) -> list[Received]:
    try:
        return list(await provider.queue.receive(dead_letter_queue(queue), BATCH, HIDE))
    except NotFound:
        return []


async def _settle(request: Awaitable[None]) -> None:
    """Await a request whose failure costs only time: the letter becomes visible again by itself."""
    with suppress(ProviderError):
        await request


def _letter(received: Received) -> Letter:
    letter = read_dead_letter(received.body)
    return Letter(letter.envelope.id or received.id, letter, len(received.body))
