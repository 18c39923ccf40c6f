"""The duties of one term: what the leader writes into the plan, when it waits, and what it refuses to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from providers.interface import BadDocument, Heir
from tests.unit.fakes import ANSWER_LOST, DOWN, LOST, Fate, World, late, run, simulated, stray
from worker.app import App
from worker.context import Leadership
from worker.core.election import trust_from
from worker.core.intents import Force, Intent, Order, Pause, Repartition, StepDown, parse
from worker.core.plan import Assignment, Plan, fence_of, plan_from_fields
from worker.core.roster import LONGEST_PATIENCE, patience
from worker.errors import Fenced
from worker.leader import HEIR_PATIENCE, LeaderDuties
from worker.member import Member, Session
from worker.opening import term_key
from worker.term import Term

COUNT = 4
NAMES = [f"orders-{index:02d}" for index in range(COUNT)]
EPOCH = datetime(2025, 6, 15, 15, 6, 40, tzinfo=UTC)


def order_app(count: int = COUNT) -> App:
    app = App()

    @app.queue("orders", partitions=count, key="customer")
    async def handle(body: Any) -> None: ...

    return app


class Pen:
    """One other member, as its documents show it: it beats until it is stopped, and does what the plan says."""

    def __init__(self, world: World, id: str, queues: Mapping[str, int] | None = None, *, obeys: bool = True) -> None:
        self.world, self.id, self.obeys = world, id, obeys
        self.queues = {"orders": COUNT} if queues is None else dict(queues)
        self.active: dict[str, int] = {}
        self.released: dict[str, int] = {}
        self.state = "ready"
        self.heir: dict[str, Any] | None = None
        self.version = "1.0"
        self.patience = patience(world.member)
        self.beats = 0
        self.task = asyncio.create_task(self.live())

    async def live(self) -> None:
        self.say()
        while True:
            self.beats += 1
            self.world.put(f"beats/{self.id}", {"n": self.beats})
            for _ in range(10):
                await asyncio.sleep(self.world.member.renew / 10)
                if self.obeys:
                    self.follow()

    def follow(self) -> None:
        """Take up what is granted, release what moves away."""
        try:
            plan = plan_of(self.world)
        except BadDocument:
            return  # the last good one stays in force
        active, released = dict(self.active), dict(self.released)
        for name, record in plan.partitions.items():
            if record.owner == self.id and record.next is None and released.get(name, -1) < record.fence:
                active[name] = record.fence
            elif record.owner == self.id and record.next is not None:
                active.pop(name, None)
                released[name] = record.fence
            else:
                active.pop(name, None)
        for name in active.keys() - plan.partitions.keys():
            released[name] = active.pop(name)
        if (active, released) != (self.active, self.released):
            self.active, self.released = active, released
            self.say()

    def say(self, **changed: Any) -> None:
        for name, value in changed.items():
            setattr(self, name, value)
        said = ("state", "queues", "active", "released", "heir", "version", "patience")
        fields = {name: getattr(self, name) for name in said}
        self.world.put(f"members/{self.id}", {**fields, "at": EPOCH.isoformat()})

    def dies(self) -> None:
        self.task.cancel()


def plan_of(world: World) -> Plan:
    if not world.has("plan"):
        return Plan()
    return plan_from_fields(world.get("plan"))[0]


def owners(world: World) -> dict[str, str | None]:
    return {name: record.owner for name, record in plan_of(world).partitions.items()}


class Leader:
    """The duties under test, in the hands of the test instead of an elector."""

    def __init__(self, world: World, app: App | None = None, number: int = 1) -> None:
        self.world = world
        self.ports = world.ports()
        app = app or order_app()
        self.member = Member(app, self.ports, asyncio.Semaphore(9), lambda: Heir("", ""), lambda _: None, {})
        self.member.session = Session(self.member, "s")
        self.duties = LeaderDuties(app, self.ports, self.member)
        self.term = Term(number, "l.1", trust_from(world.clock.now(), world.leader), world.clock, world.leader.lease)
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Leader:
        self.world.put(term_key("leader", self.term.number), {"session": "l.1", "duration": 15.0})
        await self.duties.seal(self.term)
        self.task = asyncio.create_task(self.duties.perform(self.term))
        return self

    def stalled(self) -> bool:
        return self.term.stalled

    def reason(self) -> str | None:
        return self.term.step_down_reason

    async def stops(self, within: float = 30.0) -> None:
        assert self.task is not None
        self.task.cancel()
        await self.world.until(self.task.done, within, "the duties have ended")

    def order(self, order: Order) -> None:
        """Give an operator's order, as the member would have read it."""
        control = self.member.board.control
        self.member.board.control = control.add(Intent(f"{order}", order, EPOCH, "test"))

    async def settles(self, within: float = 60.0) -> None:
        """Wait until every partition has an owner that is active on it."""

        def settled() -> bool:
            records = plan_of(self.world).partitions
            return len(records) >= COUNT and all(
                one.owner and one.next is None and self.active(one.owner).get(name) == one.fence
                for name, one in records.items()
            )

        await self.world.until(settled, within, f"settled, and not {plan_of(self.world)}")

    def active(self, id: str) -> dict[str, int]:
        found: dict[str, int] = self.world.get(f"members/{id}")["active"]
        return found


