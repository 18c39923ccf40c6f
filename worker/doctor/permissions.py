"""Checks of what this worker may do, one by one: a driver's own words name the role or the permission that lacks.

Each works on objects of the doctor's own, and goes on with what an earlier one has left.
"""

from __future__ import annotations

from providers.body import encode
from providers.interface import Grant
from providers.lease_record import PREFIX as LEASES
from providers.probe import PROBES
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, latest, ok

ROLE = "lease"


def body(patient: Patient) -> bytes:
    """Return a document's body: no two are the same."""
    return encode({"doctor": patient.nonce, "nonce": patient.clock.token()})


async def create(patient: Patient, found: Findings) -> Finding:
    """Write a document that is not there."""
    stamp = await patient.provider.documents.create(patient.key("document"), body(patient))
    return ok("documents can be created", evidence=stamp)


async def read(patient: Patient, found: Findings) -> Finding:
    """Read what was written."""
    written = latest(found, "documents.create")
    document = await patient.provider.documents.read(written.key)
    if document is None or document.stamp != written:
        return failed(f"{written.key} is not what was written last", "is there a cache before the store? Remove it")
    return ok("documents can be read")


async def replace(patient: Patient, found: Findings) -> Finding:
    """Write over it."""
    stamp = await patient.provider.documents.replace(latest(found, "documents.create"), body(patient))
    return ok("documents can be replaced", evidence=stamp)


async def list_(patient: Patient, found: Findings) -> Finding:
    """Find it in a listing, as the leader finds its members."""
    stamp = latest(found, "documents.create", "documents.replace")
    if stamp not in await patient.provider.documents.list(f"{PROBES}{patient.nonce}"):
        return failed(f"a listing does not show {stamp.key} as it was written last", "use a store that lists all")
    return ok("documents can be listed")


async def delete(patient: Patient, found: Findings) -> Finding:
    """Delete it."""
    await patient.provider.documents.delete(latest(found, "documents.create", "documents.replace"))
    return ok("documents can be deleted")


async def claim(patient: Patient, found: Findings) -> Finding:
    """Claim a lease that nobody else wants, for as long as a leader would."""
    lease = patient.provider.lease(patient.role(ROLE))
    grant = await lease.claim(await lease.observe(), patient.bid("lease", term=1))
    return ok(f"a lease of {grant.bid.duration:g} s can be claimed below {LEASES}", evidence=grant)


async def renew(patient: Patient, found: Findings) -> Finding:
    """Renew it."""
    grant: Grant = latest(found, "lease.claim")
    lease = patient.provider.lease(patient.role(ROLE))
    return ok("a lease can be renewed", evidence=await lease.renew(grant, patient.clock.token()))


async def resign(patient: Patient, found: Findings) -> Finding:
    """Give it up."""
    grant: Grant = latest(found, "lease.claim", "lease.renew")
    await patient.provider.lease(patient.role(ROLE)).resign(grant, patient.clock.token())
    return ok("a lease can be given up")
