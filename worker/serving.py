"""Puts an instance together from its settings: provider, timings, dead-man's switch, events."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import worker
from providers.connect import connect, probe
from providers.interface import Misconfigured, ProviderError
from worker import process
from worker.app import App
from worker.clock import SystemClock
from worker.deadman import DeadMan, deadman
from worker.errors import ConfigurationError
from worker.handlers import MainLoopHandlers
from worker.lifeline import Lifeline
from worker.ports import Ports
from worker.settings import Settings
from worker.supervisor import Supervisor
from worker.telemetry import Events, configure

TERM_BEGINS, TERM_ENDS = "leader.elected", frozenset({"leader.stepped_down", "leader.lost"})


def announcing(lifeline: Lifeline, session: str) -> Events:
    """Return the process's events, which also tell the launcher who this is and which term it holds."""
    lifeline.announce(session=session, term=None, ready=False)

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == TERM_BEGINS:
            lifeline.announce(session=session, term=event["term"], ready=True)
        elif event["event"] in TERM_ENDS:
            lifeline.announce(session=session, term=None, ready=True)

    return configure(sink=listen)


async def build_ports(
    settings: Settings, handlers: MainLoopHandlers, lifeline: Lifeline, switch: DeadMan, session: str
) -> Ports:
    """Connect and probe the store; return what an instance needs. Raises ProviderError, ConfigurationError."""
    events = announcing(lifeline, session).bind(fleet=settings.fleet, instance=settings.instance_name, session=session)
    total = settings.leader.total
    try:
        provider = connect(settings.need_store(), total=total, options=settings.store_options)
    except Misconfigured as exc:
        raise ConfigurationError(f"WORKER_STORE: {exc}") from exc
    try:
        await provider.prepare()
        await probe(provider)
    except ProviderError:
        await provider.close()
        raise
    return Ports(
        fleet=settings.fleet,
        instance=settings.instance_name,
        provider=provider,
        clock=SystemClock(),
        deadman=switch,
        handlers=handlers,
        events=events,
        leader=settings.leader,
        member=settings.member,
        idle_poll=settings.idle_seconds,
    )


def serve(app: App, settings: Settings, lifeline: Lifeline) -> int:
    """Run one instance until it is drained; return its exit code. For the worker process's main thread."""
    session = SystemClock().token()
    switch = deadman(publish=lifeline.set_deadline)  # on the main thread: macOS wants it there

    async def build(handlers: MainLoopHandlers) -> Supervisor:
        ports = await build_ports(settings, handlers, lifeline, switch, session)
        return Supervisor(
            app,
            ports,
            session=session,
            concurrency=settings.concurrency,
            drain_timeout=settings.drain_seconds,
            facts={"version": worker.__version__, "pid": os.getpid(), "launcher": os.getppid()},
        )

    return process.run(build, app.lifespan)