async def leader(world: World, app: App | None = None, number: int = 1) -> Leader:
    return await Leader(world, app, number).start()


def watch_plans(world: World) -> None:
    """Hold the law that every version of the stored plan must keep, whoever writes and whatever lands late."""
    versions: dict[tuple[int, int], bytes] = {}
    grants: dict[tuple[str, int], str] = {}
    last: list[tuple[int, int]] = [(0, 0)]

    def check() -> None:
        if not world.has("plan"):
            return
        fields = world.get("plan")
        plan, problems = plan_from_fields(fields)
        assert problems == []
        if "partitions" not in fields:
            return
        assert plan.version >= last[-1]
        last.append(plan.version)
        said = repr(sorted((name, value) for name, value in fields.items() if name != "nonce")).encode()
        assert versions.setdefault(plan.version, said) == said, f"two plans of {plan.version}"
        for name, record in plan.partitions.items():
            if record.owner is not None:
                assert grants.setdefault((name, record.fence), record.owner) == record.owner

    world.watch(check)


# --- sealing ---


@simulated
async def test_sealing_makes_older_terms_refusable(world: World) -> None:
    """Once a newer term has sealed the plan, the older leader's next write is refused, and it steps down."""
    old = await leader(world, number=1)
    Pen(world, "b~1")
    await old.settles()
    new = await Leader(world, number=2).start()
    Pen(world, "c~1")
    assert old.task is not None
    await world.until(old.task.done, 120)
    assert old.term.step_down_reason == "the plan belongs to a newer term"
    assert world.heard("write.refused", term=1)
    assert world.get("plan")["term"] == 2
    with pytest.raises(Fenced):
        await old.duties.seal(old.term)
    await new.stops()


@simulated
async def test_the_known_term_is_the_plans(world: World) -> None:
    """The elector learns the plan's term, and 0 where there is none or none that can be read."""
    one = Leader(world)
    assert await one.duties.known_term() == 0
    world.put("plan", {"term": 12})
    assert await one.duties.known_term() == 12
    for body in (b"garbage", b'{"format":1,"term":"x"}', b'{"format":1}'):
        world.put("plan", body)
        assert await one.duties.known_term() == 0


@simulated
async def test_the_known_term_is_also_that_of_the_plan_that_was_read(world: World) -> None:
    """A plan that this instance has read counts, whatever has become of the stored one since."""
    one = Leader(world)
    one.member.board.plan = Plan(term=7)
    assert await one.duties.known_term() == 7
    world.put("plan", {"term": 12})
    assert await one.duties.known_term() == 12
    world.put("plan", {"term": 3})
    assert await one.duties.known_term() == 7


