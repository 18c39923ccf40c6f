"""The stored plan in the hands of the one who may write it: the leader of one term.

Two plans with the same term and generation must never exist: a member that has applied one would ignore the other,
and both would grant. So whenever it is unclear whether a write has landed, the stored plan is claimed afresh, which
makes whatever is still in flight refusable, and what it says then is the truth to go on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from providers.interface import ProviderError
from worker.core.plan import Plan, plan_from_fields
from worker.errors import Fenced
from worker.fenced import FencedDocument
from worker.opening import Opener
from worker.ports import Ports


class PlanDocument:
    """The plan of one term, for one task on the control thread. `plan` is what the store holds, as far as known."""

    def __init__(self, term: int, me: str, opener: Opener, ports: Ports) -> None:
        self.plan = Plan(term=term, leader=me)
        self.new = False  # there was no plan, or none that could be read, when the term was opened
        self._opener, self._ports = opener, ports
        documents = ports.provider.documents
        self._document = FencedDocument(
            documents, "plan", term, ports.clock, field="term", replace_bad=True, check=plan_from_fields
        )
        self._unclear = False

    async def seal(self) -> None:
        """Claim the plan for this term, and take it over as it is. Raises Fenced, ProviderError."""
        fields = await self._document.open()
        if self._document.problem is not None:
            self._ports.events.problem(f"the plan is damaged and starts anew: {self._document.problem}")
        self.new = "partitions" not in fields
        if not self.new:
            self._take_over(fields)

    async def publish(self, new: Plan) -> None:
        """Write the next plan. Raises Fenced when a newer term has claimed it, ProviderError when that is unclear.

        Emits `plan.published`, and `partition.moving` for every move that it starts.
        """
        try:
            await self._document.save(new.to_fields())
        except ProviderError:
            self._unclear = True
            raise
        except Fenced:
            if self._document.problem is None:
                raise
            self._ports.events.problem(f"the plan was overwritten: {self._document.problem}")
            await self.mend()
            return
        old, self.plan = self.plan, new
        self._report(old, new)

    async def settle(self) -> None:
        """After an unclear write, learn what the store holds. Does nothing when all is clear."""
        if self._unclear:
            await self.mend()

    async def mend(self) -> None:
        """Claim the stored plan afresh and go on from it; where it is gone or unreadable, write it again from memory.

        From memory only while no newer term is recorded (a newer leader records its term before it looks at the plan,
        so either it sees what is written here, or the compare-and-swap here is refused), and only if it is certain
        what was written last. Raises Fenced otherwise: the next term then waits until nobody can act on the lost plan.
        """
        term = self.plan.term
        fields = await self._document.open(fresh=True)
        damage = self._document.problem
        if "partitions" in fields:
            self._take_over(fields)
        elif self.plan.generation == 0 and not self._unclear:
            pass  # nothing was written in this term yet: what was lost before it is being waited for
        elif self._unclear or await self._opener.highest() != term:
            raise Fenced(f"the plan of term {term} is lost ({damage or 'deleted'}), and so is what it said last")
        else:
            again = replace(self.plan, generation=self.plan.generation + 1)
            self._unclear = True
            await self._document.save(again.to_fields())
            self.plan = again
            self._ports.events.problem(f"the plan was lost ({damage or 'deleted'}), and is written again from memory")
        self._unclear = False

    def _take_over(self, fields: Mapping[str, object]) -> None:
        found, problems = plan_from_fields(fields)
        for problem in problems:
            self._ports.events.problem(f"one record of the plan is kept out: {problem}")
        mine = self.plan
        # The generation goes on, across terms too: plans only grow.
        self.plan = replace(found, term=mine.term, leader=mine.leader, handover=None)

    def _report(self, old: Plan, new: Plan) -> None:
        moves: dict[str, int] = {}
        events = self._ports.events.bind(term=new.term)
        for name, item in new.partitions.items():
            before = old.partitions.get(name)
            if item.fence != (before.fence if before is not None else 0):  # every grant has a fence of its own
                moves[item.cause] = moves.get(item.cause, 0) + 1
            if item.next is not None and (before is None or before.next != item.next):
                events.emit("partition.moving", partition=name, owner=item.owner, next=item.next, cause=item.cause)
        events.emit("plan.published", generation=new.generation, moves=moves)
