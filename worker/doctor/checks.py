"""The table of all checks, in the order in which they are made, and how it is gone through from settings to exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from providers.interface import Misconfigured, ProviderError
from providers.lease_record import PREFIX as LEASES
from providers.probe import remove
from worker.doctor import basics, conditions, latency, machine, messages, permissions, queues
from worker.doctor.examination import Check, Patient, examine
from worker.doctor.findings import Finding, Findings, ok, skipped_after, warning

WRITABLE = ("documents.create", "documents.read", "documents.replace", "lease.claim", "lease.resign")


async def clean_up(patient: Patient, found: Findings) -> Finding:
    """Remove what was written. A lease's object may stay: some buckets forbid to delete any, and rightly."""
    left: list[str] = []
    for key in sorted(patient.written):
        try:
            await remove(patient.provider, key)
        except Misconfigured:
            if not key.startswith(LEASES):
                left.append(key)
        except ProviderError:
            left.append(key)
    patient.written.clear()
    if left:
        return warning(
            f"{queues.shown(left)} could not be removed", "remove what is left, or leave it: nobody reads it"
        )
    return ok("nothing is left that matters")


CHECKS: Sequence[Check] = (
    Check("settings", basics.settings),
    Check("app", basics.app),
    Check("stop grace", basics.stop_grace),
    Check("machine", machine.platform),
    Check("reach", basics.reach),
    Check("fleet", basics.fleet, ("reach",)),
    Check("documents.create", permissions.create, ("fleet",)),
    Check("documents.read", permissions.read, ("documents.create",)),
    Check("documents.replace", permissions.replace, ("documents.create",)),
    Check("documents.list", permissions.list_, ("documents.create",)),
    Check("documents.delete", permissions.delete, ("documents.create",)),
    Check("lease.claim", permissions.claim, ("fleet",)),
    Check("lease.renew", permissions.renew, ("lease.claim",)),
    Check("lease.resign", permissions.resign, ("lease.claim",)),
    Check("conditions", conditions.start_up, WRITABLE),
    Check("create race", conditions.create_race, ("conditions",)),
    Check("replace race", conditions.replace_race, ("conditions",)),
    Check("claim race", conditions.claim_race, ("conditions",)),
    Check("stale delete", conditions.stale_delete, ("conditions", "documents.delete")),
    Check("queue.ensure", messages.ensure, ("fleet",)),
    Check("queues", queues.declared, ("queue.ensure", "app")),
    Check("retention", queues.retention, ("queues",)),
    Check("order", queues.order, ("app",)),
    Check("queue.send", messages.send, ("queue.ensure",)),
    Check("queue.receive", messages.receive, ("queue.send",)),
    Check("queue.extend", messages.extend, ("queue.receive",)),
    Check("queue.release", messages.release, ("queue.receive",)),
    Check("queue.delete", messages.delete, ("queue.receive",)),
    Check("queue.depth", messages.depth, ("queue.ensure",)),
    Check("queue.peek", messages.peek, ("queue.ensure",)),
    Check("read latency", latency.reads, ("documents.create", "documents.read")),
    Check("replace latency", latency.replaces, ("documents.replace",)),
    Check("renewal latency", latency.renewals, ("lease.renew", "lease.resign")),
    Check("clock", basics.clock, ("documents.create",)),
    Check("clean up", clean_up, ("fleet",)),
)


async def diagnose(patient: Patient, tell: Callable[[str, Finding], None]) -> dict[str, Finding]:
    """Make all checks; clean up also when they are interrupted. Never raises ProviderError."""
    try:
        return await examine(CHECKS, patient, tell)
    finally:
        if patient.written:  # somebody has pressed Ctrl-C, or a driver has a bug
            with suppress(ProviderError):
                await clean_up(patient, {})


def without_settings(problem: Finding, tell: Callable[[str, Finding], None]) -> dict[str, Finding]:
    """Return what is found where the settings cannot even be read, or name no store: nothing else is looked at."""
    first, *others = CHECKS
    found = {first.name: problem, **{check.name: skipped_after(first.name, problem) for check in others}}
    for name, finding in found.items():
        tell(name, finding)
    return found
