"""A model of the whole protocol: one leader after another, members that obey late, crash, drain and leave.

Members read any plan that was ever written, late or not; they act on what it grants them and stop after any delay.
The leader knows only what was published. Whatever the order of these steps, a partition has one acting owner.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from providers.body import decode, encode
from worker.core.plan import Plan, plan_from_fields
from worker.core.planner import Candidate, Facts, advance

VERSIONS = [{"orders": 3, "mails": 2}, {"orders": 3}, {"orders": 2, "mails": 2}]


@dataclass
class Member:
    """One session, as it is; `status` is what it has published of itself."""

    id: str
    queues: dict[str, int]
    applied: tuple[int, int] = (0, 0)
    acting: dict[str, int] = field(default_factory=dict)  # partition: fence
    stopping: set[str] = field(default_factory=set)  # told to stop, and still acting
    released: dict[str, int] = field(default_factory=dict)
    draining: bool = False
    silent: bool = False  # crashed or cut off: may act until its trust ends
    ended: bool = False  # its trust has ended, or it has left: acts no more
    status: Candidate = field(init=False)

    def __post_init__(self) -> None:
        self.publish()

    def publish(self) -> None:
        self.status = Candidate(self.id, self.queues, 1.0, dict(self.released), self.draining)

    def read(self, plan: Plan) -> None:
        if plan.version <= self.applied:
            return
        self.applied = plan.version
        granted = {name for name, record in plan.partitions.items() if record.owner == self.id and record.next is None}
        self.stopping |= self.acting.keys() - granted
        for name, record in plan.partitions.items():
            if record.owner != self.id or name in self.acting:
                continue
            if record.next is not None:
                self.released[name] = max(record.fence, self.released.get(name, 0))  # never started: nothing to end
            elif self.released.get(name, -1) < record.fence and not self.draining:
                self.acting[name] = record.fence

    def stop(self, name: str) -> None:
        self.released[name] = max(self.acting.pop(name), self.released.get(name, 0))
        self.stopping.discard(name)


class Fleet(RuleBasedStateMachine):
    """The steps that anybody may take, in any order."""

    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.all: dict[str, Member] = {}
        self.plans = [Plan(term=1)]
        self.gone: set[str] = set()  # verdicts of this leader
        self.left: set[str] = set()
        self.first = True  # this leader's first round
        self.lost: dict[str, tuple[int, int]] = {}  # partition: version of the first plan without its record

    @property
    def plan(self) -> Plan:
        return self.plans[-1]

    def facts(self) -> Facts:
        """Return what the leader knows."""
        living = [each for each in self.all.values() if each.id not in self.gone | self.left]
        statuses = [each.status for each in living if not each.silent]
        restored = {name for name, version in self.lost.items() if self.vouches(name, version)}
        return Facts("vm-0~0", statuses, self.gone | self.left, restored=restored, balance=not self.first)

    def round(self) -> bool:
        """Let the leader plan once, and say whether anything changed."""
        facts = self.facts()
        after = advance(self.plan, facts)
        self.first = False
        for name in facts.restored & after.partitions.keys():
            del self.lost[name]
        if after is self.plan:
            return False
        for name, old in self.plan.partitions.items():
            new = after.partitions[name]
            assert new.fence >= old.fence
            assert new.owner == old.owner or new.owner is None or new.fence > old.fence
        self.plans.append(after)
        return True

    def vouches(self, name: str, version: tuple[int, int]) -> bool:
        """Say whether nobody can act on a partition with a lost record: everybody has read that it is nobody's."""
        return all(each.ended or (each.applied >= version and name not in each.acting) for each in self.all.values())

    @initialize(target=members, versions=st.lists(st.sampled_from(VERSIONS), min_size=3, max_size=3))
    def start(self, versions: list[dict[str, int]]) -> MultipleResults[str]:
        """Begin with three members at work."""
        names = [self.add(version) for version in versions]
        self.round()
        for name in names:
            self.all[name].read(self.plan)
        return multiple(*names)

    @rule(target=members, version=st.sampled_from(VERSIONS))
    def join(self, version: dict[str, int]) -> str:
        return self.add(version)

    def add(self, version: dict[str, int]) -> str:
        name = f"vm-{len(self.all)}~{len(self.all)}"
        self.all[name] = Member(name, version)
        return name

    @rule()
    def lead(self) -> None:
        self.round()

    @rule()
    def new_leader(self) -> None:
        fields = {**decode(encode(self.plan.to_fields()), "plan"), "term": self.plan.term + 1}
        plan, problems = plan_from_fields(fields)
        assert problems == []
        self.plans.append(plan)
        self.gone = set()
        self.first = True

    @rule(data=st.data())
    @precondition(lambda self: self.plan.partitions)
    def lose_a_record(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.plan.partitions)))
        kept = {other: record for other, record in self.plan.partitions.items() if other != name}
        damaged = replace(self.plan, partitions=kept, generation=self.plan.generation + 1)
        self.plans.append(damaged)
        self.lost[name] = damaged.version

    @rule(name=members, late=st.integers(0, 3))
    def read(self, name: str, late: int) -> None:
        member = self.all[name]
        if not member.silent and not member.ended:
            member.read(self.plans[max(0, len(self.plans) - 1 - late)])

    @rule(name=members, data=st.data())
    def finish(self, name: str, data: st.DataObject) -> None:
        member = self.all[name]
        if member.stopping and not member.silent:
            member.stop(data.draw(st.sampled_from(sorted(member.stopping))))

    @rule(name=members, data=st.data())
    def give_back(self, name: str, data: st.DataObject) -> None:
        member = self.all[name]
        if member.acting and not member.silent:
            member.stopping.add(data.draw(st.sampled_from(sorted(member.acting))))

    @rule(name=members)
    def publish(self, name: str) -> None:
        if not self.all[name].silent:
            self.all[name].publish()

    @rule(name=members)
    def drain(self, name: str) -> None:
        self.all[name].draining = True

    @rule(name=members)
    def leave(self, name: str) -> None:
        member = self.all[name]
        if member.draining and not member.acting and not member.silent:
            member.ended = True
            self.left.add(name)

    @rule(name=members)
    def fall_silent(self, name: str) -> None:
        self.all[name].silent = True

    @rule(name=members)
    def lose_trust(self, name: str) -> None:
        member = self.all[name]
        if member.silent:
            member.acting.clear()
            member.stopping.clear()
            member.ended = True

    @rule(name=members)
    def verdict(self, name: str) -> None:
        if self.all[name].ended and name not in self.left:
            self.gone.add(name)

    @invariant()
    def one_acting_owner(self) -> None:
        owners: dict[str, str] = {}
        for member in self.all.values():
            for name in member.acting:
                assert name not in owners, f"{name}: {owners[name]} and {member.id} act"
                owners[name] = member.id

    def teardown(self) -> None:
        """Let everybody do what is due: then all that can be handled is, by its owner, and planning is idle."""
        for name, member in self.all.items():
            if member.silent:
                self.lose_trust(name)
                self.verdict(name)
        alive = [member for member in self.all.values() if not member.ended]
        for _ in range(60):
            for member in alive:
                member.read(self.plan)
                for name in list(member.stopping):
                    member.stop(name)
                member.publish()
            self.one_acting_owner()
            if not self.round() and not any(member.stopping for member in alive):
                break
        else:
            raise AssertionError("the fleet did not settle in 60 rounds")
        for name, record in self.plan.partitions.items():
            queue = name.rpartition("-")[0]
            able = {
                each.id for each in alive if each.queues.get(queue) == self.plan.queues[queue] and not each.draining
            }
            holders = {each.id for each in alive if name in each.acting}
            if able:
                assert holders == {record.owner} <= able
                assert record.state == "granted"
        assert not self.lost or not alive


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=60)


