"""Membership: a session beats while it is fit, acts while it is trusted, and is never used again after a loss."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from providers.interface import LONGEST_LEASE, Heir
from tests.unit.fakes import ANSWER_LOST, DOWN, LATENCY, LOST, Fate, World, late, run, simulated, stray
from worker.app import App
from worker.context import Message
from worker.core.intents import Drain, Intent, Pause, Repartition, parse
from worker.core.plan import Assignment, Handover, Plan, fence_of
from worker.member import TRUST, Member, Session
from worker.opening import term_key
from worker.testing.clock import EPOCH

COUNT = 2
P0, P1 = "orders-00", "orders-01"


class Instance:
    """One member, with a handler that the test can make slow, and a leader's pen."""

    def __init__(self, world: World, *, slots: int = 10, handler: Callable[..., Any] | None = None) -> None:
        self.world = world
        self.takes = 0.0
        self.handled: list[Message] = []
        self.running: list[str] = []
        self.drained: list[str] = []
        app = App()

        async def handle(body: Any, message: Message) -> None:
            self.running.append(message.partition)
            try:
                await asyncio.sleep(self.takes)
                self.handled.append(message)
            finally:
                self.running.remove(message.partition)

        app.queue("orders", partitions=COUNT, timeout=1000)(handler or handle)
        for name in ("orders", P0, P1, "orders-dlq"):
            world.store.queue.ensure(name)
        self.ports = world.ports()
        self.member = Member(
            app,
            self.ports,
            asyncio.Semaphore(slots),
            lambda: Heir("a.9", "token"),
            self.drained.append,
            {"version": "1"},
        )
        self.task = asyncio.create_task(self.member.run())
        self.generation = 0

    @property
    def session(self) -> Session:
        assert self.member.session is not None
        return self.member.session

    @property
    def beat(self) -> str:
        return f"beats/{self.session.id}"

    @property
    def status(self) -> dict[str, Any]:
        return self.world.get(f"members/{self.session.id}")

    async def joined(self) -> Instance:
        await self.world.until(
            lambda: self.member.session and self.member.session.trust is not None, 60, "a first beat"
        )
        await self.world.passes(1)
        return self

    def plan(
        self,
        partitions: Mapping[str, str | tuple[str, str] | None],
        *,
        term: int = 1,
        fence: int | None = None,
        **more: Any,
    ) -> int:
        """Write the next plan: owners, or (owner, next); return the fence of its grants."""
        self.generation += 1
        fence = fence_of(term, self.generation) if fence is None else fence
        records: dict[str, Assignment] = {}
        for name, who in partitions.items():
            owner, heir = who if isinstance(who, tuple) else (who, None)
            records[name] = Assignment(owner, heir, fence)
        plan = Plan(term, self.generation, "l~1", queues={"orders": COUNT}, partitions=records, **more)
        self.world.put("plan", {"nonce": f"{term}.{self.generation}", "format": 1, **plan.to_fields()})
        return fence

    def order(self, order: Any) -> None:
        """Write an operator's order into the control document."""
        fields = self.world.get("control") if self.world.has("control") else {}
        at = __import__("datetime").datetime.now(__import__("datetime").UTC)
        control = parse(fields).add(Intent(f"id-{order}", order, at, "test"))
        self.world.put("control", {"nonce": str(order), **control.to_fields()})

    def send(self, partition: str, *bodies: Any) -> None:
        self.world.store.queue.send(partition, [json.dumps(body).encode() for body in bodies])

    async def owns(self, *partitions: str, within: float = 10.0) -> int:
        """Grant partitions, wait until they are worked, and return their fence."""
        fence = self.plan(dict.fromkeys(partitions, self.session.id))
        await self.world.until(lambda: set(self.session.ownership.active) >= set(partitions), within, "granted")
        return fence

    async def leaves(self, within: float = 60.0) -> None:
        self.member.close()
        await self.world.until(self.task.done, within, "the member has left")
        self.task.result()


