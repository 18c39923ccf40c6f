"""Checks of the queues that the app declares: that they are there, keep messages for long enough, and keep order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from providers.interface import NotFound
from worker.app import App
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, ok, skipped, warning
from worker.errors import Exit

AT_ONCE = 4
"""Requests at the same time: as many as there are connections for."""

DAY = 24 * 3600.0
KEPT = 14 * DAY
"""Seconds for which messages must be kept: what the fleet promises, and the longest that SQS has."""

SHOWN = 3
"""Names in a message; the rest is counted."""


async def declared(patient: Patient, found: Findings) -> Finding:
    """Find every physical queue of the app. The evidence is how long each that is there keeps its messages."""
    names = queues_of(found["app"].evidence)
    if not names:
        return ok("the app declares no queues", evidence={})
    kept: dict[str, float | None] = {}
    limit = asyncio.Semaphore(AT_ONCE)

    async def look(name: str) -> None:
        async with limit:
            try:
                kept[name] = await patient.provider.queue.retention(name)
            except NotFound:
                return

    looks = await asyncio.gather(*map(look, names), return_exceptions=True)
    for error in looks:
        if error is not None:
            raise error
    missing = [name for name in names if name not in kept]
    there = {name: kept[name] for name in names if name in kept}  # in the order of their declaration
    if not missing:
        return ok(f"all {len(names)} queues are there", evidence=there)
    said = f"{len(missing)} of {len(names)} queues are missing: {shown(missing)}"
    if found["queue.ensure"].evidence:
        return warning(said, "nothing to do: the first instance creates them", evidence=there)
    return failed(said, f"create them, or let the fleet do it ({found['queue.ensure'].what})")


async def retention(patient: Patient, found: Findings) -> Finding:
    """See that no queue forgets a message before its time."""
    kept: dict[str, float | None] = found["queues"].evidence
    if not kept:
        return skipped("no queue is there yet")
    short = [f"{name} ({seconds / DAY:.3g} days)" for name, seconds in kept.items() if seconds and seconds < KEPT]
    if short:
        return failed(
            f"messages are kept for less than {KEPT / DAY:g} days in {shown(short)}",
            f"set the queue's retention (SQS: MessageRetentionPeriod) to {KEPT:.0f} seconds",
            Exit.DEGRADED,
        )
    return ok(f"messages are kept for {KEPT / DAY:g} days or longer")


async def order(patient: Patient, found: Findings) -> Finding:
    """See that the store keeps the order that is asked for: `worker run` would not start."""
    strict = [spec.name for spec in found["app"].evidence.queues.values() if spec.order == "strict"]
    wrong = [name for name in strict if not patient.provider.capabilities.keeps_order(name)]
    if wrong:
        return failed(
            f"order='strict' is asked for {shown(wrong)}, and the queues of {patient.provider.url} do not keep it",
            "use order='key', or a store that can: SQLite, or SQS for a queue whose name ends in '.fifo'",
        )
    return ok("no queue asks for strict order" if not strict else f"{shown(strict)}: strict order is kept")


def queues_of(app: App) -> list[str]:
    """Name every physical queue of an app: intake, partitions and dead letters."""
    return [name for spec in app.queues.values() for name in spec.physical]


def shown(names: Iterable[str]) -> str:
    """Name the first few, and count the rest."""
    every: Sequence[str] = list(names)
    more = len(every) - SHOWN
    return ", ".join(every[:SHOWN]) + (f" and {more} more" if more > 0 else "")
