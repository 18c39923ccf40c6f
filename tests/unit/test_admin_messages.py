"""Sending and dead letters: every message in its partition, in order, and nothing lost on the way back either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from providers.interface import OutcomeUnknown, Unavailable
from tests.unit.admin_support import Sample, run
from worker.admin import dlq
from worker.admin.inputs import BadInput, Item
from worker.admin.routing import Route, route_for
from worker.admin.send import send
from worker.app import App
from worker.core.dead_letter import Failure, dead_letter
from worker.core.envelope import unwrap, wrap
from worker.core.names import partition_index, partition_name
from worker.errors import ConfigurationError, LostPrecondition

FAILURE = Failure("boom", "builtins.ValueError", "trace", 5, "orders", "orders-00", "2026-03-01T12:00:00Z")


async def contents(sample: Sample, queue: str) -> list[Any]:
    return [unwrap(received.body).body for received in await sample.provider.queue.peek(queue, 10_000)]


# --- routes and sending ---


def app_with_orders() -> App:
    app = App()

    @app.queue("orders", partitions=4, key="customer")
    def charge(body: dict[str, Any]) -> None: ...

    @app.queue("thumbs", mode="shared")
    def thumb(body: dict[str, Any]) -> None: ...

    return app


def test_the_plan_knows_the_count_and_the_app_the_key() -> None:
    """The partition count in force is the plan's; what only the app knows is the key's field."""

    async def test(sample: Sample) -> None:
        app = app_with_orders()
        assert await route_for(sample.provider, "orders", app) == Route("orders", 4, "customer")
        await sample.plan({}, count=16)
        assert await route_for(sample.provider, "orders", app) == Route("orders", 16, "customer")
        assert await route_for(sample.provider, "orders", None) == Route("orders", 16)
        assert await route_for(sample.provider, "thumbs", app) == Route("thumbs", None)

    run(test)


def test_an_unknown_queue_is_refused_with_the_nearest_name() -> None:
    """A misspelt queue must not be created."""

    async def test(sample: Sample) -> None:
        with pytest.raises(ConfigurationError, match="did you mean 'orders'"):
            await route_for(sample.provider, "ordres", app_with_orders())
        with pytest.raises(ConfigurationError, match="queue name 'UPPER'"):
            await route_for(sample.provider, "UPPER", None)
        assert not (await route_for(sample.provider, "ordres", None)).known
        with pytest.raises(ConfigurationError, match="no queue 'ordres'"):
            await send(sample.provider, sample.clock, await route_for(sample.provider, "ordres", None), [Item(1, "x")])

    run(test)


def test_keys_decide_partitions_and_order_is_kept() -> None:
    """Every message must be in the partition of its key, in the order in which it was sent."""

    async def test(sample: Sample) -> None:
        items = [Item({"customer": f"c{number % 40}", "n": number}, f"{number}") for number in range(1200)]
        seen: list[int] = []
        sent = await send(
            sample.provider,
            sample.clock,
            Route("orders", 4, "customer"),
            items,
            on_progress=lambda so_far: seen.append(so_far.messages),
        )
        assert sent.messages == 1200
        assert seen == sorted(seen)
        assert seen[-1] == 1200
        for index in range(4):
            found = await contents(sample, partition_name("orders", index, 4))
            assert [body["n"] for body in found] == sorted(body["n"] for body in found)
            assert all(partition_index(body["customer"], 4) == index for body in found)
        assert sum(sent.queues.values()) == 1200

    run(test)


def test_one_key_for_all_and_no_key_at_all() -> None:
    """A given key must put all messages into one partition; without a key they must spread."""

    async def test(sample: Sample) -> None:
        route, items = Route("orders", 4), [Item(number, "x") for number in range(100)]
        assert len((await send(sample.provider, sample.clock, route, items, key="k")).queues) == 1
        assert len((await send(sample.provider, sample.clock, route, items)).queues) == 4
        assert (await send(sample.provider, sample.clock, Route("orders", None), items)).queues == {"orders": 100}

    run(test)


def test_a_lost_answer_is_sent_again_under_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store does not answer, the same messages must be sent again, so that copies can be told."""

    async def test(sample: Sample) -> None:
        await sample.provider.queue.ensure("orders")
        real = sample.provider.queue.send
        faults: list[Exception] = [Unavailable("busy"), OutcomeUnknown("silence")]

        async def faulty(queue: str, bodies: Sequence[bytes], keys: Sequence[str | None]) -> list[str]:
            fault = faults.pop() if faults else None
            if isinstance(fault, Unavailable):
                raise fault
            ids = await real(queue, bodies)
            if fault is not None:
                raise fault
            return ids

        monkeypatch.setattr(sample.provider.queue, "send", faulty)
        sent = await send(sample.provider, sample.clock, Route("orders", None), [Item(1, "x")])
        assert (sent.messages, sent.repeated) == (1, 1)
        found = [unwrap(received.body).id for received in await sample.provider.queue.peek("orders", 10)]
        assert found == [sent.last_id, sent.last_id]

    run(test)


