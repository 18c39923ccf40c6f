"""Which URLs can be asked at all."""

from __future__ import annotations

from urllib.parse import urlsplit


def names_a_server(url: str) -> bool:
    """Say whether a URL names an HTTP server, and nobody's name or password, which errors would repeat."""
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0  # a port that is no number is only found when it is looked at
    except ValueError:
        return False
    return named and parts.scheme in ("http", "https") and "@" not in parts.netloc
