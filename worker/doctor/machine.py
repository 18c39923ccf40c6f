"""The machine under the worker: whether its platform answers, and may be told what `worker run` tells it."""

from __future__ import annotations

from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, ok, skipped, warning
from worker.settings import variable


async def platform(patient: Patient, found: Findings) -> Finding:
    """Ask which machine this is, and what is announced for it. Nothing is acknowledged, protected or published."""
    host = patient.host
    if host is None:
        return skipped(f"{variable('host')} is none: nobody is asked for the machine's planned end")
    identity = await host.identity()
    notices = await host.notices()
    where = ", ".join(part for part in (identity.zone, identity.group) if part)
    name = f"{identity.machine} ({where})" if where else identity.machine
    if notices:
        causes = ", ".join(notice.cause for notice in notices)
        return warning(f"{name} has something announced: {causes}", "wait until it is over, or use another machine")
    return ok(f"this is {name}, and nothing is announced for it")
