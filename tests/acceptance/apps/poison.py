"""Handlers that fail: always, by dying, or only for what does not parse."""

from __future__ import annotations

import os
import signal

from pydantic import BaseModel

from tests.acceptance.apps.acts import act
from worker import App, Message

app = App()


class Order(BaseModel):
    """What the queue `orders` expects."""

    customer: str
    amount: int


@app.queue("orders", partitions=2, max_attempts=2)
async def order(body: Order, message: Message) -> None:
    """Refuse one customer, and charge everybody else."""
    act("order", customer=body.customer, attempt=message.attempt)
    if body.customer == "nobody":
        raise ValueError("there is no such customer")


@app.queue("bombs", partitions=1, max_attempts=2)
async def bomb(body: object, message: Message) -> None:
    """Kill this very process."""
    act("bomb", attempt=message.attempt)
    os.kill(os.getpid(), signal.SIGKILL)
