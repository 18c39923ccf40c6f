"""The probe of a store at every start: what it refuses, what it forgives, what it costs and what it leaves."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

from providers.interface import (
    Bid,
    Call,
    Document,
    Grant,
    LeaseView,
    Misconfigured,
    OutcomeUnknown,
    Refused,
    Stamp,
    Unavailable,
)
from providers.memory.driver import KEEPS_LEASES
from providers.probe import RACERS, IgnoresConditions, probe
from tests.unit.altered import Altered, AlteredDriver, creates_over, replaces_any

RACE = b"race"


def probed(driver: AlteredDriver, **options: Any) -> None:
    """Probe a store, and see that nothing is left in it, whatever comes of it."""

    async def whole() -> None:
        provider = driver.provider(**options)
        try:
            await probe(provider)
        finally:
            await provider.close()
            assert driver.stored() == []

    asyncio.run(whole())


def only_in_races(way: Altered, most: int) -> Altered:
    """Do it in this way for the first so many writers of the race, and as it should be everywhere else."""
    turns = itertools.count()  # counts for several threads at once

    def mixed(real: Altered, old: Stamp, body: bytes) -> Any:
        return way(real, old, body) if RACE in body and next(turns) < most else real(old, body)

    return mixed


# --- refused ---


@pytest.mark.parametrize(
    "operation, way, told",
    [
        ("documents.create", creates_over, "creating a document that exists"),
        ("documents.replace", replaces_any, "writing over a newer version"),
        ("documents.replace", only_in_races(replaces_any, 2), f"2 of {RACERS} writers at once"),
        ("documents.read", lambda real, key, *, unless=None: real(key), "sent a document again that has not changed"),
    ],
)
def test_conditions_that_are_ignored(operation: str, way: Altered, told: str) -> None:
    """A store that accepts conditions and ignores them is refused, named, before anybody relies on it."""
    with pytest.raises(IgnoresConditions, match=rf"^memory: ignores conditions.*{told}"):
        probed(AlteredDriver({operation: way}))


@pytest.mark.parametrize(
    "operation, told",
    [
        ("documents.create", "creating a document that does not exist"),
        ("documents.replace", "writing over the version that is there"),
    ],
)
def test_conditions_that_are_misjudged(operation: str, told: str) -> None:
    """A store that refuses what its conditions allow is refused too, named: it is nothing that passes."""

    def refuse(real: Altered, *given: Any) -> Stamp:
        raise Refused("no")

    with pytest.raises(IgnoresConditions, match=rf"^memory: misjudges conditions: it refused {told}"):
        probed(AlteredDriver({operation: refuse}))


@pytest.mark.parametrize("operation", ["documents.create", "documents.replace"])
def test_a_request_that_came_twice(operation: str) -> None:
    """A write that was refused and has been done came twice: what is on the way is not the store's fault."""

    def twice(real: Altered, *given: Any) -> Stamp:
        real(*given)
        raise Refused("no")

    with pytest.raises(Refused, match="no"):
        probed(AlteredDriver({operation: twice}))


def test_versions_that_are_hidden() -> None:
    """A store that answers "unchanged" to who has an old version is refused: nobody would follow a new plan."""

    def cached(real: Altered, key: str, *, unless: Any = None) -> Document | None:
        return None if unless is not None else real(key)

    with pytest.raises(Misconfigured, match=r"hides new versions.*cache"):
        probed(AlteredDriver({"documents.read": cached}))


def test_second_winner_that_is_not_answered() -> None:
    """A write of the race that lands beside the winner's, and whose answer is lost, is seen by reading back."""

    def silently(real: Altered, old: Stamp, body: bytes) -> Stamp:
        if b'"racer":7' not in body:
            return real(old, body)  # type: ignore[no-any-return]
        while documents_of(real).read(old.key).stamp == old:
            pass  # until somebody has won
        replaces_any(real, old, body)
        raise OutcomeUnknown("no answer")

    with pytest.raises(IgnoresConditions, match="writers at once"):
        probed(AlteredDriver({"documents.replace": silently}))


def documents_of(real: Altered) -> Any:
    return real.__self__  # type: ignore[attr-defined]  # a bound method


def grants_anybody(real: Altered, view: LeaseView, bid: Bid) -> Grant:
    """Grant a lease to whoever asks."""
    return Grant(bid.term, bid.session, view.version or real(view, bid).version, bid.nonce, bid)


def grants_two_at_once(real: Altered, view: LeaseView, bid: Bid) -> Grant:
    """Grant a free lease to all who ask while it is."""
    return grants_anybody(real, view, bid) if view.free and view.version else real(view, bid)


@pytest.mark.parametrize(
    "way, told",
    [(grants_anybody, "claiming a lease that is held"), (grants_two_at_once, "two claims of one lease at once")],
)
def test_leases_that_exclude_nobody(way: Altered, told: str) -> None:
    """A store that keeps leases, and grants one to two sessions, is refused, named."""
    with pytest.raises(IgnoresConditions, match=rf"^memory: ignores conditions: it allowed {told}"):
        probed(AlteredDriver({"lease.claim": way}, KEEPS_LEASES))


# --- forgiven ---


def test_a_slow_race_is_no_refusal() -> None:
    """Racers that are not answered in time say nothing, as long as one has won and nothing else was written."""

    def slow(real: Altered, old: Stamp, body: bytes) -> Stamp:
        raise OutcomeUnknown("no answer")

    probed(AlteredDriver({"documents.replace": only_in_races(slow, RACERS - 1)}))


@pytest.mark.parametrize("error", [OutcomeUnknown, Unavailable])
def test_a_race_without_a_winner(error: type[Exception]) -> None:
    """A race that nobody has won shows nothing, and ends with what the store has answered."""

    def never(real: Altered, old: Stamp, body: bytes) -> Stamp:
        raise error("slow down")

    with pytest.raises(error, match="slow down"):
        probed(AlteredDriver({"documents.replace": only_in_races(never, RACERS)}))


def test_a_race_that_all_lose() -> None:
    """A store that refuses every writer of the race is to be asked again."""

    def refuse(real: Altered, old: Stamp, body: bytes) -> Stamp:
        raise Refused("no")

    with pytest.raises(Unavailable, match="none of 8 writers"):
        probed(AlteredDriver({"documents.replace": only_in_races(refuse, RACERS)}))


def test_other_errors_pass() -> None:
    """A store that cannot be reached now is Unavailable, not misconfigured."""

    def down(real: Altered, total: float) -> None:
        raise Unavailable("connection refused")

    with pytest.raises(Unavailable, match="connection refused"):
        probed(AlteredDriver({"open": down}))


def test_another_error_in_a_race() -> None:
    """What no race can bring is passed on, even if somebody has won."""

    def deny(real: Altered, old: Stamp, body: bytes) -> Stamp:
        raise Misconfigured("denied")

    with pytest.raises(Misconfigured, match=r"^denied$"):
        probed(AlteredDriver({"documents.replace": only_in_races(deny, 1)}))


# --- what it costs ---


@pytest.mark.parametrize("keeps_leases", [False, True])
def test_what_it_costs(keeps_leases: bool) -> None:
    """The probe sends as many requests as it says, and leaves no object."""
    calls: Counter[str] = Counter()

    def count(call: Call) -> None:
        calls[call.operation.split(".")[0]] += 1

    driver = AlteredDriver(capabilities=KEEPS_LEASES) if keeps_leases else AlteredDriver()
    probed(driver, on_call=count)
    assert calls["documents"] == 17 + 2 * keeps_leases
    assert calls["lease"] == 9 * keeps_leases  # a claim is up to three requests: 14 with the two above
