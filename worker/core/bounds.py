"""How long each recovery takes, usually and at the worst, before anyone deploys: sums over two `Timings`.

Symbols are those of docs/design.md: D lease, i renew interval, T total of one request, g grace, m margin, j jitter,
rho = 10 %; `_m` marks the member's. Every "worst" holds while the store answers each request within T, and while
clocks differ by no more than rho. It is measured by a perfect clock, and every wait is kept by a clock that may be
slow by rho: hence the division by (1 - rho) on the right of each sum.

The runtime keeps these periods, and the sums rest on them:
* the first two successors look at the lease once per i, everybody else once per D;
* a claim that is due is held back by up to j, by i/2 more for the second in rank, by i more for everybody else;
* a named heir looks every 0.05 s;
* the leader lists beats and statuses, and members read plan and control, once per i.

The sums are those of a store where observers decide that a lease has run out. Where the store itself decides
(`Expiry.STORE`), every worst case is no later, term by term:
* the store counts D from the moment at which it applied the last renewal, at most T after the death. A store whose
  clock is slow by rho takes D / (1-rho), and so does the sum, which has D(1+rho) there;
* no look shows when that was, so a successor looks every i whatever happens, and sees that the lease is free within i
  of its end and T: the i + T that an observer needs to see the last version. Everybody else does within D + T;
* the claims are staggered from that look on, and a claim, a hand-over or an acceptance of several requests is one call
  and has one T;
* the session that a dead leader has handed the lease to, or that dies in the middle of its own claim, holds it for
  another D: a second fault, and a failover of its own.
What is usual is about the same there: nobody waits rho D longer than the lease lasts, but a successor's look is not
aimed at the renewal and comes i/2 after the end on average, which is as much. Without successors it is rho D sooner.
Members' leases are observed on every store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.core.timings import RHO, Timings

OPENING = 6
"""Requests that open a term: read the plan's term, list terms, claim, record the term, read and seal the plan."""

PUBLISH = 2
"""Requests that publish a plan: the write, and one more when its answer was lost and it is read back."""

HEIR_LOOK = 0.05
"""Seconds between two looks of a named heir."""

LATE = 1
"""Requests of a killed process that may still land: the one that it had in flight."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How long one recovery takes, in seconds, and the sum that says so."""

    name: str
    meaning: str
    usual: float
    worst: float
    formula: str  # of `worst`


def failover(leader: Timings, member: Timings) -> Bound:
    """From the death of the leader to the next leader's term, while one of its two successors lives.

    The dead leader's last request may land T late. A successor looks once per i, so it sees that last version within
    i, answered within T; it then lets the version stand still for D(1+rho), adds its jitter j and, when it is the
    second in rank, i; opening the term takes six requests. Usually the look comes right after the renewal, the death
    half-way between two renewals, and requests take next to nothing.
    """
    wait = leader.patience + leader.jitter
    worst = _slow(LATE * leader.total + leader.renew + leader.total + wait + leader.renew / 2 + OPENING * leader.total)
    return Bound(
        "failover",
        "leader died, a successor lives: until the next term is open",
        wait + leader.renew / 2,
        worst,
        "(D(1+rho) + 1.5i + j + 8T) / (1-rho)",
    )


def failover_without_successor(leader: Timings, member: Timings) -> Bound:
    """From the death of the leader and both its successors to the next term.

    As `failover`, but whoever is left looks once per D, and lets the two in rank go first: i.
    """
    wait = leader.patience + leader.jitter + leader.renew
    worst = _slow(LATE * leader.total + leader.lease + leader.total + wait + OPENING * leader.total)
    return Bound(
        "failover-no-successor",
        "leader and both successors died: until the next term is open",
        leader.lease / 2 + wait,
        worst,
        "(D + D(1+rho) + i + j + 8T) / (1-rho)",
    )


def hand_over(leader: Timings, member: Timings) -> Bound:
    """From the moment a leader drops its grant on purpose to the next term.

    Giving up is one request; a named heir looks all the time and sees it at once, any other successor at its next
    look, within i and T; it takes the lease by a write of its own (the claim of the opening), and the second in rank
    holds back as in `failover`. An heir that dies meanwhile is an ordinary failover.
    """
    worst = _slow(leader.total + 1.5 * leader.renew + leader.total + leader.jitter + OPENING * leader.total)
    return Bound(
        "hand-over",
        "leader stepped down, its heir lives: time without a leader",
        HEIR_LOOK,
        worst,
        "(1.5i + j + 8T) / (1-rho)",
    )


