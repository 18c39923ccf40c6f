"""From a URL to a `Provider`, and the probe that shows, before anybody relies on it, that the store compares.

Only this module knows which drivers there are, and it imports one only when its URL is given: nobody pays for an
SDK that is not used.
"""

from __future__ import annotations

import asyncio
import secrets  # noqa: TID251 - names the probe's document, which no simulation replays
import time  # noqa: TID251 - the wall clock of the store `memory:`, which lives in this process
from collections.abc import Awaitable, Callable
from contextlib import suppress

from providers.body import encode
from providers.interface import Call, Driver, Misconfigured, ProviderError, Refused, Stamp, Unavailable
from providers.provider import Provider

FORMS = (
    "sqlite:///relative/file.db, sqlite:////absolute/file.db, azure://ACCOUNT/CONTAINER[/PREFIX], s3://BUCKET[/PREFIX]"
)
"""What a store's URL may look like, for people."""

RACERS = 8
"""Writers that the probe sends against each other, over one version of one document."""

PROBES = "probe/"
"""Where the probe writes; it removes what it wrote."""


def connect(
    url: str, *, total: float = 2.0, endpoint_url: str | None = None, on_call: Callable[[Call], None] | None = None
) -> Provider:
    """Return a provider of the store that `url` names. Nothing is sent before the first request.

    `total` is the most time one request may take, in seconds; `endpoint_url` stands in for the cloud's own address
    (emulators). Raises Misconfigured for a URL that names no store.
    """
    return Provider(driver_for(url, endpoint_url=endpoint_url), total=total, on_call=on_call)


def driver_for(url: str, *, endpoint_url: str | None = None) -> Driver:
    """Return the driver of the store that `url` names. Raises Misconfigured, listing the forms of a URL."""
    scheme, _, rest = url.partition(":")
    if scheme not in ("sqlite", "memory", "azure", "s3") or (scheme in ("azure", "s3") and not rest.startswith("//")):
        raise Misconfigured(f"{_shown(url)} names no store. Use one of: {FORMS}")
    if scheme in ("azure", "s3"):
        raise Misconfigured(f"{scheme}:// stores are not available in this version yet. Use sqlite:/// for now")
    if endpoint_url is not None:
        raise Misconfigured(
            f"an endpoint URL was given ({_shown(endpoint_url)}), and {scheme} stores have none: remove it"
        )
    if scheme == "memory":
        return _memory(url, rest)
    return _sqlite(url, rest)


def _memory(url: str, rest: str) -> Driver:
    from providers.memory import MemoryDriver, MemoryStore

    if rest:
        raise Misconfigured(f"{_shown(url)}: a store in memory has no name, write 'memory:'")
    return MemoryDriver(MemoryStore(now=time.time))


def _sqlite(url: str, rest: str) -> Driver:
    path = rest.removeprefix("///")
    if path == rest or path.endswith("/") or not path:
        raise Misconfigured(
            f"{_shown(url)} names no file: write sqlite:///relative/file.db or sqlite:////absolute/file.db"
        )
    if path.startswith(":memory:"):
        raise Misconfigured(f"{_shown(url)}: every process would have a store of its own: name a file")
    if "?" in path or "#" in path or not path.isprintable():
        raise Misconfigured(f"{_shown(url)}: options are not supported, and a file name may not hold '?' or '#'")
    from providers.local import SqliteDriver

    return SqliteDriver(path)


def _shown(url: str) -> str:
    """Return a URL fit for a message: what stands before an @ may be a secret, what follows ? often is."""
    scheme, separator, rest = url.partition("://")
    head, _, options = rest.partition("?")
    _, at, place = head.rpartition("@")
    shown = f"{scheme}{separator}{'***@' if at else ''}{place}{'?***' if options else ''}"
    return repr(shown if separator else url)


async def probe(provider: Provider, *, nonce: str | None = None) -> None:
    """Show that the store compares before it writes; some accept conditions and ignore them.

    Raises Misconfigured, naming the store, if it does not. Other errors of the store pass through: the probe is
    then repeated, or given up, by the caller. Costs some dozen requests.
    """
    key = PROBES + (secrets.token_hex(8) if nonce is None else nonce)
    stamp = await provider.documents.create(key, encode({"probe": "first"}))
    try:
        await _probe_refusals(provider, stamp)
    finally:
        await _tidy(provider, key)


async def _probe_refusals(provider: Provider, first: Stamp) -> None:
    documents = provider.documents
    if not await _refused(documents.create(first.key, encode({"probe": "duplicate"}))):
        raise _ignores(provider, "creating a document that exists")
    second = await documents.replace(first, encode({"probe": "second"}))
    if second.version == first.version:
        raise _ignores(provider, "telling two versions of a document apart")
    if not await _refused(documents.replace(first, encode({"probe": "stale"}))):
        raise _ignores(provider, "writing over a newer version")
    race = [documents.replace(second, encode({"probe": "race", "racer": racer})) for racer in range(RACERS)]
    answers = await asyncio.gather(*race, return_exceptions=True)
    winners = [answer for answer in answers if isinstance(answer, Stamp)]
    if len(winners) > 1:
        raise _ignores(provider, f"{len(winners)} of {RACERS} writers at once over one version")
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, Refused | Unavailable):
            raise answer
    if not winners:
        raise Unavailable(f"{provider.url}: none of {RACERS} writers at once was let through")


async def _refused(request: Awaitable[Stamp]) -> bool:
    try:
        await request
    except Refused:
        return True
    return False


def _ignores(provider: Provider, what: str) -> Misconfigured:
    return Misconfigured(f"{provider.url} ignores conditions: it allowed {what}, so that two leaders could act at once")


async def _tidy(provider: Provider, key: str) -> None:
    """Remove the probe's document. What cannot be removed now harms nobody: its key is never used again."""
    with suppress(ProviderError):
        found = await provider.documents.read(key)
        if found is not None:
            await provider.documents.delete(found.stamp)