@simulated
async def test_a_first_term_that_is_none_grants_nothing(world: World) -> None:
    """A leader of term 1 gives way to a higher term that somebody has remembered meanwhile, and names no heir."""
    Pen(world, "b~1")
    one = await leader(world)
    world.put(term_key("leader", 5), {"session": "b.1", "duration": 15.0})
    assert one.task is not None
    await world.until(one.task.done, 60, "the duties have ended")
    assert one.reason() is not None
    assert [event["error"] for event in world.heard("write.refused")] == [
        "term 5 is on record: the store had forgotten it when term 1 began"
    ]
    assert await one.duties.prepare_heir(one.term) is None
    assert owners(world) == {}


@simulated
async def test_a_plan_that_never_granted_anything_is_waited_for(world: World) -> None:
    """After a first term that granted nothing, nobody knows what was before it: longer than anybody can act."""
    Pen(world, "b~1")
    one = await leader(world)
    await one.stops()
    two = await leader(world, number=2)
    sealed = world.loop.true
    await two.settles(within=200)
    assert world.loop.true - sealed >= patience(world.member)
    await two.stops()


# --- granting ---


@simulated
async def test_a_new_fleet_is_spread_over_those_who_start_together(world: World) -> None:
    """In the first term all who are there soon share the partitions evenly, each under a fence of its own plan."""
    pens = [Pen(world, f"{name}~1") for name in "bcd"]
    one = await leader(world)
    await one.settles(30)
    counts = [list(owners(world).values()).count(pen.id) for pen in pens]
    assert sorted(counts) == [1, 1, 2]
    assert all(record.fence > 0 for record in plan_of(world).partitions.values())
    assert world.heard("plan.published", term=1)
    await one.stops()


@simulated
async def test_a_fleet_at_rest_writes_nothing(world: World) -> None:
    """When nothing is due, rounds read and count, and the plan stays as it is."""
    Pen(world, "b~1")
    one = await leader(world)
    await one.settles()
    await world.passes(30)
    before = world.raw("plan")
    await world.passes(10 * world.member.lease)
    assert world.raw("plan") == before
    assert world.problems == []
    await one.stops()


@simulated
async def test_a_dead_owner_is_followed_only_after_the_proof(world: World) -> None:
    """An owner whose beat stands still keeps its partitions for D_m(1+rho)+m after its last change, and no longer."""
    watch_plans(world)
    pens = [Pen(world, "b~1"), Pen(world, "c~1")]
    one = await leader(world)
    await one.settles()
    await world.passes(world.member.renew * 2)
    lost = [name for name, owner in owners(world).items() if owner == "b~1"]
    pens[0].dies()
    died = world.loop.true
    await world.until(lambda: "b~1" not in owners(world).values(), 120)
    assert lost
    assert world.loop.true - died >= patience(world.member) - world.member.renew
    assert world.loop.true - died <= patience(world.member) + 2 * world.leader.renew
    await one.stops()


@simulated
async def test_an_owner_of_other_settings_is_waited_for_by_them(world: World) -> None:
    """While the lease is being changed, an owner may act for longer than the leader's own settings would allow."""
    pens = [Pen(world, "b~1"), Pen(world, "c~1")]
    pens[0].say(patience=3 * patience(world.member))
    one = await leader(world)
    await one.settles()
    pens[0].dies()
    died = world.loop.true
    await one.stops()
    two = await leader(world, number=2)  # who has never seen it alive
    await world.until(lambda: "b~1" not in owners(world).values(), 400)
    assert world.loop.true - died >= 3 * patience(world.member) - world.member.renew
    await two.stops()


@simulated
async def test_an_owner_of_whom_nothing_is_known_is_waited_for_longest(world: World) -> None:
    """An owner that the plan names, and that has left neither status nor beat behind, may have any settings."""
    pens = [Pen(world, "b~1"), Pen(world, "c~1")]
    one = await leader(world)
    await one.settles()
    pens[0].dies()
    for folder in ("members", "beats"):
        world.remove(f"{folder}/b~1")
    await one.stops()
    two = await leader(world, number=2)
    sealed = world.loop.true
    await world.until(lambda: "b~1" not in owners(world).values(), 400)
    assert LONGEST_PATIENCE <= world.loop.true - sealed <= LONGEST_PATIENCE + 2 * world.leader.renew
    await two.stops()


