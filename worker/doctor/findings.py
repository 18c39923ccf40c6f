"""What one check says, and which exit code all of them together amount to."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.errors import Exit


class Status(enum.Enum):
    """How a check has ended."""

    OK = "ok"
    WARNING = "warning"  # it works, but somebody should know
    FAILED = "failed"
    SKIPPED = "skipped"  # it could not be looked at, and the reason is said


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found. `evidence` is what later checks go on with."""

    status: Status
    what: str
    fix: str = ""
    code: Exit = Exit.OK  # what a failure means to whoever called
    evidence: Any = field(default=None, compare=False, repr=False)
    cause: str = ""  # the check whose end is why this one was skipped

    @property
    def good(self) -> bool:
        """Say whether later checks may build on it."""
        return self.status in (Status.OK, Status.WARNING)


Findings = Mapping[str, Finding]
"""Findings by the name of their check, in the order of the checks."""


def ok(what: str, evidence: Any = None) -> Finding:
    """All is well."""
    return Finding(Status.OK, what, evidence=evidence)


def warning(what: str, fix: str, evidence: Any = None) -> Finding:
    """It works, but somebody should know."""
    return Finding(Status.WARNING, what, fix, evidence=evidence)


def failed(what: str, fix: str = "", code: Exit = Exit.CONFIGURATION) -> Finding:
    """It cannot work, or not as it should. `fix` may be empty where `what`, a store's own words, names it."""
    return Finding(Status.FAILED, what, fix, code)


def skipped(because: str) -> Finding:
    """It was not looked at."""
    return Finding(Status.SKIPPED, f"because {because}")


def skipped_after(name: str, finding: Finding) -> Finding:
    """It was not looked at, for want of what the check `name` should have found: the first of a chain is named."""
    cause = finding.cause or name
    return Finding(Status.SKIPPED, f"because of {cause!r}", cause=cause)


_GRAVEST = (Exit.CONFIGURATION, Exit.STORE, Exit.DEGRADED)


def exit_code(findings: Iterable[Finding]) -> Exit:
    """Return the gravest failure's code: 3 what cannot work, then 4 the store, then 6 degraded; 0 without any."""
    codes = {finding.code for finding in findings}
    return next((code for code in _GRAVEST if code in codes), Exit.OK)


def latest(findings: Findings, *names: str) -> Any:
    """Return the evidence of the last of these checks that went well. Raises LookupError when none did."""
    for name in reversed(names):
        if name in findings and findings[name].good:
            return findings[name].evidence
    raise LookupError(f"none of {', '.join(names)} went well: a check needs one of them, and does not say so")
