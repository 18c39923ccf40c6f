"""What an operator sees: the truth about leader, members, partitions and queues, and an exit code to trust."""

from __future__ import annotations

import json

import pytest

from providers.memory import MemoryDriver
from providers.memory.driver import KEEPS_LEASES
from providers.provider import Provider
from tests.unit.admin_support import PATIENCE, Sample, run
from worker.admin.history import TermRecord, history
from worker.admin.status import Lead, Status
from worker.admin.watcher import Watcher
from worker.core.roster import LONGEST_PATIENCE
from worker.errors import Exit


def watcher(sample: Sample) -> Watcher:
    return Watcher(sample.provider, sample.clock)


async def healthy(sample: Sample) -> Watcher:
    """A fleet of two, with a leader who was just seen to renew."""
    grant = await sample.lead("i-1", 7)
    one, two = await sample.member("i-1"), await sample.member("i-2", active={"orders-01": 1})
    await sample.plan({"orders-00": one, "orders-01": two})
    watching = watcher(sample)
    await watching.look()
    await sample.provider.lease("leader").renew(grant, "again")
    return watching


def test_a_healthy_fleet() -> None:
    """A fleet in which all is well must be shown as it is, and end with 0."""

    async def test(sample: Sample) -> None:
        for queue in ("orders-00", "orders-01", "orders", "orders-dlq"):
            await sample.provider.queue.ensure(queue)
        await sample.provider.queue.send("orders-00", [b"1", b"2"])
        await sample.provider.queue.send("orders-01", [b"3"])
        await sample.provider.queue.send("orders-dlq", [b"4"])
        await sample.provider.queue.receive("orders-00", 1, 60)
        status = await (await healthy(sample)).look()
        assert status.exit_code is Exit.OK
        assert (status.lease.state, status.lease.instance, status.lease.term) == (Lead.LEADING, "i-1", 7)
        assert [member.partitions for member in status.members] == [0, 1]
        [orders] = status.queues
        assert (orders.visible, orders.hidden, orders.intake, orders.dead, orders.paused) == (2, 1, 0, 1, False)
        assert [partition.state for partition in status.partitions] == ["granted", "granted"]
        assert json.loads(json.dumps(status.to_dict()))["lease"]["state"] == "leading"

    run(test)


@pytest.mark.parametrize("state", ["absent", "damaged", "resigned", "expired"])
def test_nobody_leads(state: str) -> None:
    """Whenever nobody leads, for whatever reason, the exit code must be 5."""

    async def test(sample: Sample) -> None:
        watching = watcher(sample)
        if state == "damaged":
            await sample.put("leases/leader", b"garbage")
        elif state != "absent":
            grant = await sample.lead()
            await watching.look()
            if state == "resigned":
                await sample.provider.lease("leader").resign(grant, "n")
            sample.clock.time += 15 * 1.1 + 0.1
        status = await watching.look()
        assert status.exit_code is Exit.NO_LEADER
        assert status.lease.led is False

    run(test)


def test_a_lease_that_ran_out_was_not_given_up() -> None:
    """Where the store keeps the time, a leader that died must not pass for one that left in order."""

    async def test(sample: Sample) -> None:
        sample.provider = Provider(MemoryDriver(sample.store, capabilities=KEEPS_LEASES))
        grant = await sample.lead()
        assert (await watcher(sample).look()).lease.state is Lead.LEADING
        sample.clock.time += 15.1
        assert (await watcher(sample).look()).lease.state is Lead.EXPIRED
        grant = await sample.lead(term=grant.term + 1)
        await sample.provider.lease("leader").resign(grant, "n")
        assert (await watcher(sample).look()).lease.state is Lead.VACANT

    run(test)


def test_a_first_look_does_not_call_a_leader_alive() -> None:
    """What a lease says must not pass for a living leader before it was seen to be renewed."""

    async def test(sample: Sample) -> None:
        await sample.lead()
        assert (await watcher(sample).look()).lease.led is None

    run(test)


def test_degraded_says_why() -> None:
    """Partitions without a living owner must be named, and the exit code be 6."""

    async def test(sample: Sample) -> None:
        watching = await healthy(sample)
        await sample.plan({"orders-00": None, "orders-01": "i-9~gone"})
        status = await watching.look()
        assert status.exit_code is Exit.DEGRADED
        assert any("orders-00 without an owner" in reason for reason in status.degraded)
        assert any("orders-01 owned by i-9~gone" in reason for reason in status.degraded)

    run(test)


