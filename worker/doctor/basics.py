"""Checks of what was set, and of whether the store answers at all: settings, app, stop grace, reach, fleet, clock."""

from __future__ import annotations

import math

from providers.interface import Misconfigured
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, ok, skipped, warning
from worker.errors import ConfigurationError, Exit
from worker.settings import Settings, variable

OFF = 5.0
"""Seconds by which this machine's clock and the store's may differ before anybody is told."""

FAR_OFF = 240.0
"""Seconds: at five minutes AWS refuses what this machine signs, at fifteen Azure does."""


async def settings(patient: Patient, found: Findings) -> Finding:
    """Say which settings are in force: they were checked when they were read."""
    chosen = patient.settings
    leader, member = chosen.leader, chosen.member
    return ok(
        f"fleet {chosen.fleet!r} on {patient.provider.url}: lease {leader.lease:g} s, renewed every "
        f"{leader.renew:g} s, a request takes at most {leader.total:g} s; member lease {member.lease:g} s"
    )


def bad_settings(error: Exception) -> Finding:
    """Say what is wrong with settings that could not be read, or name no store."""
    return failed("; ".join(str(error).splitlines()))


async def app(patient: Patient, found: Findings) -> Finding:
    """Import the app as `worker run` would. One that nobody has named need not be on an operator's machine."""
    name = patient.settings.app
    try:
        loaded = patient.load(name)
    except ConfigurationError as exc:
        if "app" not in patient.settings.model_fields_set and "there is no module" in str(exc):
            return skipped(f"there is no {name} here: {variable('app')} (or --app) names the app")
        return failed(str(exc))
    queues = ", ".join(f"{spec.name} ({spec.partitions})" for spec in loaded.queues.values()) or "none"
    return ok(f"{name}: queues (partitions): {queues}", evidence=loaded)


async def stop_grace(patient: Patient, found: Findings) -> Finding:
    """Say what a container must be given to stop in, and compare it with what it is given."""
    needed, sum_ = needed_grace(patient.settings)
    given = patient.stop_grace
    if given is None:
        return ok(f"give the container {needed} s from SIGTERM to SIGKILL ({sum_}); --stop-grace compares")
    if given < needed:
        return failed(
            f"the container gets {given:g} s from SIGTERM to SIGKILL, and needs {needed} s ({sum_})",
            f"give it {needed} s (docker --stop-timeout, stop_grace_period, the unit's TimeoutStopSec), or lower "
            f"{variable('drain_timeout')}",
        )
    return ok(f"the container gets {given:g} s from SIGTERM to SIGKILL, and needs {needed} s ({sum_})")


def needed_grace(chosen: Settings) -> tuple[int, str]:
    """Return what the launcher gives the worker from TERM to KILL, in whole seconds, and how it comes about."""
    drain, grace = chosen.drain_seconds, chosen.member.grace
    return math.ceil(chosen.stop_seconds), f"drain {drain:g} s + member grace {grace:g} s"


async def reach(patient: Patient, found: Findings) -> Finding:
    """Sign in and look at the leader's lease: the first thing that every instance asks for."""
    try:
        await patient.provider.prepare()
        view = await patient.provider.lease("leader").observe()
    except Misconfigured as exc:
        return failed(" ".join(str(exc).split()), code=Exit.STORE)
    return ok(f"{patient.provider.url} answers", evidence=view)


async def fleet(patient: Patient, found: Findings) -> Finding:
    """See whose store this is: two fleets under one prefix would obey one leader."""
    view, mine = found["reach"].evidence, patient.settings.fleet
    if view.newer:
        return failed(f"the lease is of a newer version: {view.garbled}", "upgrade this worker")
    if view.garbled is not None:
        return warning(
            f"the lease is damaged: {view.garbled}",
            "nothing to do: the next leader waits until nobody can trust it any more, and replaces it in a higher term",
        )
    if view.fleet is not None and view.fleet != mine:
        return failed(
            f"{variable('fleet')} is {mine!r}, and the store belongs to fleet {view.fleet!r}",
            f"set {variable('fleet')}={view.fleet}, or give this fleet a prefix of its own in {variable('store')}",
        )
    if view.version is None:
        return ok("nobody has ever led here")
    return ok(f"the store belongs to fleet {view.fleet!r}, term {view.term}")


async def clock(patient: Patient, found: Findings) -> Finding:
    """Compare this machine's clock with the store's. Nothing is decided by it, but requests are signed with a time."""
    before = patient.clock.wall()
    stamp = await patient.provider.documents.create(patient.key("clock"), b"{}")
    after = patient.clock.wall()
    if stamp.store_time is None:
        return skipped("this store tells no time")
    apart = off_by(stamp.store_time, before, after)
    direction = "behind" if apart > 0 else "ahead of"
    said = f"this machine's clock is {abs(apart):.0f} s {direction} the store's" if apart else "the clocks agree"
    synchronise = "synchronise this machine's clock (chrony, systemd-timesyncd)"
    if abs(apart) > FAR_OFF:
        return failed(f"{said}: a store refuses what is signed minutes off", synchronise, Exit.DEGRADED)
    return warning(said, synchronise) if abs(apart) > OFF else ok(said)


def off_by(told: float, before: float, after: float) -> float:
    """Return how far the store's clock is ahead, at the least: it is told in whole seconds, some time in between."""
    least, most = told - after, told + 1 - before
    return 0.0 if least <= 0 <= most else least if least > 0 else most
