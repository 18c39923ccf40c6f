"""Checks of whether the store answers within the time that the lease leaves for one request (T)."""

from __future__ import annotations

import math
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from providers.interface import LONGEST_LEASE, Expiry
from providers.provider import Provider
from worker.core.timings import leader_timings
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, ok, skipped, warning
from worker.doctor.permissions import body
from worker.errors import Exit
from worker.settings import Settings, variable

READS, REPLACES, RENEWALS = 20, 10, 10
PATIENCE = 30.0
"""Seconds that a measured request may take: what is too slow shall be measured too."""

_SHARE = leader_timings(15.0).total / 15.0
"""The part of a lease that one request may take, unless a setting says otherwise."""


async def reads(patient: Patient, found: Findings) -> Finding:
    """Read a document again and again."""
    async with _patient_provider(patient) as provider:
        stamp = await provider.documents.create(patient.key("reads"), body(patient))
        seconds = await _measure(patient, READS, lambda: provider.documents.read(stamp.key))
    return judge("reads", seconds, patient.settings)


async def replaces(patient: Patient, found: Findings) -> Finding:
    """Write over a document again and again."""
    async with _patient_provider(patient) as provider:
        stamp = await provider.documents.create(patient.key("replaces"), body(patient))

        async def replace() -> None:
            nonlocal stamp
            stamp = await provider.documents.replace(stamp, body(patient))

        seconds = await _measure(patient, REPLACES, replace)
    return judge("replaces", seconds, patient.settings)


async def renewals(patient: Patient, found: Findings) -> Finding:
    """Renew a lease again and again, where that is not a replace."""
    if patient.provider.capabilities.expiry is not Expiry.STORE:
        return skipped("a renewal is a replace on this store")
    async with _patient_provider(patient) as provider:
        lease = provider.lease(patient.role("latency"))
        grant = await lease.claim(await lease.observe(), patient.bid("latency", term=1))

        async def renew() -> None:
            nonlocal grant
            grant = await lease.renew(grant, patient.clock.token())

        try:
            seconds = await _measure(patient, RENEWALS, renew)
        finally:
            await lease.resign(grant, patient.clock.token())
    return judge("renewals", seconds, patient.settings)


def judge(what: str, seconds: Sequence[float], settings: Settings) -> Finding:
    """Compare measured times with T. One slow answer is borne by a lease; when half are slow, none can be held."""
    half, longest, total = statistics.median(seconds), max(seconds), settings.leader.total
    said = f"{len(seconds)} {what}: p50 {_ms(half)}, max {_ms(longest)}, and a request may take {_ms(total)}"
    if longest <= total / 2:
        return ok(said)
    if longest <= total:
        return warning(said, f"little is left: {longer_lease(2 * longest, settings)}")
    return failed(said, longer_lease(longest, settings), Exit.CONFIGURATION if half > total else Exit.DEGRADED)


def longer_lease(longest: float, settings: Settings) -> str:
    """Say which lease leaves so much time for a request."""
    smallest = math.ceil(longest / _SHARE - 1e-9)
    if smallest > LONGEST_LEASE:
        return f"no lease is long enough for that ({LONGEST_LEASE:g} s at the most): use a nearer store"
    unset = f", and unset {variable('lease_total')}" if settings.lease_total is not None else ""
    return f"set {variable('lease')}={smallest} or more{unset}"


async def _measure(patient: Patient, times: int, request: Callable[[], Awaitable[object]]) -> list[float]:
    """Return how long each took, once a connection is there."""
    await request()
    seconds = []
    for _ in range(times):
        began = patient.clock.now()
        await request()
        seconds.append(patient.clock.now() - began)
    return seconds


@asynccontextmanager
async def _patient_provider(patient: Patient) -> AsyncIterator[Provider]:
    provider = Provider(patient.provider.driver, total=max(PATIENCE, patient.settings.leader.total))
    try:
        yield provider
    finally:
        await provider.close()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
