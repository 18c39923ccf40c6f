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

import math
from collections.abc import Mapping
from typing import Any

from providers.body import decode, encode
from providers.interface import (
    HIGHEST_TERM,
    BadDocument,
    Bid,
    Documents,
    Expiry,
    Grant,
    Heir,
    LeaseView,
    Misconfigured,
    NewerFormat,
    NotFound,
    Refused,
    Stamp,
    Version,
)

PREFIX = "leases/"
"""Where the leases of a fleet are kept, one document for each role."""

_KNOWN = frozenset(
    ("format", "fleet", "role", "holder", "instance", "term", "duration", "renewals", "nonce", "handed", "token")
)


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
        version = document.stamp.version
        try:
            return _view(version, decode(document.body, self._key), self._key)
        except BadDocument as exc:
            return LeaseView(version=version, garbled=str(exc), newer=isinstance(exc, NewerFormat))

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """See `interface.Lease.claim`. A garbled lease may be claimed over; how long to wait first is the caller's."""
        if bid.term <= view.term:
            raise ValueError(f"a claim of term {bid.term} on a lease of term {view.term}: terms only grow")
        return self._take(view, bid)

    def renew(self, grant: Grant, nonce: str) -> Grant:
        """See `interface.Lease.renew`."""
        renewals = grant.renewals + 1
        body = self._body(grant.extra, grant.bid, term=grant.term, renewals=renewals, nonce=nonce)
        stamp = self._replace(grant, nonce, body)
        return Grant(
            term=grant.term,
            session=grant.session,
            version=stamp.version,
            nonce=nonce,
            bid=grant.bid,
            renewals=renewals,
            extra=grant.extra,
        )

    def resign(self, grant: Grant, nonce: str) -> None:
        """See `interface.Lease.resign`."""
        changed = {"holder": None, "instance": None}
        self._replace(
            grant,
            nonce,
            self._body(grant.extra, grant.bid, term=grant.term, renewals=grant.renewals, nonce=nonce, **changed),
        )

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """See `interface.Lease.hand_over`."""
        changed = {"holder": to.session, "instance": None, "handed": True, "token": to.token}
        self._replace(
            grant, nonce, self._body(grant.extra, grant.bid, term=grant.term + 1, renewals=0, nonce=nonce, **changed)
        )

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """See `interface.Lease.accept`."""
        if not view.handed or view.holder != bid.session or view.token != token:
            raise Refused(f"{self._key} is not handed to session {bid.session} with this token")
        if bid.term != view.term:
            raise ValueError(f"a lease handed in term {view.term} cannot be accepted in term {bid.term}")
        return self._take(view, bid)

    def _take(self, view: LeaseView, bid: Bid) -> Grant:
        if view.newer:
            raise NewerFormat(view.garbled or f"{self._key} has a newer format: upgrade this worker")
        if view.fleet is not None and view.fleet != bid.fleet:
            raise Misconfigured(
                f"{self._key} belongs to fleet {view.fleet!r}, and this worker to fleet {bid.fleet!r}: "
                "give each fleet a prefix of its own in WORKER_STORE, or correct WORKER_FLEET"
            )
        if bid.nonce == view.nonce:
            raise ValueError("a claim needs a fresh nonce")
        body = self._body(view.extra, bid, term=bid.term, renewals=0, nonce=bid.nonce)
        if view.version is None:
            stamp = self._documents.create(self._key, body)
        else:
            stamp = self._documents.replace(Stamp(self._key, view.version), body)
        return Grant(
            term=bid.term, session=bid.session, version=stamp.version, nonce=bid.nonce, bid=bid, extra=view.extra
        )

    def _replace(self, grant: Grant, nonce: str, body: bytes) -> Stamp:
        if nonce == grant.nonce:
            raise ValueError("every request needs a fresh nonce")
        return self._documents.replace(Stamp(self._key, grant.version), body)

    def _body(
        self, extra: Mapping[str, Any], bid: Bid, *, term: int, renewals: int, nonce: str, **changed: Any
    ) -> bytes:
        mine = {
            "fleet": bid.fleet,
            "role": self._role,
            "holder": bid.session,
            "instance": bid.instance,
            "term": term,
            "duration": bid.duration,
            "renewals": renewals,
            "nonce": nonce,
            "handed": False,
            "token": None,
        }
        return encode({**extra, **mine, **changed})


def _view(version: Version, fields: Mapping[str, Any], key: str) -> LeaseView:
    """Turn a lease's fields into a view. Raises BadDocument for a field that nobody here could have written."""
    holder = _text(fields, "holder", key)
    return LeaseView(
        version=version,
        term=_count(fields, "term", key, least=1, most=HIGHEST_TERM),
        holder=holder,
        instance=_text(fields, "instance", key),
        fleet=_text(fields, "fleet", key),
        duration=_seconds(fields, "duration", key),
        nonce=_text(fields, "nonce", key),
        renewals=_count(fields, "renewals", key, least=0),
        handed=fields.get("handed") is True,
        token=_text(fields, "token", key),
        free=holder is None,
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
    )


def _text(fields: Mapping[str, Any], name: str, key: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadDocument(f"{key} has no valid {name}: {value!r}")
    return value


def _count(fields: Mapping[str, Any], name: str, key: str, *, least: int, most: int | None = None) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most and value > most):
        raise BadDocument(f"{key} has no valid {name}: {value!r}")
    return value


def _seconds(fields: Mapping[str, Any], name: str, key: str) -> float:
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
        raise BadDocument(f"{key} has no valid {name}: {value!r}")
    return float(value)


__all__ = ["PREFIX", "LeaseOnDocuments"]
