"""Messages that cannot be handled: each ends in the dead-letter queue with its error, and costs the others nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.acceptance.support import BOUNDS, MEMBER, SLACK, STARTING, acted, acts, all_owned, fleet_of, ok, send, worker
from worker.dev.fleet import named
from worker.dev.history import check

PARTITIONS = 3
ATTEMPTS = 2
"""What both queues of the app allow."""


def _letters(folder: Path, queue: str) -> list[dict[str, Any]]:
    found = json.loads(ok(worker(folder, "dlq", "list", queue, "--json", app="poison")))
    assert isinstance(found, list)
    return found


def test_bad_messages_are_dead_lettered_with_their_errors(tmp_path: Path) -> None:
    """What does not parse, and what its handler always refuses, ends in the dead-letter queue, with the error."""
    with fleet_of(tmp_path, "poison", count=1) as fleet:
        all_owned(fleet, PARTITIONS)
        bodies = [
            {"customer": "ann", "amount": "a lot"},
            {"customer": "nobody", "amount": 1},
            {"customer": "bob", "amount": 2},
        ]
        send(tmp_path, "orders", bodies, app="poison")
        fleet.wait_until(
            lambda: len(fleet.events("message.dead_lettered")) == 2, MEMBER.lease + STARTING, "two dead letters"
        )
        acted(tmp_path, "order", customer="bob")
        letters = {letter["error_type"]: letter for letter in _letters(tmp_path, "orders")}

        unparsed = letters.pop("worker.BadMessage")
        assert unparsed["body"] == bodies[0]
        assert "amount" in unparsed["error"]
        assert "integer" in unparsed["error"]
        assert unparsed["attempts"] == 1
        assert acts(tmp_path, "order", customer="ann") == []

        refused = letters.pop("builtins.ValueError")
        assert refused["body"] == bodies[1]
        assert refused["error"] == "there is no such customer"
        assert "poison.py" in refused["traceback"]
        assert refused["attempts"] == ATTEMPTS
        assert [one["attempt"] for one in acts(tmp_path, "order", customer="nobody")] == [1, 2]
        assert letters == {}
        fleet.wait_until(lambda: not check(fleet.history, sent=len(bodies)).problems, STARTING, "all accounted for")
        assert fleet.events("instance.killed") == []


def test_message_that_kills_its_process_is_dead_lettered(tmp_path: Path) -> None:
    """A message whose handler kills its process does so as often as attempts are allowed, and no more."""
    with fleet_of(tmp_path, "poison", count=2) as fleet:
        all_owned(fleet, PARTITIONS)
        send(tmp_path, "bombs", [1], app="poison")
        each = BOUNDS["leader-loss"].worst + MEMBER.lease
        buried = fleet.wait_for(
            named("message.dead_lettered"), (ATTEMPTS + 1) * each + SLACK, what="the message in the dead-letter queue"
        )
        assert len(acts(tmp_path, "bomb")) == ATTEMPTS
        assert len(fleet.events("instance.killed")) == ATTEMPTS
        [letter] = _letters(tmp_path, "bombs")
        assert letter["error_type"] == "worker.NeverReturned"
        assert letter["body"] == 1
        assert letter["attempts"] == ATTEMPTS + 1

        send(tmp_path, "orders", [{"customer": "bob", "amount": 2}], app="poison")
        acted(tmp_path, "order", customer="bob", within=each)
        assert all(event.at < buried.at for event in fleet.events("instance.killed"))
        assert check(fleet.history).problems == []
