"""JSON as its standard has it: Python's own reader also takes NaN, Infinity, and numbers that become infinite."""

from __future__ import annotations

import json
import math
from typing import Any


class NotStrict(ValueError):
    """Python reads it, and it is no JSON, or no number that can be computed with; the text says what."""


def loads(text: bytes | str) -> Any:
    """Return what the text says.

    Raises NotStrict; and as `json.loads` does: UnicodeDecodeError, JSONDecodeError, ValueError for a number of more
    than 4,300 digits, RecursionError for what is nested too deeply.
    """
    return json.loads(text, parse_constant=_refused, parse_float=_finite)


def _refused(constant: str) -> Any:
    raise NotStrict(f"JSON has no {constant}")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise NotStrict(f"JSON with a number beyond a double: {text[:40]}")
    return number