def test_a_member_that_stands_still_has_lapsed() -> None:
    """A member whose beat stands still for longer than *it* may act must be shown as lapsed, another one not."""

    async def test(sample: Sample) -> None:
        watching = await healthy(sample)
        await watching.look()
        for id, told in (("i-3", {"patience": 2 * PATIENCE}), ("i-4", {"patience": None})):
            await sample.member(id, **told)
        await watching.look()
        sample.clock.time += PATIENCE + 0.1
        await sample.beat("i-1~s1")
        states = {member.instance: member.state for member in (await watching.look()).members}
        assert states == {"i-1": "ready", "i-2": "lapsed", "i-3": "ready", "i-4": "ready"}
        sample.clock.time += LONGEST_PATIENCE
        states = {member.instance: member.state for member in (await watching.look()).members}
        assert set(states.values()) == {"lapsed"}

    run(test)


def test_garbage_anywhere_is_reported_and_survived() -> None:
    """Damaged documents must be named one by one, and never hide the others."""

    async def test(sample: Sample) -> None:
        watching = await healthy(sample)
        await sample.put("control", b"\xff")
        await sample.put("members/i-2~s1", b"{}")
        await sample.put("members/i-1~s1", {"state": 3, "queues": [], "active": "x", "pid": "y"})
        status = await watching.look()
        assert any("control" in problem for problem in status.problems)
        assert any("members/i-2~s1" in problem for problem in status.problems)
        assert status.exit_code is Exit.DEGRADED
        await sample.put("plan", b"[]")
        assert any("plan" in problem for problem in (await watching.look()).problems)

    run(test)


def test_only_what_has_changed_is_read_again() -> None:
    """A second look must not read statuses that have not changed: `dev` looks many times a second."""

    async def test(sample: Sample) -> None:
        watching = await healthy(sample)
        before = await watching.look()
        await sample.member("i-3")
        await sample.provider.documents.delete((await sample.provider.documents.list("members/i-2"))[0])
        after: Status = await watching.look()
        assert [member.instance for member in before.members] == ["i-1", "i-2"]
        assert [member.instance for member in after.members] == ["i-1", "i-3"]
        assert after.members[0].version is before.members[0].version

    run(test)


def test_pauses_and_orders_are_shown() -> None:
    """A paused queue and a standing order must be visible to whoever looks."""

    async def test(sample: Sample) -> None:
        at = "2026-03-01T12:00:00+00:00"
        pause = {"kind": "pause", "queue": "orders", "at": at, "by": "ann"}
        await sample.put("control", {"intents": {"a": pause, "b": {"kind": "step-down", "term": 9, "at": at}}})
        status = await (await healthy(sample)).look(depths=False)
        assert status.queues[0].paused
        assert [order["kind"] for order in status.orders] == ["pause", "step-down"]

    run(test)


def test_orders_that_were_carried_out_are_not_shown() -> None:
    """An order must vanish from the status once nobody is left to obey it."""

    async def test(sample: Sample) -> None:
        watching = await healthy(sample)
        await sample.member("i-2", state="left")
        at = "2026-03-01T12:00:00+00:00"
        orders: list[dict[str, object]] = [
            {"kind": "step-down", "term": 6},
            {"kind": "drain", "session": "gone", "instance": "i-2"},
            {"kind": "repartition", "queue": "orders", "from": 3, "to": 2},
            {"kind": "force", "partition": "orders-00", "fence": 99},
        ]
        await sample.put("control", {"intents": {str(i): {**order, "at": at} for i, order in enumerate(orders)}})
        assert list((await watching.look()).orders) == []

    run(test)


def test_history_is_in_order_and_shows_damage_in_its_place() -> None:
    """The newest terms must come in their order, a damaged record among them as such."""

    async def test(sample: Sample) -> None:
        for term in range(1, 13):
            await sample.put(
                f"terms/{term:012d}",
                {"term": term, "instance": f"i-{term}", "session": "s", "opened_at": "t", "previous_end": "expired"},
            )
        await sample.put("terms/000000000011", b"garbage")
        await sample.put("terms/000000000012", {"term": 12, "instance": "i-3", "reminded": True})
        await sample.put("terms/readme", {"not": "a term"})
        found = await history(sample.provider, limit=3)
        assert [record.term for record in found] == [10, 11, 12]
        assert found[0] == TermRecord(10, "i-10", "s", "t", "expired")
        assert found[1].problem is not None
        assert found[2] == TermRecord(12, problem="forgotten by the store; noted by i-3, who had seen it")

    run(test)
