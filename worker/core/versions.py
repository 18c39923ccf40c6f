"""Which members run the newest release: during a rolling upgrade, they are the ones to lead next.

A release is the app's version and then the worker's own, as PEP 440 orders them. What says no version, or one that
nobody can order, counts as older than what does: it is what was there before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.version import InvalidVersion, Version

Release = tuple[Version, Version]

NONE = Version("0.dev0")
"""Older than any version that anybody gives."""


def release(facts: Mapping[str, Any]) -> Release:
    """Return the release that a member's status tells: of its app, and of the worker."""
    return _version(facts.get("app_version")), _version(facts.get("version"))


def newest(releases: Mapping[str, Release]) -> frozenset[str]:
    """Return those members that run the newest of these releases."""
    latest = max(releases.values(), default=None)
    return frozenset(member for member, found in releases.items() if found == latest)


def _version(told: Any) -> Version:
    try:
        return Version(told) if isinstance(told, str) else NONE
    except InvalidVersion:
        return NONE
