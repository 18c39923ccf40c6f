"""The duties of one term: keep the plan, route the intakes, run the leader jobs.

    seal         open the plan under this term; from then on no older term can write it
    rounds       count the fleet, let the planner decide, publish what has changed: every round is progress
    routing      one task per intake
    jobs         the user's leader jobs

The plan is the only truth that a new leader takes over. It moves nothing for balance in its first round.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from providers.body import decode
from providers.interface import HIGHEST_TERM, BadDocument, Heir, NewerFormat, NotFound, ProviderError
from worker import handlers
from worker.app import App
from worker.census import Census, Count
from worker.clock import wait_for
from worker.core import planner
from worker.core.intents import Repartition
from worker.core.names import partition_names
from worker.core.plan import Handover, Plan, with_partition_count
from worker.core.roster import patience
from worker.errors import Fenced
from worker.grants import Grants
from worker.janitor import Janitor
from worker.leader_jobs import run_job
from worker.member import Member
from worker.opening import Opener
from worker.plan_document import PlanDocument
from worker.ports import Ports
from worker.router import route
from worker.term import Term

HEIR_PATIENCE = 5.0
"""Seconds that a step-down waits for a successor to get ready, before the lease is simply resigned."""


class LeaderDuties:
    """What the leader of a fleet does. One instance serves all terms of this process, one after the other."""

    def __init__(self, app: App, ports: Ports, member: Member) -> None:
        self._app, self._ports, self._member = app, ports, member
        self._opener = Opener(ports.provider, ports.clock, "leader", ports.instance, ports.fleet, ports.leader)
        self._document: PlanDocument | None = None
        self._count: Count | None = None
        self._sealed_at = 0.0
        self._starts_anew = False  # the plan does; until it has been seen that no higher term was forgotten
        self._superseded = False  # a newer term is known of: an heir of this one could not lead
        self._ordered: dict[tuple[int, Repartition], float] = {}  # when a term first saw an order that stands
        self._heir_wanted: str | None = None
        self._round_now = asyncio.Event()
        self._counted = asyncio.Event()

    @property
    def living(self) -> int | None:
        """How many members the last count of this process's present or last term has seen alive, and not left."""
        return None if self._count is None else len(self._count.candidates)

    # --- what the elector calls ---

    async def known_term(self) -> int:
        """Return the highest term of a plan: of the stored one, and of the newest that this process has read."""
        read = self._member.board.plan.term if self._member.board.plan is not None else 0
        try:
            document = await self._ports.provider.documents.read("plan")
            term = decode(document.body if document else b"", "plan").get("term")
        except NewerFormat:
            raise
        except (NotFound, BadDocument):
            return read
        return max(read, term) if type(term) is int and 0 <= term <= HIGHEST_TERM else read

    async def seal(self, term: Term) -> None:
        """Claim the plan for this term and take it over as it is. Raises Fenced, ProviderError."""
        me = self._member.session.id if self._member.session else ""
        document = PlanDocument(term.number, me, self._opener, self._ports)
        await document.seal()
        if document.new and term.number == 1:  # from now on, a plan without records means that one was lost
            await document.publish(replace(document.plan, generation=1))
        self._document, self._sealed_at = document, self._ports.clock.now()
        self._starts_anew, self._superseded = document.new or not document.plan.partitions, False
        term.progress()

    def _settling(self, term: Term, longest: float) -> float:
        """Seconds before a plan that starts from nothing grants anything.

        In the first term ever, long enough for those who start together to be seen, and for those who remember a
        higher term to say so. In a later one the plan was lost, and whoever it granted partitions to may still act:
        `longest`, for which any of them can.
        """
        return self._ports.member.renew if term.number == 1 else longest

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
        """Name a successor in the plan and wait until its status says that it is ready; None when nobody is left."""
        if self._superseded:
            return None
        leader = self._ports.leader  # a member reads the plan once per renew interval
        longest = min(max(HEIR_PATIENCE, leader.renew + leader.total), leader.lease * 5 / 3)
        until = self._ports.clock.now() + longest
        while self._ports.clock.now() < until:
            self._heir_wanted = self._next_in_line()
            if self._heir_wanted is None:
                return None
            self._counted.clear()
            self._round_now.set()
            await wait_for(self._counted, until - self._ports.clock.now())
            status = self._count.statuses.get(self._heir_wanted) if self._count else None
            heir = status.heir if status is not None else None
            if heir is not None and heir.get("term") == term.number + 1:
                return Heir(str(heir.get("session")), str(heir.get("token")))
        return None

    def _next_in_line(self) -> str | None:
        """Return the first successor that is not leaving itself, as far as the last count knows."""
        successors, count = self._sealed().plan.successors, self._count
        if count is None:
            return next(iter(successors), None)
        ready = {status.id for status in count.statuses.values() if status.state == "ready"} - count.gone
        return next((id for id in successors if id in ready), None)

    # --- rounds ---

    async def _rounds(self, term: Term) -> None:
        census, janitor = Census(self._ports, term.progress), Janitor(self._ports, term.progress)
        grants = Grants(self._ports)
        first = True
        while True:
            self._round_now.clear()
            try:
                await self._round(term, census, grants, balance=not first)
                first = False
                term.progress()
                await janitor.tidy(self._sealed().plan, self._count)
            except Fenced as exc:
                self._ports.events.emit("write.refused", term=term.number, error=str(exc))
                self._superseded = True
                term.step_down("the plan belongs to a newer term")
                return
            except ProviderError as exc:
                self._ports.events.problem(f"a round of the plan failed and is tried again: {exc}")
            self._counted.set()
            await wait_for(self._round_now, self._ports.leader.renew)
            if self._heir_wanted is not None:
                await self._ports.clock.sleep(self._ports.leader.jitter)

    async def _round(self, term: Term, census: Census, grants: Grants, *, balance: bool) -> None:
        document = self._sealed()
        board, now = self._member.board, self._ports.clock.now()
        await document.settle()
        if board.damaged:
            await document.mend()
            board.damaged = False
        plan = document.plan
        count = self._count = await census.take(plan)
        if board.control.step_down(term.number):
            term.step_down("an operator asked for it")
        since, longest = now - self._sealed_at, count.patience(patience(self._ports.member))
        if self._starts_anew and since >= self._settling(term, longest):
            await self._nothing_forgotten(term)
        due = board.control.due(plan.queues)
        self._ordered = {(term.number, one): self._ordered.get((term.number, one), now) for one in due}
        for order in due:
            plan = await self._repartition(term, plan, order)
        facts = planner.Facts(
            leader=plan.leader,
            candidates=[] if self._starts_anew else count.candidates,
            gone=count.gone,
            barred=grants.barred(plan, count),
            forced=board.control.forced,
            withheld=frozenset(order.queue for order in due),
            restored=frozenset(plan.missing()) - count.held if since >= longest else frozenset(),
            newest=count.newest,
            balance=balance,
        )
        wanted = planner.advance(plan, facts)
        handover = Handover(self._heir_wanted, term.number + 1) if self._heir_wanted else None
        if wanted.handover != handover:
            wanted = replace(wanted, handover=handover, generation=max(wanted.generation, document.plan.generation + 1))
        if wanted is not document.plan:
            await document.publish(wanted)
        if count.outdated(wanted.leader, wanted.successors):
            term.step_down("a successor runs a newer release")

    async def _nothing_forgotten(self, term: Term) -> None:
        """See, before anything is granted, that nobody remembers a higher term. Raises Fenced, ProviderError."""
        highest = await self._opener.highest()
        if highest > term.number:
            raise Fenced(f"term {highest} is on record: the store had forgotten it when term {term.number} began")
        self._starts_anew = False

    def _sealed(self) -> PlanDocument:
        if self._document is None:
            raise RuntimeError("the plan was not sealed")
        return self._document

    async def _repartition(self, term: Term, plan: Plan, order: Repartition) -> Plan:
        """Change a queue's count once nobody owns any of its partitions, and while all of them are empty.

        Their owners release them, and routing has stopped, since the order was first read. A message that came in
        before that waits for `worker resume`, which lifts all of this until the next pause. A move that was under way
        when the order was read has landed, or never will, after one request's time.
        """
        seen = self._ordered[term.number, order]
        if self._ports.clock.now() - seen <= self._ports.leader.renew + self._ports.leader.total:
            return plan
        try:
            changed = with_partition_count(plan, order.queue, order.new)
        except ValueError:
            return plan  # not all released yet
        for name in partition_names(order.queue, order.old):
            if await self._holds(name):
                self._ports.events.problem(
                    f"{order.queue} keeps its {order.old} partitions for now: {name} is not empty. "
                    f"Resume the queue until it is, and pause it again"
                )
                return plan
        return changed

    async def _holds(self, queue: str) -> bool:
        try:
            depth = await self._ports.provider.queue.depth(queue)
        except NotFound:
            return False
        return depth.visible + depth.hidden > 0

    async def _route(self, queue: str, term: Term) -> None:
        """Route one intake for the whole term; start again when routing fails."""
        while True:
            try:
                await route(self._app.queues[queue], lambda: self._count_of(queue), self._ports)
            except Exception as exc:
                self._ports.events.problem(f"routing {queue} failed and starts again: {exc!r}", term=term.number)
                await self._ports.clock.sleep(self._ports.leader.lease)

    def _count_of(self, queue: str) -> int | None:
        """Return the partition count to route by; None while it is being changed: its partitions are to be empty."""
        changing = any(order.queue == queue for order in self._member.board.repartitions())
        return None if changing else self._sealed().plan.queues.get(queue)