def test_a_store_that_stays_down_ends_the_sending(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending must not be repeated for ever."""

    async def down(queue: str, bodies: Sequence[bytes], keys: Sequence[str | None]) -> list[str]:
        raise Unavailable("down")

    async def test(sample: Sample) -> None:
        monkeypatch.setattr(sample.provider.queue, "send", down)
        with pytest.raises(Unavailable):
            await send(sample.provider, sample.clock, Route("orders", None), [Item(1, "x")])

    run(test)


@pytest.mark.parametrize(
    "body, says", [({"a": "x" * 300_000}, "bytes, and the queue takes"), ({"k": "\ud800"}, "surrogate")]
)
def test_what_cannot_be_sent_names_its_place(body: Any, says: str) -> None:
    """A message that no queue takes must be named by its place, with how many were sent before it."""

    async def test(sample: Sample) -> None:
        with pytest.raises(BadInput, match=f"line 3: .*{says}.*0 messages"):
            await send(
                sample.provider, sample.clock, Route("orders", 2, "k"), [Item(1, "line 2"), Item(body, "line 3")]
            )

    run(test)


# --- dead letters ---


async def bury(sample: Sample, *ids: str, key: str | None = "k") -> None:
    await sample.provider.queue.ensure("orders-dlq")
    for id in ids:
        letter = dead_letter(wrap({"id": id}, id=id, key=key), FAILURE, id=id, key=key, limit=100_000)
        await sample.provider.queue.send("orders-dlq", [letter])


def test_a_look_changes_nothing() -> None:
    """Listing and showing dead letters must leave them as they are."""

    async def test(sample: Sample) -> None:
        assert await dlq.peek(sample.provider, "orders") == []
        await bury(sample, "a", "b")
        assert [letter.id for letter in await dlq.peek(sample.provider, "orders")] == ["a", "b"]
        shown = (await dlq.find(sample.provider, "orders", "b")).to_dict()
        assert (shown["body"], shown["error"], shown["attempts"]) == ({"id": "b"}, "boom", 5)
        with pytest.raises(LostPrecondition, match="no dead letter 'c'"):
            await dlq.find(sample.provider, "orders", "c")
        assert len(await dlq.peek(sample.provider, "orders")) == 2

    run(test)


def test_replaying_some_leaves_the_others() -> None:
    """Replaying named letters must move exactly those, to the partition of their key, under new ids."""

    async def test(sample: Sample) -> None:
        await bury(sample, *(f"m{number}" for number in range(25)))
        done = await dlq.replay(sample.provider, sample.clock, Route("orders", 4), ["m3", "m20", "no-such"])
        assert done.ids == ["m3", "m20"]
        assert list(done.failed) == ["no-such"]
        assert len(await dlq.peek(sample.provider, "orders")) == 23
        target = partition_name("orders", partition_index("k", 4), 4)
        found = [unwrap(received.body) for received in await sample.provider.queue.peek(target, 10)]
        assert [envelope.body for envelope in found] == [{"id": "m3"}, {"id": "m20"}]
        assert not {envelope.id for envelope in found} & {"m3", "m20"}

    run(test)


def test_replaying_all_sends_a_copy_only_once() -> None:
    """Replaying all must empty the queue, and a letter that is there twice must be sent once."""

    async def test(sample: Sample) -> None:
        await bury(sample, "a", "b", "a")
        await sample.provider.queue.send("orders-dlq", [b"a stranger's, and not JSON"])
        done = await dlq.replay(sample.provider, sample.clock, Route("orders", None), None)
        assert len(done.ids) == 3
        assert not done.failed
        assert (await sample.provider.queue.depth("orders-dlq")).visible == 0
        assert (await sample.provider.queue.depth("orders")).visible == 3

    run(test)


def test_a_letter_whose_body_was_cut_stays() -> None:
    """A letter that cannot be sent again must stay where it is and say why."""

    async def test(sample: Sample) -> None:
        await sample.provider.queue.ensure("orders-dlq")
        letter = dead_letter(wrap("x" * 5000, id="big"), FAILURE, id="big", key=None, limit=1000)
        await sample.provider.queue.send("orders-dlq", [letter])
        done = await dlq.replay(sample.provider, sample.clock, Route("orders", None), None)
        assert not done.ids
        assert "cut" in done.failed["big"]
        assert (await sample.provider.queue.depth("orders-dlq")).visible == 1

    run(test)


def test_discarding() -> None:
    """Discarding must delete what was named, or everything."""

    async def test(sample: Sample) -> None:
        await bury(sample, "a", "b", "c")
        assert (await dlq.discard(sample.provider, "orders", ["b"])).ids == ["b"]
        assert [letter.id for letter in await dlq.peek(sample.provider, "orders")] == ["a", "c"]
        assert (await dlq.discard(sample.provider, "orders", None)).ids == ["a", "c"]
        assert await dlq.peek(sample.provider, "orders") == []

    run(test)
