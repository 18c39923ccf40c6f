"""The clock of a store that speaks HTTP, as its answers tell it."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime


def unix_seconds(date: str | None) -> float | None:
    """Return a `Date` header as Unix seconds; None where there is none, or none that can be read.

    One that names no zone is UTC, as every date of HTTP is, and never in this machine's own.
    """
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date)
        return (told if told.tzinfo is not None else told.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