@pytest.mark.parametrize("body", [None, b"garbage"], ids=["deleted", "damaged"])
def test_absence_is_not_death(body: bytes | None) -> None:
    """An owner whose beat vanishes, or whose status cannot be read, is waited for like one that stands still."""

    async def test(world: World) -> None:
        pen = Pen(world, "b~1")
        Pen(world, "c~1")
        one = await leader(world)
        await one.settles()
        pen.dies()
        if body is None:
            world.remove("beats/b~1")
        else:
            world.put("members/b~1", body)
        await world.passes(world.member.lease)
        assert "b~1" in owners(world).values()
        await world.until(lambda: "b~1" not in owners(world).values(), 120)
        await one.stops()

    run(test)


@simulated
async def test_who_has_left_is_followed_at_once(world: World) -> None:
    """A session that says that it has left is proof enough, without any wait."""
    pen = Pen(world, "b~1")
    Pen(world, "c~1")
    one = await leader(world)
    await one.settles()
    pen.dies()
    pen.say(state="left", active={})
    await world.until(lambda: set(owners(world).values()) == {"c~1"}, 2 * world.leader.renew)
    await one.stops()


@simulated
async def test_who_drains_is_asked_and_then_followed(world: World) -> None:
    """A draining owner's partitions move when it has released them, not before."""
    pen = Pen(world, "b~1")
    Pen(world, "c~1")
    one = await leader(world)
    await one.settles()
    pen.obeys = False
    pen.say(state="draining")
    mine = [name for name, owner in owners(world).items() if owner == "b~1"]
    await world.until(lambda: all(plan_of(world).partitions[name].next == "c~1" for name in mine), 10)
    await world.passes(world.member.lease)
    assert all(owners(world)[name] == "b~1" for name in mine)
    pen.obeys = True
    await world.until(lambda: set(owners(world).values()) == {"c~1"}, 20)
    assert world.heard("partition.moving", owner="b~1", next="c~1")
    await one.stops()


@simulated
async def test_a_grant_that_is_not_taken_up_is_taken_back(world: World) -> None:
    """An owner that never becomes active on a partition loses it after two leases, and is left out for a while."""
    pen = Pen(world, "b~1", obeys=False)
    Pen(world, "c~1")
    one = await leader(world)
    await world.until(lambda: "b~1" in owners(world).values(), 30)
    await world.until(
        lambda: all(one.next == "c~1" for one in plan_of(world).partitions.values() if one.owner == "b~1"), 300
    )
    assert any("did not take up" in problem for problem in world.problems)
    pen.say(released={name: one.fence for name, one in plan_of(world).partitions.items() if one.owner == "b~1"})
    await world.until(lambda: set(owners(world).values()) == {"c~1"}, 20)
    await one.stops()


@simulated
async def test_one_bad_status_is_kept_out(world: World) -> None:
    """A member whose status makes no sense is reported once and ignored, and the others are served."""
    world.put("members/x~1", {"state": 7, "queues": "all"})
    world.put("beats/x~1", {"n": 1})
    world.put("members/y~1", b"garbage")
    Pen(world, "c~1")
    one = await leader(world)
    await one.settles()
    await world.passes(60)
    assert set(owners(world).values()) == {"c~1"}
    assert len([problem for problem in world.problems if "x~1" in problem]) == 1
    await one.stops()


# --- taking over ---