class SilenceIsDeath(Fleet):
    """A leader that takes a member for dead because it hears nothing."""

    def facts(self) -> Facts:
        facts = super().facts()
        return replace(facts, gone=facts.gone | {each.id for each in self.all.values() if each.silent})


class AnyReleaseWillDo(Fleet):
    """A leader that does not look at the fence of a release."""

    def facts(self) -> Facts:
        facts = super().facts()
        forgetful = [replace(each, released=dict.fromkeys(each.released, 2**62)) for each in facts.candidates]
        return replace(facts, candidates=forgetful)


class LostMeansFree(Fleet):
    """A leader that grants a partition as soon as its record is lost."""

    def facts(self) -> Facts:
        return replace(super().facts(), restored=self.lost.keys())


@pytest.mark.parametrize("broken", [SilenceIsDeath, AnyReleaseWillDo, LostMeansFree])
def test_the_model_sees_a_broken_rule(broken: type[Fleet]) -> None:
    """Whoever breaks one rule of the protocol makes two owners, and the model finds them."""
    thorough = settings(
        max_examples=1000, stateful_step_count=60, derandomize=True, database=None, report_multiple_bugs=False,
        phases=[Phase.generate],
    )  # fmt: skip
    with pytest.raises(AssertionError):
        run_state_machine_as_test(broken, settings=thorough)
