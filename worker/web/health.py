"""Is this instance alive, ready, healthy? Three questions, for three kinds of askers.

    /livez           is the control loop turning?         whoever restarts the process
    /readyz          does this instance take part?        whoever waits for it, or counts it
    /healthz/azure   would replacing the machine help?    the Application Health extension of a scale set

None of them asks the store: a store that is away must not have the whole fleet restarted, which would help nobody.
There is no instance to ask yet while the start is being checked: that is alive, not ready, and healthy.
"""

from __future__ import annotations

import json
from typing import Any

from worker.supervisor import Supervisor

STUCK_LEASES = 2
"""A consumer that has not turned for so many member leases will not by itself: the session gives up after one."""


def not_ready(supervisor: Supervisor | None) -> str | None:
    """Say why this instance does not take part; None when it does."""
    if supervisor is None:
        return "starting"
    session = supervisor.member.session
    if supervisor.draining:
        return "draining"
    if session is None or session.trust is None:
        return "has not joined the fleet yet"
    if not session.trusted:
        return "its membership has run out: no beat gets through to the store"
    return None


def sick(supervisor: Supervisor | None) -> str | None:
    """Say what a new machine would mend; None when nothing.

    A store that does not answer is no such thing, nor is an instance that starts or drains: that ends by itself. A
    control loop that stands still needs no mention here: it does not answer.
    """
    if supervisor is None or supervisor.draining:
        return None
    session = supervisor.member.session
    if session is not None and session.ownership.stuck(STUCK_LEASES * supervisor.ports.member.lease):
        return "a consumer stands still"
    return None


def azure_health(supervisor: Supervisor | None) -> dict[str, Any]:
    """Return the answer that the Application Health extension reads (its "rich" protocol).

    While a handler call runs that a drain would cut short, a rolling upgrade is asked to take another machine first. A
    worker that always has *some* call under way is upgraded like any other: those end within a drain.
    """
    health: dict[str, Any] = {"ApplicationHealthState": "Unhealthy" if sick(supervisor) else "Healthy"}
    if supervisor is not None and supervisor.overlong:
        health["customMetrics"] = json.dumps({"rollingUpgrade": {"SkipUpgrade": True}})
    return health