@simulated
async def test_a_new_term_keeps_the_plan_and_moves_nothing_at_first(world: World) -> None:
    """What a new leader finds stays where it is; its first round only places what has no owner."""
    watch_plans(world)
    Pen(world, "b~1")
    old = await leader(world)
    await old.settles()
    await old.stops()
    Pen(world, "c~1")  # empty, and so a reason to move something for balance
    before = plan_of(world)
    new = await leader(world, number=2)
    first = world.network.times("documents.replace")
    await world.until(lambda: plan_of(world).version > before.version and "generation" in world.get("plan"), 10)
    assert first
    await world.passes(1.0)
    assert plan_of(world).partitions == before.partitions
    await world.until(lambda: "c~1" in owners(world).values(), 60)
    await new.stops()


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"garbage",
        b"{}",
        b'{"format":1}',
        b'{"format":1,"term":1,"generation":3,"partitions":5}',
        b'{"format":1,"term":"seven","partitions":{}}',
        b'{"format":1,"term":1,"generation":1,"leader":7,"members":[],"queues":{},"partitions":{}}',
        b'{"format":1,"term":1,"generation":1,"leader":"l~1","members":[],"queues":{"orders":0},"partitions":{}}',
    ],
    ids=["deleted", "no JSON", "no format", "no fields", "no object", "no term", "no leader", "no partitions"],
)
def test_a_lost_plan_waits_for_whoever_may_still_act(body: bytes | None) -> None:
    """Where the plan is gone or makes no sense, nothing is granted while any member might act, and then everything."""

    async def test(world: World) -> None:
        pen = Pen(world, "b~1")
        old = await leader(world)
        await old.settles()
        await old.stops()
        pen.say(patience=patience(world.member) + 30)
        if body is None:
            world.remove("plan")
        else:
            world.put("plan", body)
        new = Leader(world, number=2)
        sealed = world.loop.true
        await new.start()
        await world.until(lambda: "b~1" in owners(world).values(), 200)
        assert world.loop.true - sealed >= pen.patience
        assert plan_of(world).term == 2
        assert body is None or world.problems
        await new.stops()

    run(test)


@pytest.mark.parametrize("again", [b"garbage", None], ids=["damaged", "deleted"])
def test_a_plan_that_is_lost_again_is_waited_for_again(again: bytes | None) -> None:
    """A leader that waits after a loss writes no empty plan in its place: its own successor must wait as well."""

    async def test(world: World) -> None:
        Pen(world, "b~1")
        old = await leader(world)
        await old.settles()
        await old.stops()
        world.put("plan", b"garbage")
        new = await leader(world, number=2)
        await world.passes(5)
        if again is None:
            world.remove("plan")
        else:
            world.put("plan", again)
        new.member.board.damaged = True  # as its own member finds
        await world.passes(10)
        await new.stops()
        sealed = world.loop.true
        third = await leader(world, number=3)
        await world.until(lambda: "b~1" in owners(world).values(), 200)
        assert world.loop.true - sealed >= patience(world.member)
        await third.stops()

    run(test)


@simulated
async def test_one_lost_record_is_granted_only_when_nobody_can_act_on_it(world: World) -> None:
    """A partition whose record cannot be read waits for one member lease; the others stay as they are."""
    Pen(world, "b~1")
    old = await leader(world)
    await old.settles()
    await old.stops()
    fields = world.get("plan")
    fields["partitions"][NAMES[1]] = "garbage"
    world.put("plan", fields)
    for pen in ("c~1",):
        Pen(world, pen, obeys=False)
    new = await leader(world, number=2)
    sealed = world.loop.true
    await world.passes(patience(world.member) - 5)
    assert NAMES[1] not in owners(world) or owners(world)[NAMES[1]] is None
    await world.until(lambda: owners(world).get(NAMES[1]), 60)
    assert world.loop.true - sealed >= patience(world.member)
    await new.stops()


# --- writes whose outcome nobody knows ---


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, late(30), stray(1.0), stray(5.0), stray(40.0)], ids=str)
@pytest.mark.parametrize("reads", [0, 1, 12], ids=["reads fine", "one read lost", "reads lost"])
def test_two_plans_never_share_a_generation(fate: Fate, reads: int) -> None:
    """Whatever becomes of a write of the plan, no two plans of one term and generation are ever stored."""

    async def test(world: World) -> None:
        watch_plans(world)
        Pen(world, "b~1")
        one = await leader(world)
        await one.settles()
        for number, name in enumerate("cdefgh"):  # something is different in every round
            if number % 2 == 0:
                world.network.next("documents.replace", fate)
                world.network.next("documents.read", *[DOWN] * reads)
            pen = Pen(world, f"{name}~1")
            await world.passes(2.3)
            if number == 3:
                pen.dies()
        await world.passes(100)
        await one.settles(120)
        await one.stops()

    run(test)


