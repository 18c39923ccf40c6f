"""A leader job and a handler that, when the test says so, start a child process and then hold the GIL in C."""

from __future__ import annotations

import asyncio
import re

from tests.acceptance.apps.acts import INSTANCE, act, start_child, take
from worker import App, Leadership, Message

app = App()


def hold_the_gil() -> None:
    """Never return: a match that takes longer than anybody has, inside one call of C code."""
    re.match(r"(a+)+$", "a" * 60 + "b")


@app.leader
async def lead(leadership: Leadership) -> None:
    """Lead in peace until the flag is up."""
    while True:
        await asyncio.sleep(0.02)
        if take(f"hold-as-leader-{INSTANCE}"):
            act("stuck", term=leadership.term, child=start_child())
            hold_the_gil()


@app.queue("work", partitions=4)
async def work(body: object, message: Message) -> None:
    """Handle a message, unless the flag is up: then get stuck in it."""
    act("begun", message=message.id, partition=message.partition, fence=message.fence)
    if take("hold-as-handler"):
        act("stuck", child=start_child(), partition=message.partition, fence=message.fence)
        hold_the_gil()
    act("done", message=message.id, partition=message.partition, fence=message.fence)
