"""Membership: my beat and my status out, the plan and the control document in.

A session is one life of this instance's trust. It beats; while its beats get through, it may act in what the plan
grants to it. When they do not, it stops its work at `stop_at`, and the kernel ends the process at the deadline if
work is left. A session whose trust has run out is never used again: a new one starts from nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from providers.interface import Heir, ProviderError
from worker import handlers
from worker.app import App
from worker.bulletin import Board, Bulletin
from worker.clock import wait_for
from worker.consumer import Share
from worker.core import election
from worker.core.election import StoreClock, Trust
from worker.core.names import member_id
from worker.core.plan import Plan
from worker.core.roster import patience
from worker.own import OwnDocument
from worker.ownership import Ownership
from worker.ports import Ports

TRUST = "membership"
"""The dead-man's entry of a session that owns work."""


class Member:
    """This instance in the fleet: one session after the other, until closed. Control thread only.

    `become_heir` is the elector's; `on_drain` is called when an operator drains this very session.
    """

    def __init__(
        self,
        app: App,
        ports: Ports,
        slots: asyncio.Semaphore,
        become_heir: Callable[[], Heir],
        on_drain: Callable[[str], None],
        facts: Mapping[str, Any],
    ) -> None:
        self.board = Board()
        self.session: Session | None = None
        self.app, self.ports, self.slots = app, ports, slots
        self.become_heir, self.on_drain, self.facts = become_heir, on_drain, facts
        self._closing = asyncio.Event()

    @property
    def rank(self) -> int | None:
        """My place among the plan's successors, from 0; None when I am not one of them."""
        successors = self.board.plan.successors if self.board.plan is not None else ()
        if self.session is None or self.session.id not in successors:
            return None
        return successors.index(self.session.id)

    def close(self) -> None:
        """Release everything and end `run`: running handlers finish first."""
        self._closing.set()
        if self.session is not None:
            self.session.drain()

    async def run(self) -> None:
        """Be a member, in one session after the other."""
        while not self._closing.is_set():
            self.session = Session(self, self.ports.clock.token())
            await self.session.run()
            if not self._closing.is_set():
                await wait_for(self._closing, self.ports.member.jitter)