@simulated
async def test_a_store_that_is_away_is_no_progress(world: World) -> None:
    """A leader that completes no round vouches for nothing, and goes on when the store is back."""
    Pen(world, "b~1")
    one = await leader(world)
    await one.settles()
    assert one.stalled() is False
    world.network.always("*", DOWN)
    await world.passes(2 * world.leader.lease)
    assert one.stalled() is True
    world.network.always("*", None)
    await world.until(lambda: not one.stalled(), 10)
    await one.stops()


@simulated
async def test_a_gap_in_the_leaders_own_view_kills_nobody(world: World) -> None:
    """After an outage longer than a member's lease all clocks start anew: nobody is judged in one breath."""
    pens = [Pen(world, f"{name}~1") for name in "bc"]
    one = await leader(world)
    await one.settles()
    before = owners(world)
    world.network.always("*", DOWN)
    await world.passes(3 * world.member.lease)
    world.network.always("*", None)
    for pen in pens:
        assert not pen.task.done()
    await world.passes(world.member.renew * 3)
    assert owners(world) == before
    await one.stops()


# --- releases ---


@simulated
async def test_a_leader_makes_way_for_a_newer_release(world: World) -> None:
    """As soon as a successor runs a newer release the leader steps down for it, and never for one as old as itself."""
    one = await leader(world)
    pens = [Pen(world, id) for id in ("a~s", "b~s", "c~s")]
    await one.settles()
    assert one.reason() is None
    pens[2].say(version="0.9")
    await world.passes(20)
    assert one.reason() is None
    pens[1].say(version="1.1")
    await world.until(one.reason, 20)
    assert one.reason() == "a successor runs a newer release"
    assert plan_of(world).successors[0] == "b~s"


# --- orders ---


@simulated
async def test_a_step_down_names_its_term(world: World) -> None:
    """Only the leader of exactly the term that an operator named steps down."""
    one = await leader(world, number=7)
    for other in (6, 8):
        one.order(StepDown(other))
    await world.passes(20)
    assert one.reason() is None
    one.order(StepDown(7))
    await world.until(one.reason, 5)
    assert one.reason() == "an operator asked for it"
    await one.stops()


@simulated
async def test_force_names_its_fence(world: World) -> None:
    """A partition is taken by force only under the fence that the order names, and not given back to the same owner."""
    pen = Pen(world, "b~1")
    Pen(world, "c~1")
    one = await leader(world)
    await one.settles()
    name = next(name for name, owner in owners(world).items() if owner == "b~1")
    fence = plan_of(world).partitions[name].fence
    pen.obeys = False
    one.order(Force(name, fence - 1))
    await world.passes(20)
    assert owners(world)[name] == "b~1"
    one.order(Force(name, fence))
    await world.until(lambda: owners(world)[name] == "c~1", 10)
    assert plan_of(world).partitions[name].fence > fence
    await one.stops()


@simulated
async def test_another_partition_count_comes_when_all_is_released(world: World) -> None:
    """The count changes only when nobody owns any of the queue, and then goes to those whose code declares it."""
    watch_plans(world)
    old, new = Pen(world, "b~1"), Pen(world, "c~1", {"orders": 2}, obeys=False)
    one = await leader(world)
    await world.until(lambda: old.active.keys() == set(NAMES), 60)
    one.order(Pause("orders"))
    one.order(Repartition("orders", 3, 2))  # void: the plan has four
    await world.passes(10)
    assert plan_of(world).queues == {"orders": COUNT}
    old.obeys = False
    one.order(Repartition("orders", COUNT, 2))
    one.member.board.plan = plan_of(world)
    await world.passes(20)
    assert plan_of(world).queues == {"orders": COUNT}
    fences = {name: record.fence for name, record in plan_of(world).partitions.items()}
    old.say(released=fences, active={})  # as a member does that has read the order
    await world.until(lambda: plan_of(world).queues == {"orders": 2}, 10)
    new.obeys = True
    await world.until(lambda: owners(world) == {"orders-00": "c~1", "orders-01": "c~1"}, 20)
    assert all(record.fence > max(fences.values()) for record in plan_of(world).partitions.values())
    await one.stops()


