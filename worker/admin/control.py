"""Orders to the fleet: entries of the control document, written by compare-and-swap and re-applied when refused."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from datetime import UTC, datetime

from providers.body import decode, encode
from providers.interface import BadDocument, NewerFormat, NotFound, OutcomeUnknown, Refused, Stamp, Unavailable
from providers.provider import Provider
from worker.clock import Clock
from worker.core.intents import Control, Drain, Intent, Order, Pause, StepDown, parse
from worker.errors import ConfigurationError, LostPrecondition, NoLeader, StoreError

KEY = "control"

TRIES = 10
"""Lost races and unanswered writes before an edit is given up; operators are few, so one retry is rare already."""


def operator() -> str:
    """Name whoever gives an order, for the record: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


async def read_control(provider: Provider) -> tuple[Stamp | None, Control]:
    """Return the control document, empty when there is none. Raises BadDocument when it cannot be understood."""
    try:
        document = await provider.documents.read(KEY)
    except NotFound:
        return None, Control()
    assert document is not None  # only a conditional read answers None
    return document.stamp, parse(decode(document.body, KEY))


async def edit(
    provider: Provider, clock: Clock, change: Callable[[Control], Control], *, replace_damaged: bool = False
) -> Control:
    """Apply a change to the newest control document, as often as it takes. Returns what stands then.

    The change must be repeatable: after a lost answer it is applied to what has been read back. A damaged document
    is a ConfigurationError, unless `replace_damaged` says to begin a new one; a newer version's is never replaced.
    """
    for attempt in range(TRIES):
        stamp, control, damaged = await _read_or_begin(provider, replace_damaged)
        changed = change(control)
        if changed is control and not damaged:
            return control
        changed = changed.prune(datetime.fromtimestamp(clock.wall(), UTC))
        body = encode({**changed.to_fields(), "nonce": clock.token()})
        try:
            if stamp is None:
                await provider.documents.create(KEY, body)
            else:
                await provider.documents.replace(stamp, body)
        except (Refused, OutcomeUnknown, Unavailable):
            await clock.sleep((0.05 + 0.1 * clock.random()) * 2 ** min(attempt, 4))
            continue
        return changed
    raise StoreError(f"the control document could not be written in {TRIES} tries: try again")


async def _read_or_begin(provider: Provider, replace_damaged: bool) -> tuple[Stamp | None, Control, bool]:
    """Return the document as it is, or an empty one that has yet to replace a damaged one: then the last is true."""
    try:
        return *await read_control(provider), False
    except NewerFormat:
        raise
    except BadDocument as exc:
        if not replace_damaged:
            raise ConfigurationError(
                f"{exc}. With --yes the command begins a new control document; pauses in the old one are lost"
            ) from exc
        document = await provider.documents.read(KEY)
        return (document.stamp if document else None), Control(), True


class Orders:
    """Gives orders in the name of one operator (`by`, user@host). Each returns what `worker` may wait for."""

    def __init__(self, provider: Provider, clock: Clock, by: str, *, replace_damaged: bool = False) -> None:
        self._provider, self._clock, self._by = provider, clock, by
        self._replace_damaged = replace_damaged

    async def give(self, *orders: Order) -> Control:
        """Add orders to the control document; those that stand already are left as they are."""
        at = datetime.fromtimestamp(self._clock.wall(), UTC)
        intents = [Intent(self._clock.token(), order, at, self._by) for order in orders]

        def add(control: Control) -> Control:
            for intent in intents:
                control = control.add(intent)
            return control

        return await edit(self._provider, self._clock, add, replace_damaged=self._replace_damaged)

    async def step_down(self) -> int:
        """Tell the leader of the present term to step down, and return that term. Raises NoLeader."""
        view = await self._provider.lease("leader").observe()
        if view.garbled is not None:
            raise ConfigurationError(f"the lease cannot be understood ({view.garbled}): nobody knows the term")
        if view.version is None or view.free or view.holder is None:
            raise NoLeader("nobody leads: there is nobody to step down")
        await self.give(StepDown(view.term))
        return view.term

    async def drain(self, name: str) -> list[Drain]:
        """Tell the present sessions of an instance to drain. `name` is an instance, or `instance~session`.

        Raises LostPrecondition, naming the instances that there are. A session that has died is told as well: nobody
        will obey, and nobody else can.
        """
        orders, known = [], set()
        for stamp in await self._provider.documents.list("members/"):
            instance, _, session = stamp.key.removeprefix("members/").rpartition("~")
            known.add(instance)
            if name in (instance, f"{instance}~{session}") and not await self._has_left(stamp.key):
                orders.append(Drain(session=session, instance=instance))
        if not orders:
            shown = ", ".join(sorted(known)) or "none at all"
            raise LostPrecondition(f"no session of instance {name!r} is there to be drained; known instances: {shown}")
        await self.give(*orders)
        return orders

    async def pause(self, queue: str) -> Control:
        """Stop handlers of a logical queue from being started, everywhere, until `resume`."""
        return await self.give(Pause(queue))

    async def resume(self, queue: str) -> Control:
        """Lift the pause of a logical queue."""
        return await edit(
            self._provider,
            self._clock,
            lambda control: control.resume(queue),
            replace_damaged=self._replace_damaged,
        )

    async def _has_left(self, key: str) -> bool:
        try:
            document = await self._provider.documents.read(key)
            return document is not None and decode(document.body, key).get("state") == "left"
        except NotFound:
            return True
        except BadDocument:
            return False
