"""What the fleet's documents tell one session: the plan that says what it owns, and the operators' orders.

Both are read once per renew interval, and only when they have changed. A document that cannot be read leaves the last
good one in force.
"""

from __future__ import annotations

from collections.abc import Callable

from providers.body import decode
from providers.interface import BadDocument, NewerFormat, NotFound, ProviderError, Version
from worker.core.intents import Control, Repartition
from worker.core.intents import parse as parse_control
from worker.core.plan import Plan, plan_from_fields
from worker.opening import FORGOTTEN, Opener
from worker.ownership import Ownership
from worker.ports import Ports


class Board:
    """The newest plan and control document that this instance has read: it outlives its sessions."""

    def __init__(self) -> None:
        self.plan: Plan | None = None
        self.damaged = False  # the stored plan is gone or unreadable; a leader that has it in memory mends it
        self.control = Control()

    def repartitions(self) -> list[Repartition]:
        """Return the orders that stand: of paused queues whose old count the plan still has."""
        return self.control.due(self.plan.queues if self.plan is not None else {})


class Bulletin:
    """Reads for one session. `may_start` says whether it is trusted, `named_heir` looks at a new plan."""

    def __init__(
        self,
        session: str,
        board: Board,
        ownership: Ownership,
        ports: Ports,
        may_start: Callable[[], bool],
        named_heir: Callable[[Plan], None],
        drain: Callable[[str], None],
    ) -> None:
        self.read_at = ports.clock.now()  # when the plan was last seen, changed or not
        self.forgotten = False  # the store has gone back behind the plan that this session acted on: it is over
        self._session, self._board, self._ownership, self._ports = session, board, ownership, ports
        self._may_start, self._named_heir, self._drain = may_start, named_heir, drain

    async def follow(self) -> None:
        """Read plan and control until cancelled."""
        plan_version: Version | None = None
        control_version: Version | None = None
        while True:
            try:
                plan_version = await self._read_plan(plan_version)
                control_version = await self._read_control(control_version)
                self._ownership.withdraw(frozenset(order.queue for order in self._board.repartitions()))
            except ProviderError as exc:
                self._ports.events.problem(f"plan or control could not be read: {exc}")
            await self._ports.clock.sleep(self._ports.leader.renew)

    async def _read_plan(self, known: Version | None) -> Version | None:
        try:
            document = await self._ports.provider.documents.read("plan", unless=known)
        except NotFound:
            self.read_at = self._ports.clock.now()
            self._board.damaged = self._board.plan is not None
            return None
        self.read_at = self._ports.clock.now()
        if document is None:
            return known
        try:
            plan, problems = plan_from_fields(decode(document.body, "plan"))
        except BadDocument as exc:
            self._board.damaged = not isinstance(exc, NewerFormat)  # a newer leader's plan is not ours to mend
            self._ports.events.problem(f"the last good plan stays in force: {exc}")
            return document.stamp.version
        self._board.damaged = False
        for problem in problems:
            self._ports.events.problem(f"one record of the plan is kept out: {problem}")
        last = self._board.plan
        if last is not None and plan.term < last.term:
            await self._remind(last.term)
            return document.stamp.version
        if last is None or (plan.term, plan.generation) > (last.term, last.generation):
            self._board.plan = plan
            self._named_heir(plan)
        if self._may_start():
            self._ownership.apply(self._board.plan or plan)
            return document.stamp.version
        return None  # read it again: what it grants may only be started under trust

    async def _remind(self, term: int) -> None:
        """Stop acting on a plan that the store has forgotten, and remind it, before its new leader grants anything."""
        self._ownership.revoke()
        self.forgotten = True
        ports = self._ports
        opener = Opener(ports.provider, ports.clock, "leader", ports.instance, ports.fleet, ports.leader)
        if await opener.remind(term, self._session):
            ports.events.problem(FORGOTTEN.format(term=term))
        self._board.plan = None

    async def _read_control(self, known: Version | None) -> Version | None:
        try:
            document = await self._ports.provider.documents.read("control", unless=known)
        except NotFound:
            return None
        if document is None:
            return known
        try:
            self._board.control = parse_control(decode(document.body, "control"))
        except BadDocument as exc:
            self._ports.events.problem(f"the last good control document stays in force: {exc}")
            return document.stamp.version
        for problem in self._board.control.problems:
            self._ports.events.problem(problem)
        if self._board.control.draining(self._session):
            self._drain("an operator drains this session")
        return document.stamp.version
