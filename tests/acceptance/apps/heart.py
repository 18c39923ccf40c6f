"""A leader job that acts fifty times a second, in a file and in a fenced document, and a queue to be owned."""

from __future__ import annotations

import asyncio
import itertools
import os

from tests.acceptance.apps.acts import act
from worker import App, Leadership

app = App()


@app.queue("beeps", partitions=3)
async def beep(body: object) -> None:
    """Take a message and do nothing with it."""


@app.leader
async def beat(leadership: Leadership) -> None:
    """Write a line, then the document: whatever this process does as leader is on record."""
    for number in itertools.count(1):
        act("beat", term=leadership.term, number=number)
        async with leadership.state("heart") as heart:
            heart.update(term=leadership.term, pid=os.getpid(), number=number)
        await asyncio.sleep(0.02)
