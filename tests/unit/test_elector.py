"""The elector: from following to leading and back, with the dead-man's switch around all work."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.interface import Heir, Misconfigured, Unavailable
from providers.memory.driver import CAPABILITIES, KEEPS_LEASES
from tests.unit.fakes import ANSWER_LOST, DOWN, LOST, Fate, RecordingDeadMan, World, late, run, simulated, stray
from worker.candidacy import Candidate
from worker.core.election import Phase
from worker.elector import Elector
from worker.errors import Fenced
from worker.opening import term_key
from worker.term import Term
from worker.testing.clock import SimClock
from worker.testing.node import Node


@pytest.fixture(autouse=True, params=[CAPABILITIES, KEEPS_LEASES], ids=["observer", "store"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds for an elector holds on both kinds of store."""
    monkeypatch.setattr(World, "usual", request.param)


class Work:
    """Duties that act until they are cancelled, and then take `ending` seconds to end."""

    def __init__(self, world: World, who: str) -> None:
        self.world, self.who = world, who
        self.ending = 0.0
        self.acting: int | None = None  # the term in which work runs
        self.acted: list[int] = []  # terms, one entry for each performance
        self.sealed: list[int] = []
        self.known = 0
        self.heir: Heir | None = None
        self.heir_takes = 0.0
        self.progressing = True
        self.fails: BaseException | None = None
        self.seal_errors: list[BaseException] = []
        self.seal_takes = 0.0

    async def known_term(self) -> int:
        return self.known

    async def seal(self, term: Term) -> None:
        await asyncio.sleep(self.seal_takes)
        if self.seal_errors:
            raise self.seal_errors.pop(0)
        self.sealed.append(term.number)
        term.progress()

    async def perform(self, term: Term) -> None:
        self.acting = term.number
        self.acted.append(term.number)
        try:
            while True:
                if self.fails is not None:
                    raise self.fails
                if self.progressing:
                    term.progress()
                assert term.trust_left > -0.5
                await asyncio.sleep(0.5)
        finally:
            try:
                await asyncio.sleep(self.ending)
            finally:
                self.acting = None

    async def prepare_heir(self, term: Term) -> Heir | None:
        await asyncio.sleep(self.heir_takes)
        return self.heir


class Instance:
    """One elector with its duties, running until it is closed. With a `rate`, it is a machine that can be killed."""

    def __init__(self, world: World, who: str = "a", rank: int | None = 0, rate: float | None = None) -> None:
        self.world, self.who = world, who
        self.ports = world.ports(who)
        self.node: Node | None = None
        if rate is not None:
            clock = world.clock_of(who, rate)
            self.node = Node(who, clock.local)
            switch = RecordingDeadMan(world.loop, clock, self._die)
            self.ports = replace(self.ports, clock=clock, deadman=switch)
        self.work = Work(world, who)
        self.elector = Elector(
            Candidate("default", who, who),
            self.ports.provider,
            self.ports.clock,
            self.ports.deadman,
            self.ports.events,
            self.ports.leader,
            self.work,
            rank=lambda: rank,
        )
        if self.node is None:
            self.task = asyncio.create_task(self.elector.run())
        else:
            self.task = world.loop.spawn(self.node, self.elector.run)

    def _die(self, entry: str) -> None:
        assert self.node is not None
        self.world.loop.kill(self.node)

    @property
    def acting(self) -> int | None:
        return self.work.acting if self.node is None or self.node.alive else None

    @property
    def leading(self) -> bool:
        return self.elector.phase is Phase.LEADING

    async def leads(self, within: float = 60.0) -> Instance:
        await self.world.until(lambda: self.leading, within, f"{self.who} leads")
        return self

    async def closes(self, within: float = 30.0) -> None:
        self.elector.close("drain")
        await self.world.until(self.task.done, within, f"{self.who} closes")
        self.task.result()
        assert self.elector.term is None
        assert self.work.acting is None

    def heard(self, event: str) -> list[dict[str, Any]]:
        return self.world.heard(event, instance=self.who)


