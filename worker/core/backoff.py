"""How long to wait before the next attempt: exponential, capped, jittered so that a fleet never retries in step."""

from __future__ import annotations


def delay(attempt: int, base: float, cap: float, random: float) -> float:
    """Return the seconds to wait before retry number `attempt`, counted from 0.

    The wait doubles from `base` up to `cap` (seconds); `random`, a number in [0, 1), then takes up to half of it
    away. So it is always in (base/2, cap], and never zero: somebody who fails at once cannot spin.
    Raises ValueError for a negative attempt, or unless 0 < base <= cap.
    """
    if attempt < 0:
        raise ValueError(f"attempt is {attempt}: the first one is 0")
    if not 0 < base <= cap:
        raise ValueError(f"base {base:g} s must be positive and at most cap {cap:g} s")
    doublings = min(attempt, 1000)  # 2.0 ** 1024 overflows, and no cap is reached later than this
    return min(cap, base * 2.0**doublings) * (1 - random / 2)