@simulated
async def test_the_count_is_not_changed_over_a_message(world: World) -> None:
    """A partition that still holds a message keeps the queue at its old count, and the leader says which one it is."""
    world.store.queue.ensure("orders-03")
    old = Pen(world, "b~1")
    one = await leader(world)
    await world.until(lambda: old.active.keys() == set(NAMES), 60)
    one.member.board.plan = plan_of(world)
    world.store.queue.send("orders-03", [b"{}"])
    one.order(Pause("orders"))
    one.order(Repartition("orders", COUNT, 2))
    old.obeys = False
    old.say(released={name: one.fence for name, one in plan_of(world).partitions.items()}, active={})
    await world.until(lambda: any("orders-03 is not empty" in text for text in world.problems), 30)
    assert plan_of(world).queues == {"orders": COUNT}
    (message,) = world.store.queue.receive("orders-03", 1, 60)
    world.store.queue.delete("orders-03", message.receipt)
    await world.until(lambda: plan_of(world).queues == {"orders": 2}, 30)
    await one.stops()


@simulated
async def test_a_stray_document_among_the_members_is_no_member(world: World) -> None:
    """A folder's marker or a stray file beside beats and statuses stops nobody from leading."""
    world.put("members/readme.txt", b"hello")
    world.put("beats/x", b"")
    pen = Pen(world, "b~1")
    one = await leader(world)
    await world.until(lambda: pen.active.keys() == set(NAMES), 60)
    await one.stops()


@simulated
async def test_nothing_is_routed_into_partitions_that_are_about_to_go(world: World) -> None:
    """While the count of a queue is being changed, its intake keeps its messages, and they go by the new count."""
    for name in ("orders", *NAMES, "orders-dlq"):
        world.store.queue.ensure(name)
    old = Pen(world, "b~1")
    one = await leader(world)
    await world.until(lambda: old.active.keys() == set(NAMES), 60)
    one.member.board.plan = plan_of(world)
    one.order(Pause("orders"))
    one.order(Repartition("orders", COUNT, 2))
    await world.passes(5)
    world.store.queue.send("orders", [b'{"customer":"c-%d"}' % n for n in range(40)])
    await world.passes(10)
    assert [world.left(name) for name in ("orders", *NAMES)] == [40, 0, 0, 0, 0]
    old.obeys = False
    old.say(released={name: one.fence for name, one in plan_of(world).partitions.items()}, active={})
    await world.until(lambda: plan_of(world).queues == {"orders": 2}, 10)
    one.member.board.plan = plan_of(world)
    await world.until(lambda: world.left("orders") == 0, 60)
    assert [world.left(name) > 0 for name in NAMES] == [True, True, False, False]
    await one.stops()


# --- handing over ---


@simulated
async def test_an_heir_is_named_in_the_plan_and_awaited(world: World) -> None:
    """The first successor is asked through the plan, and is the heir when its status says so for the very next term."""
    pen = Pen(world, "b~1")
    one = await leader(world, number=3)
    await one.settles(120)
    pen.say(heir={"term": 3, "session": "old", "token": "old"})  # of an earlier hand-over
    heir = asyncio.create_task(one.duties.prepare_heir(one.term))
    await world.until(lambda: plan_of(world).handover is not None, 2)
    handover = plan_of(world).handover
    assert handover is not None
    assert (handover.to, handover.term) == ("b~1", 4)
    assert not heir.done()
    pen.say(heir={"term": 4, "session": "b.1", "token": "t"})
    await world.until(heir.done, 2)
    assert heir.result() == Heir("b.1", "t")
    await one.stops()


@simulated
async def test_nobody_to_hand_over_to_is_known_at_once(world: World) -> None:
    """A leader without successors looks for none."""
    one = await leader(world)
    before = world.loop.true
    assert await one.duties.prepare_heir(one.term) is None
    assert world.loop.true - before < 1
    await one.stops()


