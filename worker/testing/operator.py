"""Somebody outside of the fleet, with a good line to the store: sends messages and gives orders."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from providers.body import decode, encode
from providers.interface import NotFound, Refused
from providers.provider import Provider
from worker.core.intents import Control, Intent, Order, parse
from worker.core.names import dead_letter_queue, partition_index, partition_name, partition_names
from worker.testing.schedule import Sending


class Operator:
    """The operator of one simulated fleet. `wall` is a wall clock, `token` makes nonces."""

    def __init__(self, provider: Provider, wall: Callable[[], float], token: Callable[[], str]) -> None:
        self._provider, self._wall, self._token = provider, wall, token

    async def ensure(self, queue: str, partitions: int) -> None:
        """Create the queues, as a deployment does."""
        for name in (queue, dead_letter_queue(queue), *partition_names(queue, partitions)):
            await self._provider.queue.ensure(name)

    async def send(self, queue: str, partitions: int, sending: Sending) -> None:
        """Send one message, to its partition or to the intake."""
        body = encode({"key": sending.key, "kind": sending.kind, "number": sending.number})
        partition = partition_name(queue, partition_index(sending.key, partitions), partitions)
        await self._provider.queue.send_one(queue if sending.intake else partition, body)

    async def order(self, order: Order) -> None:
        """Write an order into the control document; read again and repeat when refused."""
        documents = self._provider.documents
        while True:
            try:
                document = await documents.read("control")
            except NotFound:
                document = None
            control = parse(decode(document.body, "control")) if document is not None else Control()
            id = self._token()
            intent = Intent(id, order, datetime.fromtimestamp(self._wall(), UTC), "operator@simulation")
            edited = control.prune(intent.at).add(intent)
            body = encode({**edited.to_fields(), "nonce": id})
            try:
                if document is None:
                    await documents.create("control", body)
                else:
                    await documents.replace(document.stamp, body)
            except Refused:
                continue
            return
