"""The tests' own helpers."""

from __future__ import annotations

import pytest

from tests.support import require


def test_a_missing_need_skips_on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside CI a test whose need is missing is skipped with its reason."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no emulator"):
        require(False, "no emulator")


def test_a_missing_need_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI a test whose need is missing has failed."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no emulator"):
        require(None, "no emulator")


def test_a_present_need_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose need is met goes on, in CI too."""
    monkeypatch.setenv("CI", "true")
    require("/usr/bin/emulator", "no emulator")
