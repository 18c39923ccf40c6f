"""SQLite queues: fast when they are long, fair when they are retried, and independent of a clock that jumps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.interface import Client
from providers.local import SqliteDriver
from providers.local.database import Database
from providers.local.queue import _DEPTH, _DUE, _FRESH, _HEAD, _HELD

HIDE = 30.0


class Wall:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def client(tmp_path: Path, wall: Wall) -> Iterator[Client]:
    client = SqliteDriver(tmp_path / "store.db", now=wall).open(30.0)
    client.queue.ensure("orders-00")
    yield client
    client.close()


@pytest.mark.parametrize(
    "statement, values",
    [
        (_DUE, (1, 1.0, 1)),
        (_FRESH, (1, 1)),
        (_HEAD, (1,)),
        (_DEPTH, {"queue": 1, "now": 1.0}),
        (f"DELETE FROM messages WHERE {_HELD}", (1, "1.x", "orders-00")),
    ],
)
def test_no_scans(tmp_path: Path, statement: str, values: object) -> None:
    """No statement that a consumer sends walks through the messages or sorts them, so a long queue costs no more."""
    database = Database(tmp_path / "store.db", 30.0)
    plan = [row[-1] for row in database.rows(f"EXPLAIN QUERY PLAN {statement}", values)]  # type: ignore[arg-type]  # both kinds
    database.close()
    assert plan
    assert not [step for step in plan if "SCAN messages" in step or "B-TREE" in step], plan


def test_long_queue(client: Client) -> None:
    """In a queue of a hundred thousand messages, many of them hidden, receives give the right ones, in order."""
    for start in range(0, 100_000, 2_000):
        client.queue.send("orders-00", [b"%d" % n for n in range(start, start + 2_000)])
    hidden = [m.body for _ in range(20) for m in client.queue.receive("orders-00", 500, HIDE)]
    assert hidden == [b"%d" % n for n in range(10_000)]
    for n in range(10_000, 10_200):
        [received] = client.queue.receive("orders-00", 1, HIDE)
        assert received.body == b"%d" % n
        client.queue.delete("orders-00", received.receipt)
    depth = client.queue.depth("orders-00")
    assert (depth.visible, depth.hidden) == (89_800, 10_000)


def test_retries_are_not_starved(client: Client, wall: Wall) -> None:
    """A message that is due again comes before those that were never received, however many there are."""
    client.queue.send("orders-00", [b"%d" % n for n in range(10)])
    [failed] = client.queue.receive("orders-00", 1, HIDE)
    client.queue.release("orders-00", failed.receipt, 5.0)
    wall.now += 5.0
    [again] = client.queue.receive("orders-00", 1, HIDE)
    assert (again.body, again.attempts) == (b"0", 2)


def test_clock_set_back(client: Client, wall: Wall) -> None:
    """After the clock was set back, messages sent before and after it are received all the same."""
    client.queue.send("orders-00", [b"before"])
    wall.now -= 3_600.0
    client.queue.send("orders-00", [b"after"])
    assert [m.body for m in client.queue.receive("orders-00", 10, HIDE)] == [b"before", b"after"]
    age = client.queue.depth("orders-00").oldest_age
    assert age == 0.0


def test_clock_set_forward(client: Client, wall: Wall) -> None:
    """After the clock was set forward a hidden message comes again, and its first receiver's receipt is refused."""
    client.queue.send("orders-00", [b"1"])
    [first] = client.queue.receive("orders-00", 1, HIDE)
    wall.now += 3_600.0
    [second] = client.queue.receive("orders-00", 1, HIDE)
    assert (second.id, second.attempts) == (first.id, 2)


def test_survives_reopening(tmp_path: Path, wall: Wall) -> None:
    """Messages, what is hidden, attempts, receipts and order are in the file, not in the process."""
    driver = SqliteDriver(tmp_path / "store.db", now=wall)
    first = driver.open(30.0)
    first.queue.ensure("orders-00", ordered=True)
    first.queue.send("orders-00", [b"1", b"2"])
    [received] = first.queue.receive("orders-00", 10, HIDE)
    first.close()
    second = driver.open(30.0)
    assert list(second.queue.receive("orders-00", 10, HIDE)) == []
    second.queue.release("orders-00", received.receipt)
    assert [(m.body, m.attempts) for m in second.queue.receive("orders-00", 10, HIDE)] == [(b"1", 2)]
    second.close()
