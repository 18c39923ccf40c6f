"""Starting: a store that is slow is given time, and one that is wrong is not."""

from __future__ import annotations

import pytest

from providers.interface import Misconfigured, Unavailable
from tests.unit.fakes import DOWN, World, run
from worker.serving import patient_probe


def test_a_store_that_is_slow_to_answer_is_asked_again() -> None:
    """An instance that starts while the store is throttled must start as soon as it is not."""

    async def test(world: World) -> None:
        world.network.next("documents.create", DOWN, DOWN, DOWN)
        await patient_probe(world.provider, world.clock, 15.0)
        assert len(world.network.times("documents.create")) >= 4

    run(test)


def test_a_store_that_stays_away_is_given_up() -> None:
    """After one lease without an answer the start has failed, with the store's own error."""

    async def test(world: World) -> None:
        world.network.always("*", DOWN)
        began = world.clock.now()
        with pytest.raises(Unavailable, match="the store is down"):
            await patient_probe(world.provider, world.clock, 15.0)
        assert 15.0 <= world.clock.now() - began < 20.0

    run(test)


def test_a_wrong_store_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no repetition will mend is not repeated."""
    asked: list[object] = []

    async def wrong(provider: object) -> None:
        asked.append(provider)
        raise Misconfigured("it ignores conditions")

    async def test(world: World) -> None:
        monkeypatch.setattr("worker.serving.probe", wrong)
        with pytest.raises(Misconfigured):
            await patient_probe(world.provider, world.clock, 15.0)

    run(test)
    assert len(asked) == 1
