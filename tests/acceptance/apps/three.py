"""A queue of three partitions: what the fleet was begun with."""

from __future__ import annotations

from tests.acceptance.apps.acts import act
from worker import App, Message

app = App()


@app.queue("orders", partitions=3)
async def order(body: object, message: Message) -> None:
    """Say which partition it came from."""
    act("order", partition=message.partition)