@simulated
async def test_an_heir_that_does_not_answer_is_not_waited_for_long(world: World) -> None:
    """A successor that never gets ready costs a few seconds, and then there is no heir."""
    Pen(world, "b~1")
    one = await leader(world)
    await one.settles()
    before = world.loop.true
    assert await one.duties.prepare_heir(one.term) is None
    assert HEIR_PATIENCE - 1 <= world.loop.true - before <= HEIR_PATIENCE + 1
    await one.stops()


# --- leader jobs ---


def job_app(job: Callable[..., Any]) -> App:
    app = order_app()
    app.leader(job)
    return app


@simulated
async def test_a_leader_job_runs_while_the_term_lasts(world: World) -> None:
    """A job gets the term and its trust, is cancelled with the duties, and they end only when it has."""
    seen: list[tuple[int, float]] = []

    async def watch(leadership: Leadership) -> None:
        seen.append((leadership.term, leadership.trust_left))
        leadership.check()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(4)
            seen.append((0, 0))

    one = await leader(world, job_app(watch), number=7)
    await world.until(lambda: seen, 5)
    assert seen[0][0] == 7
    assert 0 < seen[0][1] <= world.leader.trusted
    assert one.task is not None
    one.task.cancel()
    await world.passes(3.5)
    assert not one.task.done()
    await world.until(one.task.done, 1)
    assert seen[-1] == (0, 0)


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError("its own")], ids=["error", "cancellation"])
def test_a_job_that_fails_starts_again_and_costs_no_term(error: BaseException) -> None:
    """A job that crashes is restarted with growing pauses, and the leader's rounds go on."""

    async def test(world: World) -> None:
        starts: list[float] = []

        async def crash() -> None:
            starts.append(world.loop.true)
            raise error

        one = await leader(world, job_app(crash))
        await world.until(lambda: len(starts) == 6, 120)
        pauses = [after - before for before, after in pairwise(starts)]
        assert all(0.5 * 2**n <= pause <= 2.0**n + 0.1 for n, pause in enumerate(pauses))
        assert one.term.step_down_reason is None
        assert not one.term.stalled
        assert any("leader job crash failed" in problem for problem in world.problems)
        await one.stops()

    run(test)


@simulated
async def test_a_job_that_returns_is_done_for_this_term(world: World) -> None:
    """A job that has finished is not started again before the next term."""
    starts: list[int] = []

    async def once() -> None:
        starts.append(1)

    one = await leader(world, job_app(once))
    await world.passes(100)
    assert starts == [1]
    await one.stops()


# --- the broom ---


@simulated
async def test_what_nobody_needs_is_swept(world: World) -> None:
    """Sessions that left go at once, the dead after a day, and term records beyond the newest thousand."""
    pen = Pen(world, "b~1")
    gone, dead, old = Pen(world, "c~1"), Pen(world, "d~1"), Pen(world, "e~1")
    for one_gone in (gone, dead, old):
        one_gone.obeys = False
    for term in range(1, 1031):
        world.put(term_key("leader", term), {"duration": 15.0})
    one = await leader(world, number=1031)
    await world.passes(5)
    for one_gone in (gone, dead, old):
        one_gone.dies()
    await asyncio.sleep(0)
    gone.say(state="left")
    long_ago = (EPOCH - timedelta(hours=25)).isoformat()
    world.put("members/e~1", {**world.get("members/e~1"), "at": long_ago})
    await world.until(lambda: not world.has("members/c~1"), 300)
    await world.until(lambda: not world.has("members/e~1"), 300)
    assert not world.has("beats/c~1")
    assert not world.has("beats/e~1")
    assert world.has("members/d~1")
    assert world.has("members/b~1")
    await world.until(lambda: len(world.keys("terms/")) == 1000, 300)
    assert world.keys("terms/")[-1] == term_key("leader", 1031)
    assert not pen.task.done()
    await one.stops()


def test_control_orders_survive_the_wire() -> None:
    """The orders that these tests give are those that a member reads from the control document."""
    order = Repartition("orders", 4, 2)
    control = parse({}).add(Intent("x", order, EPOCH, "test"))
    assert parse(control.to_fields()).repartitions == (order,)
    assert Assignment(fence=fence_of(1, 2)).state == "free"
