"""The duties of one term: keep the plan, route the intakes, run the leader jobs.

    seal         open the plan under this term; from then on no older term can write it
    rounds       count the fleet, let the planner decide, publish what has changed: every round is progress
    routing      one task per intake
    jobs         the user's leader jobs

The plan is the only truth that a new leader takes over. It moves nothing for balance in its first round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from providers.body import decode
from providers.interface import BadDocument, Heir, NewerFormat, NotFound, ProviderError
from worker import handlers
from worker.app import App
from worker.census import Census, Count
from worker.clock import wait_for
from worker.core import planner
from worker.core.plan import Handover, Plan, plan_from_fields
from worker.core.roster import patience
from worker.errors import Fenced
from worker.fenced import FencedDocument
from worker.grants import Grants
from worker.janitor import Janitor
from worker.leader_jobs import run_job
from worker.member import Member
from worker.ports import Ports
from worker.router import route
from worker.term import Term

HEIR_PATIENCE = 5.0
"""Seconds that a step-down waits for a successor to get ready, before the lease is simply resigned."""


class LeaderDuties:
    """What the leader of a fleet does. One instance serves all terms of this process, one after the other."""

    def __init__(self, app: App, ports: Ports, member: Member) -> None:
        self._app, self._ports, self._member = app, ports, member
        self._document: FencedDocument | None = None
        self._plan: Plan | None = None
        self._count: Count | None = None
        self._place_from = 0.0  # when partitions may be granted at all
        self._restored_from = 0.0  # when nobody can act any more on a partition whose record was unreadable
        self._heir_wanted: str | None = None
        self._round_now = asyncio.Event()
        self._counted = asyncio.Event()

    # --- what the elector calls ---

    async def known_term(self) -> int:
        """Return the plan's term; 0 when there is none, or none that can be read."""
        try:
            document = await self._ports.provider.documents.read("plan")
            term = decode(document.body if document else b"", "plan").get("term")
        except NewerFormat:
            raise
        except (NotFound, BadDocument):
            return 0
        return term if isinstance(term, int) else 0

    async def seal(self, term: Term) -> None:
        """Claim the plan for this term and take it over as it is. Raises Fenced, ProviderError."""
        document = FencedDocument(
            self._ports.provider.documents, "plan", term.number, self._ports.clock, field="term", replace_bad=True
        )
        fields = await document.open()
        if document.problem is not None:
            self._ports.events.problem(f"the plan is damaged and starts anew: {document.problem}")
        me = self._member.session.id if self._member.session else ""
        empty = Plan(term=term.number, generation=0, leader=me, successors=(), queues={}, partitions={})
        plan, problems = empty, list[str]()
        if "partitions" in fields:
            plan, problems = plan_from_fields({**fields, "term": term.number})
        for problem in problems:
            self._ports.events.problem(f"one record of the plan is kept out: {problem}")
        self._document = document
        self._plan = replace(plan, term=term.number, generation=0, leader=me, handover=None)
        self._place_from = self._ports.clock.now() + self._settling(term, lost="partitions" not in fields)
        self._restored_from = self._ports.clock.now() + patience(self._ports.member)
        term.progress()

    def _settling(self, term: Term, lost: bool) -> float:
        """Seconds before a plan that starts from nothing grants anything.

        In the first term ever, long enough for those who start together to be seen. In a later one the plan was
        lost, and whoever it granted partitions to may still act: longer than any of them can.
        """
        if not lost:
            return 0.0
        if term.number == 1:
            return self._ports.member.renew
        return patience(self._ports.member)

    async def perform(self, term: Term) -> None:
        """Act for this term until cancelled; returns when every task and every job has really ended."""
        self._heir_wanted = None
        queues = [spec for spec in self._app.queues.values() if spec.mode == "assigned"]
        tasks = [asyncio.create_task(run_job(spec, term, self._ports)) for spec in self._app.leader_jobs.values()]
        tasks += [asyncio.create_task(self._route(spec.name, term)) for spec in queues]
        try:
            await self._rounds(term)
        finally:
            for task in tasks:
                task.cancel()
            await handlers.ended(*tasks)

    async def prepare_heir(self, term: Term) -> Heir | None:
        """Name a successor in the plan and wait until its status says that it is ready."""
        until = self._ports.clock.now() + min(HEIR_PATIENCE, self._ports.leader.lease * 5 / 3)
        plan = self._plan
        self._heir_wanted = next(iter(plan.successors), None) if plan else None
        while self._heir_wanted is not None and self._ports.clock.now() < until:
            self._counted.clear()
            self._round_now.set()
            await wait_for(self._counted, until - self._ports.clock.now())
            status = self._count.statuses.get(self._heir_wanted) if self._count else None
            heir = status.heir if status is not None else None
            if heir is not None and heir.get("term") == term.number + 1:
                return Heir(str(heir.get("session")), str(heir.get("token")))
        return None

    # --- rounds ---

    async def _rounds(self, term: Term) -> None:
        census, grants, janitor = Census(self._ports), Grants(self._ports), Janitor(self._ports)
        first = True
        while True:
            self._round_now.clear()
            try:
                await self._round(term, census, grants, balance=not first)
                first = False
                term.progress()
                await janitor.tidy(self._plan, self._count)
            except Fenced as exc:
                self._ports.events.emit("write.refused", term=term.number, error=str(exc))
                term.step_down("the plan belongs to a newer term")
                return
            except ProviderError as exc:
                self._ports.events.problem(f"a round of the plan failed and is tried again: {exc}")
            self._counted.set()
            await wait_for(self._round_now, self._ports.leader.renew)
            if self._heir_wanted is not None:
                await self._ports.clock.sleep(self._ports.leader.jitter)

    async def _round(self, term: Term, census: Census, grants: Grants, *, balance: bool) -> None:
        plan = self._plan
        if plan is None or self._document is None:
            raise RuntimeError("a round without a sealed plan")
        count = self._count = await census.take(plan)
        control = self._member.control
        if control.step_down(term.number):
            term.step_down("an operator asked for it")
        due = [order for order in control.repartitions if plan.queues.get(order.queue) == order.old]
        for order in due:
            plan = self._repartition(plan, order.queue, order.new)
        candidates = count.candidates
        if self._ports.clock.now() < self._place_from:
            candidates = []
        facts = planner.Facts(
            leader=plan.leader,
            candidates=candidates,
            gone=count.gone,
            barred=grants.barred(plan, count),
            forced=control.forced,
            withheld=frozenset(order.queue for order in due),
            restored=frozenset(plan.missing()) if self._ports.clock.now() >= self._restored_from else frozenset(),
            balance=balance,
        )
        wanted = planner.advance(plan, facts)
        handover = Handover(self._heir_wanted, term.number + 1) if self._heir_wanted else None
        if wanted.handover != handover:
            generation = max(wanted.generation, self._plan.generation + 1) if self._plan else wanted.generation
            wanted = replace(wanted, handover=handover, generation=generation)
        if wanted is not self._plan:
            await self._publish(plan, wanted)

    async def _publish(self, old: Plan, new: Plan) -> None:
        assert self._document is not None  # _round has looked
        await self._document.save(new.to_fields())
        self._plan = new
        moves = _causes(old, new)
        self._ports.events.emit("plan.published", term=new.term, generation=new.generation, moves=moves)
        for name, item in new.partitions.items():
            before = old.partitions.get(name)
            if item.next is not None and (before is None or before.next != item.next):
                self._ports.events.emit(
                    "partition.moving",
                    term=new.term,
                    partition=name,
                    owner=item.owner,
                    next=item.next,
                    cause=item.cause,
                )

    def _repartition(self, plan: Plan, queue: str, new: int) -> Plan:
        """Change a queue's count as soon as nobody owns any of its partitions: their owners release them meanwhile."""
        try:
            return planner.with_partition_count(plan, queue, new)
        except ValueError:
            return plan

    async def _route(self, queue: str, term: Term) -> None:
        """Route one intake as soon as the plan knows its partition count; start again when routing fails."""
        while True:
            partitions = self._plan.queues.get(queue) if self._plan else None
            if partitions is None:
                await self._ports.clock.sleep(self._ports.leader.renew)
                continue
            try:
                await route(self._app.queues[queue], partitions, self._ports)
            except Exception as exc:  # noqa: BLE001 - one bad message must not end the routing of a queue
                self._ports.events.problem(f"routing {queue} failed and starts again: {exc!r}", term=term.number)
                await self._ports.clock.sleep(self._ports.leader.lease)


def _causes(old: Plan, new: Plan) -> Mapping[str, int]:
    """Count what has changed in the plan, by cause."""
    moves: dict[str, int] = {}
    for name, item in new.partitions.items():
        if old.partitions.get(name) != item:
            moves[item.cause] = moves.get(item.cause, 0) + 1
    return moves
