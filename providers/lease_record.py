"""What a lease's record says, and how it is read back: the fields are the same on every store.

    fleet, role     whose lease, and which
    holder          the session that holds or last held it, or was named heir; null after a resignation
    instance        the holder's instance, for people
    term            of the last grant or hand-over: it never falls
    duration        seconds that the holder was granted
    renewals        of the grant so far (always 0 where the store itself keeps the time)
    nonce           of the write that made this record: fresh for every one
    handed, token   the holder was named by a hand-over and has not accepted yet; and which hand-over

Fields that this version does not know travel in `extra` and are written back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.interface import (
    HIGHEST_TERM,
    LONGEST_LEASE,
    BadDocument,
    Bid,
    Heir,
    LeaseView,
    Misconfigured,
    NewerFormat,
    Refused,
    Version,
)

PREFIX = "leases/"
"""Where the leases of a fleet are kept, one object for each role."""

_KNOWN = frozenset(
    ("format", "fleet", "role", "holder", "instance", "term", "duration", "renewals", "nonce", "handed", "token")
)


def record_of(
    role: str, bid: Bid, extra: Mapping[str, Any], *, term: int, nonce: str, **changed: Any
) -> dict[str, Any]:
    """Return the fields of a lease that `bid` holds in `term`, with whatever is `changed` about them."""
    mine = {
        "fleet": bid.fleet,
        "role": role,
        "holder": bid.session,
        "instance": bid.instance,
        "term": term,
        "duration": bid.duration,
        "renewals": 0,
        "nonce": nonce,
        "handed": False,
        "token": None,
    }
    return {**extra, **mine, **changed}


def named(to: Heir) -> dict[str, Any]:
    """Return what a hand-over changes about a record, besides its term."""
    return {"holder": to.session, "instance": None, "handed": True, "token": to.token}


def view_of(version: Version, fields: Mapping[str, Any], key: str) -> LeaseView:
    """Turn a record's fields into a view. Raises BadDocument for a field that nobody here could have written."""
    holder = _text(fields, "holder", key)
    return LeaseView(
        version=version,
        term=_count(fields, "term", key, least=1, most=HIGHEST_TERM),
        holder=holder,
        instance=_text(fields, "instance", key),
        fleet=_text(fields, "fleet", key),
        duration=duration_of(fields, key),
        nonce=_text(fields, "nonce", key),
        renewals=_count(fields, "renewals", key, least=0, most=HIGHEST_TERM),
        handed=fields.get("handed") is True,
        token=_text(fields, "token", key),
        free=holder is None,
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
    )


def garbled_view(version: Version, problem: BadDocument, store_time: float | None) -> LeaseView:
    """Return the view of a record that cannot be understood."""
    newer = isinstance(problem, NewerFormat)
    return LeaseView(version=version, garbled=str(problem), newer=newer, store_time=store_time)


def check_claim(view: LeaseView, bid: Bid, key: str) -> None:
    """Refuse to send a claim that must not be made. Raises ValueError, NewerFormat, Misconfigured."""
    if bid.term <= view.term:
        raise ValueError(f"a claim of term {bid.term} on a lease of term {view.term}: terms only grow")
    check_taking(view, bid, key)


def check_accept(view: LeaseView, bid: Bid, token: str, key: str) -> None:
    """Refuse to send an acceptance that must not be made. Raises Refused, and as `check_claim`."""
    if not view.handed or view.holder != bid.session or view.token != token:
        raise Refused(f"{key} is not handed to session {bid.session} with this token")
    if bid.term != view.term:
        raise ValueError(f"a lease handed in term {view.term} cannot be accepted in term {bid.term}")
    check_taking(view, bid, key)


def check_taking(view: LeaseView, bid: Bid, key: str) -> None:
    """Refuse to take a newer version's lease, or another fleet's, or under a nonce that was used."""
    if view.newer:
        raise NewerFormat(view.garbled or f"{key} has a newer format: upgrade this worker")
    if view.fleet is not None and view.fleet != bid.fleet:
        raise Misconfigured(
            f"{key} belongs to fleet {view.fleet!r}, and this worker to fleet {bid.fleet!r}: "
            "give each fleet a prefix of its own in WORKER_STORE, or correct WORKER_FLEET"
        )
    if bid.nonce == view.nonce:
        raise ValueError("a claim needs a fresh nonce")


def _text(fields: Mapping[str, Any], name: str, key: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise BadDocument(f"{key} has no valid {name}: {value!r}")
    return value


def _count(fields: Mapping[str, Any], name: str, key: str, *, least: int, most: int) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadDocument(f"{key} has no valid {name}: {value!r}")
    return value


def duration_of(fields: Mapping[str, Any], key: str) -> float:
    """Return how long a lease was granted for, in seconds. Raises BadDocument for what no lease ever is."""
    value = fields.get("duration")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST_LEASE:
        raise BadDocument(f"{key} has no valid duration: {value!r}")
    return float(value)


__all__ = ["PREFIX", "check_accept", "check_claim", "duration_of", "garbled_view", "named", "record_of", "view_of"]
