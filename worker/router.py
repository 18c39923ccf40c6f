"""The router, a duty of the leader: intake to partition, by key.

Producers that know nothing write plain JSON to the logical queue's own name. The intake's id travels along, so that
a consumer can drop the copy that an unclear move leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from providers.interface import NotFound, ProviderError, Received
from worker.app import QueueSpec
from worker.clock import Clock
from worker.core.dead_letter import Failure, dead_letter
from worker.core.envelope import BadMessage, check_key, key_of, unwrap, wrap
from worker.core.names import dead_letter_queue, partition_index, partition_name
from worker.polling import IDLE_FIRST, long_poll, next_pause
from worker.ports import Ports

BATCH = 10
"""Messages taken from an intake at once."""


Count = Callable[[], int | None]
"""The plan's partition count, asked before every message; None while there is none, or while it is being changed."""


async def route(spec: QueueSpec, partitions: Count, ports: Ports) -> None:
    """Route one logical queue's intake until cancelled."""
    idle = IDLE_FIRST
    while True:
        if partitions() is None:
            await ports.clock.sleep(ports.leader.renew)
            continue
        moved = await _route_batch(spec, partitions, ports)
        idle = IDLE_FIRST if moved else next_pause(idle, long_poll(ports), ports)
        if not moved:
            await ports.clock.sleep(idle)


async def _route_batch(spec: QueueSpec, partitions: Count, ports: Ports) -> int:
    queue = ports.provider.queue
    moved, sent = 0, list[str]()
    try:
        batch = await queue.receive(spec.name, BATCH, ports.member.lease, long_poll(ports))
        for received in batch:
            count = partitions()
            if count is None:
                await queue.release(spec.name, received.receipt)
                continue
            to, body, key = _destination(spec, count, received, ports.clock, queue.limit)
            if await queue.forward(spec.name, received, to, body, key):
                sent.append(received.receipt)
            moved += 1
            if to == dead_letter_queue(spec.name):
                ports.events.emit("message.dead_lettered", queue=spec.name, message=received.id, error="not routable")
    except NotFound:
        await _ensure(spec, partitions() or 0, ports)
    except ProviderError as exc:
        ports.events.problem(f"the intake {spec.name} could not be routed; it is tried again: {exc}")
        await ports.clock.sleep(ports.leader.renew)
    finally:
        if sent:
            await _forget(spec.name, sent, ports)
    return moved


async def _forget(intake: str, receipts: list[str], ports: Ports) -> None:
    """Delete here what has been sent there. What is left comes again, under the same id."""
    try:
        await ports.provider.queue.delete_many(intake, receipts)
    except ProviderError as exc:
        ports.events.problem(f"messages were routed from {intake} and not deleted there; copies may follow: {exc}")


async def _ensure(spec: QueueSpec, partitions: int, ports: Ports) -> None:
    try:
        for name in (spec.name, dead_letter_queue(spec.name)):
            await ports.provider.queue.ensure(name)
        for index in range(partitions):
            name = partition_name(spec.name, index, partitions)
            await ports.provider.queue.ensure(name, ordered=spec.order == "strict")
    except ProviderError as exc:
        ports.events.problem(f"the queues of {spec.name} could not be created: {exc}")


def _destination(
    spec: QueueSpec, partitions: int, received: Received, clock: Clock, limit: int
) -> tuple[str, bytes, str | None]:
    """Return where a message of the intake goes, as what, and under which key."""
    at = datetime.fromtimestamp(clock.wall(), UTC).isoformat()
    try:
        envelope = unwrap(received.body)
        key = envelope.key if envelope.key is not None else key_of(envelope.body, spec.key)
        id = check_key(envelope.id or received.id)
        origin, at_first = envelope.origin or "router", envelope.at or at
        body = wrap(envelope.body, id=id, key=key, origin=origin, at=at_first, extra=envelope.extra)
        if len(body) > limit:
            raise BadMessage(f"with its id and key it has {len(body)} bytes, and the store takes {limit}")
    except BadMessage as exc:
        failure = Failure(str(exc), "worker.BadMessage", "", received.attempts, spec.name, spec.name, at)
        letter = dead_letter(received.body, failure, id=received.id, key=None, limit=limit)
        return dead_letter_queue(spec.name), letter, None
    index = partition_index(key if key is not None else id, partitions)
    return partition_name(spec.name, index, partitions), body, key
