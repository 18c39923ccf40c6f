"""What a storage driver must offer: four small protocols, five errors, and the values between them.

A driver is synchronous and dumb. Each method sends one request and turns its answer into a value or one of
the five errors below. It never retries, sleeps, logs or decides: `providers.provider` does that, once, for
every driver. Methods may block for as long as the store takes; the caller enforces a total time from outside,
so a driver should also set its own connect and read timeouts at or below the `total` it was opened with.

There is no unconditional write to a document. Whoever writes must say which version they have read.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType, Protocol

Version = NewType("Version", str)
"""Names one state of one document. Only ever echoed back: never computed, compared for order or parsed."""


# --- errors: named by what the caller must do next -------------------------------------------------------------


class ProviderError(Exception):
    """The store did not do what was asked."""


class NotFound(ProviderError):
    """There is no such object. Create it, or stop expecting it."""


class Refused(ProviderError):
    """The store compared and said no. Read again; never resend the same request."""


class Unavailable(ProviderError):
    """Nothing changed. The same call may be sent again after a pause."""


class OutcomeUnknown(ProviderError):
    """The request was sent and never answered. Read back before anything else."""


class Misconfigured(ProviderError):
    """Credentials, a name or a permission is wrong. Stop; the message names the value and the fix."""


class BadDocument(ProviderError):
    """A stored object cannot be understood: not ours, damaged, or of a newer format. Report it; never act on it."""


class NewerFormat(BadDocument):
    """A newer version wrote this object, in a format that this one would misunderstand. Upgrade; never overwrite it."""


HIGHEST_TERM = 2**31
"""A term above this is damage, not history: one a second would take 68 years. Believed, it would never come down."""

LONGEST_LEASE = 60.0
"""Seconds that any lease is granted at the most, on every store; it is what Azure grants. A record that says more is
damage: believed, it would keep everybody waiting for a holder who may be dead. And a lease whose record is lost may
have been granted so much."""


# --- documents --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stamp:
    """One document at one version: the proof of having read it that a conditional write needs."""

    key: str
    version: Version
    store_time: float | None = field(default=None, compare=False)
    """The store's wall clock in the answer, Unix seconds (often cut to whole ones), where it sends one."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document's bytes and the stamp under which they were read."""

    stamp: Stamp
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: stamps in key order, and the key to continue after (None on the last page)."""

    stamps: Sequence[Stamp]
    after: str | None


class Documents(Protocol):
    """Small objects with compare-and-swap. Keys are relative to the fleet's prefix: `leases/leader`, `plan`."""

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """Return the document, or None when its version is still `unless`. Raises NotFound."""

    def create(self, key: str, body: bytes) -> Stamp:
        """Write a document that does not exist yet. Raises Refused when it does."""

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        """Write over exactly the version in `old`. Raises Refused when it is another one, or gone."""

    def delete(self, old: Stamp) -> None:
        """Delete exactly the version in `old`. Raises Refused when it is another one, or gone."""

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        """Return one page of the documents whose key starts with `prefix`: stamps only, no bodies."""


# --- lease ------------------------------------------------------------------------------------------------------


class Expiry(enum.Enum):
    """Who decides that a lease has run out."""

    STORE = "store"  # the store itself (Azure Blob): claim when it says that the lease is free
    OBSERVER = "observer"  # the follower: claim when one version stood still for long enough on its own clock


@dataclass(frozen=True, slots=True)
class Heir:
    """The session a lease is handed to, with the token it published for this one hand-over."""

    session: str
    token: str


