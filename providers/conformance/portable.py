"""A driver under the portable provider: lost, late and overdue answers, and what a caller can still find out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest

from providers.body import decode, encode
from providers.conformance.faults import Fault, Faults, FaultyDriver, Held
from providers.conformance.harness import Harness
from providers.conformance.lease import ROLE, bid, nonce
from providers.conformance.queue import HIDE, NAME, OTHER
from providers.connect import probe
from providers.interface import Call, Expiry, OutcomeUnknown, Refused, Stamp, Unavailable, proven
from providers.provider import HEADROOM, Provider

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds in which what a test waits for must have happened."""

SHORT = 0.5
"""Seconds of total time for requests that are held back on purpose."""


async def ended(held: Held) -> None:
    """Let a held call go, and wait until it is over."""
    held.release()
    assert await asyncio.to_thread(held.ended.wait, PATIENCE), "a held call never ended"


async def reached(held: Held) -> None:
    """Wait until a call is held."""
    assert await asyncio.to_thread(held.reached.wait, PATIENCE), "a call never came to where it should be held"


class PortableSuite:
    """What `Provider` promises over this driver."""

    @pytest.fixture
    def faults(self) -> Iterator[Faults]:
        """Faults that let everything go after the test."""
        faults = Faults()
        yield faults
        faults.release()

    def test_probe(self, harness: Harness) -> None:
        """The start-up probe finds that the store compares, and leaves nothing behind."""

        async def story(provider: Provider) -> None:
            await probe(provider)
            assert await provider.documents.list("") == []

        self._run(harness, story)

    def test_all_pages(self, harness: Harness) -> None:
        """A listing through the provider has all pages."""

        async def story(provider: Provider) -> None:
            keys = [f"beats/{n:04d}" for n in range(harness.documents_per_listing)]
            for key in keys:
                await provider.documents.create(key, b"{}")
            assert [stamp.key for stamp in await provider.documents.list("beats/")] == keys

        self._run(harness, story)

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

        self._run(harness, story, faults)

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

        self._run(harness, story, faults)

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

        self._run(harness, story, faults)

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

        self._run(harness, story, faults, total=SHORT)

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

        self._run(harness, story, faults, total=SHORT)

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

        self._run(harness, story, faults, total=SHORT)

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

        self._run(harness, story, faults, total=SHORT)

    def test_overdue_calls(self, harness: Harness, faults: Faults) -> None:
        """Calls that hang one after the other do not use up the store: there are three clients, then it is down."""

        async def story(provider: Provider) -> None:
            held = [faults.disturb("host.identity", Fault.HOLD_REQUEST) for _ in range(3)]
            for _ in range(4):
                with pytest.raises(Unavailable):
                    await provider.host.identity()
            driver = provider.driver
            assert isinstance(driver, FaultyDriver)
            assert driver.opened == 3
            await ended(held[0])
            await provider.host.identity()
            assert driver.opened == 3

        self._run(harness, story, faults, total=SHORT)

    def test_lanes(self, harness: Harness, faults: Faults) -> None:
        """A lease call waits for nobody: not while every client for documents and queues hangs."""

        async def story(provider: Provider) -> None:
            lease = provider.lease(ROLE)
            await provider.documents.create("plan", b"1")
            await provider.queue.ensure(NAME)
            held = [faults.disturb("documents.read", Fault.HOLD_REQUEST) for _ in range(6)]
            held += [faults.disturb("queue.depth", Fault.HOLD_REQUEST) for _ in range(6)]
            hanging = [asyncio.ensure_future(provider.documents.read("plan")) for _ in range(6)]
            depths = [asyncio.ensure_future(provider.queue.depth(NAME)) for _ in range(6)]
            await reached(held[0])
            await reached(held[6])
            grant = await lease.claim(await lease.observe(), bid("a", 1))
            await lease.resign(await lease.renew(grant, nonce()), nonce())
            faults.release()
            await asyncio.gather(*hanging, *depths)

        self._run(harness, story, faults)

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

        self._run(harness, story, faults, total=SHORT)

    def test_send(self, harness: Harness) -> None:
        """More messages than the store takes at once are sent in several requests, and all arrive."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(NAME)
            bodies = [b"%d" % n for n in range(25)]
            ids = await provider.queue.send(NAME, bodies)
            got: dict[str, bytes] = {}
            while received := await provider.queue.receive(NAME, 10, HIDE):
                got |= {message.id: message.body for message in received}
            assert got == dict(zip(ids, bodies, strict=True))

        self._run(harness, story)

    def test_oversize(self, harness: Harness) -> None:
        """A body that leaves no room for an error report is refused before anything is sent, naming size and limit."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(NAME)
            most = provider.queue.limit - HEADROOM
            with pytest.raises(ValueError, match=rf"{most + 1} bytes.*{most} is the limit"):
                await provider.queue.send(NAME, [b"fits", b"x" * (most + 1)])
            assert (await provider.queue.depth(NAME)).visible == 0
            await provider.queue.send_one(NAME, b"x" * most)

        self._run(harness, story)

    def test_move(self, harness: Harness) -> None:
        """A moved message arrives there and is gone here, up to the store's own limit, whatever the store can do."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(NAME)
            await provider.queue.ensure(OTHER)
            await provider.queue.send_one(NAME, b"1")
            [received] = await provider.queue.receive(NAME, 1, HIDE)
            body = b"x" * provider.queue.limit
            await provider.queue.move(NAME, received, OTHER, body)
            with pytest.raises(Refused):
                await provider.queue.delete(NAME, received.receipt)
            [moved] = await provider.queue.receive(OTHER, 1, HIDE)
            assert moved.body == body
            with pytest.raises(ValueError, match="limit"):
                await provider.queue.move(OTHER, moved, NAME, body + b"x")

        self._run(harness, story)

    def test_calls_are_counted(self, harness: Harness, faults: Faults) -> None:
        """Every request is reported once, under its operation, with what became of it."""
        calls: list[Call] = []

        async def story(provider: Provider) -> None:
            stamp = await provider.documents.create("plan", b"1")
            with pytest.raises(Refused):
                await provider.documents.create("plan", b"2")
            faults.disturb("documents.replace", Fault.LOSE_ANSWER)
            with pytest.raises(OutcomeUnknown):
                await provider.documents.replace(stamp, b"2")
            await provider.lease(ROLE).observe()

        self._run(harness, story, faults, on_call=calls.append)
        assert [(call.operation, call.outcome) for call in calls] == [
            ("documents.create", "ok"),
            ("documents.create", "refused"),
            ("documents.replace", "outcome_unknown"),
            ("lease.observe", "ok"),
        ]
        assert all(call.seconds >= 0 for call in calls)

    def test_concurrent_writers(self, harness: Harness) -> None:
        """Of sixteen writers in one process that replace one version at once, exactly one succeeds."""

        async def story(provider: Provider) -> None:
            stamp = await provider.documents.create("plan", b"0")
            writes = (provider.documents.replace(stamp, b"%d" % n) for n in range(16))
            answers = await asyncio.gather(*writes, return_exceptions=True)
            [won] = [answer for answer in answers if isinstance(answer, Stamp)]
            found = await provider.documents.read("plan")
            assert found is not None
            assert found.stamp == won

        self._run(harness, story)

    def _run(
        self,
        harness: Harness,
        story: Callable[[Provider], Awaitable[T]],
        faults: Faults | None = None,
        *,
        total: float | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> T:
        async def main() -> T:
            async with _provider(harness, faults, total, on_call) as provider:
                return await story(provider)

        return asyncio.run(main())


@asynccontextmanager
async def _provider(
    harness: Harness, faults: Faults | None, total: float | None, on_call: Callable[[Call], None] | None
) -> AsyncIterator[Provider]:
    driver = harness.driver()
    provider = Provider(
        driver if faults is None else FaultyDriver(driver, faults),
        total=harness.total if total is None else total,
        on_call=on_call,
    )
    try:
        yield provider
    finally:
        if faults is not None:
            faults.release()
        await provider.close()
