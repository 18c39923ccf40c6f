"""What tests of every level share."""

from __future__ import annotations

import os

import pytest


def in_ci() -> bool:
    """Say whether this run decides if a change lands."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def require(condition: object, reason: str) -> None:
    """Go on only if what this test needs is there: otherwise skip on a laptop, and fail in CI.

    `reason` says what is missing and how to get it. A test that CI never runs protects nothing.
    """
    if condition:
        return
    if in_ci():
        pytest.fail(f"CI must have what this test needs: {reason}", pytrace=False)
    pytest.skip(reason)
