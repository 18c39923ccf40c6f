"""Two releases of one app: the second has a queue that the first does not know, and says more in its messages."""

from __future__ import annotations

import asyncio
import os

from pydantic import BaseModel

from tests.acceptance.apps.acts import act
from worker import App, Leadership, Message

VERSION = os.environ.get("APP_VERSION", "1.0")

app = App(version=VERSION)


class Item(BaseModel):
    """One piece of work. Fields of a newer release are ignored."""

    number: int
    seconds: float = 0.1


@app.queue("items", partitions=int(os.environ.get("APP_PARTITIONS", "8")))
async def handle(item: Item, message: Message) -> None:
    """Take a moment, and say that it was done."""
    await asyncio.sleep(item.seconds)
    act("done", number=item.number, message=message.id, version=VERSION)


if VERSION != "1.0":

    @app.queue("extras", partitions=4)
    async def handle_extra(item: Item, message: Message) -> None:
        """Do what only this release can."""
        act("extra", number=item.number, message=message.id, version=VERSION)


@app.leader
async def lead(leadership: Leadership) -> None:
    """Say who leads."""
    act("leads", term=leadership.term, version=VERSION)
    await asyncio.Event().wait()