# --- beats and trust ---


@simulated
async def test_a_member_joins_with_a_beat_and_a_status(world: World) -> None:
    """After the first beat the status says who it is, what it handles, and that it is ready."""
    one = await Instance(world).joined()
    assert world.get(one.beat)["n"] == 1
    status = one.status
    assert (status["state"], status["queues"], status["active"], status["released"]) == ("ready", {"orders": 2}, {}, {})
    assert (status["instance"], status["session"], status["version"]) == ("a", one.session.session, "1")
    assert status["patience"] == world.member.lease * 1.1 + world.member.margin
    assert [said["session"] for said in world.heard("member.joined")] == [one.session.session]
    await one.leaves()


@simulated
async def test_beats_go_out_once_per_interval_and_carry_trust(world: World) -> None:
    """A beat is sent every renew interval, send to send, and each extends trust from its own send."""
    one = await Instance(world).joined()
    await world.passes(10 * world.member.renew)
    beats = world.network.times("documents.replace")
    assert world.get(one.beat)["n"] == 11
    assert one.session.trust is not None
    assert one.session.trust.deadline == pytest.approx(1000 + world.member.renew * 10 + world.member.trusted, abs=0.5)
    assert len(beats) == 10  # a status is written only when something in it has changed
    await one.leaves()


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, late(30), stray(3), stray(50)], ids=str)
@pytest.mark.parametrize("operation", ["documents.create", "documents.replace", "documents.read"])
def test_one_request_that_goes_wrong_costs_nothing(operation: str, fate: Fate) -> None:
    """A healthy member keeps its session over any single trouble, and works on."""

    async def test(world: World) -> None:
        one = await Instance(world).joined()
        first = one.session
        await one.owns(P0)
        for _ in range(3):
            world.network.next(operation, fate)
            await world.passes(world.member.renew)
        await world.passes(60)
        one.send(P0, 1)
        await world.until(lambda: one.handled, 5)
        assert one.session is first
        await one.leaves()

    run(test)


@simulated
async def test_work_is_cancelled_at_the_stop_time_and_the_session_is_over(world: World) -> None:
    """When beats get through no more, handlers are cancelled in time, and another session starts from nothing."""
    one = await Instance(world).joined()
    first = one.session
    await one.owns(P0)
    one.takes = 500.0
    one.send(P0, 1)
    await world.until(lambda: one.running, 5)
    assert first.trust is not None
    world.network.always("*", LOST)
    stop_at, deadline = first.trust.stop_at, first.trust.deadline
    await world.until(lambda: not one.running, 60)
    assert stop_at - world.member.renew <= one.ports.clock.now() < deadline
    world.network.always("*", None)
    await world.until(lambda: one.session is not first and one.session.trust is not None, 30)
    assert world.killed == []
    assert one.session.id != first.id
    assert one.session.ownership.active == {}  # what the old session owned is not taken up
    assert [said["reason"] for said in world.heard("member.left")] == ["trust ran out"]
    await world.passes(30)
    assert one.handled == []
    one.takes = 0.0
    await one.leaves()


@simulated
async def test_work_that_does_not_end_is_killed_at_the_deadline(world: World) -> None:
    """A handler that ignores its cancellation is ended by the dead-man's switch when membership's trust ends."""

    async def stubborn(body: Any) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                continue

    one = await Instance(world, handler=stubborn).joined()
    await one.owns(P0)
    one.send(P0, 1)
    await world.until(lambda: world.watched.running, 5)
    assert one.session.trust is not None
    world.network.always("*", LOST)
    deadline = one.session.trust.deadline
    await world.until(lambda: world.killed, 60)
    at, name = world.killed[0]
    assert name == TRUST
    assert deadline <= at + 1000 <= deadline + world.member.latency


