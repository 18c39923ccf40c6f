"""Puts an instance together from its settings: provider, timings, dead-man's switch, events."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import worker
from providers.connect import IgnoresConditions, connect, connect_host, probe
from providers.interface import Call, Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.portable_host import PortableHost
from providers.provider import Provider
from worker import process
from worker.app import App
from worker.clock import Clock, SystemClock
from worker.deadman import DeadMan, deadman
from worker.errors import ConfigurationError
from worker.handlers import MainLoopHandlers
from worker.hosting import Facts, Hosted
from worker.lifeline import Lifeline
from worker.ports import Ports
from worker.settings import Settings
from worker.supervisor import Supervisor
from worker.telemetry import Events, Sink, configure

if TYPE_CHECKING:
    from worker.web.metrics import Metrics
    from worker.web.service import AdminPort

TERM_BEGINS, TERM_ENDS = "leader.elected", frozenset({"leader.stepped_down", "leader.lost"})


def announcing(lifeline: Lifeline, session: str, also: Sink | None = None) -> Events:
    """Return the process's events, which also tell the launcher who this is and which term it holds, and `also`."""
    lifeline.announce(session=session, term=None, ready=False)

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == TERM_BEGINS:
            lifeline.announce(session=session, term=event["term"], ready=True)
        elif event["event"] in TERM_ENDS:
            lifeline.announce(session=session, term=None, ready=True)
        if also is not None:
            also(event)

    return configure(sink=listen)


async def build_ports(
    settings: Settings,
    handlers: MainLoopHandlers,
    lifeline: Lifeline,
    switch: DeadMan,
    session: str,
    metrics: Metrics | None = None,
) -> Ports:
    """Connect and probe the store; return what an instance needs. Raises ProviderError, ConfigurationError.

    `metrics` hears of every event and every request.
    """
    on_event: Sink | None = metrics.on_event if metrics is not None else None
    on_call: Callable[[Call], None] | None = metrics.on_call if metrics is not None else None
    named = {"fleet": settings.fleet, "instance": settings.instance_name, "session": session}
    events = announcing(lifeline, session, on_event).bind(**named)
    total = settings.leader.total
    try:
        provider = connect(settings.need_store(), total=total, options=settings.store_options, on_call=on_call)
    except Misconfigured as exc:
        raise ConfigurationError(f"WORKER_STORE: {exc}") from exc
    try:
        await provider.prepare()
        await patient_probe(provider, SystemClock(), settings.leader.lease)
    except IgnoresConditions as exc:
        await provider.close()
        raise ConfigurationError(f"WORKER_STORE: {exc}; use another store (`worker doctor`)") from exc
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


async def patient_probe(provider: Provider, clock: Clock, patience: float) -> None:
    """Probe the store, and again while it does not answer clearly, for `patience` seconds. Raises ProviderError.

    An instance that is restarted while the store is slow must not be given up: whoever started it may not start it
    again. A store that is *wrong* is refused at once.
    """
    until = clock.now() + patience
    while True:
        try:
            return await probe(provider)
        except (Unavailable, OutcomeUnknown):
            if clock.now() >= until:
                raise
            await clock.sleep(provider.total / 2)


def serve(app: App, settings: Settings, lifeline: Lifeline) -> int:
    """Run one instance until it is drained; return its exit code. For the worker process's main thread."""
    session = SystemClock().token()
    switch = deadman(publish=lifeline.set_deadline)  # on the main thread: macOS wants it there

    async def build(handlers: MainLoopHandlers) -> process.Service:
        admin = _admin_port(settings)
        if admin is not None:
            admin.start()  # a start may take as long as the store takes to answer, and that is no reason to restart it
        metrics = admin.metrics if admin is not None else None
        ports = await build_ports(settings, handlers, lifeline, switch, session, metrics)

        def start(machine: Facts, life: str | None = None) -> tuple[Supervisor, process.Service]:
            facts = {"version": worker.__version__, "pid": os.getpid(), "launcher": os.getppid(), **machine}
            if app.version is not None:
                facts["app_version"] = app.version
            supervisor = Supervisor(
                app,
                ports,
                session=life or ports.clock.token(),
                concurrency=settings.concurrency,
                drain_timeout=settings.drain_seconds,
                facts=facts,
            )
            return supervisor, supervisor if admin is None else admin.watching(supervisor)

        if admin is None and settings.admin_port is None:
            ports.events.problem("no admin port: another process has port 8080; WORKER_ADMIN_PORT names another, or 0")
        service = start({}, session)[1] if settings.host == "none" else Hosted(_host(settings), ports, start)
        return service if admin is None else admin.serving(service)

    return process.run(build, app.lifespan)


def _host(settings: Settings) -> PortableHost:
    assert settings.host != "none"
    try:
        return connect_host(settings.host, settings.host_url, options=settings.store_options)
    except Misconfigured as exc:
        raise ConfigurationError(f"WORKER_HOST: {exc}") from exc


def _admin_port(settings: Settings) -> AdminPort | None:
    if settings.admin_port == 0:
        return None  # and nobody pays for a web server that is not used
    from worker.web.service import AdminPort

    return AdminPort.take(settings.admin_host, settings.admin_port)
