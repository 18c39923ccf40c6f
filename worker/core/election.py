"""The election's law, without IO: phases and moves, how long trust lasts, and when a lease may be claimed.

    Law 1. Only GRANTED leads out of CLAIMING towards acting, and only OPENED makes an instance act.
    Law 2. Whoever acted passes through YIELDING or STOPPING: a term is left only after its work has ENDED.
    Law 3. Trust is counted from before a request was sent, and is never longer than the answered request allows.
    Law 4. A follower judges a lease by change seen on its own clock. Nobody compares two machines' clocks.

The elector (`worker.elector`) does the waiting and the asking; what it may conclude stands here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from providers.interface import Expiry, LeaseView
from worker.core.timings import RHO, Timings


class Phase(enum.Enum):
    """Where one instance stands towards the lease."""

    FOLLOWING = "following"  # watches, or waits for its turn
    CLAIMING = "claiming"  # has asked for the lease and must learn what became of that
    OPENING = "opening"  # holds the lease and makes older terms refusable; does not act yet
    LEADING = "leading"  # acts
    YIELDING = "yielding"  # gives up of its own will: renews no more, ends its work, still trusted
    STOPPING = "stopping"  # trust is over or nearly: ends its work, then forgets the grant
    RESIGNING = "resigning"  # has no work left and gives the lease back


class Move(enum.Enum):
    """What happened."""

    DUE = "due"  # the lease may be claimed, or names this session as heir
    GRANTED = "granted"
    REFUSED = "refused"
    OPENED = "opened"
    TAKEN = "taken"  # the term's document belongs to somebody else
    RENEWED = "renewed"
    LOST = "lost"  # the store, or the machine's clock, says that the grant is gone
    EXPIRED = "expired"  # the local deadline came first
    STEP_DOWN = "step down"
    ENDED = "ended"  # all work of the term has really ended
    DONE = "done"


MOVES: Mapping[tuple[Phase, Move], Phase] = MappingProxyType(
    {
        (Phase.FOLLOWING, Move.DUE): Phase.CLAIMING,
        (Phase.CLAIMING, Move.GRANTED): Phase.OPENING,
        (Phase.CLAIMING, Move.REFUSED): Phase.FOLLOWING,
        (Phase.OPENING, Move.RENEWED): Phase.OPENING,
        (Phase.OPENING, Move.OPENED): Phase.LEADING,
        (Phase.OPENING, Move.TAKEN): Phase.RESIGNING,
        (Phase.OPENING, Move.STEP_DOWN): Phase.RESIGNING,
        (Phase.OPENING, Move.LOST): Phase.FOLLOWING,
        (Phase.OPENING, Move.EXPIRED): Phase.FOLLOWING,
        (Phase.LEADING, Move.RENEWED): Phase.LEADING,
        (Phase.LEADING, Move.STEP_DOWN): Phase.YIELDING,
        (Phase.LEADING, Move.LOST): Phase.STOPPING,
        (Phase.LEADING, Move.EXPIRED): Phase.STOPPING,
        (Phase.YIELDING, Move.ENDED): Phase.RESIGNING,
        (Phase.YIELDING, Move.LOST): Phase.STOPPING,
        (Phase.YIELDING, Move.EXPIRED): Phase.STOPPING,
        (Phase.STOPPING, Move.ENDED): Phase.FOLLOWING,
        (Phase.RESIGNING, Move.DONE): Phase.FOLLOWING,
    }
)

ACTING = frozenset({Phase.LEADING, Phase.YIELDING, Phase.STOPPING})
"""Phases in which work of the term may still be running."""


class IllegalMove(Exception):
    """A move that the table does not have: a bug. Nothing has changed."""


def advance(phase: Phase, move: Move) -> Phase:
    """Return the phase that a move leads to, or raise IllegalMove."""
    try:
        return MOVES[phase, move]
    except KeyError:
        raise IllegalMove(f"{move.value!r} cannot happen while {phase.value}") from None


def diagram() -> str:
    """Draw the table as a Mermaid state diagram; `docs/design.md` carries it, and CI compares the two."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (phase, move), target in MOVES.items():
        arrows.setdefault((phase.value, target.value), []).append(move.value)
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.FOLLOWING.value}"]
    lines += [f"    {start} --> {end}: {', '.join(moves)}" for (start, end), moves in arrows.items()]
    return "\n".join(lines)


# --- trust ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trust:
    """The local right to act: cancel all work at `stop_at`, be gone at `deadline`; in the local clock's seconds."""

    stop_at: float
    deadline: float


def trust_from(sent: float, timings: Timings) -> Trust:
    """Return the trust that a request gives which was sent at `sent` and has succeeded."""
    deadline = sent + timings.trusted
    return Trust(stop_at=deadline - timings.grace, deadline=deadline)


