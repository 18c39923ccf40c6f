"""Events: one JSON object a line on stderr, with what is bound to them, and heard by a sink."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.telemetry import LEVELS, silent

PROGRAM = """
from worker.telemetry import configure

events = configure({level!r}).bind(fleet="f", instance="i", session="s")
events.emit("instance.started", pid=1)
events.bind(term=7).emit("leader.lost", reason="the store is away")
events.emit("message.dead_lettered", message="m", error="Ünïcode")
events.problem("something odd", partition="orders-00")
events.bind(queue="orders").log.info("charging", amount=3)
print("data")
"""


def written(level: str = "INFO") -> list[dict[str, Any]]:
    """Return what a process writes to stderr, line by line."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "data\n"
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_events_are_json_lines_on_stderr() -> None:
    """Each event is one line of JSON with its name, its level, an ISO time in UTC, and everything that is bound."""
    lines = written()
    assert [line["event"] for line in lines] == [
        "instance.started",
        "leader.lost",
        "message.dead_lettered",
        "problem",
        "charging",
    ]
    for line in lines:
        assert (line["fleet"], line["instance"], line["session"]) == ("f", "i", "s")
        assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC
    assert [line["level"] for line in lines] == ["info", "warning", "error", "warning", "info"]
    assert (lines[1]["term"], lines[1]["reason"]) == (7, "the store is away")
    assert "term" not in lines[2]
    assert lines[3]["problem"] == "something odd"
    assert (lines[4]["queue"], lines[4]["amount"]) == ("orders", 3)


def test_the_level_says_what_is_written() -> None:
    """Below the configured level nothing is written."""
    assert [line["event"] for line in written("ERROR")] == ["message.dead_lettered"]


def test_a_sink_hears_everything_with_what_is_bound() -> None:
    """A sink gets event, problem and fields as values, whatever the level, and binding changes nobody else's events."""
    heard: list[Mapping[str, Any]] = []
    events = silent(heard.append)
    bound = events.bind(instance="i").bind(term=3)
    bound.emit("leader.elected", lease_session="x")
    bound.problem("odd", queue="q")
    events.emit("plan.published")
    assert heard == [
        {"instance": "i", "term": 3, "event": "leader.elected", "lease_session": "x"},
        {"instance": "i", "term": 3, "event": "problem", "problem": "odd", "queue": "q"},
        {"event": "plan.published"},
    ]


def test_an_events_own_field_counts_more_than_a_bound_one() -> None:
    """A field that is given with the event replaces the bound one of that name."""
    heard: list[Mapping[str, Any]] = []
    silent(heard.append).bind(term=3).emit("leader.observed", term=4)
    assert heard[0]["term"] == 4


@pytest.mark.parametrize("event", sorted(LEVELS))
def test_levels_are_known_names(event: str) -> None:
    """Every event with a level of its own has one of the names that the docs promise."""
    fixed = {"write.refused", "leader.lost", "lease.renew_failed", "message.retried", "message.dead_lettered"}
    assert event in fixed | {"instance.killed"}
    assert LEVELS[event] in ("warning", "error")


def test_silent_events_write_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A test's events go to its sink and nowhere else."""
    events = silent(lambda _: None)
    events.emit("message.dead_lettered", message="m")
    events.problem("odd")
    events.log.error("charging")
    assert capfd.readouterr() == ("", "")