@simulated
async def test_the_switch_is_armed_while_anything_is_owned(world: World) -> None:
    """Nothing acts in a partition without the membership's deadline, and an idle member has none."""
    one = Instance(world)

    def watch() -> None:
        session = one.member.session
        if session is not None and session.ownership.busy:
            assert session.trust is not None
            assert world.deadman.deadlines[TRUST] <= session.trust.deadline

    world.watch(watch)
    await one.joined()
    assert world.deadman.deadlines == {}
    await one.owns(P0, P1)
    await world.passes(100)
    assert TRUST in world.deadman.deadlines
    one.plan({})
    await world.until(lambda: not one.session.ownership.busy, 10)
    assert world.deadman.deadlines == {}
    await one.leaves()


@simulated
async def test_an_answer_after_the_stop_time_extends_nothing(world: World) -> None:
    """A beat that is answered too late does not bring the old session back."""
    one = await Instance(world).joined()
    first = one.session
    assert first.trust is not None
    before = first.trust
    world.network.always("documents.replace", LOST)
    world.at(before.stop_at - 1000 - 1.0, lambda: world.network.always("documents.replace", late(1.5)))
    world.network.always("documents.read", LOST)
    await world.until(lambda: one.session is not first, 60)
    assert first.trust == before
    world.network.always("documents.replace", None)
    world.network.always("documents.read", None)
    await one.leaves()


@pytest.mark.parametrize("when", [4.0, 9.015], ids=["between beats", "under a beat"])
def test_a_machine_that_stood_still_is_a_new_session(when: float) -> None:
    """A wall clock that jumped ahead drops all trust, also when it did so while a beat was on its way."""

    async def test(world: World) -> None:
        one = await Instance(world).joined()
        first = one.session
        await one.owns(P0)
        now = world.loop.true
        world.at(1.0 + when - now if when > 5 else when, lambda: world.clock.jump_wall(60))
        await world.until(lambda: one.session is not first, 2 * world.member.renew)
        assert [said["reason"] for said in world.heard("member.left")] == ["trust ran out"]
        await one.leaves()

    run(test)


@simulated
async def test_a_first_beat_under_which_the_machine_stood_still_gives_no_trust(world: World) -> None:
    """A freeze during the very first beat is seen too: that session never acts."""
    one = Instance(world)
    world.at(0.015, lambda: world.clock.jump_wall(60))
    await world.until(lambda: one.member.session is not None, 1)
    first = one.session
    await world.until(lambda: one.session is not first and one.session.trust is not None, 60)
    assert first.trust is None or first.ownership.active == {}
    assert world.loop.true < 60
    await one.leaves()


@pytest.mark.parametrize("rate", [0.9, 1.0, 1.1])
def test_a_slewing_clock_costs_no_session(rate: float) -> None:
    """A clock that is slow or fast by rho against the store's is no freeze, although beats are far apart."""

    async def test(world: World) -> None:
        world.store.date = lambda: EPOCH + world.loop.true
        world.clock.set_rate(rate)
        one = await Instance(world).joined()
        await world.passes(6 * world.member.renew)
        assert len(world.heard("member.joined")) == 1
        await one.leaves()

    run(test)


@pytest.mark.parametrize("when", [4.0, 9.015], ids=["between beats", "under a beat"])
def test_a_session_ends_when_the_stores_clock_ran_ahead(when: float) -> None:
    """A store whose time has grown far more than one's own means a freeze: trust is dropped, a new session begins."""

    async def test(world: World) -> None:
        lead = 0.0

        def jump() -> None:
            nonlocal lead
            lead = 60.0

        world.store.date = lambda: EPOCH + world.loop.true + lead
        one = await Instance(world).joined()
        first = one.session
        await one.owns(P0)
        world.at(1.0 + when - world.loop.true if when > 5 else when, jump)
        await world.until(lambda: one.session is not first, 2 * world.member.renew)
        assert [said["reason"] for said in world.heard("member.left")] == ["trust ran out"]
        await world.until(lambda: one.session.trust is not None, 10, "the new session has joined")
        await one.leaves()

    run(test)