@dataclass(frozen=True, slots=True)
class Renewals:
    """Requests that were sent and not answered yet, by nonce, so that a read-back can find any of them."""

    unanswered: Mapping[str, float] = field(default_factory=dict)

    def sent(self, nonce: str, at: float) -> Renewals:
        """Remember a request before it is sent."""
        return replace(self, unanswered={**self.unanswered, nonce: at})

    def proven_by(self, nonce: str | None) -> float | None:
        """Return when the request that made this nonce visible was sent, or None when it is not ours."""
        return None if nonce is None else self.unanswered.get(nonce)


# --- the machine that stood still -------------------------------------------------------------------------------


def frozen(before: float, after: float, timings: Timings) -> bool:
    """Say whether the machine stood still together with its clock between two answers.

    Both arguments are (some wall clock - the local clock). A wall clock may shorten trust and never lengthen it.
    """
    return after - before > timings.margin / 2


DATE_UNIT = 1.0
"""Seconds: stores cut the time in their answers to whole ones."""


@dataclass(frozen=True, slots=True)
class StoreClock:
    """How far ahead of the local clock the store's can have been when it gave the last answer that told its time.

    A machine that was frozen together with all its clocks finds the store's far ahead of where it was. What is
    compared are the two ends of what is possible: an answer is made between its request's send and its receipt, its
    time is cut to seconds, and an honest local clock may be slow by rho. So neither slow answers nor rounding nor
    slewing ever look like a freeze, and what does is longer than margin/2 plus all of these: two units, two round
    trips, and rho/(1-rho) of the time since that answer's send. Two answers of one store are compared, never two
    machines' clocks; and like the own wall clock it may only shorten trust.
    """

    most: float | None = None  # upper end of (store's clock - local clock); None before the first answer with a time
    sent: float = 0.0  # when that answer was asked for, on the local clock

    def ran_ahead(self, store_time: float | None, received: float, timings: Timings) -> bool:
        """Say whether an answer shows that the store's clock has run ahead of the local one meanwhile."""
        if self.most is None or store_time is None:
            return False
        slewed = (received - self.sent) * RHO / (1 - RHO)
        return frozen(self.most + slewed, store_time - received, timings)

    def answered(self, store_time: float | None, sent: float) -> StoreClock:
        """Return what is known after an answer to a request that was sent at `sent`."""
        return self if store_time is None else StoreClock(store_time + DATE_UNIT - sent, sent)


# --- when a lease may be claimed --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """How long one version of the lease has stood still, as this follower saw it."""

    view: LeaseView
    since: float  # receipt of the first answer that showed this version

    def seen(self, view: LeaseView, received: float) -> Standing:
        """Return the standing after one more look.

        The clock restarts when the version has changed, or when the store says for the first time that the lease is
        free: where it keeps the time itself, that changes no version, and claims are staggered from then on.
        """
        same = (view.version, view.free) == (self.view.version, self.view.free)
        return Standing(view, self.since if same else received)


def next_term(*known: int) -> int:
    """Return the term of a claim: above the lease's, the plan's and every opened term."""
    return max((0, *known)) + 1


def claim_due(standing: Standing, *, session: str, history: float | None, expiry: Expiry) -> float | None:
    """Return when the lease may be claimed, on the local clock, or None when only the store can tell.

    `history` is the longest duration, in seconds, that a holder may still trust although the lease object no
    longer shows it: None when the store has never seen a leader.
    """
    view, since = standing.view, standing.since
    if view.version is None or view.garbled:
        return since if history is None else since + history * (1 + RHO)
    if view.free or view.holder is None or view.holder == session:
        return since
    if expiry is Expiry.STORE:
        return None
    return since + view.duration * (1 + RHO)


def stagger(rank: int | None, timings: Timings, random: float) -> float:
    """Return how long to hold back a claim that is due: the plan's first successor claims first.

    `rank` counts from 0 among the successors; None for everybody else. `random` is in [0, 1).
    """
    waits = {0: 0.0, 1: timings.renew / 2}
    return waits.get(-1 if rank is None else rank, timings.renew) + random * timings.jitter


SHIFT = 0.01
"""A successor polls this much (of the renew interval) early, so that its polls creep up to the renewals."""

EARLY = 0.125
"""Having come too early, it looks again after this much of the renew interval."""


def next_look(rank: int | None, changed: bool, timings: Timings, expiry: Expiry) -> float:
    """Return the seconds until a follower's next look at the lease.

    The first two successors look once per renew interval, just after the expected renewal where a look can show it
    (STORE: it cannot, renewals change nothing that a follower sees); all others once per lease duration, so that the
    cost of followers does not grow with the fleet beyond that.
    """
    if rank is None or rank > 1:
        return timings.lease
    if expiry is Expiry.STORE:
        return timings.renew
    return timings.renew * (1 - SHIFT) if changed else timings.renew * EARLY


__all__ = [
    "ACTING",
    "MOVES",
    "IllegalMove",
    "Move",
    "Phase",
    "Renewals",
    "Standing",
    "StoreClock",
    "Trust",
    "advance",
    "claim_due",
    "diagram",
    "frozen",
    "next_look",
    "next_term",
    "stagger",
    "trust_from",
]
