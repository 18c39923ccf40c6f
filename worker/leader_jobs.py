"""The user's leader jobs: run while this instance leads, restarted with back-off when they fail.

A job that fails never costs the lease, and a job that will not end is what the dead-man's switch is for.
"""

from __future__ import annotations

import asyncio

from worker import handlers
from worker.app import LeaderSpec
from worker.context import Leadership
from worker.core.backoff import delay
from worker.ports import Ports
from worker.statedoc import leader_state
from worker.term import Term

RESTART_BASE, RESTART_CAP = 1.0, 60.0
"""Seconds before a failed job is started again: about the base first, doubled up to the cap."""


async def run_job(spec: LeaderSpec, term: Term, ports: Ports) -> None:
    """Run one leader job until it returns, or until cancelled; ended only when the function has really returned."""
    events = ports.events.bind(term=term.number, job=spec.name)
    leadership = Leadership(
        term=term.number,
        log=events.log,
        _trust_left=lambda: term.trust_left,
        _state=leader_state(ports, term.number),
    )
    failures = 0
    while True:
        try:
            await handlers.call(ports.handlers, spec.function, [leadership] if spec.wants_leadership else [], None)
        except (Exception, asyncio.CancelledError) as exc:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise  # the term is over; otherwise the cancellation is the job's own affair, and its failure
            failures += 1
            pause = delay(failures - 1, base=RESTART_BASE, cap=RESTART_CAP, random=ports.clock.random())
            events.problem(f"leader job {spec.name} failed and starts again in {pause:.1f} s: {exc!r}")
            await ports.clock.sleep(pause)
        else:
            return
