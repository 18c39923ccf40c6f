"""Orders: written by compare-and-swap, for exactly one term or session, and never lost to another operator's."""

from __future__ import annotations

import asyncio

import pytest

from providers.interface import OutcomeUnknown, Refused, Stamp
from tests.unit.admin_support import Sample, run
from worker.admin.control import Orders, read_control
from worker.admin.repartition import repartition
from worker.admin.status import Lead
from worker.admin.waiting import Drained, drained, known_lease, next_leader
from worker.admin.watcher import Watcher
from worker.core.intents import Drain, Repartition
from worker.errors import ConfigurationError, LostPrecondition, NoLeader, StoreError, WorkerError


def orders(sample: Sample, **options: bool) -> Orders:
    return Orders(sample.provider, sample.clock, "ann@host", **options)


def test_two_operators_at_once_lose_nothing() -> None:
    """Orders given at the same time must all stand in the end."""

    async def test(sample: Sample) -> None:
        await asyncio.gather(*(orders(sample).pause(f"queue{letter}") for letter in "abcdef"))
        _, control = await read_control(sample.provider)
        assert control.paused == {f"queue{letter}" for letter in "abcdef"}
        await asyncio.gather(*(orders(sample).resume(f"queue{letter}") for letter in "abc"))
        _, control = await read_control(sample.provider)
        assert control.paused == {f"queue{letter}" for letter in "def"}

    run(test)


def test_an_order_that_stands_is_not_written_again() -> None:
    """Repeating an order must change nothing in the store."""

    async def test(sample: Sample) -> None:
        await orders(sample).pause("orders")
        before, _ = await read_control(sample.provider)
        await orders(sample).pause("orders")
        after, _ = await read_control(sample.provider)
        assert before == after

    run(test)


def test_a_step_down_names_the_present_term() -> None:
    """A step-down must be for the term that leads now, and for no later one."""

    async def test(sample: Sample) -> None:
        await sample.lead(term=7)
        assert await orders(sample).step_down() == 7
        _, control = await read_control(sample.provider)
        assert control.step_down(7)
        assert not control.step_down(8)
        assert control.intents[0].by == "ann@host"

    run(test)


def test_a_step_down_without_a_leader() -> None:
    """When nobody leads, a step-down must say so and order nothing: a resigned leader is nobody."""

    async def test(sample: Sample) -> None:
        with pytest.raises(NoLeader):
            await orders(sample).step_down()
        grant = await sample.lead()
        await sample.provider.lease("leader").resign(grant, "n")
        with pytest.raises(NoLeader):
            await orders(sample).step_down()
        _, control = await read_control(sample.provider)
        assert not control.intents

    run(test)


def test_a_drain_names_the_sessions_that_are_there() -> None:
    """A drain must name the instance's present sessions and neither those that left nor a later one."""

    async def test(sample: Sample) -> None:
        await sample.member("i-3", "old", state="left")
        await sample.member("i-3", "now")
        await sample.member("i-33", "other")
        assert await orders(sample).drain("i-3") == [Drain(session="now", instance="i-3")]
        await sample.member("i-3", "later")
        _, control = await read_control(sample.provider)
        assert control.draining("now")
        assert not any(control.draining(session) for session in ("old", "other", "later"))
        assert await orders(sample).drain("i-33~other") == [Drain(session="other", instance="i-33")]

    run(test)


def test_draining_nobody_names_whom_there_is() -> None:
    """A drain of an unknown instance must fail and name the known ones."""

    async def test(sample: Sample) -> None:
        await sample.member("i-3")
        with pytest.raises(LostPrecondition, match=r"'i-4'.*known instances: i-3"):
            await orders(sample).drain("i-4")

    run(test)


def test_a_damaged_control_document_is_not_overwritten_unasked() -> None:
    """An order must not replace a control document that cannot be read, unless the operator says so."""

    async def test(sample: Sample) -> None:
        await sample.put("control", b"garbage")
        with pytest.raises(ConfigurationError, match="--yes"):
            await orders(sample).pause("orders")
        await orders(sample, replace_damaged=True).pause("orders")
        _, control = await read_control(sample.provider)
        assert control.paused == {"orders"}

    run(test)


def test_foreign_fields_survive_an_edit() -> None:
    """What a newer version wrote into the control document must survive this version's edit."""

    async def test(sample: Sample) -> None:
        await sample.put("control", {"intents": {"x": {"kind": "freeze", "until": "dawn"}}, "colour": "blue"})
        await orders(sample).pause("orders")
        fields = await sample.get("control")
        assert fields["colour"] == "blue"
        assert fields["intents"]["x"]["until"] == "dawn"
        assert fields["format"] == 1

    run(test)


