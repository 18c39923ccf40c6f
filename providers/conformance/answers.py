"""Answers that are lost, late or never come: what a caller is told, and what it can still find out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from providers.body import decode, encode
from providers.conformance.faults import Fault, Faults, FaultyDriver, Held
from providers.conformance.harness import Harness
from providers.conformance.lease import ROLE, bid, nonce
from providers.conformance.stories import tell
from providers.interface import Expiry, OutcomeUnknown, Refused, Unavailable, proven
from providers.lanes import CLIENTS_PER_SLOT
from providers.provider import SLOTS, Provider

PATIENCE = 20.0
"""Seconds in which what a test waits for must have happened."""

CLIENTS = SLOTS["lease"] * CLIENTS_PER_SLOT
"""Clients that calls of one lane can have at the most."""

SHORT = 0.5
"""Seconds of total time for requests that are held back on purpose."""


async def ended(held: Held) -> None:
    """Let a held call go, and wait until it is over."""
    held.release()
    assert await asyncio.to_thread(held.ended.wait, PATIENCE), "a held call never ended"


async def reached(held: Held) -> None:
    """Wait until a call is held."""
    assert await asyncio.to_thread(held.reached.wait, PATIENCE), "a call never came to where it should be held"


class AnswersSuite:
    """What `Provider` makes of this driver when the way to the store is bad."""

    @pytest.fixture
    def faults(self) -> Iterator[Faults]:
        """Faults that let everything go after the test."""
        faults = Faults()
        yield faults
        faults.release()

    @pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
    def test_lost_write(self, harness: Harness, faults: Faults, fault: Fault) -> None:
        """A write whose answer is lost is OutcomeUnknown, and reading back shows its nonce if and only if it landed."""

        async def story(provider: Provider) -> None:
            old = await provider.documents.create("plan", encode({"nonce": "old"}))
            faults.disturb("documents.replace", fault)
            with pytest.raises(OutcomeUnknown):
                await provider.documents.replace(old, encode({"nonce": "new"}))
            found = await provider.documents.read("plan")
            assert found is not None
            landed = fault is Fault.LOSE_ANSWER
            assert decode(found.body, "plan")["nonce"] == ("new" if landed else "old")
            assert (found.stamp == old) is not landed
            if landed:  # the same request again is refused: that is one's own success, as the nonce shows
                with pytest.raises(Refused):
                    await provider.documents.replace(old, encode({"nonce": "new"}))

        tell(harness, story, faults)

    @pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
    def test_lost_claim(self, harness: Harness, faults: Faults, fault: Fault) -> None:
        """A claim whose answer is lost is resolved by looking: the view shows the nonce and makes the grant whole."""

        async def story(provider: Provider) -> None:
            lease = provider.lease(ROLE)
            mine = bid("a", 1)
            faults.disturb("lease.claim", fault)
            with pytest.raises(OutcomeUnknown):
                await lease.claim(await lease.observe(), mine)
            view = await lease.observe()
            if fault is Fault.LOSE_REQUEST:
                assert view.version is None
                return
            assert (view.nonce, view.holder, view.term) == (mine.nonce, "a", 1)
            if lease.expiry is Expiry.OBSERVER:
                await lease.renew(proven(view, mine), nonce())

        tell(harness, story, faults)

    def test_lost_renewal(self, harness: Harness, faults: Faults) -> None:
        """After a renewal whose answer is lost the lease shows that nonce, and goes on from there."""

        async def story(provider: Provider) -> None:
            lease = provider.lease(ROLE)
            grant = await lease.claim(await lease.observe(), bid("a", 1))
            faults.disturb("lease.renew", Fault.LOSE_ANSWER)
            unanswered = nonce()
            with pytest.raises(OutcomeUnknown):
                await lease.renew(grant, unanswered)
            if lease.expiry is Expiry.OBSERVER:
                view = await lease.observe()
                assert (view.nonce, view.renewals) == (unanswered, 1)
                grant = proven(view, grant.bid)
            assert (await lease.renew(grant, nonce())).term == 1

        tell(harness, story, faults)

    def test_late_answer(self, harness: Harness, faults: Faults) -> None:
        """An answer that comes after its time is OutcomeUnknown at once, and is not delivered to anybody later."""

        async def story(provider: Provider) -> None:
            held = faults.disturb("documents.create", Fault.HOLD_ANSWER)
            with pytest.raises(OutcomeUnknown):
                await provider.documents.create("plan", b"1")
            found = await provider.documents.read("plan")
            assert found is not None
            await ended(held)
            assert (await provider.documents.create("other", b"2")).key == "other"

        tell(harness, story, faults, total=SHORT)

    def test_late_write(self, harness: Harness, faults: Faults) -> None:
        """A write that was given up, and reaches the store after a newer one, is refused there and changes nothing."""

        async def story(provider: Provider) -> None:
            old = await provider.documents.create("plan", encode({"term": 1}))
            held = faults.disturb("documents.replace", Fault.HOLD_REQUEST)
            with pytest.raises(OutcomeUnknown):
                await provider.documents.replace(old, encode({"term": 1, "late": True}))
            newer = await provider.documents.replace(old, encode({"term": 2}))
            await ended(held)
            found = await provider.documents.read("plan")
            assert found is not None
            assert found.stamp == newer

        tell(harness, story, faults, total=SHORT)

    def test_late_resignation(self, harness: Harness, faults: Faults) -> None:
        """A resignation that arrives late cannot blank the successor's lease."""

        async def story(provider: Provider) -> None:
            lease = provider.lease(ROLE)
            grant = await lease.claim(await lease.observe(), bid("a", 1))
            held = faults.disturb("lease.resign", Fault.HOLD_REQUEST)
            with pytest.raises(OutcomeUnknown):
                await lease.resign(grant, nonce())
            await asyncio.to_thread(harness.expire, ROLE, grant.bid.duration)
            await lease.claim(await lease.observe(), bid("b", 2))
            await ended(held)
            view = await lease.observe()
            assert (view.holder, view.term) == ("b", 2)

        tell(harness, story, faults, total=SHORT)

    def test_overdue_read(self, harness: Harness, faults: Faults) -> None:
        """A read that is overdue has changed nothing: Unavailable, and the next call goes on with another client."""

        async def story(provider: Provider) -> None:
            held = faults.disturb("documents.read", Fault.HOLD_REQUEST)
            stamp = await provider.documents.create("plan", b"1")
            with pytest.raises(Unavailable):
                await provider.documents.read("plan")
            found = await provider.documents.read("plan")
            assert found is not None
            assert found.stamp == stamp
            await ended(held)

        tell(harness, story, faults, total=SHORT)

    def test_overdue_calls(self, harness: Harness, faults: Faults) -> None:
        """Calls that hang one after the other do not use up the store: there are so many clients, then it is down."""

        async def story(provider: Provider) -> None:
            driver = provider.driver
            assert isinstance(driver, FaultyDriver)
            before = driver.opened
            held = [faults.disturb("lease.observe", Fault.HOLD_REQUEST) for _ in range(CLIENTS)]
            for _ in range(CLIENTS + 1):
                with pytest.raises(Unavailable):
                    await provider.lease(ROLE).observe()
            assert driver.opened == before + CLIENTS
            await ended(held[0])
            await provider.lease(ROLE).observe()
            assert driver.opened == before + CLIENTS

        tell(harness, story, faults, total=SHORT)

    def test_lanes(self, harness: Harness, faults: Faults) -> None:
        """A lease call waits for nobody: not while every client for documents and queues hangs."""

        async def story(provider: Provider) -> None:
            lease = provider.lease(ROLE)
            await provider.documents.create("plan", b"1")
            await provider.queue.ensure(Harness.queue)
            held = [faults.disturb("documents.read", Fault.HOLD_REQUEST) for _ in range(6)]
            held += [faults.disturb("queue.depth", Fault.HOLD_REQUEST) for _ in range(6)]
            hanging = [asyncio.ensure_future(provider.documents.read("plan")) for _ in range(6)]
            depths = [asyncio.ensure_future(provider.queue.depth(Harness.queue)) for _ in range(6)]
            await reached(held[0])
            await reached(held[6])
            grant = await lease.claim(await lease.observe(), bid("a", 1))
            await lease.resign(await lease.renew(grant, nonce()), nonce())
            faults.release()
            await asyncio.gather(*hanging, *depths)

        tell(harness, story, faults)

    def test_close_with_overdue_call(self, harness: Harness, faults: Faults) -> None:
        """Closing does not wait for a call that hangs, and what is asked afterwards is Unavailable."""

        async def story(provider: Provider) -> None:
            held = faults.disturb("documents.list", Fault.HOLD_REQUEST)
            with pytest.raises(Unavailable):
                await provider.documents.list("")
            async with asyncio.timeout(PATIENCE):
                await provider.close()
            assert not held.ended.is_set()
            with pytest.raises(Unavailable):
                await provider.documents.list("")

        tell(harness, story, faults, total=SHORT)
