"""What the acceptance tests share: how often things are done, fleets with a store of their own, and a look inside."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.waiting import until
from worker.core.bounds import Bound, bounds
from worker.core.names import partition_index
from worker.core.timings import leader_timings, member_timings
from worker.dev.events import Event
from worker.dev.fleet import LocalFleet, named
from worker.dev.instance import Instance

ROOT = Path(__file__).resolve().parents[2]
LEADER = leader_timings(3.0)
MEMBER = member_timings(LEADER)
BOUNDS: Mapping[str, Bound] = {bound.name: bound for bound in bounds(LEADER, MEMBER, drain_timeout=12.0)}
"""What `worker bounds` prints for SQLite, where every test here lives."""

STARTING = 20.0
"""Seconds that processes get to start in, on a busy machine."""

SLACK = 5.0
"""Seconds on top of a bound for a wait that is not itself a measurement."""


@dataclass(frozen=True)
class Counts:
    """How often, or for how long, a scenario does what it does."""

    kills: int  # of the leader
    step_downs: int
    stops: int  # SIGSTOP of the leader, then SIGCONT
    stuck: int  # holders of the GIL, of each kind
    program_kills: int  # of the holder under `worker exec`
    outage: float  # seconds
    nap: float  # seconds that a handler blocks its loop: more than a membership is trusted


TESTED = Counts(kills=3, step_downs=3, stops=2, stuck=1, program_kills=4, outage=10.0, nap=9.0)
SHOWN = Counts(kills=20, step_downs=20, stops=10, stuck=3, program_kills=20, outage=20.0, nap=20.0)
"""What the tests do on every change, and what `scripts/must_show.py` does for the record."""


@dataclass(frozen=True)
class Gaps:
    """Measured times, beside what was promised."""

    title: str
    seconds: Sequence[float]
    bound: Bound

    @property
    def median(self) -> float:
        """Half of the times are no longer than this."""
        return statistics.median(self.seconds)

    @property
    def longest(self) -> float:
        """The longest time."""
        return max(self.seconds)

    def __str__(self) -> str:
        return (
            f"{self.title}: n={len(self.seconds)} min={min(self.seconds):.2f} s p50={self.median:.2f} s "
            f"(usual {self.bound.usual:.2f} s) max={self.longest:.2f} s (worst {self.bound.worst:.2f} s)"
        )


# --- fleets ---


def store_url(folder: Path) -> str:
    """Name the store in a test's folder."""
    return f"sqlite:///{folder / 'store.db'}"


@contextmanager
def fleet_of(
    folder: Path, app: str, *, count: int = 3, arguments: Sequence[str] = ("run",), **env: str
) -> Iterator[LocalFleet]:
    """Run a fleet of one of the apps here; its history is left in the folder for whoever looks for a failure."""
    fleet = LocalFleet(
        store_url(folder),
        count=count,
        app=f"tests.acceptance.apps.{app}:app",
        env={"ACTS_FOLDER": str(folder), **env},
        cwd=ROOT,
        arguments=arguments,
    )
    try:
        with fleet:
            yield fleet
    finally:
        lines = [event.to_line() for event in fleet.history]
        (folder / "events.jsonl").write_text("\n".join(lines) + "\n")


def in_office(fleet: LocalFleet, *, since: int = 0, within: float = STARTING) -> Instance:
    """Wait until somebody leads who was elected from a mark on; return the instance."""
    event = fleet.wait_for(named("leader.elected"), within, since=since, what="a leader")
    return fleet.instances[event.instance]


def all_here(fleet: LocalFleet, *, within: float = 60.0) -> Instance:
    """Wait until every instance is a member and one leads; return the leader."""

    def there() -> Instance | None:
        members = all(it.state == "running" and it.member is not None for it in fleet.instances.values())
        return fleet.leader if members else None

    return fleet.wait_until(there, within, "every instance a member, and one of them leading")


def at_rest(folder: Path, fleet: LocalFleet, *, within: float = 90.0) -> Instance:
    """Wait until, besides, the plan's first successor is somebody who lives; return the leader.

    A leader may die at any moment, but what is *usual* is said of a fleet that has settled since the last time.
    """
    inside = Inside(folder)

    def settled() -> Instance | None:
        leader = all_here(fleet)
        plan = inside.fields("plan")
        living = {f"{it.name}~{it.member}" for it in fleet.instances.values()}
        named = plan.get("leader") == f"{leader.name}~{leader.member}" and plan.get("term") == leader.term
        return leader if named and set(plan.get("successors", [])[:1]) & living else None

    leader = until(settled, within, "a plan by the present leader that names a living successor")
    renewals = inside.fields("leases/leader").get("renewals", 0)
    known = renewals + 2  # members read the plan once per renewal
    until(lambda: inside.fields("leases/leader").get("renewals", 0) >= known, within, "the successors to know")
    return leader


