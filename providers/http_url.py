"""Which URLs can be asked at all, and how one is shown."""

from __future__ import annotations

from urllib.parse import urlsplit

HIDDEN = "***"
"""What is shown instead of a secret."""


def names_a_server(url: str) -> bool:
    """Say whether a URL names an HTTP server, below which paths can be asked.

    Nobody's name or password may be in it, which errors would repeat, and nothing after the path.
    """
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0  # a port that is no number is only found when it is looked at
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url and not parts.query and not parts.fragment
    return named and plain and parts.scheme in ("http", "https") and "@" not in parts.netloc


def without_secrets(url: str) -> str:
    """Return a URL fit for a message: what stands before an @ may be a secret, what follows ? often is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    before, at, after = rest.rpartition("@")
    place, _, options = after.partition("?")
    if "?" in before:  # a password or a signature, with the other's mark in it
        return f"{scheme}{separator}{HIDDEN}"
    return f"{scheme}{separator}{HIDDEN + at if at else ''}{place}{'?' + HIDDEN if options else ''}"
