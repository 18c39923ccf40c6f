"""A driver under the portable provider: the probe, pages, batches, moves, counting."""

from __future__ import annotations

import asyncio

import pytest

from providers.conformance.faults import Fault, Faults
from providers.conformance.harness import Harness
from providers.conformance.lease import ROLE
from providers.conformance.order import HIDE
from providers.conformance.stories import tell
from providers.connect import probe
from providers.interface import Call, OutcomeUnknown, Refused, Stamp
from providers.provider import HEADROOM, Provider


class PortableSuite:
    """What `Provider` promises over this driver."""

    def test_probe(self, harness: Harness) -> None:
        """The start-up probe finds that the store compares, and leaves nothing behind."""

        async def story(provider: Provider) -> None:
            await probe(provider)
            assert await provider.documents.list("") == []

        tell(harness, story)

    def test_all_pages(self, harness: Harness) -> None:
        """A listing through the provider has all pages."""

        async def story(provider: Provider) -> None:
            keys = [f"beats/{n:04d}" for n in range(harness.documents_per_listing)]
            for key in keys:
                await provider.documents.create(key, b"{}")
            assert [stamp.key for stamp in await provider.documents.list("beats/")] == keys

        tell(harness, story)

    def test_send(self, harness: Harness) -> None:
        """More messages than the store takes at once are sent in several requests, and all arrive."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(Harness.queue)
            bodies = [b"%d" % n for n in range(25)]
            ids = await provider.queue.send(Harness.queue, bodies)
            got: dict[str, bytes] = {}
            while received := await provider.queue.receive(Harness.queue, 10, HIDE):
                got |= {message.id: message.body for message in received}
            assert got == dict(zip(ids, bodies, strict=True))

        tell(harness, story)

    def test_oversize(self, harness: Harness) -> None:
        """A body that leaves no room for an error report is refused before anything is sent, naming size and limit."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(Harness.queue)
            most = provider.queue.limit - HEADROOM
            with pytest.raises(ValueError, match=rf"{most + 1} bytes.*{most} is the limit"):
                await provider.queue.send(Harness.queue, [b"fits", b"x" * (most + 1)])
            assert (await provider.queue.depth(Harness.queue)).visible == 0
            await provider.queue.send_one(Harness.queue, b"x" * most)

        tell(harness, story)

    def test_move(self, harness: Harness) -> None:
        """A moved message arrives there and is gone here, up to the store's own limit, whatever the store can do."""

        async def story(provider: Provider) -> None:
            await provider.queue.ensure(Harness.queue)
            await provider.queue.ensure(Harness.dead)
            await provider.queue.send_one(Harness.queue, b"1")
            [received] = await provider.queue.receive(Harness.queue, 1, HIDE)
            body = b"x" * provider.queue.limit
            await provider.queue.move(Harness.queue, received, Harness.dead, body)
            if provider.capabilities.strict_receipts:
                with pytest.raises(Refused):
                    await provider.queue.delete(Harness.queue, received.receipt)
            assert await provider.queue.receive(Harness.queue, 1, HIDE) == []
            [moved] = await provider.queue.receive(Harness.dead, 1, HIDE)
            assert moved.body == body
            with pytest.raises(ValueError, match="limit"):
                await provider.queue.move(Harness.dead, moved, Harness.queue, body + b"x")

        tell(harness, story)

    def test_calls_are_counted(self, harness: Harness) -> None:
        """Every request is reported once, under its operation, with what became of it."""
        faults = Faults()
        calls: list[Call] = []

        async def story(provider: Provider) -> None:
            stamp = await provider.documents.create("plan", b"1")
            with pytest.raises(Refused):
                await provider.documents.create("plan", b"2")
            faults.disturb("documents.replace", Fault.LOSE_ANSWER)
            with pytest.raises(OutcomeUnknown):
                await provider.documents.replace(stamp, b"2")
            await provider.lease(ROLE).observe()

        tell(harness, story, faults, on_call=calls.append)
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
            stamp = await provider.documents.create("plan", b"start")
            writes = (provider.documents.replace(stamp, b"%d" % n) for n in range(16))
            answers = await asyncio.gather(*writes, return_exceptions=True)
            [won] = [answer for answer in answers if isinstance(answer, Stamp)]
            found = await provider.documents.read("plan")
            assert found is not None
            assert found.stamp == won

        tell(harness, story)