def ends(world: World) -> list[str]:
    """Return how terms ended, in order."""
    return [said["event"] for said in world.said if said["event"] in ("leader.lost", "leader.stepped_down")]


# --- the way in ---


@simulated
async def test_a_leader_has_recorded_and_sealed_its_term_before_it_acts(world: World) -> None:
    """When `leader.elected` is said, the term's record exists and the plan is sealed; work starts after that."""
    one = await Instance(world).leads()
    assert one.work.sealed == [1]
    assert world.get(term_key("leader", 1))["session"] == "a.1"
    (said,) = one.heard("leader.elected")
    assert (said["term"], said["lease_session"]) == (1, "a.1")
    await world.until(lambda: one.work.acting == 1, 1)
    assert one.elector.acting
    await one.closes()


@simulated
async def test_a_term_that_somebody_has_opened_is_never_acted_in(world: World) -> None:
    """A claimed term whose record is another's is resigned, and the next claim is above it."""
    world.network.next("documents.create", Fate(before=lambda: world.put(term_key("leader", 1), {"session": "other"})))
    one = await Instance(world).leads()
    await world.passes(1)
    assert one.work.acted == [2]
    assert [said["term"] for said in one.heard("leader.elected")] == [2]
    await one.closes()


@simulated
async def test_a_plan_of_a_newer_term_is_never_sealed_over(world: World) -> None:
    """When sealing is refused by a newer term, the lease is given back and nothing acts in that term."""
    one = Instance(world)
    one.work.seal_errors = [Fenced("the plan belongs to term 7")]
    one.work.known = 0
    world.at(1.0, lambda: setattr(one.work, "known", 7))
    await world.until(lambda: one.leading, 60)
    assert one.work.acted in ([], [2], [8])
    assert 1 not in [said["term"] for said in one.heard("leader.elected")]
    await one.closes()


@pytest.mark.parametrize("fate", [ANSWER_LOST, LOST, DOWN, late(9), stray(3)], ids=str)
@pytest.mark.parametrize("operation", ["documents.create", "lease.claim", "documents.list", "lease.observe"])
def test_trouble_on_the_way_in_only_delays(operation: str, fate: Fate) -> None:
    """Whatever a request on the way to leadership meets, the term that is led is recorded as one's own."""

    async def test(world: World) -> None:
        world.network.next(operation, fate)
        one = await Instance(world).leads(90)
        assert one.elector.term is not None
        assert world.get(term_key("leader", one.elector.term.number))["session"] == one.elector.term.session
        await one.closes()

    run(test)


@simulated
async def test_a_term_that_cannot_be_opened_in_time_is_not_acted_in(world: World) -> None:
    """When sealing fails until the stop time, the grant is dropped without one act, and another session tries again."""
    one = Instance(world)
    one.work.seal_errors = [Unavailable("the store is down")] * 40
    await one.leads(200)
    assert one.elector.term is not None
    assert one.elector.term.session != "a.1"
    assert one.work.acted in ([], [one.elector.term.number])
    assert ends(world) == []
    await one.closes()


@pytest.mark.parametrize("error", [Misconfigured("no permission"), ZeroDivisionError("a bug")], ids=["denied", "bug"])
def test_a_term_that_cannot_be_opened_at_all_is_given_back(error: BaseException) -> None:
    """A permission that is missing, or a bug, gives the lease back at once and leaves it to others for a while."""

    async def test(world: World) -> None:
        one = Instance(world)
        one.work.seal_errors = [error]
        await world.until(lambda: world.has("leases/leader") and world.holder() is None, 5)
        resigned = world.loop.true
        await one.leads(60)
        assert world.loop.true - resigned >= world.leader.lease - 0.1
        assert any(str(error) in problem for problem in world.problems)
        await one.closes()

    run(test)


# --- the way out ---


