"""The admin port's parts: which port it takes, what it counts, and that its documentation is true."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from providers.interface import Call
from tests.unit.fakes import World, run
from worker.app import App
from worker.errors import ConfigurationError
from worker.supervisor import Supervisor
from worker.web.health import azure_health, not_ready
from worker.web.metrics import Metrics
from worker.web.sampling import Samples
from worker.web.server import bind

DOCUMENTED = set(re.findall(r"^\| `(worker_[a-z_]+)`", Path("docs/metrics.md").read_text(), re.MULTILINE))


def lines(metrics: Metrics) -> dict[str, float]:
    """Return what a scrape shows, by name and labels."""
    text = generate_latest(metrics.registry).decode()
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_a_port_that_was_asked_for_must_be_had() -> None:
    """A taken port is refused when a setting names it, and done without when it is only the default."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"WORKER_ADMIN_PORT={taken}.*choose another port"):
            bind("127.0.0.1", taken)
    assert bind("127.0.0.1", 0) is None


def test_the_default_port_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two instances on one machine may both run with the default settings."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        monkeypatch.setattr("worker.web.server.DEFAULT_PORT", stranger.getsockname()[1])
        assert bind("127.0.0.1", None) is None
    free = bind("127.0.0.1", None)
    assert free is not None
    free.close()


def test_events_and_requests_are_counted() -> None:
    """What happens moves the counter that is named for it, under labels that are fixed."""
    metrics = Metrics()
    for event in (
        {"event": "leader.elected", "term": 1},
        {"event": "leader.lost", "term": 1, "reason": "free text that is no label"},
        {"event": "lease.renew_failed"},
        {"event": "plan.published", "moves": {"new": 16, "balance": 1}},
        {"event": "message.handled", "queue": "orders", "seconds": 0.2, "message": "m"},
        {"event": "message.retried", "queue": "orders", "seconds": 0.2, "message": "m"},
        {"event": "message.dead_lettered", "queue": "orders", "message": "m"},
        {"event": "problem", "problem": "counted nowhere"},
    ):
        metrics.on_event(event)
    metrics.on_call(Call("lease.renew", "ok", 0.004))
    metrics.on_call(Call("lease.renew", "outcome_unknown", 2.0))
    found = lines(metrics)
    assert found['worker_leader_transitions_total{reason="elected"}'] == 1
    assert found['worker_leader_transitions_total{reason="lost"}'] == 1
    assert found["worker_lease_renew_failures_total"] == 1
    assert found['worker_plan_moves_total{cause="new"}'] == 16
    assert found['worker_message_duration_seconds_count{outcome="handled",queue="orders"}'] == 1
    assert found['worker_dead_letters_total{queue="orders"}'] == 1
    assert found['worker_store_requests_total{operation="lease.renew",outcome="outcome_unknown"}'] == 1
    assert found["worker_lease_renew_duration_seconds_count"] == 1
    assert not any("free text" in name or 'message="' in name for name in found)


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    """The page names exactly the metrics that an instance can show."""

    async def test(world: World) -> None:
        metrics = Metrics()
        supervisor = Supervisor(App(), world.ports("a"), session="a")
        metrics.watch(supervisor, Samples(supervisor))
        shown = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
        assert shown | {"worker_members"} == DOCUMENTED  # the leader's only

    run(test)


def test_before_it_has_joined_an_instance_is_healthy_and_not_ready() -> None:
    """Starting, or finding the store away, is no reason to replace a machine."""

    async def test(world: World) -> None:
        supervisor = Supervisor(App(), world.ports("a"), session="a")
        assert not_ready(supervisor) == "has not joined the fleet yet"
        assert azure_health(supervisor) == {"ApplicationHealthState": "Healthy"}
        supervisor.drain("test")
        assert not_ready(supervisor) == "draining"
        assert azure_health(supervisor) == {"ApplicationHealthState": "Healthy"}

    run(test)