@simulated
async def test_a_date_that_goes_back_changes_nothing(world: World) -> None:
    """A store's clock that is set back neither costs nor lengthens the trust."""
    world.store.date = lambda: EPOCH + world.loop.true - (3600.0 if world.loop.true > 15 else 0.0)
    one = await Instance(world).joined()
    await world.passes(4 * world.member.renew)
    sent = max(at for at in world.network.times("documents.replace"))
    assert one.session.trust is not None
    assert one.session.trust.deadline <= sent + 1000 + world.member.trusted + 1e-6
    assert len(world.heard("member.joined")) == 1
    await one.leaves()


# --- what a beat vouches for ---


@simulated
async def test_a_member_that_cannot_read_the_plan_beats_no_more(world: World) -> None:
    """A beat says that the plan was read: without that it stops, and the leader can give the partitions to others."""
    one = await Instance(world).joined()
    first = one.session
    await one.owns(P0)
    world.network.always("documents.read", DOWN)
    await world.until(lambda: one.session is not first, 3 * world.member.lease)
    assert any("the plan could not be read" in problem for problem in world.problems)
    world.network.always("documents.read", None)
    await one.joined()
    await one.leaves()


@simulated
async def test_a_missing_plan_counts_as_read(world: World) -> None:
    """A store without a plan is an answer: a fleet that has no leader yet keeps its members."""
    one = await Instance(world).joined()
    first = one.session
    await world.passes(4 * world.member.lease)
    assert one.session is first
    await one.leaves()


