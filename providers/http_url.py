"""Which URLs can be asked at all."""

from __future__ import annotations

from urllib.parse import urlsplit


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