@simulated
async def test_losing_is_said_exactly_once_and_ends_the_work(world: World) -> None:
    """When the lease is in other hands, work ends, the loss is said once, and a new session follows."""
    one = await Instance(world).leads()
    world.take_lease("rival.1", term=2)
    await world.until(lambda: not one.elector.acting, 10)
    assert one.work.acting is None
    assert ends(world) == ["leader.lost"]
    assert world.deadman.deadlines == {}
    await one.leads(60)
    assert one.elector.term is not None
    assert (one.elector.term.number, one.elector.term.session) == (3, "a.2")
    await one.closes()


@simulated
async def test_a_store_that_is_away_ends_the_term_in_time(world: World) -> None:
    """Without answers the work is cancelled at the stop time, and what ends in time is not killed."""
    one = await Instance(world).leads()
    one.work.ending = 2.0
    await world.passes(7)
    assert one.elector.term is not None
    world.network.always("*", LOST)
    deadline = one.elector.term.trust.deadline
    await world.until(lambda: one.work.acting is None, 30)
    assert one.ports.clock.now() < deadline
    await world.until(lambda: not one.elector.acting, 1)
    assert world.killed == []
    assert ends(world) == ["leader.lost"]
    world.network.always("*", None)
    await one.leads(60)
    await one.closes()


@simulated
async def test_work_that_does_not_end_is_killed_before_the_lease_can_pass_on(world: World) -> None:
    """The dead-man's switch stays armed while cancelled work runs on, and fires before anybody else may claim."""
    one = await Instance(world).leads()
    one.work.ending = 1000.0
    await world.passes(7)
    world.network.always("a:*", LOST)
    last = max(world.network.times("lease.renew", "a"))
    two = Instance(world, "b")
    await world.until(lambda: world.killed, 30)
    assert not two.elector.acting
    at, entry = world.killed[0]
    assert entry == "leader term 1"
    assert at <= last + world.leader.lease - world.leader.margin / 2
    await two.leads(30)
    assert world.loop.true >= at


@simulated
async def test_the_switch_is_armed_before_work_and_disarmed_after_it(world: World) -> None:
    """Work never runs under a disarmed switch: armed before the first step, moved with trust, off after the last."""
    one = Instance(world)
    one.work.ending = 1.0
    name = "leader term 1"

    def watch() -> None:
        if one.work.acting is not None:
            assert name in world.deadman.deadlines

    world.watch(watch)
    await one.leads()
    await world.passes(20)
    assert one.elector.term is not None
    assert world.deadman.deadlines[name] == one.elector.term.trust.deadline
    await one.closes()
    assert world.deadman.deadlines == {}


@simulated
async def test_work_has_ended_before_the_lease_is_given_back(world: World) -> None:
    """The resignation is sent only after the last piece of work has really ended."""
    one = await Instance(world).leads()
    one.work.ending = 3.0
    ended: list[bool] = []
    world.network.always("lease.resign", Fate(before=lambda: ended.append(one.work.acting is None)))
    await one.closes()
    assert ended == [True]
    assert world.holder() is None
    assert ends(world) == ["leader.stepped_down"]


@simulated
async def test_nothing_is_renewed_while_work_ends(world: World) -> None:
    """From the decision to go the renewals have stopped, so that the give-back collides with none."""
    one = await Instance(world).leads()
    await world.passes(4)
    one.work.ending = 6.0
    before = len(world.network.times("lease.renew"))
    await one.closes()
    assert len(world.network.times("lease.renew")) == before


@simulated
async def test_trust_that_runs_out_while_giving_up_is_a_loss(world: World) -> None:
    """Work that outlasts the trust of a step-down makes a loss of it: said once, and nothing is handed over."""
    one = await Instance(world).leads()
    await world.passes(4)
    one.work.ending = 11.0
    one.work.heir = Heir("b.1", "token")
    assert one.elector.term is not None
    one.elector.term.step_down("an operator asked for it")
    await world.until(lambda: not one.elector.acting, 30)
    assert ends(world) == ["leader.lost"]
    assert world.network.times("lease.hand_over") == world.network.times("lease.resign") == []
    await one.closes()


# --- stepping down ---


