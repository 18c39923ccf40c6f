"""The admin port of real instances: what it answers while they start, work, lose the store, and drain."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.support import (
    BOUNDS,
    ROOT,
    SLACK,
    STARTING,
    TESTED,
    acted,
    all_here,
    all_owned,
    fleet_of,
    in_office,
    send,
    store_url,
    worker,
)
from tests.acceptance.test_outage import NO_WRITES, PARTITIONS
from tests.waiting import until
from worker.dev.fleet import LocalFleet, named
from worker.web.server import DEFAULT_PORT

OWN_PORT = """\
import json, os, sys
os.environ["WORKER_ADMIN_PORT"] = str(json.loads(sys.argv[1])[os.environ["WORKER_INSTANCE"]])
os.execv(sys.executable, [sys.executable, "-m", "worker", *sys.argv[2:]])
"""
"""Runs a worker on the port that is its instance's."""


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
    except (ConnectionError, TimeoutError):
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


def test_one_instance_of_a_fleet_says_that_it_leads(tmp_path: Path) -> None:
    """Of three instances exactly one says that it leads, all know its term, and after its death another one says so."""
    ports = {f"i-{number}": free_port() for number in (1, 2, 3)}
    program = [sys.executable, "-c", OWN_PORT, json.dumps(ports)]
    app = "tests.acceptance.apps.plain:app"
    env = {"ACTS_FOLDER": str(tmp_path)}
    with LocalFleet(store_url(tmp_path), count=3, app=app, env=env, cwd=ROOT, program=program) as fleet:
        all_owned(fleet, PARTITIONS)
        leader = all_here(fleet)
        _one_leads(ports, leader.name, leader.term)
        until(lambda: metric(ports[leader.name], "worker_members") == 3, STARTING, "the leader to see three")
        others = [port for name, port in ports.items() if name != leader.name]
        assert [metric(port, "worker_members") for port in others] == [None, None]
        owned = [metric(port, 'worker_partitions{state="active"}') for port in ports.values()]
        assert sum(count for count in owned if count is not None) == PARTITIONS
        mark = fleet.mark()
        fleet.kill_machine(leader.name)
        again = in_office(fleet, since=mark, within=BOUNDS["failover"].worst + SLACK)
        assert again is not leader
        del ports[leader.name]
        _one_leads(ports, again.name, again.term)


def _one_leads(ports: Mapping[str, int], name: str, term: int | None) -> None:
    def all_know() -> bool:
        leading = {other: metric(port, "worker_leader_status") for other, port in ports.items()}
        terms = {metric(port, "worker_leader_term") for port in ports.values()}
        return leading == {other: float(other == name) for other in ports} and terms == {term}

    until(all_know, SLACK, f"{name} to be the one that leads in term {term}, for all")


def test_a_start_that_waits_for_the_store_is_alive(tmp_path: Path) -> None:
    """An instance whose first requests get no answer is alive and not ready, so that nobody restarts it over that."""
    port = free_port()
    command = [sys.executable, "-c", NO_WRITES, str(tmp_path / "store.db"), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as away:
        assert away.stdout is not None
        assert away.stdout.readline() == "locked\n"
        try:
            with fleet_of(tmp_path, "plain", count=1, WORKER_ADMIN_PORT=str(port)) as fleet:
                starting = (503, '{"status":"not ready","reason":"starting"}')
                until(lambda: ask(port, "/readyz") == starting, STARTING, "an answer")
                assert ask(port, "/livez") == (200, '{"status":"alive"}')
                assert ask(port, "/healthz/azure") == (200, '{"ApplicationHealthState":"Healthy"}')
                assert metric(port, "worker_lease_renew_failures_total") == 0
                assert fleet.events("instance.started") == []
        finally:
            away.terminate()


def test_the_default_port_is_done_without(tmp_path: Path) -> None:
    """Instances that find the default port taken say so once, and work."""
    with socket.socket() as stranger:
        with contextlib.suppress(OSError):  # somebody has it already: all the better
            stranger.bind(("127.0.0.1", DEFAULT_PORT))
            stranger.listen()
        with fleet_of(tmp_path, "plain", count=2, WORKER_ADMIN_PORT="") as fleet:
            all_owned(fleet, PARTITIONS)
            for name in fleet.instances:
                said = [str(event.get("problem")) for event in fleet.events("problem") if event.instance == name]
                [line] = [line for line in said if "no admin port" in line]
                assert "WORKER_ADMIN_PORT" in line
