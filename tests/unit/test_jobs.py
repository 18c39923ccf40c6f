"""The sample app on its real input."""

from __future__ import annotations

import asyncio
import csv
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import ValidationError

import jobs
from jobs.feed import FLIGHTS, routes
from worker import Leadership, Message
from worker.context import State
from worker.core.names import partition_index


class Drawer:
    """Stands in for a store: documents in a dictionary, copied on the way in and out."""

    def __init__(self) -> None:
        self.documents: defaultdict[str, dict[str, Any]] = defaultdict(dict)

    def state(self, name: str) -> State:
        drawer = self

        class Document:
            async def open(self) -> dict[str, Any]:
                return dict(drawer.documents[name])

            async def save(self, content: dict[str, Any]) -> None:
                drawer.documents[name] = dict(content)

        async def run_async(work: Coroutine[Any, Any, Any]) -> Any:
            return await work

        return State(Document(), asyncio.run, run_async)

    def message(self, body: dict[str, str | int]) -> Message:
        return Message(
            id="m-1",
            queue="routes",
            partition="routes-00",
            key=str(body["origin"]),
            body=body,
            attempt=1,
            fence=1,
            enqueued_at=0.0,
            log=structlog.get_logger(),
            _state=self.state,
        )


async def handle(drawer: Drawer, bodies: Iterator[dict[str, str | int]]) -> None:
    for body in bodies:
        await jobs.count_flights(jobs.Route.model_validate(body), drawer.message(body))


def totals_of_the_file() -> dict[str, int]:
    totals: defaultdict[str, int] = defaultdict(int)
    with FLIGHTS.open(newline="") as file:
        for row in csv.DictReader(file):
            totals[row["origin"]] += int(row["count"])
    return dict(totals)


def test_the_data_is_what_its_description_says() -> None:
    """The file holds 5,366 routes with 7,009,728 flights, and no route twice."""
    rows = list(routes())
    assert len(rows) == 5366
    assert sum(int(row["count"]) for row in rows) == 7_009_728
    assert len({(row["origin"], row["destination"]) for row in rows}) == 5366
    description = Path(FLIGHTS.parent, "README.md").read_text()
    assert "5,366 routes" in description
    assert "7,009,728 flights" in description


def test_every_airports_total_equals_the_file() -> None:
    """Handling every route once counts every flight of every airport."""
    drawer = Drawer()
    asyncio.run(handle(drawer, routes()))
    counted = {origin: sum(airport.values()) for origin, airport in drawer.documents.items()}
    assert counted == totals_of_the_file()
    assert sum(counted.values()) == 7_009_728


def test_a_second_delivery_counts_nothing_twice() -> None:
    """Handling every route twice leaves the same documents as handling it once."""
    once, twice = Drawer(), Drawer()
    asyncio.run(handle(once, routes()))
    for _ in range(2):
        asyncio.run(handle(twice, routes()))
    assert twice.documents == once.documents


def test_every_partition_has_work() -> None:
    """The origins of the file spread over all partitions that the app declares."""
    spec = jobs.app.queues["routes"]
    assert spec.key == "origin"
    assert spec.body is jobs.Route
    used = {partition_index(str(row["origin"]), spec.partitions) for row in routes()}
    assert used == set(range(spec.partitions))


def test_a_body_that_is_no_route_is_refused() -> None:
    """A message without a usable count never reaches the handler."""
    with pytest.raises(ValidationError):
        jobs.Route.model_validate({"origin": "ATL", "destination": "ORD", "count": "many"})


def test_the_leader_job_leaves_its_term() -> None:
    """The leader's job writes the term into a document of the leader's."""
    drawer = Drawer()
    leadership = Leadership(7, structlog.get_logger(), lambda: 1.0, drawer.state)
    asyncio.run(jobs.open_the_books(leadership))
    assert drawer.documents["books"] == {"term": 7}
    assert list(jobs.app.leader_jobs) == ["open_the_books"]
