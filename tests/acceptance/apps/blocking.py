"""Handlers that block: a plain function that cannot be cancelled, and a coroutine that sleeps as plain code does."""

from __future__ import annotations

from tests.acceptance.apps.acts import act, asked, tick
from worker import App, Message

app = App()


@app.queue("deaf", partitions=1, timeout=300.0)
def deaf(body: object, message: Message) -> None:
    """Go on until the test says so, whatever has been cancelled."""
    _go_on(message)


@app.queue("late", partitions=1, timeout=1.0)
def late(body: object, message: Message) -> None:
    """As `deaf`, but its time is up after a second."""
    _go_on(message)


@app.queue("naps", partitions=1)
async def nap(seconds: float, message: Message) -> None:
    """Block the loop of all handlers."""
    act("asleep", message=message.id)
    tick(seconds)
    act("awake", message=message.id)


def _go_on(message: Message) -> None:
    while not asked("return"):
        act("acting", partition=message.partition, fence=message.fence)
        tick(0.02)
    act("returned", partition=message.partition, fence=message.fence)
