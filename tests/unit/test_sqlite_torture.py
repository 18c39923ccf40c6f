"""SQLite under SIGKILL: whatever was acknowledged is there, whatever is there is whole, and nothing stays locked."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from providers.interface import Client, NotFound
from providers.local import SqliteDriver

KILLS = 24
WRITERS = 2
"""Processes that write at the same time, so that one is often killed while the other waits for it."""

LONG = 30.0

WRITER = """
import os, sys
from pathlib import Path
from providers.local import SqliteDriver
path, me, first = sys.argv[1:]
client = SqliteDriver(Path(path)).open(10.0)
documents, queue = client.documents, client.queue
mine = f"count/{me}"
number = int(first)
found = documents.list(mine).stamps
stamp = found[0] if found else documents.create(mine, b"0")
while True:
    number += 1
    body = f"{me}:{number}".encode()
    documents.create(f"made/{me}/{number:06d}", body * 50)
    stamp = documents.replace(stamp, str(number).encode())
    queue.send("in", [body, body + b"+"])
    for received in queue.receive("in", 1, 1000.0):
        queue.move("in", received.receipt, "out", received.body)
    os.write(1, b"%d\\n" % number)
"""


def writer(path: Path, me: int, first: int) -> subprocess.Popen[str]:
    """Start a process that writes until it is killed, and says after which round it is."""
    arguments = [sys.executable, "-c", WRITER, str(path), str(me), str(first)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_kill(tmp_path: Path, seed: int) -> None:
    """Of writers killed at two dozen random points, every acknowledged round is complete and no message is lost."""
    draw = random.Random(seed)
    path = tmp_path / "store.db"
    client = SqliteDriver(path).open(LONG)
    client.queue.ensure("in")
    client.queue.ensure("out")
    acknowledged = [0] * WRITERS
    first = [0] * WRITERS
    rounds: list[set[int]] = [set() for _ in range(WRITERS)]
    for kill in range(KILLS // WRITERS):
        children = [writer(path, me, first[me]) for me in range(WRITERS)]
        for me, child in enumerate(children):
            assert child.stdout is not None
            for _ in range(draw.randrange(1, 30)):
                acknowledged[me] = int(child.stdout.readline())
        for me in draw.sample(range(WRITERS), WRITERS):
            children[me].send_signal(signal.SIGKILL)
        for me, child in enumerate(children):
            assert child.stdout is not None
            acknowledged[me] = max([acknowledged[me], *map(int, child.stdout)])
            child.stdout.close()
            assert child.wait(LONG) == -signal.SIGKILL
            rounds[me] |= set(range(first[me] + 1, acknowledged[me] + 1))
            first[me] = acknowledged[me] + 1  # the one after may have been begun
        _check(client, path, rounds, first, f"kill {kill}, seed {seed}")
    assert all(len(done) >= KILLS // WRITERS for done in rounds)
    client.close()


def _check(client: Client, path: Path, rounds: list[set[int]], begun: list[int], when: str) -> None:
    """Compare the store with what its writers were told."""
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)], when
        queued = Counter(body for (body,) in raw.execute("SELECT body FROM messages"))
    assert not [body for body, times in queued.items() if times > 1], when
    for me, done in enumerate(rounds):
        stored = {int(key.rpartition("/")[2]) for key in _keys(client, f"made/{me}/")}
        assert done <= stored, when
        assert stored - done <= set(range(1, begun[me] + 1)), when
        for number in done:
            body = f"{me}:{number}".encode()
            assert queued[body] == queued[body + b"+"] == 1, (when, body)
        try:
            found = client.documents.read(f"count/{me}")
        except NotFound:
            assert not done, when
        else:
            assert found is not None
            assert int(found.body) in (begun[me] - 1, begun[me]), when


def _keys(client: Client, prefix: str) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = client.documents.list(prefix, after=after)
        found += [stamp.key for stamp in page.stamps]
        if (after := page.after) is None:
            return found
