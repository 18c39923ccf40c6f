"""Checks of what an election rests on: that of several writers at once exactly one is let through.

The probe of every start is one short race. Here sixteen writers meet several times, each with a connection of its
own, and get more time than a fleet would give them: this is about conditions, and latency is looked at elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from providers.interface import Grant, LeaseView, Refused, Stamp
from providers.probe import IgnoresConditions, probe, race
from providers.provider import SLOTS, Provider
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, ok, warning
from worker.doctor.permissions import body

T = TypeVar("T")

RACERS = 16
ROUNDS = 3
PATIENCE = 30.0
"""Seconds that one request of a race may take: some stores take writers of one object one after the other."""

FIX = "use a store that compares and writes in one step (docs/storage.md)"


async def start_up(patient: Patient, found: Findings) -> Finding:
    """Do what every instance does at its start."""
    try:
        await probe(patient.provider, nonce=f"{patient.nonce}-probe")
    except IgnoresConditions as exc:
        return failed(str(exc), FIX)
    return ok("duplicates and stale writes are refused")


async def create_race(patient: Patient, found: Findings) -> Finding:
    """Create one document sixteen times at once."""
    async with _crowd(patient) as crowd:
        for number in range(ROUNDS):
            key = patient.key(f"create-{number}")
            won = await _meet(crowd, lambda one: one.documents.create(key, body(patient)))  # noqa: B023 - awaited here
            if (problem := await _two(patient, won)) is not None:
                return failed(f"{problem} created {key}", FIX)
    return _one_each()


async def replace_race(patient: Patient, found: Findings) -> Finding:
    """Write over one version of a document sixteen times at once."""
    stamp = await patient.provider.documents.create(patient.key("replace"), body(patient))
    async with _crowd(patient) as crowd:
        for _ in range(ROUNDS):
            won = await _meet(crowd, lambda one: one.documents.replace(stamp, body(patient)))  # noqa: B023 - awaited here
            if (problem := await _two(patient, won)) is not None:
                return failed(f"{problem} wrote over one version of {stamp.key}", FIX)
            stamp = won[0]
    return _one_each()


async def claim_race(patient: Patient, found: Findings) -> Finding:
    """Claim one free lease sixteen times at once."""
    role = patient.role("race")
    lease = patient.provider.lease(role)
    grant = await lease.claim(await lease.observe(), patient.bid("first", term=1))
    await lease.resign(grant, patient.clock.token())
    async with _crowd(patient) as crowd:
        for _ in range(ROUNDS):
            view = await lease.observe()
            won = await _meet(crowd, lambda one: _claim(patient, one, role, view))  # noqa: B023 - awaited here
            holder = (await lease.observe()).holder if len(won) == 1 else None
            for winner in won:
                with suppress(Refused):  # where several have won, some have lost it again
                    await lease.resign(winner, patient.clock.token())
            if holder != won[0].session:
                return failed(f"{max(2, len(won))} of {RACERS} claims of one lease at once were granted", FIX)
    return _one_each()


async def stale_delete(patient: Patient, found: Findings) -> Finding:
    """Delete a document at a version that it no longer has. Some servers do; nothing that elects is ever deleted."""
    documents = patient.provider.documents
    first = await documents.create(patient.key("stale"), body(patient))
    await documents.replace(first, body(patient))
    try:
        await documents.delete(first)
    except Refused:
        return ok("a stale delete is refused")
    return warning(
        "the store deletes a document although it has changed",
        "let nobody else write below this prefix; what elects and assigns is never deleted, and is safe",
    )


@asynccontextmanager
async def _crowd(patient: Patient) -> AsyncIterator[list[Provider]]:
    """Open as many clients of the same store as let all racers send at once."""
    crowd = [Provider(patient.provider.driver, total=PATIENCE) for _ in range(RACERS // SLOTS["lease"])]
    try:
        yield crowd
    finally:
        for one in crowd:
            await one.close()


def _claim(patient: Patient, one: Provider, role: str, view: LeaseView) -> Coroutine[Any, Any, Grant]:
    return one.lease(role).claim(view, patient.bid(patient.clock.token(), view.term + 1))


async def _meet(crowd: Sequence[Provider], ask: Callable[[Provider], Coroutine[Any, Any, T]]) -> list[T]:
    return await race(ask(crowd[number % len(crowd)]) for number in range(RACERS))


async def _two(patient: Patient, won: Sequence[Stamp]) -> str | None:
    """Say how many have won, when that is not one who is also the last to have written."""
    if len(won) == 1:
        last = await patient.provider.documents.read(won[0].key)
        if last is not None and last.stamp == won[0]:
            return None
    return f"{max(2, len(won))} of {RACERS} writers at once"


def _one_each() -> Finding:
    return ok(f"{RACERS} at once, {ROUNDS} times: one winner each time")