def member_loss(leader: Timings, member: Timings) -> Bound:
    """From the death of an instance to the first receive of its partitions' new owners.

    Its last beat may land T late, and is listed within i and T. It must then stand still for D_m(1+rho) + m on the
    leader's clock, which the leader notices at its next listing (i + T). The plan is published, read by the new owner
    at its next look (i + T), and the owner makes sure of the queue and asks it: two requests.
    """
    wait = member.patience + member.margin
    requests = LATE + 1 + 1 + PUBLISH + 1 + 2
    worst = _slow(wait + 3 * leader.renew + requests * leader.total)
    return Bound(
        "member-loss",
        "instance died: until its partitions are worked on again",
        wait + leader.renew,
        worst,
        "(D_m(1+rho) + m + 3i + 8T) / (1-rho)",
    )


def leader_loss(leader: Timings, member: Timings) -> Bound:
    """From the death of the leading instance to the first receive of its partitions' new owners.

    A new leader starts its observation clocks afresh: a failover, then all of `member_loss`.
    """
    first, second = failover(leader, member), member_loss(leader, member)
    return Bound(
        "leader-loss",
        "leading instance died: until the partitions it owned are worked on again",
        first.usual + second.usual,
        first.worst + second.worst,
        "failover + member-loss",
    )


def move(leader: Timings, member: Timings) -> Bound:
    """From the plan that moves a partition to the first receive of its new owner.

    The owner reads the plan (i + T), has g_m for the running handler, and reports the release (T). The leader sees it
    (i, a listing and a read), publishes; the new owner reads that (i + T), makes sure of the queue and asks it.
    A handler that takes longer is let finish, within its own timeout: the partition moves so much later.
    """
    requests = 1 + 1 + 2 + PUBLISH + 1 + 2
    worst = _slow(3 * leader.renew + member.grace + requests * leader.total)
    return Bound(
        "move",
        "partition moved: time without an owner, handlers ending within g_m",
        1.5 * leader.renew,
        worst,
        "(3i + g_m + 9T) / (1-rho)",
    )


def drain(leader: Timings, member: Timings, drain_timeout: float) -> Bound:
    """From `worker drain` (or SIGTERM) to the end of the process.

    The instance reads the order (i + T) and may use its whole drain timeout to finish what runs; what has not ended
    then is cancelled and has g_m, after which the kernel ends the process (m covers that timer). A leader hands over
    within the same time; the status and the lease are two last requests. Usually nothing long is running.
    """
    worst = _slow(leader.renew + leader.total + drain_timeout + member.grace + member.margin + 2 * leader.total)
    return Bound(
        "drain",
        "instance told to drain: until its process has ended",
        min(3 * leader.renew, worst),
        worst,
        "(i + drain_timeout + g_m + m + 3T) / (1-rho)",
    )


def outage(leader: Timings, member: Timings) -> Bound:
    """From the end of a store outage to every partition being worked on again.

    An outage longer than a member's lease ends every session. Nobody is anybody's successor then: a failover among
    equals, and the old sessions have to stand still before the new leader's eyes.
    """
    first, second = failover_without_successor(leader, member), member_loss(leader, member)
    return Bound(
        "outage",
        "store came back after a long outage: until every partition is worked on again",
        first.usual + second.usual,
        first.worst + second.worst,
        "failover-no-successor + member-loss",
    )


_PARTS: tuple[Callable[[Timings, Timings], Bound], ...] = (
    failover,
    failover_without_successor,
    hand_over,
    member_loss,
    leader_loss,
    move,
)


def bounds(leader: Timings, member: Timings, *, drain_timeout: float = 60.0) -> list[Bound]:
    """Return every bound, in the order in which `worker bounds` prints them."""
    return [*(part(leader, member) for part in _PARTS), drain(leader, member, drain_timeout), outage(leader, member)]


def _slow(seconds: float) -> float:
    """Return how long a wait takes at most when its clock is slow by rho."""
    return seconds / (1 - RHO)
