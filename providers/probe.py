"""The probe that shows, before anybody relies on it, that a store compares before it writes.

Some stores accept conditions and ignore them. Everything looks well there, until two leaders act at once: so every
instance tries its own store at every start, on objects of its own under random names, and removes them.
"""

from __future__ import annotations

import asyncio
import secrets  # noqa: TID251 - names the probe's objects, which no simulation replays
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from providers.body import encode
from providers.interface import (
    Bid,
    Document,
    Expiry,
    Grant,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Stamp,
    Unavailable,
)
from providers.lease_record import PREFIX as LEASES
from providers.provider import Provider

T = TypeVar("T")

PROBES = "probe/"
"""Where the probe writes documents."""

RACERS = 8
"""Writers that the probe sends against each other, over one version of one document."""

SECONDS = 15.0
"""Duration of the lease that is tried where the store keeps leases: the shortest that Azure has."""


class IgnoresConditions(Misconfigured):
    """The store does not keep its conditions, or misjudges them: nothing can be elected on it. Use another store."""


async def probe(provider: Provider, *, nonce: str | None = None) -> None:
    """Show that the store keeps its conditions: of documents, and of leases where it keeps those itself.

    Raises IgnoresConditions, naming the store and the condition. Other errors of the store pass through: the probe is
    then repeated, or given up, by the caller. A racer that is not answered says nothing; two that win say all.

    Sends 17 requests (18 to S3, where a delete is two), and 14 more where the store keeps leases. What it wrote is
    removed whatever happens; what cannot be removed now harms nobody, as its name is never used again.
    """
    name = secrets.token_hex(8) if nonce is None else nonce
    await _probe_documents(provider, PROBES + name)
    if provider.capabilities.expiry is Expiry.STORE:
        await _probe_lease(provider, f"probe-{name}")


async def race(requests: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Send requests at once of which one may succeed; return what the winners got: one, where conditions are kept.

    Raises the store's error when there is no winner, or when somebody met another error than a race can bring.
    """
    answers = await asyncio.gather(*requests, return_exceptions=True)
    won = [answer for answer in answers if not isinstance(answer, BaseException)]
    if len(won) > 1:
        return won
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    for answer in failed:
        if not isinstance(answer, Refused | Unavailable | OutcomeUnknown):
            raise answer
    if not won:
        unclear = [answer for answer in failed if not isinstance(answer, Refused)]
        raise unclear[0] if unclear else Unavailable(f"none of {len(failed)} writers at once was let through")
    return won


async def remove(provider: Provider, key: str) -> None:
    """Remove a document that nobody else writes, if it is there. Raises ProviderError."""
    with suppress(NotFound):
        found = await provider.documents.read(key)
        if found is not None:
            await provider.documents.delete(found.stamp)


async def _probe_documents(provider: Provider, key: str) -> None:
    try:
        create = provider.documents.create(key, encode({"probe": "first"}))
        first = await _allowed(provider, create, key, None, "creating a document that does not exist")
        await _probe_versions(provider, first)
    finally:
        with suppress(ProviderError):
            await remove(provider, key)


async def _probe_versions(provider: Provider, first: Stamp) -> None:
    documents, key = provider.documents, first.key
    if not await _refused(documents.create(key, encode({"probe": "duplicate"}))):
        raise _ignores(provider, "creating a document that exists")
    if await documents.read(key, unless=first.version) is not None:
        raise IgnoresConditions(f"{provider.url} ignores conditions: it sent a document again that has not changed")
    replace = documents.replace(first, encode({"probe": "second"}))
    second = await _allowed(provider, replace, key, first, "writing over the version that is there")
    if second.version == first.version:
        raise _ignores(provider, "telling two versions of a document apart")
    _check_new(provider, await documents.read(key, unless=first.version), second)
    if not await _refused(documents.replace(first, encode({"probe": "stale"}))):
        raise _ignores(provider, "writing over a newer version")
    won = await race(documents.replace(second, encode({"probe": "race", "racer": racer})) for racer in range(RACERS))
    if len(won) > 1:
        raise _ignores(provider, f"{len(won)} of {RACERS} writers at once over one version")
    last = await documents.read(key)
    if last is None or last.stamp != won[0]:  # somebody who was not answered has written as well
        raise _ignores(provider, f"2 of {RACERS} writers at once over one version")


def _check_new(provider: Provider, found: Document | None, expected: Stamp) -> None:
    if found is None or found.stamp != expected:
        raise Misconfigured(
            f"{provider.url} hides new versions from who has read an old one: the fleet would follow an old plan; is "
            "there a cache before the store?"
        )


async def _probe_lease(provider: Provider, role: str) -> None:
    """Try a lease of a role that nobody else uses: while it is held, and when two claim it at once."""
    lease, held = provider.lease(role), list[Grant]()

    def bid(number: int, term: int) -> Bid:
        session = f"{role}-{number}"
        return Bid(session, "probe", "probe", term, SECONDS, nonce=session)

    async def claim(number: int, term: int) -> Grant:
        held.append(grant := await lease.claim(view, bid(number, term)))
        return grant

    async def resign(grant: Grant) -> None:
        held.remove(grant)
        await lease.resign(grant, f"{grant.nonce}-end")

    try:
        view = await lease.observe()
        first = await claim(1, term=1)
        view = await lease.observe()
        if not await _refused(claim(2, term=2)):
            raise _ignores(provider, "claiming a lease that is held")
        await resign(first)
        view = await lease.observe()
        won = await race(claim(number, term=2) for number in (3, 4))
        if len(won) > 1:
            raise _ignores(provider, "two claims of one lease at once")
        await resign(won[0])
    finally:
        for grant in list(held):
            with suppress(ProviderError):
                await resign(grant)
        with suppress(ProviderError):
            await remove(provider, LEASES + role)


async def _allowed(provider: Provider, request: Coroutine[Any, Any, T], key: str, there: Stamp | None, what: str) -> T:
    """Await a write over what is `there`, at which nobody else is: who refuses it would refuse a leader's renewals.

    What has changed all the same was written by the request itself, sent twice by something on the way: that passes.
    """
    try:
        return await request
    except Refused as exc:
        if await _stamp(provider, key) != there:
            raise
        raise IgnoresConditions(f"{provider.url} misjudges conditions: it refused {what} ({exc})") from exc


async def _stamp(provider: Provider, key: str) -> Stamp | None:
    with suppress(NotFound):
        found = await provider.documents.read(key)
        return None if found is None else found.stamp
    return None


async def _refused(request: Coroutine[Any, Any, object]) -> bool:
    try:
        await request
    except Refused:
        return True
    return False


def _ignores(provider: Provider, what: str) -> IgnoresConditions:
    return IgnoresConditions(
        f"{provider.url} ignores conditions: it allowed {what}, so that two leaders could act at once"
    )


__all__ = ["PROBES", "RACERS", "IgnoresConditions", "probe", "race", "remove"]
