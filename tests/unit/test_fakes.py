"""The fakes that users' unit tests stand on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from worker import Fenced, NotLeader
from worker.testing import fake_leadership, fake_message


def test_a_fake_message_keeps_state_for_both_kinds_of_handlers() -> None:
    """State opened by `with` and by `async with` is the same document, saved on exit and untouched by an error."""
    documents: dict[str, dict[str, Any]] = {}
    message = fake_message({"amount": 3}, key="c-1", documents=documents)

    async def charge() -> None:
        async with message.state("c-1") as balance:
            balance["paid"] = balance.get("paid", 0) + message.body["amount"]

    asyncio.run(charge())
    with message.state("c-1") as balance:
        balance["paid"] += 1
    with pytest.raises(ZeroDivisionError), message.state("c-1") as balance:
        balance["paid"] = 1 / 0
    assert documents == {"c-1": {"paid": 4}}
    assert message.attempt == 1
    message.log.info("charged", amount=3)


def test_a_fenced_message_is_refused() -> None:
    """A test can ask for the refusal that a deposed owner meets."""
    with pytest.raises(Fenced), fake_message({}, fenced=True).state("c-1") as balance:
        balance["paid"] = 1


def test_a_fake_leadership_can_end() -> None:
    """`check` passes while trust is left and raises once it is not."""
    left = [2.0, 2.0, 0.0]
    leadership = fake_leadership(term=7, trust_left=lambda: left.pop(0))
    leadership.check()
    assert leadership.trust_left == 2.0
    with pytest.raises(NotLeader, match="term 7"):
        leadership.check()
