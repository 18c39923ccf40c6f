"""Watches one simulated fleet: sees every step, every write and every call of user code, and knows what is owed.

What is found inside of user code or of a request is kept until the next step: raised there, it would only fail a
handler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, NotFound
from providers.memory import MemoryStore
from worker.context import Message
from worker.core.envelope import BadMessage, unwrap
from worker.core.names import dead_letter_queue
from worker.core.plan import Plan, plan_from_fields
from worker.testing.invariants import (
    GrowingStore,
    Holder,
    NoMessageLost,
    OneLeader,
    OneOwner,
    Violation,
    WatchedDocuments,
)
from worker.testing.lane import Network
from worker.testing.loop import VirtualLoop
from worker.testing.machine import Life, Machine, Runtime
from worker.testing.node import NODE
from worker.testing.sample import QUEUE
from worker.testing.schedule import Sending


class Judge:
    """All invariants of one run."""

    def __init__(self, store: MemoryStore) -> None:
        self.one_leader, self.one_owner, self.growing = OneLeader(), OneOwner(), GrowingStore()
        self.messages = NoMessageLost()
        self._store, self._bare = store, store.documents
        self._runtimes: dict[str, Runtime] = {}
        self._broken: Violation | None = None

    def watch_store(self, network: Network) -> None:
        """See every write to the store."""

        def wrote(key: str, body: bytes | None) -> None:
            request = network.applying
            who = request.node.name if request is not None and request.node is not None else "somebody"
            self._guard(self.growing.wrote, key, body, who)

        self._store.documents = WatchedDocuments(self._store.documents, wrote)  # type: ignore[assignment] # same protocol

    def wipe_store(self) -> None:
        """Delete every document, as somebody does who empties the bucket. Terms and fences must grow all the same."""
        for stamp in self._bare.list("").stamps:
            self._store.leases.break_now(stamp.key)
            self._bare.delete(stamp)
        self.growing.wiped()

    def step(self, loop: VirtualLoop) -> None:
        """Look at whoever has just run. Raises Violation."""
        node = loop.running
        if loop.errors:
            raise Violation(f"an exception that nobody caught: {loop.errors[0]}")
        if self._broken is not None:
            raise self._broken
        if node is not None and node.alive:
            runtime = self._runtimes[node.name]
            self.one_leader.saw(node.name, runtime.leading)
            self.one_owner.saw(node.name, runtime.active)

    # --- what the others tell ---

    def born(self, life: Life) -> None:
        """A life begins."""
        self._runtimes[life.node.name] = life.runtime

    def died(self, life: Life, code: int | None) -> None:
        """A life has ended, by itself if there is an exit code."""
        who = life.node.name
        runtime = self._runtimes.pop(who)
        handling = [partition for partition, holder in self.one_owner.handling.items() if holder.who == who]
        if code is not None and (handling or runtime.active or runtime.leading is not None):
            self._keep(Violation(f"{who} ended with exit code {code} while it acted in {handling or runtime.active}"))
        self.one_leader.saw(who, None)
        self.one_owner.died(who)

    def told(self, fields: Mapping[str, Any]) -> None:
        """The runtime has emitted an event."""
        if fields["event"] == "leader.elected":
            self.growing.opened("plan", fields["term"])

    def finished(self, number: int) -> None:
        """A handler is done with a message."""
        self.messages.handled[number] = self.messages.handled.get(number, 0) + 1

    def acts_as_leader(self, term: int) -> None:
        """A leader job acts. Raises Violation unless its node leads in that term at this instant."""
        node = NODE.get()
        if node is None or self.one_leader.acting != Holder(node.name, term):
            self._keep(Violation(f"{node} acts as leader of term {term}, and the leader is {self.one_leader.acting}"))

    def watcher(self, who: str) -> HandlerWatch:
        """Return what sees the calls of user code in one life."""
        return HandlerWatch(self, who)

    def _guard(self, check: Callable[..., None], *facts: Any) -> None:
        try:
            check(*facts)
        except Violation as exc:
            self._keep(exc)

    def _keep(self, violation: Violation) -> None:
        self._broken = self._broken or violation

    # --- what is owed at the end ---

    def lacking(self, machines: Sequence[Machine], partitions: int) -> str | None:
        """Say what the fleet lacks to be whole; None when nothing."""
        if self.one_leader.acting is None:
            return "nobody leads"
        for machine in machines:
            if machine.life is None or machine.life.runtime.session is None:
                return f"{machine.name} is not back"
        plan = self._plan()
        if plan is None or len(plan.partitions) != partitions:
            return "the plan does not have every partition"
        lives = {life.runtime.session: life for machine in machines if (life := machine.life) is not None}
        for name, item in plan.partitions.items():
            life = lives.get(item.owner)
            if item.next is not None or life is None:
                return f"{name} belongs to {item.owner} and goes to {item.next}"
            if life.runtime.active.get(name) != item.fence:
                return f"{item.owner} does not act in {name} yet"
        return None

    def _plan(self) -> Plan | None:
        try:
            document = self._store.documents.read("plan")
            plan, _ = plan_from_fields(decode(document.body if document else b"", "plan"))
        except (NotFound, BadDocument):
            return None
        return plan

    def open_messages(self) -> Sequence[Any]:
        """Return the messages that are neither handled nor dead letters yet."""
        for letter in self._store.queue.peek(dead_letter_queue(QUEUE), 100_000):
            try:
                self.messages.buried[unwrap(letter.body).body["number"]] = 1
            except BadMessage:
                continue
        return self.messages.open

    def check_state(self, sendings: Sequence[Sending]) -> None:
        """A fenced document has one writer at a time: what a successful handler has saved is never lost."""
        for sending in sendings:
            if sending.number not in self.messages.handled or sending.kind == "plain":
                continue
            document = self._store.documents.read(f"state/{QUEUE}/{sending.key}")
            content = decode(document.body if document else b"", "state")["content"]
            if str(sending.number) not in content:
                raise Violation(f"message {sending.number} was handled, and what it saved in {sending.key} is lost")


class HandlerWatch:
    """A `worker.testing.handlers.Watcher`: tells the judge which partition's handlers run."""

    def __init__(self, judge: Judge, who: str) -> None:
        self._judge, self._who = judge, who

    def started(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        for message in args:
            if isinstance(message, Message) and message.fence is not None:
                self._judge._guard(self._judge.one_owner.handler_started, self._who, message.partition, message.fence)

    def ended(self, function: Callable[..., Any], args: Sequence[Any], error: BaseException | None) -> None:
        for message in args:
            if isinstance(message, Message):
                self._judge.one_owner.handler_ended(self._who, message.partition)
