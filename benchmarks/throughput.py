"""Messages a second through the embedded queue: a handler that does nothing, three instances, sixteen partitions.

Beside it, in the same run, what the disk under it takes: bare SQLite transactions a second, one writer. A message
costs two of them (received, deleted), so the ratio is what the runtime adds.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

from providers.connect import connect
from worker.core.envelope import wrap
from worker.core.names import partition_index, partition_name
from worker.dev.fleet import LocalFleet

MESSAGES = 6_000
PARTITIONS = 16
TRANSACTIONS = 2_000
WITHIN = 180.0


def bare_transactions(folder: Path) -> float:
    """Return the transactions a second that a bare SQLite file takes, with the driver's own durability."""
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE entries (number INTEGER PRIMARY KEY, body BLOB)")
    started = time.perf_counter()
    for number in range(TRANSACTIONS):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO entries VALUES (?, ?)", (number, b"x" * 200))
        connection.execute("COMMIT")
    return TRANSACTIONS / (time.perf_counter() - started)


async def fill(store: str) -> None:
    """Put the messages into their partitions, before anybody works on them."""
    provider = connect(store, total=10.0)
    bodies: dict[str, list[bytes]] = {}
    for number in range(MESSAGES):
        partition = partition_name("noop", partition_index(str(number), PARTITIONS), PARTITIONS)
        bodies.setdefault(partition, []).append(wrap({"n": number}, key=str(number)))
    for partition, batch in bodies.items():
        await provider.queue.ensure(partition)
        await provider.queue.send(partition, batch)
    await provider.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = f"sqlite:///{folder / 'fleet.sqlite'}"
        asyncio.run(fill(store))
        bare = bare_transactions(folder)
        with LocalFleet(store, app="benchmarks.apps:app") as fleet:
            first = fleet.wait_for(lambda event: event.name == "message.handled", WITHIN)
            fleet.wait_until(lambda: len(fleet.events("message.handled")) >= MESSAGES or None, WITHIN, "all handled")
            last = fleet.events("message.handled")[-1]
        seconds = last.at - first.at
        rate = MESSAGES / seconds
        print(f"{MESSAGES:,} messages, {PARTITIONS} partitions, 3 instances, a handler that does nothing")
        print(f"{'embedded queue':<34}{rate:>10,.0f} messages/s   ({seconds:.1f} s)")
        print(f"{'bare SQLite, one writer':<34}{bare:>10,.0f} transactions/s")
        print(f"{'transactions a message could cost':<34}{bare / rate:>10.1f}   (it makes 2)")


if __name__ == "__main__":
    main()
