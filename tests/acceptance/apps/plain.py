"""A queue that is worked on in small steps: what is in flight is in flight for a while."""

from __future__ import annotations

import asyncio
import sys

from pydantic import BaseModel

from tests.acceptance.apps.acts import act
from worker import App, Message

app = App()


class Item(BaseModel):
    """One piece of work."""

    number: int
    seconds: float = 0.1
    patience: int = 9  # attempts that take so long; later ones take no time


@app.queue("items", partitions=8)
async def handle(item: Item, message: Message) -> None:
    """Take a moment, and say that it was done."""
    act("begun", number=item.number, message=message.id)
    if item.number == 0:
        act("modules", names=sorted(sys.modules))
    await asyncio.sleep(item.seconds if message.attempt <= item.patience else 0)
    act("done", number=item.number, message=message.id)
