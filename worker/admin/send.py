"""A producer: hashes keys to partitions, sends in batches, and repeats what the store did not take.

A batch whose answer was lost is sent again under the same message ids: the copies can be told as such, and a consumer
drops the one that it has finished already.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from providers.interface import NotFound, OutcomeUnknown, Unavailable
from providers.provider import HEADROOM, Provider
from worker.admin.inputs import BadInput, Item
from worker.admin.routing import Route
from worker.clock import Clock
from worker.core.envelope import BadMessage, key_of, wrap
from worker.errors import ConfigurationError

CHUNK = 500
"""Messages sorted to their partitions at a time: whole batches for every store, and little memory."""

TRIES = 5


@dataclass(slots=True)
class Sent:
    """What has been sent so far."""

    messages: int = 0
    repeated: int = 0  # of them, messages whose first answer was lost: a copy may exist
    queues: dict[str, int] = field(default_factory=dict)  # by physical queue
    last_id: str | None = None


async def send(
    provider: Provider,
    clock: Clock,
    route: Route,
    items: Iterable[Item],
    *,
    key: str | None = None,
    key_field: str | None = None,
    on_progress: Callable[[Sent], None] | None = None,
) -> Sent:
    """Send every item, in order within a partition. `key` is everybody's key, else the field gives each its own.

    Raises BadInput for an item that cannot be sent (those before it have been), ConfigurationError when the queue does
    not exist, and Unavailable or OutcomeUnknown when the store does not answer repeatedly.
    """
    sent = Sent()
    limit = provider.queue.limit - HEADROOM
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        batches: dict[str, list[tuple[bytes, str | None]]] = defaultdict(list)
        at = datetime.fromtimestamp(clock.wall(), UTC).isoformat()
        for item in chunk:
            id = clock.token()
            try:
                own = key if key is not None else key_of(item.body, key_field or route.key_field)
                body = wrap(item.body, id=id, key=own, origin="send", at=at)
            except BadMessage as exc:
                raise BadInput(f"{item.source}: {exc}; {sent.messages} messages before it were sent") from exc
            if len(body) > limit:
                raise BadInput(
                    f"{item.source}: {len(body)} bytes, and the queue takes {limit}; "
                    f"{sent.messages} messages before it were sent"
                )
            batches[route.target(own, id)].append((body, own))
            sent.last_id = id
        for queue, batch in batches.items():
            sent.repeated += await _send_batch(provider, clock, route, queue, batch)
            sent.messages += len(batch)
            sent.queues[queue] = sent.queues.get(queue, 0) + len(batch)
            if on_progress is not None:
                on_progress(sent)
    return sent


async def _send_batch(
    provider: Provider, clock: Clock, route: Route, queue: str, batch: Sequence[tuple[bytes, str | None]]
) -> int:
    """Send one batch of bodies and keys, and return how many of its messages may exist twice."""
    bodies, keys = [body for body, _ in batch], [key for _, key in batch]
    repeated = 0
    for attempt in itertools.count(1):
        try:
            await provider.queue.send(queue, bodies, keys)
            return repeated
        except NotFound as exc:
            if not route.known or attempt >= TRIES:
                raise ConfigurationError(
                    f"there is no queue {queue!r}, and neither a plan nor an app that declares {route.queue!r}: "
                    "start a worker first, or name the app with --app"
                ) from exc
            await provider.queue.ensure(queue)
        except (Unavailable, OutcomeUnknown) as exc:
            if attempt >= TRIES:
                raise
            repeated = len(bodies) if isinstance(exc, OutcomeUnknown) else repeated
            await clock.sleep(0.1 * 2**attempt * (0.5 + clock.random()))
    raise AssertionError("unreachable")