@dataclass(frozen=True, slots=True)
class LeaseView:
    """What one look at a lease showed. A view is evidence, never a right to act."""

    version: Version | None  # None: the lease object does not exist
    term: int = 0  # of the last grant or hand-over; 0 when there never was one, or when the object is garbled
    holder: str | None = None  # session that holds or last held it, or was named heir; None after a resignation
    instance: str | None = None  # the holder's instance, for people
    fleet: str | None = None  # the fleet recorded in the lease
    duration: float = 0.0  # seconds the holder was granted
    nonce: str | None = None  # of the write that made this version
    renewals: int = 0  # of the grant so far
    handed: bool = False  # the holder was named by a hand-over and has not accepted yet
    token: str | None = None  # which hand-over, while `handed`
    free: bool = False  # nobody holds it now: resigned, never held, or (STORE) expired
    garbled: str | None = None  # why the object cannot be understood; then only `version` and `newer` mean anything
    newer: bool = False  # garbled to this version only: a newer one wrote it, and `claim` refuses to overwrite it
    store_time: float | None = field(default=None, compare=False)  # as in Stamp: of the answer, not of the lease
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)  # fields of newer versions, to be kept


@dataclass(frozen=True, slots=True)
class Bid:
    """Who claims, and what the claim will say. A fresh nonce, and a fresh session, for every claim."""

    session: str
    instance: str
    fleet: str
    term: int
    duration: float
    nonce: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Authority as a value: renewing returns a new one and spends the old one."""

    term: int
    session: str
    version: Version
    nonce: str
    bid: Bid
    proof: str = ""  # whatever the driver needs to show that the grant is its own (Azure: the lease id)
    renewals: int = 0
    store_time: float | None = field(default=None, compare=False)
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)  # as in the view that was claimed


def proven(view: LeaseView, bid: Bid, *, proof: str = "") -> Grant:
    """Return the grant of a claim or renewal whose answer was lost, from a view that shows one of its nonces.

    The caller has compared `view.nonce` with the nonces of its own unanswered requests: that is the proof.
    """
    if view.version is None or view.nonce is None or view.holder != bid.session:
        raise ValueError(f"this view does not show a grant of session {bid.session}")
    return Grant(
        term=view.term,
        session=bid.session,
        version=view.version,
        nonce=view.nonce,
        bid=bid,
        proof=proof,
        renewals=view.renewals,
        store_time=view.store_time,
        extra=view.extra,
    )


class Lease(Protocol):
    """A time-bounded exclusive grant on one object that is never deleted and whose term never falls."""

    expiry: Expiry

    def observe(self) -> LeaseView:
        """Look. An absent object is a view without a version; a garbled one is a view that says why."""

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """Take the lease if it is still exactly as in `view`. Raises Refused when it has changed.

        `bid.term` must be above `view.term`: anything else is a bug and raises ValueError. Raises NewerFormat for a
        lease of a newer format, and Misconfigured for another fleet's.
        """

    def renew(self, grant: Grant, nonce: str) -> Grant:
        """Extend one's own grant. Raises Refused when it is no longer one's own, or `grant` is spent."""

    def resign(self, grant: Grant, nonce: str) -> None:
        """Give up one's own grant; object and term survive. Raises Refused when it is not one's own."""

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """Name the heir as holder, in the next term. The heir acts only after its own `accept`."""

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """Take a lease that names `bid.session` as heir, in the term of `view`. Raises Refused otherwise."""


# --- queues -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """One message, hidden from others until its visibility ends. `attempts` counts this receive too."""

    id: str
    body: bytes
    attempts: int
    receipt: str
    enqueued_at: float  # Unix seconds, the store's clock


@dataclass(frozen=True, slots=True)
class Depth:
    """How much a queue holds. `oldest_age` is in seconds, None when the queue is empty or the store cannot tell."""

    visible: int
    hidden: int
    oldest_age: float | None = None


class Queue(Protocol):
    """Physical queues, by name. A message stays until it is deleted: at least fourteen days, or for ever."""

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        """Create the queue if it is missing. `ordered` blocks it behind a head in flight or waiting to be retried.

        Ordering an existing queue strengthens it; not asking for order says nothing about it and never weakens it.
        Raises Misconfigured where the store cannot keep order.
        """

    def send(self, queue: str, bodies: Sequence[bytes], keys: Sequence[str | None] = ()) -> Sequence[str]:
        """Append messages and return their ids, up to `Capabilities.batch` at once. Raises NotFound.

        All of them or none, except after OutcomeUnknown. `keys` says, for each body, what must keep its order; stores
        that order a queue as a whole, or not at all, ignore it.
        """

    def receive(self, queue: str, limit: int, hide_for: float, wait: float = 0.0) -> Sequence[Received]:
        """Take up to `limit` messages and hide them for `hide_for` seconds; wait up to `wait` for the first.

        An ordered queue gives one at a time. Where `Capabilities.long_poll` is not set, `wait` is ignored.
        """

    def extend(self, queue: str, receipt: str, hide_for: float) -> str:
        """Hide a message for `hide_for` seconds from now and return its new receipt. Raises Refused when stale."""

    def release(self, queue: str, receipt: str, delay: float = 0.0) -> None:
        """Make a message visible again after `delay` seconds. Raises Refused when the receipt is stale."""

    def delete(self, queue: str, receipt: str) -> None:
        """Delete a received message. Raises Refused when the receipt is stale."""

    def delete_many(self, queue: str, receipts: Sequence[str]) -> None:
        """Delete received messages, in as few requests as the store can. When it raises, some of them may be left."""

    def move(self, queue: str, receipt: str, to: str, body: bytes, key: str | None = None) -> str:
        """Delete here and send `body` there in one transaction; only where `Capabilities.atomic_move` says so."""

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        """Look at up to `limit` messages without hiding them or counting an attempt (their receipt is empty)."""

    def depth(self, queue: str) -> Depth:
        """Count what the queue holds. Raises NotFound."""

    def retention(self, queue: str) -> float | None:
        """Return the seconds for which the store keeps a message that nobody deletes; None: for ever. Raises NotFound.

        For `worker doctor`: fourteen days is what `ensure` asks of a store that forgets.
        """


# --- the driver -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What differs between stores and callers may need to know, as data."""

    ordered: bool  # `ensure(ordered=True)` keeps strict order, whatever the queue's name
    atomic_move: bool  # `Queue.move` is one transaction
    long_poll: bool  # `receive(wait=…)` waits in the store; otherwise idle polls back off
    batch: int = 1  # most bodies in one `send`
    limit: int = 65_536  # largest body of a message that is text, in bytes; three quarters of it fit whatever they are
    expiry: Expiry = Expiry.OBSERVER  # of its leases
    strict_receipts: bool = True  # every extension gives a new receipt, and a stale one is always refused
    peeks: bool = True  # `Queue.peek` counts no attempt, and hides nothing
    ordered_suffix: str | None = None  # queues whose name ends so keep order even where others do not (SQS: ".fifo")

    longest_hidden: float | None = None  # seconds for which a received message can be hidden in all; None: for ever

    def keeps_order(self, queue: str) -> bool:
        """Say whether a queue of this name can be strictly ordered."""
        return self.ordered or (self.ordered_suffix is not None and queue.endswith(self.ordered_suffix))


class Client(Protocol):
    """One connection to the store, used by one thread at a time."""

    documents: Documents
    queue: Queue

    def lease(self, role: str) -> Lease:
        """Return the lease object of one role, stored under `leases/<role>`."""

    def close(self) -> None:
        """Close the connection. Called once, when nobody uses the client any more."""


class Driver(Protocol):
    """Opens clients of one store. Built by `providers.connect` from a URL."""

    url: str  # without secrets: it is logged
    capabilities: Capabilities

    def open(self, total: float) -> Client:
        """Open a client whose requests should give up within `total` seconds. Raises Misconfigured, Unavailable."""


@dataclass(frozen=True, slots=True)
class Call:
    """One finished request, as the provider reports it to whoever counts.

    `operation` is "documents.read", "lease.renew", "queue.receive", … `outcome` is "ok", the error's name in lower
    case ("not_found", "refused", …), "cancelled" when the caller stopped waiting, or "error" for a bug in a driver.
    """

    operation: str
    outcome: str
    seconds: float
    labels: Mapping[str, str] = field(default_factory=dict)
