"""The clock of a store that speaks HTTP, as its answers tell it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def unix_seconds(date: str | None) -> float | None:
    """Return a `Date` header as Unix seconds; None where there is none, or none that can be read."""
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