@simulated
async def test_a_consumer_that_hangs_costs_the_membership(world: World) -> None:
    """When a partition's loop stands still, the member beats no more, so that somebody else gets the partition."""
    one = await Instance(world).joined()
    first = one.session
    await one.owns(P0)

    async def never(*args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    receive = one.ports.provider.queue.receive
    one.ports.provider.queue.receive = never  # type: ignore[method-assign] # a client without a time-out
    await world.until(lambda: any("a consumer stands still" in problem for problem in world.problems), 120)
    one.ports.provider.queue.receive = receive  # type: ignore[method-assign] # as before
    assert first.trust is not None


@pytest.mark.parametrize("slots", [1, 10])
def test_a_long_handler_costs_no_membership(slots: int) -> None:
    """Neither a handler that runs for many leases, nor another partition's wait for its slot, ends the session."""

    async def test(world: World) -> None:
        one = await Instance(world, slots=slots).joined()
        first = one.session
        await one.owns(P0, P1)
        one.takes = 4 * world.member.lease
        one.send(P0, 1)
        one.send(P1, 2)
        await world.until(lambda: len(one.handled) == 2, 10 * world.member.lease)
        assert one.session is first
        assert world.problems == []
        one.takes = 0.0
        await one.leaves()

    run(test)


# --- the plan ---


@simulated
async def test_grants_are_taken_up_and_reported(world: World) -> None:
    """What the plan grants to this very session is worked and reported as active, under its fence; nothing else is."""
    one = await Instance(world).joined()
    fence = one.plan({P0: one.session.id, P1: "a~another session"})
    await world.until(lambda: one.status["active"] == {P0: fence}, 10)
    assert [said["partition"] for said in world.heard("partition.granted")] == [P0]
    one.send(P0, "mine")
    one.send(P1, "not mine")
    await world.passes(5)
    assert [message.body for message in one.handled] == ["mine"]
    assert one.handled[0].fence == fence
    await one.leaves()


@simulated
async def test_a_partition_that_moves_away_is_released_when_its_handler_has_ended(world: World) -> None:
    """Asked to release, a member finishes what runs, starts nothing more, and then says `released` with the fence."""
    one = await Instance(world).joined()
    fence = await one.owns(P0)
    one.takes = 30.0
    one.send(P0, 1, 2)
    await world.until(lambda: one.running, 5)
    one.plan({P0: (one.session.id, "b~1")}, fence=fence)
    await world.passes(25)
    assert one.status["active"] == {P0: fence}
    assert one.status["released"] == {}
    await world.until(lambda: one.status["released"] == {P0: fence}, 15)
    assert one.status["active"] == {}
    assert [message.body for message in one.handled] == [1]
    assert len(world.bodies(P0)) == 1
    await one.leaves()


@simulated
async def test_a_release_is_final_until_a_newer_fence(world: World) -> None:
    """Once released, a partition is not taken up again under that fence, and is under a newer one."""
    one = await Instance(world).joined()
    fence = await one.owns(P0)
    one.plan({P0: (one.session.id, "b~1")}, fence=fence)
    await world.until(lambda: one.status["released"] == {P0: fence}, 10)
    one.plan({P0: one.session.id}, fence=fence)  # the move is given up, too late
    await world.passes(10)
    assert one.session.ownership.active == {}
    newer = one.plan({P0: one.session.id})
    await world.until(lambda: one.status["active"] == {P0: newer}, 10)
    assert one.status["released"] == {}
    await one.leaves()


@simulated
async def test_an_older_plan_is_not_applied(world: World) -> None:
    """A plan whose (term, generation) has not grown changes nothing, whoever wrote it."""
    one = await Instance(world).joined()
    one.generation = 5
    fence = await one.owns(P0)
    one.generation = 4
    one.plan({P0: "b~1"})
    await world.passes(10)
    one.generation = 3
    one.plan({P0: None, P1: one.session.id})
    await world.passes(10)
    assert one.session.ownership.active == {P0: fence}
    one.generation = 0
    one.plan({P0: None, P1: one.session.id}, term=2)
    await world.until(lambda: set(one.session.ownership.active) == {P1}, 10)
    await one.leaves()


@pytest.mark.parametrize("body", [b"garbage", b'{"format":9}', b'{"format":1,"term":9,"partitions":5}'], ids=str)
def test_an_unreadable_plan_leaves_the_last_one_in_force(body: bytes) -> None:
    """Garbage over the plan is reported, and the member works on with what it knew."""

    async def test(world: World) -> None:
        one = await Instance(world).joined()
        fence = await one.owns(P0)
        world.put("plan", body)
        await world.passes(2 * world.member.lease)
        assert one.session.ownership.active == {P0: fence}
        assert [problem for problem in world.problems if "the last good plan stays in force" in problem]
        await one.leaves()

    run(test)


@simulated
async def test_a_partition_that_the_code_does_not_handle_goes_back(world: World) -> None:
    """A grant of a queue or partition that this version does not know is released at once."""
    one = await Instance(world).joined()
    one.generation = 1
    fence = fence_of(1, 1)
    records = {"future-00": Assignment(one.session.id, None, fence)}
    plan = Plan(1, 1, "l~1", queues={"future": 1}, partitions=records)
    world.put("plan", {"nonce": "x", **plan.to_fields()})
    await world.until(lambda: one.status["released"] == {"future-00": fence}, 10)
    await one.leaves()


@simulated
async def test_becoming_heir_is_reported_with_the_term(world: World) -> None:
    """When the plan names this session for the hand-over, its status says session and token, for exactly that term."""
    one = await Instance(world).joined()
    one.plan({}, handover=Handover(one.session.id, 2))
    await world.until(lambda: one.status["heir"] is not None, 5)
    assert one.status["heir"] == {"term": 2, "session": "a.9", "token": "token"}
    one.plan({}, handover=Handover("b~1", 2))
    await world.passes(5)
    one.plan({P0: one.session.id})
    await world.until(lambda: one.status["active"], 10)
    assert one.status["heir"] is None
    await one.leaves()


@simulated
async def test_a_members_rank_is_its_place_among_the_successors(world: World) -> None:
    """The elector learns from the plan when its turn is."""
    one = await Instance(world).joined()
    assert one.member.rank is None
    one.plan({}, successors=("b~1", one.session.id))
    await world.until(lambda: one.member.rank == 1, 5)
    one.plan({}, successors=("b~1",))
    await world.until(lambda: one.member.rank is None, 5)
    await one.leaves()


@simulated
async def test_a_plan_of_a_forgotten_past_ends_the_session(world: World) -> None:
    """A plan of an older term than the one acted on stops all work at once, and has the store reminded."""
    one = await Instance(world).joined()
    one.takes = 900.0
    one.plan({P0: one.session.id}, term=6)
    await world.until(lambda: set(one.session.ownership.active) == {P0}, 10)
    one.send(P0, "mine")
    await world.until(lambda: one.running, 10)
    before, begun = one.session.id, world.loop.true
    world.remove("plan")
    one.plan({P0: "b~1"}, term=1)
    await world.until(lambda: not one.running, 10)
    assert world.loop.true - begun <= world.leader.renew + world.leader.total
    await world.until(lambda: one.session.id != before, 30)
    assert world.get(term_key("leader", 6))["duration"] == LONGEST_LEASE
    assert [problem for problem in world.problems if "forgotten term 6" in problem] == world.problems
    [left] = world.heard("member.left")
    assert left["reason"] == "the store has forgotten the plan"
    one.takes = 0.0
    fence = one.plan({P0: one.session.id}, term=7)
    await world.until(lambda: one.session.ownership.active == {P0: fence}, 30)
    await one.leaves()


@simulated
async def test_a_store_that_cannot_be_reminded_yet_is_reminded_later(world: World) -> None:
    """What cannot be written down at once is tried again, and until then nothing of the new plan is believed."""
    one = await Instance(world).joined()
    one.plan({P0: one.session.id}, term=6)
    await world.until(lambda: set(one.session.ownership.active) == {P0}, 10)
    world.network.always("documents.list", DOWN)
    world.remove("plan")
    one.plan({P1: one.session.id}, term=1)
    await world.passes(30)
    assert one.session.ownership.active == {}
    assert not world.has(term_key("leader", 6))
    world.network.always("documents.list", None)
    await world.until(lambda: world.has(term_key("leader", 6)), 30)
    await one.leaves()


# --- orders ---


@simulated
async def test_a_paused_queue_keeps_its_owner_and_starts_nothing(world: World) -> None:
    """A pause stops dispatch and nothing else."""
    one = await Instance(world).joined()
    fence = await one.owns(P0)
    one.order(Pause("orders"))
    await world.passes(5)
    one.send(P0, 1)
    await world.passes(100)
    assert one.handled == []
    assert one.session.ownership.active == {P0: fence}
    await one.leaves()


@simulated
async def test_a_drain_names_one_session(world: World) -> None:
    """Only the session that an operator has named is drained, and no other one."""
    one = await Instance(world).joined()
    one.order(Drain("another", "a"))
    await world.passes(10)
    assert one.drained == []
    one.order(Drain(one.session.session, "a"))
    await world.until(lambda: one.drained, 10)
    await one.leaves()


@simulated
async def test_a_queue_that_is_repartitioned_is_released(world: World) -> None:
    """While an order to change the count stands, the queue's partitions are handed back, and taken only afterwards."""
    one = await Instance(world).joined()
    fence = await one.owns(P0, P1)
    one.order(Repartition("orders", COUNT, 4))
    await world.passes(10)
    assert one.status["released"] == {}  # not before it is paused
    one.order(Pause("orders"))
    await world.until(lambda: one.status["released"] == {P0: fence, P1: fence}, 15)
    one.plan({P0: one.session.id})
    await world.passes(10)
    assert one.session.ownership.active == {}
    await one.leaves()


@pytest.mark.parametrize("body", [b"garbage", b'{"format":9}', b'{"format":1,"intents":{"x":{"kind":7}}}'], ids=str)
def test_an_unreadable_control_document_is_survived(body: bytes) -> None:
    """Damaged orders are reported, and the last good ones stay in force."""

    async def test(world: World) -> None:
        one = await Instance(world).joined()
        one.order(Pause("orders"))
        await world.passes(5)
        world.put("control", body)
        await world.passes(10)
        assert world.problems
        await one.owns(P0)
        await one.leaves()

    run(test)


# --- leaving ---


@simulated
async def test_a_drained_member_hands_back_and_says_that_it_left(world: World) -> None:
    """Closing finishes the running handler, releases everything, and ends with a status that says `left`."""
    one = await Instance(world).joined()
    fence = await one.owns(P0, P1)
    one.takes = 20.0
    one.send(P0, 1, 2)
    await world.until(lambda: one.running, 5)
    one.member.close()
    await world.passes(5)
    assert one.status["state"] == "draining"
    assert not one.task.done()
    await world.until(one.task.done, 30)
    assert (one.status["state"], one.status["active"]) == ("left", {})
    assert one.status["released"] == {P0: fence, P1: fence}
    assert [message.body for message in one.handled] == [1]
    assert [said["reason"] for said in world.heard("member.left")] == ["drained"]
    assert world.deadman.deadlines == {}


@simulated
async def test_a_draining_member_beats_on(world: World) -> None:
    """While its last handler runs, a draining member keeps its trust, however long that takes."""
    one = await Instance(world).joined()
    await one.owns(P0)
    one.takes = 5 * world.member.lease
    one.send(P0, 1)
    await world.until(lambda: one.running, 5)
    one.member.close()
    await world.until(one.task.done, 6 * world.member.lease)
    assert len(one.handled) == 1
    assert one.status["state"] == "left"


@pytest.mark.parametrize("slow", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("when", [0.0, 0.01, 0.02, 0.5])
def test_the_last_word_is_left(when: float, slow: float) -> None:
    """However writes of the status overlap while leaving, the one that stays says `left` and releases all."""

    async def test(world: World) -> None:
        one = await Instance(world).joined()
        fence = await one.owns(P0, P1)
        await world.passes(when)
        world.network.next("documents.replace", *[Fate(there=slow, back=slow)] * 3)
        await one.leaves()
        await world.passes(10)
        assert (one.status["state"], one.status["active"]) == ("left", {})
        assert one.status["released"] == {P0: fence, P1: fence}

    run(test)


@simulated
async def test_leaving_in_an_outage_ends_with_the_trust(world: World) -> None:
    """A member that is closed while the store is away ends its work, and itself no later than its deadline."""
    one = await Instance(world).joined()
    await one.owns(P0)
    world.network.always("*", LOST)
    assert one.session.trust is not None
    await one.leaves(one.session.trust.deadline - one.ports.clock.now() + 5 * world.member.total)
    assert world.killed == []


@simulated
async def test_a_member_can_leave_before_it_has_joined(world: World) -> None:
    """Closed before its first beat got through, a member ends all the same."""
    world.network.always("*", DOWN)
    one = Instance(world)
    await world.passes(3)
    await one.leaves(10)


@simulated
async def test_scribbles_over_its_documents_are_overruled(world: World) -> None:
    """Whoever writes over a member's beat or status, or deletes them, is overruled, and costs no session."""
    one = await Instance(world).joined()
    first = one.session
    await world.passes(2)
    world.put(one.beat, b"garbage")
    world.remove(f"members/{first.id}")
    await world.passes(2 * world.member.lease)
    assert world.get(one.beat)["n"] > 1
    assert one.status["state"] == "ready"
    assert one.session is first
    await one.leaves()


@simulated
async def test_the_time_of_a_request_is_no_time_of_the_answer(world: World) -> None:
    """Trust counts from before a beat was sent, however long its answer takes."""
    one = await Instance(world).joined()
    world.network.always("documents.replace", Fate(there=0.9, back=0.9))
    await world.passes(4 * world.member.renew)
    assert one.session.trust is not None
    sends = [at for at in world.network.times("documents.replace") if at + 1.8 <= world.loop.true]
    assert one.session.trust.deadline <= 1000 + sends[-1] + world.member.trusted + LATENCY
    world.network.always("documents.replace", None)
    await one.leaves()
