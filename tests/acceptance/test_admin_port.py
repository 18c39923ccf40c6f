"""The admin port of real instances: what it answers while they start, work, lose the store, and drain."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path

from tests.acceptance.support import (
    BOUNDS,
    STARTING,
    TESTED,
    acted,
    all_owned,
    fleet_of,
    send,
    worker,
)
from tests.acceptance.test_outage import NO_WRITES, PARTITIONS
from tests.waiting import until
from worker.dev.fleet import named


def free_port() -> int:
    """Choose a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str) -> tuple[int, str]:
    """Return the status and the body of one answer; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            return answer.status, answer.read().decode()
    except ConnectionError:
        return 0, ""
    finally:
        connection.close()


def metric(port: int, name: str) -> float | None:
    """Return one metric's value, None while it is not there."""
    for line in ask(port, "/metrics")[1].splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    return None


def test_health_and_metrics_of_an_instance(tmp_path: Path) -> None:
    """An instance is ready once it has joined, stays alive and healthy while the store is away, and says it drains."""
    port = free_port()
    with fleet_of(tmp_path, "plain", count=1, WORKER_ADMIN_PORT=str(port)) as fleet:
        until(lambda: ask(port, "/readyz")[0] == 200, STARTING, "the instance to be ready")
        all_owned(fleet, PARTITIONS)
        until(lambda: metric(port, "worker_leader_status") == 1, STARTING, "the leader's metric")
        send(tmp_path, "items", [{"number": 1}], app="plain")
        acted(tmp_path, "done")
        handled = 'worker_message_duration_seconds_count{outcome="handled",queue="items"}'
        until(lambda: metric(port, handled) == 1, STARTING, "the message to be counted")
        assert metric(port, 'worker_partitions{state="active"}') == PARTITIONS
        mark = fleet.mark()
        command = [sys.executable, "-c", NO_WRITES, str(tmp_path / "store.db"), str(TESTED.outage)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as away:
            assert away.stdout is not None
            assert away.stdout.readline() == "locked\n"
            until(lambda: ask(port, "/readyz")[0] == 503, TESTED.outage, "the instance to notice")
            assert "no beat gets through" in ask(port, "/readyz")[1]
            assert ask(port, "/livez")[0] == 200
            assert json.loads(ask(port, "/healthz/azure")[1]) == {"ApplicationHealthState": "Healthy"}
            away.wait(TESTED.outage + STARTING)
        fleet.wait_for(named("leader.elected"), BOUNDS["outage"].worst, since=mark, what="a leader after the outage")
        until(lambda: ask(port, "/readyz")[0] == 200, BOUNDS["outage"].worst, "the instance to be ready again")
        send(tmp_path, "items", [{"number": 2, "seconds": 2.0}], app="plain")
        acted(tmp_path, "begun", number=2)
        fleet.terminate("i-1")
        until(lambda: ask(port, "/readyz") == (503, '{"status":"not ready","reason":"draining"}'), 2.0, "draining")
        assert ask(port, "/livez")[0] == 200
        fleet.wait_for(named("instance.stopped"), STARTING, what="the end of the instance")


def test_a_taken_port_ends_the_start(tmp_path: Path) -> None:
    """An instance whose admin port cannot be had must say so in one line and end with 3."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        done = worker(tmp_path, "run", app="plain", WORKER_ADMIN_PORT=str(stranger.getsockname()[1]))
    assert done.returncode == 3
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert "WORKER_ADMIN_PORT=" in line
