"""The pause before a next attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.backoff import delay

SECONDS = st.floats(1e-3, 1e3)
RANDOM = st.floats(0, 1, exclude_max=True)


@given(attempt=st.integers(0, 10**6), base=SECONDS, more=SECONDS, random=RANDOM)
def test_stays_between_half_the_base_and_the_cap(attempt: int, base: float, more: float, random: float) -> None:
    """No pause is shorter than half the base or longer than the cap, however many attempts there were."""
    assert base / 2 < delay(attempt, base, base + more, random) <= base + more


@given(attempt=st.integers(0, 2000), base=SECONDS, more=SECONDS, random=RANDOM)
def test_never_shrinks_with_attempts(attempt: int, base: float, more: float, random: float) -> None:
    """With the same luck, a later attempt waits at least as long as an earlier one."""
    assert delay(attempt, base, base + more, random) <= delay(attempt + 1, base, base + more, random)


def test_doubles_up_to_the_cap() -> None:
    """Without jitter the pause doubles from the base until it meets the cap."""
    assert [delay(attempt, 0.5, 3.0, 0.0) for attempt in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_takes_up_to_half() -> None:
    """The random number decides how much of the upper half is waited."""
    assert delay(0, 1.0, 9.0, 0.5) == 0.75


@pytest.mark.parametrize("attempt, base, cap", [(-1, 1.0, 2.0), (0, 0.0, 2.0), (0, 3.0, 2.0)])
def test_refuses_what_makes_no_sense(attempt: int, base: float, cap: float) -> None:
    """A negative attempt, a base of nothing and a cap below the base are refused."""
    with pytest.raises(ValueError, match=r"attempt|base"):
        delay(attempt, base, cap, 0.0)
