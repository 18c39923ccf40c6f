"""The lease of every store with conditional writes: one document, changed by compare-and-swap only.

Every method sends one request. Whatever the next one needs travels in values (`LeaseView`, `Grant`), the fields of
newer versions included, so that nothing is read again in between and nothing is lost by an older writer.

    claim       above the term that was seen, over exactly the version that was seen
    renew       same term, next renewal          each of these writes a fresh nonce, so that every write
    resign      same term, no holder             is a new version even where versions are hashes of the body
    hand_over   next term, the heir as holder, `handed`
    accept      the handed term, by the heir's own write

The term in the document never falls, and the document is never deleted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from providers.body import decode, encode
from providers.interface import (
    BadDocument,
    Bid,
    Documents,
    Expiry,
    Grant,
    Heir,
    LeaseView,
    NotFound,
    Stamp,
)
from providers.lease_record import PREFIX, check_accept, check_claim, garbled_view, named, record_of, view_of


class LeaseOnDocuments:
    """`interface.Lease` over `interface.Documents`. Observers decide when it has run out."""

    expiry = Expiry.OBSERVER

    def __init__(self, documents: Documents, role: str) -> None:
        self._documents = documents
        self._role = role
        self._key = PREFIX + role

    def observe(self) -> LeaseView:
        """See `interface.Lease.observe`."""
        try:
            document = self._documents.read(self._key)
        except NotFound:
            return LeaseView(version=None, free=True)
        assert document is not None  # only a conditional read answers None
        version, store_time = document.stamp.version, document.stamp.store_time
        try:
            view = view_of(version, decode(document.body, self._key), self._key)
        except BadDocument as exc:
            return garbled_view(version, exc, store_time)
        return replace(view, store_time=store_time)

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """See `interface.Lease.claim`. A garbled lease may be claimed over; how long to wait first is the caller's."""
        check_claim(view, bid, self._key)
        return self._take(view, bid)

    def renew(self, grant: Grant, nonce: str) -> Grant:
        """See `interface.Lease.renew`."""
        renewals = grant.renewals + 1
        stamp = self._rewrite(grant, nonce, term=grant.term, renewals=renewals)
        return replace(grant, version=stamp.version, nonce=nonce, renewals=renewals, store_time=stamp.store_time)

    def resign(self, grant: Grant, nonce: str) -> None:
        """See `interface.Lease.resign`."""
        self._rewrite(grant, nonce, term=grant.term, renewals=grant.renewals, holder=None, instance=None)

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """See `interface.Lease.hand_over`."""
        self._rewrite(grant, nonce, term=grant.term + 1, **named(to))

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """See `interface.Lease.accept`."""
        check_accept(view, bid, token, self._key)
        return self._take(view, bid)

    def _take(self, view: LeaseView, bid: Bid) -> Grant:
        body = encode(record_of(self._role, bid, view.extra, term=bid.term, nonce=bid.nonce))
        if view.version is None:
            stamp = self._documents.create(self._key, body)
        else:
            stamp = self._documents.replace(Stamp(self._key, view.version), body)
        return Grant(
            term=bid.term,
            session=bid.session,
            version=stamp.version,
            nonce=bid.nonce,
            bid=bid,
            store_time=stamp.store_time,
            extra=view.extra,
        )

    def _rewrite(self, grant: Grant, nonce: str, *, term: int, **changed: Any) -> Stamp:
        if nonce == grant.nonce:
            raise ValueError("every request needs a fresh nonce")
        body = encode(record_of(self._role, grant.bid, grant.extra, term=term, nonce=nonce, **changed))
        return self._documents.replace(Stamp(self._key, grant.version), body)


__all__ = ["PREFIX", "LeaseOnDocuments"]
