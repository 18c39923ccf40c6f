"""The lease of a store that keeps leases itself, in memory: what `providers.azure` is for blobs, for the simulator.

    claim       create the object if there is none; acquire, if nobody has written since; write the record
    renew       a lease operation only: no follower sees it
    resign      release only: the record keeps the term, and `available` says that nobody holds it
    hand_over   change the lease id to the heir's; write the record in the next term, with the heir as holder
    accept      acquire under the own id; write the record, not `handed` any more

The record is written under the lease id and over exactly the version that was seen, so that none of these can land
over a successor's. A session's lease id is derived from its name: asked again, the same session is granted again.

Some methods send several requests. Each has a twin that yields between two of them (`claiming`, `accepting`,
`handing_over`), for simulations in which the sender dies or the second request is lost.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TypeVar

from providers.body import decode, encode
from providers.interface import (
    BadDocument,
    Bid,
    Document,
    Documents,
    Expiry,
    Grant,
    Heir,
    LeaseView,
    NotFound,
    Refused,
    Stamp,
    Version,
)
from providers.lease_record import PREFIX, check_accept, check_claim, garbled_view, named, record_of, view_of
from providers.memory.leases import LeaseState
from providers.memory.store import MemoryStore

T = TypeVar("T")

Steps = Generator[None, None, T]
"""A call of several requests: one for each `next`, and what the call returns in the end."""


class NativeLease:
    """`interface.Lease` over the simulated store's own leases. The store decides when one has run out."""

    expiry = Expiry.STORE

    def __init__(self, store: MemoryStore, documents: Documents, role: str) -> None:
        self._store, self._leases, self._documents = store, store.leases, documents
        self._role = role
        self._key = PREFIX + role

    def observe(self) -> LeaseView:
        """See `interface.Lease.observe`."""
        with self._store.lock:
            document, state = self._read(), self._leases.state(self._key)
        if document is None:
            return LeaseView(version=None, free=True, store_time=self._store.time())
        free = state is not LeaseState.LEASED
        version, store_time = document.stamp.version, document.stamp.store_time
        try:
            view = view_of(version, decode(document.body, self._key), self._key)
        except BadDocument as exc:
            return replace(garbled_view(version, exc, store_time), free=free)
        resigned = state is LeaseState.AVAILABLE
        return replace(
            view,
            holder=None if resigned else view.holder,
            instance=None if resigned else view.instance,
            free=free,
            store_time=store_time,
        )

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """See `interface.Lease.claim`. OutcomeUnknown once the first of its requests has changed something."""
        return _all(self.claiming(view, bid))

    def claiming(self, view: LeaseView, bid: Bid) -> Steps[Grant]:
        """Do what `claim` does, request by request."""
        check_claim(view, bid, self._key)
        return (yield from self._take(view, bid))

    def renew(self, grant: Grant, nonce: str) -> Grant:
        """See `interface.Lease.renew`. It can be repeated: the lease id alone is the proof."""
        _fresh(grant, nonce)
        self._leases.renew(self._key, self._id(grant.session))
        return replace(grant, nonce=nonce, renewals=grant.renewals + 1, store_time=self._store.time())

    def resign(self, grant: Grant, nonce: str) -> None:
        """See `interface.Lease.resign`."""
        _fresh(grant, nonce)
        self._leases.release(self._key, self._id(grant.session))

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """See `interface.Lease.hand_over`. It can be repeated until the record says so."""
        _all(self.handing_over(grant, to, nonce))

    def handing_over(self, grant: Grant, to: Heir, nonce: str) -> Steps[None]:
        """Do what `hand_over` does, request by request."""
        _fresh(grant, nonce)
        heir = self._id(to.session)
        self._leases.change(self._key, self._id(grant.session), heir)
        yield
        record = record_of(self._role, grant.bid, grant.extra, term=grant.term + 1, nonce=nonce, **named(to))
        self._write(grant.version, heir, encode(record))

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """See `interface.Lease.accept`."""
        return _all(self.accepting(view, bid, token))

    def accepting(self, view: LeaseView, bid: Bid, token: str) -> Steps[Grant]:
        """Do what `accept` does, request by request."""
        check_accept(view, bid, token, self._key)
        return (yield from self._take(view, bid))

    def _id(self, session: str) -> str:
        """Return the lease id of a session: always the same, and nobody else's."""
        return f"id of {session}"

    def _take(self, view: LeaseView, bid: Bid) -> Steps[Grant]:
        id, version = self._id(bid.session), view.version
        if version is None:
            version = self._documents.create(self._key, b"").version
            yield
        self._acquire(version, id, bid.duration)
        yield
        record = record_of(self._role, bid, view.extra, term=bid.term, nonce=bid.nonce)
        stamp = self._write(version, id, encode(record))
        return Grant(
            term=bid.term,
            session=bid.session,
            version=stamp.version,
            nonce=bid.nonce,
            bid=bid,
            proof=id,
            store_time=stamp.store_time,
            extra=view.extra,
        )

    def _acquire(self, version: Version, id: str, seconds: float) -> None:
        """Acquire on condition that nobody has written: else a claim that lost would keep the lease from everybody."""
        with self._store.lock:
            document = self._read()
            if document is None or document.stamp.version != version:
                raise Refused(f"{self._key} has changed")
            self._leases.acquire(self._key, id, seconds)

    def _write(self, version: Version, id: str, body: bytes) -> Stamp:
        with self._leases.under(id):
            return self._documents.replace(Stamp(self._key, version), body)

    def _read(self) -> Document | None:
        try:
            return self._documents.read(self._key)
        except NotFound:
            return None


def _fresh(grant: Grant, nonce: str) -> None:
    if nonce == grant.nonce:
        raise ValueError("every request needs a fresh nonce")


def _all(steps: Steps[T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
