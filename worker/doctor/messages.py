"""Checks of what this worker may do with messages, on a queue of the doctor's own: real ones are never touched.

The interface has no way to remove a queue, and no worker needs the right to: so this one stays, empty, and is used
again. Where queues may not be created, whoever creates the others can create it too.
"""

from __future__ import annotations

import json
from dataclasses import replace

from providers.interface import Misconfigured, Received, Refused
from worker.doctor.examination import Patient
from worker.doctor.findings import Finding, Findings, failed, latest, ok, skipped, warning
from worker.errors import Exit

QUEUE = "worker-doctor"
HIDE = 30.0
"""Seconds for which a received message is hidden: longer than the doctor needs it."""

PATIENCE = 20.0
"""Seconds in which a message must arrive: some queues show it only after a while."""

WAIT = 2.0
PAUSE = 0.2
"""Seconds that one look waits in the store, and between two looks where it cannot."""

LEFT_OVER = 3
"""Receives after which a message of another doctor's counts as left behind."""


async def ensure(patient: Patient, found: Findings) -> Finding:
    """Create the doctor's queue, or find it."""
    try:
        await patient.provider.queue.ensure(QUEUE)
    except Misconfigured as exc:
        said = f"queue {QUEUE!r} cannot be created, so that nothing is sent or received: {exc}"
        fix = f"create the empty queue {QUEUE!r} to have that tested"
        if not found["app"].good:
            return failed(said, f"{fix}, or name the app (--app), whose queues can be looked at")
        return warning(said, f"{fix}; the fleet itself needs no right to create queues", evidence=False)
    return ok(f"queues can be created, or {QUEUE!r} is there", evidence=True)


async def send(patient: Patient, found: Findings) -> Finding:
    """Send one message."""
    if not found["queue.ensure"].evidence:
        return skipped(f"there is no queue {QUEUE!r}")
    await patient.provider.queue.send_one(QUEUE, json.dumps({"doctor": patient.nonce}).encode())
    return ok("messages can be sent")


async def receive(patient: Patient, found: Findings) -> Finding:
    """Receive it."""
    received = await _receive(patient)
    return _lost() if received is None else ok("messages can be received", evidence=received)


async def extend(patient: Patient, found: Findings) -> Finding:
    """Hide it for longer, as for a handler that takes its time."""
    received: Received = latest(found, "queue.receive")
    receipt = await patient.provider.queue.extend(QUEUE, received.receipt, HIDE)
    return ok("a message in hand can be kept hidden", evidence=replace(received, receipt=receipt))


async def release(patient: Patient, found: Findings) -> Finding:
    """Make it visible again, as after a failure, and receive it once more."""
    received: Received = latest(found, "queue.receive", "queue.extend")
    await patient.provider.queue.release(QUEUE, received.receipt)
    again = await _receive(patient)
    return _lost() if again is None else ok("a message can be given back for another attempt", evidence=again)


async def delete(patient: Patient, found: Findings) -> Finding:
    """Acknowledge it."""
    received: Received = latest(found, "queue.receive", "queue.extend", "queue.release")
    await patient.provider.queue.delete(QUEUE, received.receipt)
    return ok("messages can be deleted")


async def depth(patient: Patient, found: Findings) -> Finding:
    """Count a queue's messages: the doctor's, or else a declared one's, which that does not disturb."""
    queue = _any(found)
    if queue is None:
        return skipped("there is no queue to count")
    await patient.provider.queue.depth(queue)
    return ok(f"messages can be counted ({queue})")


async def peek(patient: Patient, found: Findings) -> Finding:
    """Look at messages, as `worker dlq list` does; at a declared queue's only where looking counts nothing."""
    queue = _any(found)
    if queue is None or (queue != QUEUE and not patient.provider.capabilities.peeks):
        return skipped(f"there is no queue {QUEUE!r}" + (", and a look would count as an attempt" if queue else ""))
    await patient.provider.queue.peek(queue, 1)
    return ok(f"messages can be looked at ({queue})")


def _any(found: Findings) -> str | None:
    """Name a queue that can be looked at without harm."""
    if found["queue.ensure"].evidence:
        return QUEUE
    return next(iter(found["queues"].evidence), None) if found["queues"].good else None


async def _receive(patient: Patient) -> Received | None:
    """Receive this doctor's message. Another's is given back, or removed when its doctor has left it behind."""
    queue, until = patient.provider.queue, patient.clock.now() + PATIENCE
    while patient.clock.now() < until:
        for received in await queue.receive(QUEUE, 1, HIDE, wait=WAIT):
            if patient.nonce.encode() in received.body:
                return received
            try:
                if received.attempts >= LEFT_OVER:
                    await queue.delete(QUEUE, received.receipt)
                else:
                    await queue.release(QUEUE, received.receipt, delay=1.0)
            except Refused:
                continue  # its own doctor has it
        await patient.clock.sleep(PAUSE)
    return None


def _lost() -> Finding:
    return failed(
        f"a message that was sent to {QUEUE!r} did not arrive within {PATIENCE:g} s",
        f"try again; is anybody else receiving from {QUEUE!r}?",
        Exit.STORE,
    )