@simulated
async def test_a_step_down_hands_over_to_the_heir(world: World) -> None:
    """The prepared heir is named in the lease, takes over within a moment, and the old leader holds back."""
    one = await Instance(world).leads()
    two = Instance(world, "b")
    await world.passes(5)
    one.work.heir = two.elector.become_heir()
    one.work.heir_takes = 1.0
    assert one.elector.term is not None
    one.elector.term.step_down("an operator asked for it")
    await world.passes(0.9)
    assert one.leading  # it leads on while the heir gets ready
    await world.until(lambda: not one.elector.acting, 2)
    gap = world.loop.true
    await two.leads(2)
    assert world.loop.true - gap <= 0.5
    assert two.elector.term is not None
    assert two.elector.term.number == 2
    (said,) = one.heard("leader.stepped_down")
    assert (said["term"], said["reason"], said["to"]) == (1, "an operator asked for it", "b.1")
    await two.closes()
    await one.closes()


@simulated
async def test_a_step_down_without_an_heir_resigns_and_holds_back(world: World) -> None:
    """Without a successor the lease is free at once, and whoever stepped down leaves it alone for one duration."""
    one = await Instance(world).leads()
    assert one.elector.term is not None
    one.elector.term.step_down("an operator asked for it")
    one.elector.term.step_down("another reason")
    await world.until(lambda: not one.elector.acting, 2)
    left = world.loop.true
    await one.leads(60)
    assert world.loop.true - left >= world.leader.lease
    assert [said["reason"] for said in one.heard("leader.stepped_down")] == ["an operator asked for it"]
    assert ends(world) == ["leader.stepped_down"]
    await one.closes()


@simulated
async def test_renewals_go_on_while_the_heir_gets_ready(world: World) -> None:
    """Waiting for an heir costs no trust: the old leader renews until it stops working."""
    one = await Instance(world).leads()
    one.work.heir_takes = 12.0
    assert one.elector.term is not None
    one.elector.term.step_down("an operator asked for it")
    await world.passes(11.9)
    assert one.leading
    assert len(world.network.times("lease.renew")) >= 3
    await one.closes()
    assert ends(world) == ["leader.stepped_down"]


@pytest.mark.parametrize("fails", [RuntimeError("a bug"), None], ids=["raised", "returned"])
def test_duties_that_end_by_themselves_step_down(fails: BaseException | None) -> None:
    """A leader without duties gives the lease to others at once, and says why."""

    async def test(world: World) -> None:
        one = Instance(world)
        one.work.fails = fails or asyncio.CancelledError()
        await world.until(lambda: one.heard("leader.stepped_down"), 5)
        (said,) = one.heard("leader.stepped_down")
        assert ("a bug" in said["reason"]) == (fails is not None)
        one.work.fails = None
        await one.leads(60)
        await one.closes()

    run(test)


@simulated
async def test_an_heir_that_cannot_be_prepared_does_not_keep_the_leader(world: World) -> None:
    """A bug while looking for an heir is a step-down without one."""
    one = await Instance(world).leads()

    async def fail(term: Term) -> Heir | None:
        raise RuntimeError("a bug")

    one.work.prepare_heir = fail  # type: ignore[method-assign] # this very method fails
    await one.closes()
    assert ends(world) == ["leader.stepped_down"]
    assert world.holder() is None


@simulated
async def test_duties_without_progress_lose_the_lease(world: World) -> None:
    """A leader whose duties hang renews no more and is followed by another instance."""
    one = await Instance(world).leads()
    one.work.progressing = False
    two = Instance(world, "b")
    await two.leads(80)
    assert ends(world) == ["leader.lost"]
    assert "no progress" in one.heard("leader.lost")[0]["reason"]
    await two.closes()
    one.work.progressing = True
    await one.closes()


@simulated
async def test_a_frozen_machine_stops_its_work_at_once(world: World) -> None:
    """A jump of the wall clock ends the term, and the new term is claimed under a new session."""
    one = await Instance(world).leads()
    await world.passes(4)
    world.clock.jump_wall(30)
    await world.until(lambda: ends(world), 4)
    assert "stood still" in one.heard("leader.lost")[0]["reason"]
    await world.until(lambda: one.work.acting is None, 1)
    await one.leads(60)
    await one.closes()


