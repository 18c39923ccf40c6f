"""Each command of the command line: what it prints, where it prints it, and with which code it ends."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from providers.body import encode
from providers.provider import Provider
from tests.unit.cli_support import failure, in_store, lead, member, plan, store, worker
from worker.core.dead_letter import Failure, dead_letter
from worker.core.envelope import unwrap, wrap

__all__ = ["store"]  # a fixture

FAILURE = Failure("boom", "builtins.ValueError", "the trace", 5, "orders", "orders-00", "2026-03-01T12:00:00Z")


# --- what it shows ---


def test_bounds_need_no_store() -> None:
    """`worker bounds` must answer without a store, for people and for programs."""
    assert "failover" in worker("bounds").stdout
    found = json.loads(worker("bounds", "--lease", "30", "--json").stdout)
    assert found["timings"]["D"] == 30
    assert all(bound["usual"] <= bound["worst"] for bound in found["bounds"])


def test_status_of_an_empty_store(store: str) -> None:
    """A store in which nobody ever led must be shown as such, with 5."""
    result = worker("status")
    assert result.exit_code == 5
    assert "no instance has ever led" in result.stdout
    assert json.loads(worker("status", "--json").stdout)["lease"]["state"] == "absent"


def test_status_after_the_lease_was_deleted(store: str) -> None:
    """A store in which somebody has led, and the lease is gone, must not be shown as one in which nobody ever did."""
    in_store(store, plan)
    result = worker("status")
    assert result.exit_code == 5
    assert "nobody: somebody has deleted the lease; the plan is of term 3" in result.stdout


def test_status_of_a_fleet(store: str) -> None:
    """Leader, member, queue and what is wrong must be shown, and data must be alone on stdout."""
    in_store(store, lead)
    in_store(store, plan)
    in_store(store, member)
    result = worker("status", "--no-wait")
    assert result.exit_code == 6
    assert "i-1, term 3" in result.stdout
    assert "degraded: partition orders-01 without an owner" in result.stdout
    waited = worker("status", "--json")
    assert waited.exit_code == 5
    assert json.loads(waited.stdout)["lease"]["state"] == "expired"
    assert "watching whether i-1 renews" in waited.stderr
    assert worker("-q", "status", "--json").stderr == ""


def test_the_leader_is_one_session(store: str) -> None:
    """Of two sessions of one instance only the one that the plan names must be shown as the leader."""
    in_store(store, lead)
    in_store(store, plan)
    for id in ("i-1~a", "i-1~s", "i-1~z"):
        in_store(store, partial(member, id=id))
    roles = [line.split()[:4] for line in worker("status", "--no-wait").stdout.splitlines() if line.startswith("i-1 ")]
    assert [(row[1], "leader" in row) for row in roles] == [("a", False), ("s", True), ("z", False)]


def test_partitions(store: str) -> None:
    """Partitions must be shown by queue, and those under way on demand."""
    in_store(store, plan)
    found = json.loads(worker("partitions", "orders", "--json").stdout)
    assert [(one["name"], one["state"]) for one in found] == [("orders-00", "granted"), ("orders-01", "free")]
    assert [one["name"] for one in json.loads(worker("partitions", "--next", "--json").stdout)] == ["orders-01"]
    assert "no queue or partition 'nope' in the plan, which has: orders" in failure("partitions", "nope", code=3)


def test_history(store: str) -> None:
    """History must show each term with its own end, which the next one knows."""

    async def terms(provider: Provider) -> None:
        for term, end in ((1, "unknown"), (2, "expired"), (3, "handed over")):
            fields = {"nonce": "n", "term": term, "instance": f"i-{term}", "session": "s", "previous_end": end}
            await provider.documents.create(f"terms/{term:012d}", encode(fields))

    in_store(store, terms)
    found = json.loads(worker("history", "--json").stdout)
    assert [(one["term"], one["end"]) for one in found] == [(1, "expired"), (2, "handed over"), (3, None)]
    assert [one["term"] for one in json.loads(worker("history", "-n", "1", "--json").stdout)] == [3]
    assert "i-3" in worker("history").stdout


def test_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings in force must be shown with secrets masked, and the generated texts be complete."""
    monkeypatch.setenv("WORKER_ADMIN_TOKEN", "hunter2")
    shown = worker("config", "show")
    assert shown.exit_code == 0
    assert "hunter2" not in shown.stdout
    values = {one["variable"]: one for one in json.loads(worker("config", "show", "--json").stdout)}
    assert values["WORKER_LEASE"] == {"variable": "WORKER_LEASE", "value": 15.0, "source": "derived"}
    monkeypatch.setenv("WORKER_NONSENSE", "1")
    assert "WORKER_STORE=" in worker("config", "env").stdout
    assert "| `WORKER_STORE` |" in worker("config", "docs").stdout


# --- orders ---


def test_step_down(store: str) -> None:
    """A step-down must end with 5 when nobody leads, and else say for which term it is."""
    assert "nobody leads" in failure("step-down", code=5)
    in_store(store, lead)
    assert json.loads(worker("step-down", "--json").stdout) == {"term": 3}


def test_drain(store: str) -> None:
    """A drain must end with 7 for an instance that is not there, and else name the session."""
    in_store(store, member)
    assert "known instances: i-1" in failure("drain", "i-2", code=7)
    assert json.loads(worker("drain", "i-1", "--json").stdout)["sessions"] == ["i-1~s"]
    in_store(store, lambda provider: member(provider, state="left"))
    assert "no session of instance 'i-1'" in failure("drain", "i-1", code=7)