class Session:
    """One life of trust. `run` returns when it is over and nothing of it acts any more."""

    def __init__(self, member: Member, session: str) -> None:
        ports = replace(member.ports, events=member.ports.events.bind(session=session))
        self.session = session
        self.id = member_id(ports.instance, session)
        self.trust: Trust | None = None
        self._member, self._ports, self._timings = member, ports, ports.member
        share = Share(member.slots, lambda queue: queue in member.board.control.paused, self._may_start)
        assigned = {name: spec for name, spec in member.app.queues.items() if spec.mode == "assigned"}
        self.ownership = Ownership(self.id, assigned, ports, share, self._mark)
        self._queues = {name: spec.partitions for name, spec in assigned.items()}
        self._beat_document = self._own("beat", f"beats/{self.id}")
        self._status_document = self._own("status", f"members/{self.id}")
        self._dirty, self._over = asyncio.Event(), asyncio.Event()
        self._heir: dict[str, object] | None = None
        self._draining = False
        self._writing, self._said_left = asyncio.Lock(), False
        self._bulletin = Bulletin(
            session, member.board, self.ownership, ports, self._may_start, self._named_heir, member.on_drain
        )
        self._offset = ports.clock.wall() - ports.clock.now()
        self._store_clock = StoreClock()

    def _own(self, name: str, key: str) -> OwnDocument:
        problem = f"the {name} was changed by somebody else, and is written again"
        return OwnDocument(
            self._ports.provider.documents, key, self._ports.clock, lambda: self._ports.events.problem(problem)
        )

    def drain(self) -> None:
        """Hand everything back and end this session in good order."""
        self._draining = True
        self._mark()

    @property
    def trusted(self) -> bool:
        """Whether this session may act: its beats get through."""
        return self._may_start()

    def _may_start(self) -> bool:
        return self.trust is not None and self._ports.clock.now() < self.trust.stop_at

    def _mark(self) -> None:
        self._dirty.set()
        self._arm()

    def _arm(self) -> None:
        if self.ownership.busy and self.trust is not None:
            self._ports.deadman.arm(TRUST, self.trust.deadline)
        elif not self.ownership.busy:
            self._ports.deadman.disarm(TRUST)

    async def run(self) -> None:
        """Join, act, and leave: in good order when drained, with everything cancelled when trust runs out."""
        beating = asyncio.create_task(self._beat())
        helpers = [
            asyncio.create_task(part) for part in (self._bulletin.follow(), self._report(), self._check_status())
        ]
        try:
            await handlers.ended(beating)
            if beating.exception() is not None:
                self._ports.events.problem(f"beating failed: {beating.exception()!r}")
        finally:
            self._over.set()
            for helper in helpers:
                helper.cancel()
            await handlers.ended(*helpers)
            self.ownership.revoke()
            await self.ownership.ended()
            self._ports.deadman.disarm(TRUST)
            await self._farewell()
            self._ports.events.emit("member.left", reason=self._reason())

    def _reason(self) -> str:
        if self._bulletin.forgotten:
            return "the store has forgotten the plan"
        return "drained" if self._draining else "trust ran out"

    def _named_heir(self, plan: Plan) -> None:
        """Get ready to lead when the plan asks this session to."""
        if plan.handover is None or plan.handover.to != self.id:
            self._heir = None
            return
        heir = self._member.become_heir()
        self._heir = {"term": plan.handover.term, "session": heir.session, "token": heir.token}
        self._mark()

    # --- the beat ---

    async def _beat(self) -> None:
        """Beat until trust has run out, or until everything is handed back."""
        beats, clock = 0, self._ports.clock
        begun = clock.now()
        while not (self._draining and await self._left()):
            now = clock.now()
            if self.trust is not None and (now >= self.trust.stop_at or self._frozen()):
                return
            if self._bulletin.forgotten:
                return
            if self.trust is None and now - begun >= self._timings.trusted:
                return  # a beat may have landed unanswered, and a leader may have judged this session by it already
            pause = self._timings.renew
            if self._fit():
                limit = None if self.trust is None else self.trust.stop_at - now
                try:
                    async with asyncio.timeout(limit):
                        sent = await self._beat_document.write({"n": beats + 1})
                except (TimeoutError, ProviderError) as exc:
                    self._ports.events.problem(f"a beat did not get through: {str(exc) or type(exc).__name__}")
                    pause = self._timings.total / 2
                else:
                    store_time = self._beat_document.store_time
                    if self._frozen() or self._store_clock.ran_ahead(store_time, clock.now(), self._timings):
                        return  # while the beat was under way, or since the last one: trust is older than it looks
                    self._store_clock = self._store_clock.answered(store_time, sent)
                    beats += 1
                    self._trusted(sent, beats)
                    pause = sent + self._timings.renew - clock.now()
            if self.trust is not None:
                pause = min(pause, self.trust.stop_at - clock.now())
            await self._until_draining(pause)

    def _trusted(self, sent: float, beats: int) -> None:
        trust = election.trust_from(sent, self._timings)
        if self._ports.clock.now() < (trust if self.trust is None else self.trust).stop_at:
            self.trust = trust
            self._offset = self._ports.clock.wall() - self._ports.clock.now()
            self._arm()
        if beats == 1:
            self._ports.events.emit("member.joined")
            self._mark()

    def _frozen(self) -> bool:
        return election.frozen(self._offset, self._ports.clock.wall() - self._ports.clock.now(), self._timings)

    def _fit(self) -> bool:
        """Whether this session does what a beat vouches for: it has read the plan, and its consumers turn."""
        read = self._ports.clock.now() - self._bulletin.read_at <= self._timings.lease
        turning = not self.ownership.stuck(self._timings.lease)
        if not (read and turning):
            what = "a consumer stands still" if read else "the plan could not be read"
            self._ports.events.problem(f"no beat, because {what} for {self._timings.lease:g} s")
        return read and turning

    async def _until_draining(self, seconds: float) -> None:
        """Pause between beats; while draining, look more often whether everything is handed back."""
        if not self._draining:
            await wait_for(self._member._closing, seconds)
        else:
            await self._ports.clock.sleep(min(seconds, self._ports.leader.jitter))

    async def _left(self) -> bool:
        """Hand everything back; True once the last status that says so is written, or cannot be."""
        self.ownership.close()
        if self.ownership.busy:
            return False
        try:
            await self._write_status("left")
        except ProviderError as exc:
            self._ports.events.problem(f"the last status could not be written: {exc}")
        return True

    # --- the status ---

    async def _report(self) -> None:
        """Write the status whenever something in it has changed."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            if self.trust is None:
                continue  # the first beat marks it again
            try:
                await self._write_status("draining" if self._draining else "ready")
            except ProviderError as exc:
                self._ports.events.problem(f"the status could not be written: {exc}")
                self._dirty.set()
                await self._ports.clock.sleep(self._timings.total)

    async def _write_status(self, state: str) -> None:
        """Write what is so by now. "left" is the last word: whatever another task still wants to say is dropped."""
        async with self._writing:
            if not self._said_left:
                self._said_left = state == "left"
                await self._send_status(state)

    async def _send_status(self, state: str) -> None:
        at = datetime.fromtimestamp(self._ports.clock.wall(), UTC).isoformat()
        await self._status_document.write(
            {
                **self._member.facts,
                "instance": self._ports.instance,
                "session": self.session,
                "state": state,
                "queues": self._queues,
                "active": self.ownership.active,
                "released": self.ownership.released,
                "heir": self._heir,
                "patience": patience(self._timings),
                "at": at,
            }
        )

    async def _farewell(self) -> None:
        """After a loss, say that nothing acts any more: then the fleet need not wait for a verdict."""
        if self._draining or self.trust is None:
            return
        try:
            await self._write_status("left")
        except ProviderError as exc:
            self._ports.events.problem(f"the end of a session could not be reported: {exc}")

    async def _check_status(self) -> None:
        """See now and then that the status is still what this session wrote, and write it again if it is not."""
        while True:
            await self._ports.clock.sleep(self._timings.lease)
            try:
                if not await self._status_document.stands():
                    self._mark()
            except ProviderError:
                continue  # whoever writes next reports it