# --- closing ---


@pytest.mark.parametrize("when", [0.0, 0.01, 0.03, 0.05, 0.07, 0.09, 0.11, 0.13, 0.2, 0.3, 0.5, 0.8, 2.0])
@pytest.mark.parametrize("seal_takes", [0.0, 1.0])
def test_closing_at_any_moment_leaves_nothing_held(when: float, seal_takes: float) -> None:
    """Closed while it follows, claims, opens or leads, an elector ends soon, with the lease free and no work left."""

    async def test(world: World) -> None:
        one = Instance(world)
        one.work.seal_takes = seal_takes
        await world.passes(when)
        await one.closes(5)
        assert world.holder() is None
        assert world.deadman.deadlines == {}
        assert len(ends(world)) == len(one.heard("leader.elected"))

    run(test)


@simulated
async def test_closing_while_the_store_is_down_ends_too(world: World) -> None:
    """A leader that is closed in an outage ends its work and itself, within its trust."""
    one = await Instance(world).leads()
    await world.passes(4)
    world.network.always("*", LOST)
    await one.closes(world.leader.lease)
    assert world.killed == []


@simulated
async def test_a_bug_in_the_elector_leaves_no_work_behind(world: World) -> None:
    """When the elector itself fails, its work is cancelled and has ended before the failure is reported."""
    one = await Instance(world).leads()
    await world.until(lambda: one.work.acting == 1, 1)
    one.work.ending = 2.0

    def broken(self: object, name: str, deadline: float) -> None:
        raise OSError("the timer cannot be set")

    world.deadman.arm = broken.__get__(world.deadman)  # type: ignore[method-assign] # as the kernel may refuse it
    await world.until(one.task.done, 20)
    assert one.work.acting is None
    with pytest.raises(OSError, match="timer"):
        one.task.result()


# --- many at once ---


FATES = st.sampled_from([Fate(), Fate(), ANSWER_LOST, LOST, DOWN, late(5), stray(4), stray(40)])
OPERATIONS = ("lease.observe", "lease.claim", "lease.renew", "lease.resign", "documents.create", "documents.list")


@settings(max_examples=40)
@given(
    st.dictionaries(st.sampled_from(OPERATIONS), st.lists(FATES, max_size=12)),
    st.lists(st.tuples(st.floats(1, 150), st.sampled_from("abc"), st.sampled_from(["step down", "jump", "cut"]))),
    st.floats(0, 15),
)
def test_there_is_never_more_than_one_leader(
    fates: dict[str, list[Fate]], events: list[tuple[float, str, str]], ending: float
) -> None:
    """Three instances with clocks 10 % apart, whatever their requests meet: one acts at a time, in growing terms."""

    async def test(world: World) -> None:
        highest = 0

        def watch() -> None:
            nonlocal highest
            acting = [one.acting for one in instances.values() if one.acting is not None]
            assert len(acting) <= 1, {name: one.acting for name, one in instances.items()}
            assert acting >= [highest][: len(acting)]
            highest = max([highest, *acting])

        instances = {name: Instance(world, name, rate=rate) for name, rate in (("a", 1.0), ("b", 0.9), ("c", 1.1))}
        instances["a"].work.ending = ending
        for operation, script in fates.items():
            world.network.next(operation, *script)
        for at, name, kind in events:
            one = instances[name]
            if kind == "step down":
                world.at(at, partial(step_down, one))
            elif kind == "jump":
                world.at(at, partial(jump, one))
            else:
                world.at(at, partial(world.network.always, f"{name}:*", LOST))
                world.at(at + 20, partial(world.network.always, f"{name}:*", None))
        world.watch(watch)
        await world.passes(200)
        assert len(ends(world)) <= len(world.heard("leader.elected"))

    run(test)


def step_down(one: Instance) -> None:
    if one.elector.term is not None:
        one.elector.term.step_down("the test says so")


def jump(one: Instance) -> None:
    assert isinstance(one.ports.clock, SimClock)
    one.ports.clock.jump_wall(30)
