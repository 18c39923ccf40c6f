"""Who is examined, and how a table of checks is gone through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from providers.interface import (
    Bid,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Unavailable,
)
from providers.lease_record import PREFIX as LEASES
from providers.portable_host import PortableHost
from providers.probe import PROBES
from providers.provider import Provider
from worker.app import App
from worker.clock import Clock
from worker.doctor.findings import Finding, Findings, failed, skipped_after
from worker.errors import Exit
from worker.loader import load_app
from worker.settings import Settings


@dataclass(frozen=True)
class Patient:
    """What is examined, and with what. `nonce` is in the name of everything that the doctor writes."""

    settings: Settings
    provider: Provider
    clock: Clock
    nonce: str
    stop_grace: float | None = None  # seconds that the container's platform gives it to stop in
    host: PortableHost | None = None  # the machine's platform, where a setting names one
    load: Callable[[str], App] = load_app
    written: set[str] = field(default_factory=set)
    """Keys of what may have been written, to be removed at the end."""

    def key(self, name: str) -> str:
        """Return the key of a document of the doctor's own; it will be removed."""
        key = f"{PROBES}{self.nonce}-{name}"
        self.written.add(key)
        return key

    def role(self, name: str) -> str:
        """Return the role of a lease that nobody else uses; its object will be removed."""
        role = f"probe-{self.nonce}-{name}"
        self.written.add(LEASES + role)
        return role

    def bid(self, session: str, term: int) -> Bid:
        """Return a claim in the name of a session of this doctor, for as long as the fleet's leader would claim."""
        return Bid(
            session=f"{self.nonce}-{session}",
            instance="doctor",
            fleet=self.settings.fleet,
            term=term,
            duration=self.settings.leader.lease,
            nonce=self.clock.token(),
        )


Look = Callable[[Patient, Findings], Awaitable[Finding]]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's table: its name, the function, and the checks that must have gone well before."""

    name: str
    look: Look
    needs: tuple[str, ...] = ()


_MEANINGS: Sequence[tuple[type[ProviderError], str, str, Exit]] = (
    (Misconfigured, "", "", Exit.CONFIGURATION),  # its message names the fix
    (Refused, "refused although nobody else was at it: ", "use a store that keeps conditions", Exit.CONFIGURATION),
    (NotFound, "what was just written is not there: ", "use a store that shows its last write", Exit.CONFIGURATION),
    (Unavailable, "", "try again; where it lasts, see whether the store is up and throttles nobody", Exit.STORE),
    (OutcomeUnknown, "no clear answer: ", "try again; where it lasts, see the network and the latency", Exit.STORE),
    (ProviderError, "", "remove what somebody else has written there", Exit.CONFIGURATION),
)


def failure(error: ProviderError) -> Finding:
    """Say what an error of the store means in a place where none was expected."""
    words, fix, code = next((words, fix, code) for kind, words, fix, code in _MEANINGS if isinstance(error, kind))
    return failed(words + (" ".join(str(error).split()) or type(error).__name__), fix, code)


async def examine(
    checks: Sequence[Check], patient: Patient, tell: Callable[[str, Finding], None] = lambda name, finding: None
) -> dict[str, Finding]:
    """Go through the checks in their order; `tell` hears each finding at once. Never raises ProviderError."""
    found: dict[str, Finding] = {}
    for check in checks:
        missing = next((name for name in check.needs if not found[name].good), None)
        if missing is not None:
            found[check.name] = skipped_after(missing, found[missing])
        else:
            try:
                found[check.name] = await check.look(patient, found)
            except ProviderError as exc:
                found[check.name] = failure(exc)
        tell(check.name, found[check.name])
    return found
