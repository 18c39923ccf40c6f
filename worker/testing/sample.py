"""The app that simulated fleets run: one queue whose handlers behave as their messages say, and one leader job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from worker.app import App
from worker.context import Leadership, Message
from worker.testing.clock import Stream
from worker.testing.weather import draw

QUEUE = "orders"
MAX_ATTEMPTS = 6
TIMEOUT = 60.0


async def rest(seconds: float) -> None:
    """Sleep as user code does: on the loop it runs on, in its node's time."""
    await asyncio.sleep(seconds)  # noqa: TID251 - user code knows no Clock


def sample_app(
    partitions: int,
    dice: Stream,
    finished: Callable[[int], None],
    acts: Callable[[int], None],
    opened: Callable[[str, int], None],
) -> App:
    """Return the app. `finished(number)` hears of each message done, `acts(term)` of each act as a leader,
    `opened(key, fence)` of each fenced document in use."""
    app = App()

    @app.queue(QUEUE, partitions=partitions, key="key", max_attempts=MAX_ATTEMPTS, timeout=TIMEOUT)
    async def charge(order: Any, message: Message) -> None:
        kind = order["kind"]
        await rest(draw(dice, (0.002, 1.0)))
        if kind == "poison" or (kind == "flaky" and dice.random() < 0.5):
            raise ValueError(f"order {order['number']} fails")
        if kind == "slow":
            await rest(draw(dice, (2.0, 40.0)))
        if kind == "stubborn":
            await _stubborn(draw(dice, (1.0, 10.0)), draw(dice, (0.1, 12.0)))
        if kind != "plain":
            async with message.state(order["key"]) as done:
                assert message.fence is not None  # the queue is not shared
                opened(f"state/{QUEUE}/{order['key']}", message.fence)
                await rest(draw(dice, (0.001, 2.0)))
                done[str(order["number"])] = done.get(str(order["number"]), 0) + 1
        finished(order["number"])

    @app.leader
    async def patrol(leadership: Leadership) -> None:
        while True:
            leadership.check()
            acts(leadership.term)
            await rest(draw(dice, (0.1, 3.0)))
            if dice.random() < 0.2:
                leadership.check()
                async with leadership.state("rounds") as rounds:
                    opened("state/leader/rounds", leadership.term)
                    rounds["count"] = rounds.get("count", 0) + 1

    return app


async def _stubborn(seconds: float, longer: float) -> None:
    """Work that does not end when it is cancelled: it cleans up first."""
    try:
        await rest(seconds)
    except asyncio.CancelledError:
        await rest(longer)
        raise