def test_an_edit_that_never_gets_through_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit that is refused again and again must end with an error, not go on for ever."""

    async def refuse(key: str, body: bytes) -> Stamp:
        raise Refused(key)

    async def test(sample: Sample) -> None:
        monkeypatch.setattr(sample.provider.documents, "create", refuse)
        with pytest.raises(StoreError, match="tries"):
            await orders(sample).pause("orders")

    run(test)


def test_a_lost_answer_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order whose answer was lost must stand exactly once."""

    async def test(sample: Sample) -> None:
        create = sample.provider.documents.create

        async def lose(key: str, body: bytes) -> Stamp:
            await create(key, body)
            raise OutcomeUnknown("no answer")

        monkeypatch.setattr(sample.provider.documents, "create", lose)
        await orders(sample).pause("orders")
        _, control = await read_control(sample.provider)
        assert len(control.intents) == 1

    run(test)


def test_a_repartition_needs_a_paused_and_empty_queue() -> None:
    """A partition count may be changed only while nothing can be in the wrong place, and the error says what to do."""

    async def test(sample: Sample) -> None:
        watcher = Watcher(sample.provider, sample.clock)

        async def change(count: int = 4) -> Repartition:
            return await repartition(sample.provider, watcher, orders(sample), "orders", count)

        with pytest.raises(LostPrecondition, match="no plan"):
            await change()
        await sample.plan({"orders-00": "i-1~s1"})
        with pytest.raises(LostPrecondition, match="worker pause orders"):
            await change()
        await orders(sample).pause("orders")
        await sample.provider.queue.ensure("orders-01")
        await sample.provider.queue.send("orders-01", [b"1", b"2"])
        with pytest.raises(LostPrecondition, match=r"2 messages in 1 .*orders-01"):
            await change()
        for received in await sample.provider.queue.receive("orders-01", 10, 60):
            await sample.provider.queue.delete("orders-01", received.receipt)
        with pytest.raises(LostPrecondition, match="2 partitions already"):
            await change(2)
        assert await change() == Repartition("orders", 2, 4)
        _, control = await read_control(sample.provider)
        assert control.repartitions == (Repartition("orders", 2, 4),)

    run(test)


def test_waiting_for_a_live_and_a_dead_leader() -> None:
    """A leader that renews before our eyes leads; one that lets its whole lease pass has expired."""

    async def test(sample: Sample) -> None:
        grant = await sample.lead()
        lease, clock = sample.provider.lease("leader"), sample.clock

        async def renew() -> None:
            nonlocal grant
            grant = await lease.renew(grant, clock.token())

        clock.on_sleep = renew
        live = await known_lease(Watcher(sample.provider, clock), clock, every=0.5)
        assert live.state is Lead.LEADING
        clock.on_sleep = None
        started = clock.now()
        dead = await known_lease(Watcher(sample.provider, clock), clock, every=0.5)
        assert dead.state is Lead.EXPIRED
        assert clock.now() - started >= 15 * 1.1

    run(test)


def test_waiting_for_the_next_leader_and_in_vain() -> None:
    """Waiting must end with the next term's leader, or say who has not stepped down, or that nobody leads."""

    async def test(sample: Sample) -> None:
        grant = await sample.lead("i-1", 7)
        clock, watcher = sample.clock, Watcher(sample.provider, sample.clock)
        with pytest.raises(WorkerError, match="i-1 has not stepped down from term 7"):
            await next_leader(watcher, clock, 7, within=10, every=1)
        await sample.provider.lease("leader").resign(grant, "n")
        with pytest.raises(NoLeader, match="nobody has opened"):
            await next_leader(watcher, clock, 7, within=10, every=1)

        async def elect() -> None:
            await sample.lead("i-2", 8)
            clock.on_sleep = None

        clock.on_sleep = elect
        assert (await next_leader(watcher, clock, 7, within=10, every=1)).instance == "i-2"

    run(test)


def test_waiting_for_a_drain() -> None:
    """A drain is over when its session has left, or has been silent for longer than it may act; and tells which."""

    async def test(sample: Sample) -> None:
        id, clock = await sample.member("i-3"), sample.clock
        with pytest.raises(WorkerError, match="i-3~s1 has not left"):
            await drained(Watcher(sample.provider, clock), clock, [id], within=10, every=1)
        done = await drained(Watcher(sample.provider, clock), clock, [id], within=100, every=1)
        assert done == Drained(left=[], silent=[id], instead=[])

        async def leave() -> None:
            await sample.member("i-3", state="left")
            await sample.member("i-3", "s2")

        clock.on_sleep = leave
        done = await drained(Watcher(sample.provider, clock), clock, [id], within=2, every=1)
        assert done == Drained(left=[id], silent=[], instead=["i-3~s2"])

    run(test)