def all_owned(fleet: LocalFleet, partitions: int, *, within: float = 60.0) -> None:
    """Wait until all instances are members and together own all partitions."""
    all_here(fleet, within=within)

    def owned() -> bool:
        return sum(len(it.partitions) for it in fleet.instances.values()) == partitions

    fleet.wait_until(owned, within, f"{partitions} partitions owned")


def worker_of(instance: Instance) -> int:
    """Return the pid of an instance's worker process."""
    assert instance.worker is not None, f"{instance.name} has no worker"
    return instance.worker


# --- commands ---


def environment(folder: Path, **env: str | None) -> dict[str, str]:
    """Return the environment of a command: this process's, the folder's store, and what is given; None removes."""
    given: dict[str, str | None] = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WORKER_STORE": store_url(folder),
        "ACTS_FOLDER": str(folder),
        **env,
    }
    return {name: value for name, value in given.items() if value is not None}


def worker(
    folder: Path, *arguments: str, app: str | None = None, cwd: Path = ROOT, stdin: str = "", **env: str | None
) -> subprocess.CompletedProcess[str]:
    """Run one `worker` command on the folder's store and return how it ended."""
    if app is not None:
        env["WORKER_APP"] = f"tests.acceptance.apps.{app}:app"
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(folder, **env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ok(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command printed, which must have succeeded."""
    assert done.returncode == 0, f"{done.args} ended with {done.returncode}: {done.stderr}"
    return done.stdout


def send(
    folder: Path, queue: str, bodies: Sequence[Any], *, app: str, key: str | None = None, env: Mapping[str, Any] = {}
) -> None:
    """Send messages to a queue, as a user would."""
    keyed = [] if key is None else ["--key", key]
    lines = "".join(json.dumps(body) + "\n" for body in bodies)
    ok(worker(folder, "send", queue, "--file", "-", "--format", "jsonl", *keyed, app=app, stdin=lines, **env))


def reported(fleet: LocalFleet, words: str, since: int, within: float = STARTING) -> Event:
    """Wait until an instance has reported a problem in these words."""
    return fleet.wait_for(
        lambda event: event.name == "problem" and words in str(event.get("problem")),
        within,
        since=since,
        what=f"a report of {words!r}",
    )


def key_for(index: int, partitions: int) -> str:
    """Return a key that belongs to this partition of so many."""
    return next(key for key in map(str, range(10_000)) if partition_index(key, partitions) == index)


# --- what apps have said ---


_known: dict[Path, tuple[int, list[dict[str, Any]]]] = {}  # how much of each file has been read, and what it says


def acts(folder: Path, *what: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the acts of these kinds, with these fields, in the order in which they were written."""
    path = folder / "acts.jsonl"
    begin, found = _known.get(path, (0, []))
    if path.exists():
        with path.open("rb") as file:
            file.seek(begin)
            new, whole, _ = file.read().rpartition(b"\n")
        found += [json.loads(line) for line in new.splitlines()]
        _known[path] = begin + len(new) + len(whole), found
    return [
        one
        for one in found
        if (not what or one["act"] in what) and all(one.get(name) == value for name, value in fields.items())
    ]


def acted(folder: Path, what: str, *, times: int = 1, within: float = STARTING, **fields: Any) -> dict[str, Any]:
    """Wait until something has been done so often; return the latest act."""
    found = until(lambda: _enough(acts(folder, what, **fields), times), within, f"{what} {fields} {times} times")
    return found[-1]


def _enough(found: list[dict[str, Any]], times: int) -> list[dict[str, Any]] | None:
    return found if len(found) >= times else None


# --- the inside of the store ---


class Inside:
    """The store's own tables, for a test that must see or do what no worker would."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "store.db"

    def body(self, key: str) -> bytes | None:
        """Return a document's bytes."""
        rows = self._run("SELECT body FROM documents WHERE key = ?", (key,))
        return bytes(rows[0][0]) if rows else None

    def fields(self, key: str) -> dict[str, Any]:
        """Return a document's fields; {} while it is not there, or is garbage."""
        try:
            found = json.loads(self.body(key) or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that start so."""
        return [key for (key,) in self._run("SELECT key FROM documents ORDER BY key", ()) if key.startswith(prefix)]

    def overwrite(self, key: str, body: bytes) -> None:
        """Write over a document, as somebody with an editor would: nothing is compared."""
        put = "INSERT INTO documents (key, version, body) VALUES (?, ?, ?) ON CONFLICT (key)"
        put += " DO UPDATE SET version = excluded.version, body = excluded.body"
        self._run(put, (key, secrets.token_hex(8), body))

    def empty(self) -> None:
        """Delete every document, as somebody would who empties a bucket; messages stay."""
        self._run("DELETE FROM documents", ())

    def messages(self) -> int:
        """Return how many messages there are, in all queues."""
        return int(self._run("SELECT count(*) FROM messages", ())[0][0])

    def _run(self, statement: str, values: Sequence[Any]) -> list[Any]:
        connection = sqlite3.connect(self._path, timeout=20, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()
