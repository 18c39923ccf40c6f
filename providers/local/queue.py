"""Queues in a table.

Visibility is counted on the wall clock: it must go on over a restart of the machine, which no other clock does, and
nothing but one machine's own processes compares it. If somebody sets the clock forward, a message may come twice,
which handlers must bear anyway, and the stale receipt is refused; if back, a hidden message comes later. A message
that nobody has received yet does not depend on the clock at all.

Order: what is due again first (there is little of it, and back-off spaces it out), then the rest as it was sent. An
ordered queue gives its very first message or nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from providers.interface import Depth, NotFound, Received, Refused
from providers.local.database import Database

_COLUMNS = "number, id, body, attempts, enqueued_at"

_DUE = "SELECT number FROM messages WHERE queue = ? AND visible_at > 0 AND visible_at <= ? ORDER BY visible_at LIMIT ?"
_FRESH = "SELECT number FROM messages WHERE queue = ? AND visible_at = 0 ORDER BY number LIMIT ?"
_HEAD = "SELECT number, visible_at FROM messages WHERE queue = ? ORDER BY number LIMIT 1"
_HELD = "number = ? AND receipt = ? AND queue = (SELECT id FROM queues WHERE name = ?)"
_DEPTH = (
    "SELECT (SELECT count(*) FROM messages WHERE queue = :queue),"
    " (SELECT count(*) FROM messages WHERE queue = :queue AND visible_at > :now),"
    " (SELECT enqueued_at FROM messages WHERE queue = :queue ORDER BY number LIMIT 1)"
)

_TRIES = 16
"""Looks at a queue whose visible messages others take in between; each time they do, somebody has got one."""


class SqliteQueue:
    """`interface.Queue` for all queues in one SQLite file. `now` is the wall clock, in Unix seconds."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """See `interface.Queue.ensure`."""
        rows = self._database.rows("SELECT ordered FROM queues WHERE name = ?", (queue,))
        if rows and rows[0][0] >= ordered:
            return
        self._database.change(
            "INSERT INTO queues (name, ordered) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET ordered = max(ordered, excluded.ordered)",
            (queue, int(ordered)),
        )

    def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
        """See `interface.Queue.send`."""
        number, _ = self._find(queue)
        ids = [_message_id() for _ in bodies]
        values = [value for id_, body in zip(ids, bodies, strict=True) for value in (number, id_, body, self._now())]
        if bodies:
            rows = ", ".join(["(?, ?, ?, ?)"] * len(bodies))
            self._database.change(f"INSERT INTO messages (queue, id, body, enqueued_at) VALUES {rows}", values)
        return ids

    def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> Sequence[Received]:
        """See `interface.Queue.receive`. SQLite has nobody to wait for, so `wait` is ignored.

        Looking takes no lock: an idle queue is asked often, and must not stand in anybody's way. What was seen is
        then taken by compare-and-swap, and again if others were faster.
        """
        number, ordered = self._find(queue)
        for _ in range(_TRIES):
            now = self._now()
            seen = self._visible(number, ordered, now, limit)
            if not seen:
                break
            token = secrets.token_hex(8)
            which = f"number IN ({', '.join('?' * len(seen))})"
            mine = "receipt = number || '.' || ?"
            take = (
                f"UPDATE messages SET visible_at = ?, attempts = attempts + 1, {mine} WHERE visible_at <= ? AND {which}"
            )
            if self._database.change(take, (now + hide_for, token, now, *seen)):
                rows = self._database.rows(f"SELECT {_COLUMNS} FROM messages WHERE {which} AND {mine}", (*seen, token))
                rows.sort(key=lambda row: seen.index(row[0]))
                return [Received(id_, bytes(body), n, f"{number}.{token}", at) for number, id_, body, n, at in rows]
        return []

    def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """See `interface.Queue.extend`."""
        number = _number(receipt)
        fresh = f"{number}.{secrets.token_hex(8)}"
        if not self._database.change(
            f"UPDATE messages SET visible_at = ?, receipt = ? WHERE {_HELD}",
            (self._now() + hide_for, fresh, number, receipt, queue),
        ):
            raise self._stale(queue)
        return fresh

    def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """See `interface.Queue.release`."""
        if not self._database.change(
            f"UPDATE messages SET visible_at = ?, receipt = NULL WHERE {_HELD}",
            (self._now() + delay, _number(receipt), receipt, queue),
        ):
            raise self._stale(queue)

    def delete(self, queue: str, receipt: str) -> None:
        """See `interface.Queue.delete`."""
        if not self._database.change(f"DELETE FROM messages WHERE {_HELD}", (_number(receipt), receipt, queue)):
            raise self._stale(queue)

    def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """See `interface.Queue.delete_many`."""
        for receipt in receipts:
            self.delete(queue, receipt)

    def move(self, queue: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
        """See `interface.Queue.move`."""
        target, _ = self._find(to)
        id_ = _message_id()
        with self._database.transaction() as connection:
            if not connection.execute(
                f"DELETE FROM messages WHERE {_HELD}", (_number(receipt), receipt, queue)
            ).rowcount:
                raise self._stale(queue)
            connection.execute(
                "INSERT INTO messages (queue, id, body, enqueued_at) VALUES (?, ?, ?, ?)",
                (target, id_, body, self._now()),
            )
        return id_

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        """See `interface.Queue.peek`."""
        number, _ = self._find(queue)
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY number LIMIT ?",
            (number, self._now(), limit),
        )
        return [Received(id_, bytes(body), attempts, "", at) for _, id_, body, attempts, at in rows]

    def depth(self, queue: str) -> Depth:
        """See `interface.Queue.depth`."""
        number, _ = self._find(queue)
        now = self._now()
        [(total, hidden, oldest)] = self._database.rows(_DEPTH, {"queue": number, "now": now})
        return Depth(total - hidden, hidden, None if oldest is None else max(0.0, now - oldest))

    def retention(self, queue: str) -> float | None:
        """See `interface.Queue.retention`: nothing is ever forgotten."""
        self._find(queue)
        return None

    def _visible(self, queue: int, ordered: bool, now: float, limit: int) -> list[int]:
        """Return the numbers of up to `limit` messages that may be received, in the order in which they should be."""
        if ordered:
            head = self._database.rows(_HEAD, (queue,))
            return [number for number, visible_at in head if visible_at <= now][:limit]
        due = [number for (number,) in self._database.rows(_DUE, (queue, now, limit))]
        if len(due) < limit:
            due += [number for (number,) in self._database.rows(_FRESH, (queue, limit - len(due)))]
        return due

    def _find(self, queue: str) -> tuple[int, bool]:
        rows: list[Any] = self._database.rows("SELECT id, ordered FROM queues WHERE name = ?", (queue,))
        if not rows:
            raise NotFound(f"there is no queue {queue!r}")
        [(number, ordered)] = rows
        return number, bool(ordered)

    def _stale(self, queue: str) -> NotFound | Refused:
        """Return the error for a receipt that holds nothing."""
        try:
            self._find(queue)
        except NotFound as exc:
            return exc
        return Refused("the message is gone, or somebody else has received it since")


def _message_id() -> str:
    return secrets.token_hex(12)


def _number(receipt: str) -> int:
    """Return the number that a receipt begins with, so that its message is found without an index of its own."""
    prefix = receipt.partition(".")[0]
    return int(prefix) if prefix.isdecimal() and len(prefix) < 19 else 0
