"""The admin port's parts: which port it takes, what it counts, and that its documentation is true."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from providers.interface import Call
from tests.unit.fakes import DOWN, World, run, started
from worker.app import App
from worker.errors import ConfigurationError
from worker.supervisor import Supervisor
from worker.telemetry import silent
from worker.web.health import azure_health, not_ready
from worker.web.metrics import Metrics
from worker.web.sampling import EVERY, Samples
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


@pytest.mark.parametrize("port", [None, 65535])
def test_an_address_that_is_not_ours_is_refused(port: int | None) -> None:
    """An address of another machine is refused by its setting's name, also with the default port."""
    with pytest.raises(ConfigurationError, match=r"on 203\.0\.113\.7|WORKER_ADMIN_HOST=203\.0\.113\.7: cannot listen"):
        bind("203.0.113.7", port)


def test_events_and_requests_are_counted() -> None:
    """What happens moves the counter that is named for it, under labels that are fixed."""
    metrics = Metrics()
    for event in (
        {"event": "leader.elected", "term": 1},
        {"event": "leader.lost", "term": 1, "reason": "free text that is no label"},
        {"event": "lease.renew_failed"},
        {"event": "plan.published", "moves": {"new": 16, "rebalance": 1}},
        {"event": "message.handled", "queue": "orders", "seconds": 0.2, "message": "m"},
        {"event": "message.retried", "queue": "orders", "seconds": 0.2, "message": "m"},
        {"event": "message.dead_lettered", "queue": "orders", "message": "m"},
        {"event": "message.dead_lettered", "queue": "orders", "message": "m", "seconds": 3.0},
        {"event": "write.refused", "queue": "orders", "message": "m", "seconds": 1.0},
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
    assert found['worker_message_duration_seconds_count{outcome="dead_lettered",queue="orders"}'] == 1
    assert found['worker_message_duration_seconds_sum{outcome="refused",queue="orders"}'] == 1
    assert found['worker_dead_letters_total{queue="orders"}'] == 2
    assert found['worker_store_requests_total{operation="lease.renew",outcome="outcome_unknown"}'] == 1
    assert found["worker_lease_renew_duration_seconds_count"] == 1
    assert not any("free text" in name or 'message="' in name for name in found)


def test_labels_are_bounded_and_alerts_can_see_the_first() -> None:
    """A cause from a newer version's plan counts as other, and a dead letter's counter is there before it moves."""

    async def test(world: World) -> None:
        metrics = Metrics()
        supervisor = Supervisor(app(2), world.ports("a"), session="a")
        metrics.watch(supervisor, Samples(supervisor))
        metrics.on_event({"event": "plan.published", "moves": {"x" * 500: 3, "orphan": 1}})
        metrics.on_event({"event": "write.refused", "term": 3, "error": "not a handler's"})
        found = lines(metrics)
        assert found['worker_plan_moves_total{cause="other"}'] == 3
        assert not any("xxx" in name for name in found)
        assert found['worker_dead_letters_total{queue="orders"}'] == 0
        assert found['worker_dead_letters_total{queue="thumbs"}'] == 0
        assert not any(name.startswith("worker_message_duration_seconds_count") for name in found)

    run(test)


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    """The page names exactly the metrics that a leader at work shows."""

    async def test(world: World) -> None:
        metrics, _, _ = await leading(world, 2)
        families = [family for family in metrics.registry.collect() if family.name.startswith("worker_")]
        assert {family.name + ("_total" if family.type == "counter" else "") for family in families} == DOCUMENTED

    run(test)


def app(partitions: int) -> App:
    """Return an app with an assigned and a shared queue."""
    one = App()
    one.queue("orders", partitions=partitions)(lambda body: None)
    one.queue("thumbs", mode="shared")(lambda body: None)
    return one


async def leading(world: World, partitions: int) -> tuple[Metrics, Supervisor, list[asyncio.Task[Any]]]:
    """Start an instance that counts and samples, and wait until it leads and owns all partitions."""
    metrics = Metrics()
    ports = world.ports("a", events=silent(metrics.on_event))
    supervisor = Supervisor(app(partitions), ports, session="a")
    samples = Samples(supervisor)
    metrics.watch(supervisor, samples)
    tasks: list[asyncio.Task[Any]] = [*started([supervisor.run()]), *started([samples.keep()])]
    member = supervisor.member
    await world.until(lambda: member.session and len(member.session.ownership.active) == partitions, 60)
    return metrics, supervisor, tasks


def test_a_leader_shows_the_fleet() -> None:
    """A leader that owns everything shows its term, its members, its partitions and what waits in the queues."""

    async def test(world: World) -> None:
        metrics, supervisor, tasks = await leading(world, 2)
        world.store.queue.send("orders-dlq", [b"{}"] * 3)
        await world.passes(EVERY + 2 * world.leader.renew)
        found = lines(metrics)
        assert found["worker_leader_status"] == found["worker_leader_term"] == found["worker_members"] == 1
        assert 0 < found["worker_lease_trust_remaining_seconds"] < world.leader.lease
        assert found['worker_partitions{state="active"}'] == found['worker_partitions{state="granted"}'] == 2
        assert found['worker_partitions{state="free"}'] == found['worker_partitions{state="moving"}'] == 0
        assert found['worker_plan_moves_total{cause="new"}'] == 2
        assert found['worker_queue_depth{part="dead",queue="orders"}'] == 3
        assert found['worker_queue_oldest_age_seconds{part="dead",queue="orders"}'] > 0
        assert found['worker_queue_depth{part="shared",queue="thumbs"}'] == 0
        assert found["worker_backlog_per_instance"] == 0, "a dead letter is no work"
        supervisor.drain("test")
        await world.until(tasks[0].done, 90)
        tasks[1].cancel()
        found = lines(metrics)
        assert found["worker_leader_status"] == found['worker_partitions{state="active"}'] == 0
        assert not any(name.startswith(("worker_queue_depth{", "worker_members")) for name in found)
        assert found['worker_leader_transitions_total{reason="stepped_down"}'] == 1

    run(test)


def test_a_move_counts_once() -> None:
    """A partition that moves to a newcomer counts as one move, when it is granted, and not when it is asked for."""

    async def test(world: World) -> None:
        metrics, _, _ = await leading(world, 2)
        newcomer = Supervisor(app(2), world.ports("b"), session="b")
        started([newcomer.run()])
        member = newcomer.member
        await world.until(lambda: member.session and member.session.ownership.active, 120)
        found = lines(metrics)
        assert found['worker_plan_moves_total{cause="rebalance"}'] == 1
        assert found['worker_plan_moves_total{cause="new"}'] == 2
        assert found["worker_members"] == 2

    run(test)


@pytest.mark.parametrize("partitions", [1, 8])
def test_what_sampling_costs(partitions: int) -> None:
    """Each minute costs one look at every partition and four for these two queues, also while the store is down."""

    async def test(world: World) -> None:
        await leading(world, partitions)
        await world.passes(EVERY)
        for fate in (None, DOWN):
            world.network.always("queue.depth", fate)
            before = len(world.network.times("queue.depth"))
            await world.passes(10 * EVERY)
            looks = len(world.network.times("queue.depth")) - before
            assert 9 * (partitions + 4) <= looks <= 10 * (partitions + 4)

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
