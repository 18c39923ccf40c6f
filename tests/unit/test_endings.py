"""How long an instance takes to end, beside what it is given: what cannot work is refused, with both values."""

from __future__ import annotations

import pytest

from worker.core.endings import Endings
from worker.errors import ConfigurationError
from worker.settings import load_settings

NEEDED = 80.0  # the defaults in a cloud: 60 s of drain, 20 s of grace


@pytest.mark.parametrize("given", [None, NEEDED, 600.0])
def test_enough_is_enough(given: float | None) -> None:
    """What is not said is not compared, and exactly as much as is needed is enough."""
    assert Endings(60.0, 20.0, stop_grace=given, notice=given).problems() == []


@pytest.mark.parametrize(
    "env, told",
    [
        ({"WORKER_STOP_GRACE": "30"}, ["WORKER_STOP_GRACE=30", "up to 80 s", "WORKER_DRAIN_TIMEOUT"]),
        ({"WORKER_HOST_NOTICE": "60"}, ["WORKER_HOST_NOTICE=60", "up to 80 s", "WORKER_DRAIN_TIMEOUT"]),
        (
            {"WORKER_STOP_GRACE": "400", "WORKER_HOST_NOTICE": "300"},
            ["WORKER_STOP_GRACE=400 is more than WORKER_HOST_NOTICE=300"],
        ),
        ({"WORKER_DRAIN_TIMEOUT": "500", "WORKER_HOST_NOTICE": "300"}, ["WORKER_HOST_NOTICE=300", "up to 520 s"]),
    ],
    ids=["stop grace", "notice", "stop grace after notice", "drain timeout"],
)
def test_too_little_is_refused(monkeypatch: pytest.MonkeyPatch, env: dict[str, str], told: list[str]) -> None:
    """A drain that would be cut off is refused at the start, in one line with both values and the fix."""
    monkeypatch.setenv("WORKER_STORE", "s3://bucket")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    [line] = str(caught.value).splitlines()
    for words in told:
        assert words in line


def test_what_an_instance_needs_is_what_its_launcher_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher kills a worker no sooner than a whole drain takes."""
    monkeypatch.setenv("WORKER_STORE", "s3://bucket")
    assert load_settings().stop_seconds == NEEDED