def test_pause_and_resume(store: str) -> None:
    """Pausing must stand until it is resumed, and both must say what is paused."""
    worker("pause", "orders")
    assert worker("pause", "thumbs").stdout == "paused: orders, thumbs\n"
    assert worker("resume", "orders").stdout == "queue orders runs; still paused: thumbs\n"


def test_pausing_an_unknown_queue(store: str) -> None:
    """A misspelt queue must be remarked, its order must stand, and the status must show it."""
    in_store(store, plan)
    paused = worker("pause", "ordres")
    assert (paused.exit_code, paused.stdout) == (0, "paused: ordres\n")
    assert "did you mean 'orders'?" in paused.stderr
    assert "pause: queue ordres" in worker("status", "--no-wait").stdout
    assert "did you mean 'orders'?" in worker("resume", "ordres").stderr
    assert worker("pause", "orders").stderr == ""


def test_repartition(store: str) -> None:
    """A partition count may only be changed on a paused and empty queue: 7, with the fix."""
    in_store(store, plan)
    assert "worker pause orders" in failure("partitions", "orders", "--count", "4", code=7)
    worker("pause", "orders")
    assert "from 2 to 4" in worker("partitions", "orders", "--count", "4").stdout
    assert "from 1 to 1000" in failure("partitions", "orders", "--count", "0", code=3)


def test_force(store: str) -> None:
    """Taking a partition by force must name the grant, be confirmed, and need an owner."""
    in_store(store, plan)
    assert "add --yes" in failure("partitions", "orders-00", "--force", code=7)
    assert json.loads(worker("partitions", "orders-00", "--force", "--yes", "--json").stdout)["fence"] == 1
    assert "has no owner" in failure("partitions", "orders-01", "--force", "--yes", code=7)
    assert "no partition 'orders-07'" in failure("partitions", "orders-07", "--force", "--yes", code=3)


# --- messages ---


def test_send(store: str, tmp_path: Path) -> None:
    """One value, a file and a pipe must all arrive, and the app must not be needed for it."""
    in_store(store, plan)
    one = worker("send", "orders", '{"a": 1}', "--key", "k")
    assert one.exit_code == 0
    (tmp_path / "many.jsonl").write_text('{"a": 2}\n{"a": 3}\n')
    assert worker("send", "orders", "--file", "many.jsonl").exit_code == 0
    assert json.loads(worker("send", "orders", "-", "--json", input="[4, 5, 6]").stdout)["sent"] == 3

    async def ids(provider: Provider) -> list[str | None]:
        for name in ("orders-00", "orders-01"):  # without keys, ids spread the messages: one queue may have got none
            await provider.queue.ensure(name)
        arrived = [received for name in ("orders-00", "orders-01") for received in await provider.queue.peek(name, 10)]
        return [unwrap(received.body).id for received in arrived]

    arrived = in_store(store, ids)
    assert len(set(arrived)) == len(arrived) == 6
    assert one.stdout.strip() in arrived


def test_bad_messages_are_refused_before_any_is_sent(store: str, tmp_path: Path) -> None:
    """A bad line in a file must end with 2 and its place, and nothing must have been sent."""
    in_store(store, plan)
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\noops\n')
    result = worker("send", "orders", "-f", "bad.jsonl")
    assert result.exit_code == 2
    assert "bad.jsonl, line 2: not JSON" in result.stderr
    assert worker("send", "orders", "oops").exit_code == 2
    assert "write --file bad.jsonl" in worker("send", "orders", "bad.jsonl").stderr
    assert worker("send", "orders", "-f", "missing.json").exit_code == 2
    assert worker("partitions", "--json").exit_code == 0
    assert all(one["visible"] is None for one in json.loads(worker("partitions", "--json").stdout))


def test_an_unknown_queue(store: str) -> None:
    """A misspelt queue must end with 3 and the nearest name; without plan and app, with how to begin."""
    assert "start a worker first" in failure("send", "orders", "1", code=3)
    in_store(store, plan)
    assert "did you mean 'orders'" in failure("send", "ordres", "1", code=3)


def test_dead_letters(store: str) -> None:
    """Dead letters must be listed, shown, replayed and discarded, each with the right code."""

    async def bury(provider: Provider) -> None:
        await provider.queue.ensure("orders-dlq")
        for id in ("a", "b", "c"):
            letter = dead_letter(wrap({"id": id}), FAILURE, id=id, key="k", limit=10_000)
            await provider.queue.send("orders-dlq", [letter])

    in_store(store, plan)
    in_store(store, bury)
    assert [one["id"] for one in json.loads(worker("dlq", "list", "orders", "--json").stdout)] == ["a", "b", "c"]
    assert "builtins.ValueError: boom" in worker("dlq", "list", "orders").stdout
    assert "the trace" in worker("dlq", "show", "orders", "b").stdout
    assert "no dead letter 'x'" in failure("dlq", "show", "orders", "x", code=7)
    for command in (["show", "ordres", "b"], ["discard", "ordres", "--all", "--yes"]):
        assert "did you mean 'orders'" in failure("dlq", *command, code=3)
    assert json.loads(worker("dlq", "replay", "orders", "a", "--json").stdout) == {"replayed": ["a"], "failed": {}}
    partly = worker("dlq", "replay", "orders", "x")
    assert partly.exit_code == 7
    assert "x: not there" in partly.stderr
    assert "add --yes" in failure("dlq", "discard", "orders", "--all", code=7)
    assert worker("dlq", "discard", "orders", "b", "--yes").stdout == "1 dead letter discarded\n"
    assert worker("dlq", "discard", "orders", "--all", "--yes").stdout == "1 dead letter discarded\n"
    assert worker("dlq", "list", "orders", "--json").stdout.strip() == "[]"
