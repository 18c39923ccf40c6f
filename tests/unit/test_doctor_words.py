"""What `worker doctor` computes, and how it prints it."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli_support import in_store, lead, store, worker
from worker.cli.root import COMMANDS
from worker.core.timings import leader_timings
from worker.doctor.basics import needed_grace, off_by
from worker.doctor.checks import CHECKS
from worker.doctor.findings import Status
from worker.doctor.latency import judge, longer_lease
from worker.doctor.queues import shown
from worker.errors import Exit
from worker.settings import load_settings

__all__ = ["store"]  # a fixture


# --- what it computes ---


@pytest.mark.parametrize(
    "seconds, status, code",
    [
        ([0.1] * 9 + [1.0], Status.OK, Exit.OK),
        ([0.1] * 9 + [1.1], Status.WARNING, Exit.OK),
        ([0.1] * 9 + [2.1], Status.FAILED, Exit.DEGRADED),  # a lease bears one lost request
        ([2.1] * 9 + [0.1], Status.FAILED, Exit.CONFIGURATION),
    ],
)
def test_latency(seconds: list[float], status: Status, code: Exit) -> None:
    """Measured times are compared with what the lease leaves for one request: here two seconds."""
    found = judge("reads", seconds, load_settings(store="memory:", lease=15.0))
    assert (found.status, found.code) == (status, code)


@pytest.mark.parametrize("longest", [0.05, 0.4, 2.0, 2.01, 7.9])
def test_the_lease_that_fits(longest: float) -> None:
    """The lease that is named leaves as much time as was measured, and one second less of lease would not."""
    told = longer_lease(longest, load_settings(store="memory:"))
    lease = int(told.split("=")[1].split()[0])
    assert lease * leader_timings(15.0).total / 15.0 >= longest > (lease - 1) * leader_timings(15.0).total / 15.0


def test_a_store_too_slow_for_any_lease() -> None:
    """No lease is named that no fleet could have."""
    assert "nearer store" in longer_lease(8.1, load_settings(store="memory:"))


def test_a_time_that_was_set() -> None:
    """Where T was set by hand a longer lease changes nothing, and the doctor says so."""
    chosen = load_settings(store="memory:", lease=15.0, lease_total=1.0)
    assert "unset WORKER_LEASE_TOTAL" in longer_lease(2.0, chosen)


@pytest.mark.parametrize(
    "told, before, after, apart",
    [
        (100.0, 100.2, 100.3, 0.0),  # cut to whole seconds
        (100.0, 99.9, 100.0, 0.0),
        (110.0, 99.9, 100.0, 10.0),
        (90.0, 100.0, 100.5, -9.0),  # it may have been 90.999
        (100.0, 95.0, 105.0, 0.0),  # a slow answer says little
    ],
)
def test_clocks(told: float, before: float, after: float, apart: float) -> None:
    """Two clocks are said to differ by what they differ at the least."""
    assert off_by(told, before, after) == pytest.approx(apart)


def test_stop_grace_is_what_the_launcher_gives() -> None:
    """A container must be given what the launcher gives the worker, in whole seconds."""
    needed, how = needed_grace(load_settings(store="memory:", lease=15.0, drain_timeout=60.5))
    assert (needed, how) == (81, "drain 60.5 s + member grace 20 s")


def test_names_are_counted() -> None:
    """A message names a few queues and counts the others."""
    assert [shown(["a", "b", "c", "d"][:n]) for n in (1, 3, 4)] == ["a", "a, b, c", "a, b, c and 1 more"]


# --- how it prints it ---


def test_lines(store: str) -> None:
    """There is one line for each check, in the table's order, and a count of all."""
    result = worker("doctor")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    *lines, empty, counts = result.stdout.splitlines()
    assert [line[9 : 9 + len(check.name)] for line, check in zip(lines, CHECKS, strict=True)] == [
        check.name for check in CHECKS
    ]
    assert {line.split()[0] for line in lines} == {"ok", "skipped"}  # the app is not here
    assert (empty, counts.startswith(f"{sum(line.startswith('ok') for line in lines)} ok, 0 warning, 0 failed")) == (
        "",
        True,
    )


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_a_stop_grace_that_is_no_time(value: str) -> None:
    """Nothing is examined with a stop grace that nobody can be given."""
    result = worker("doctor", f"--stop-grace={value}")
    assert result.exit_code == 2
    assert "--stop-grace" in result.stderr


def test_json(store: str) -> None:
    """With --json there is one value, with the exit code and what each check says."""
    result = worker("doctor", "--json", "--stop-grace", "5")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["exit_code"]) == (3, 3)
    assert [one["check"] for one in found["checks"]] == [check.name for check in CHECKS]
    [grace] = [one for one in found["checks"] if one["status"] == "failed"]
    assert "gets 5 s from SIGTERM to SIGKILL, and needs 16 s (drain 12 s + member grace 4 s)" in grace["what"]
    assert grace["fix"]


@pytest.mark.parametrize(
    "env, says",
    [
        ({"WORKER_LEASE": "soon"}, "WORKER_LEASE='soon' must be a positive number"),
        ({"WORKER_LEASE": "3", "WORKER_LEASE_RENEW": "2.5"}, "one lost request would depose"),
        ({"WORKER_LEESE": "3"}, "did you mean WORKER_LEASE?"),
        ({"WORKER_STORE": ""}, "WORKER_STORE is not set"),
        ({"WORKER_STORE": "redis://here"}, "names no store"),
    ],
)
def test_settings_that_cannot_be(store: str, monkeypatch: pytest.MonkeyPatch, env: dict[str, str], says: str) -> None:
    """Settings that `worker run` would refuse are the first finding, all else is skipped, and the code is 3."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = worker("doctor", "--json")
    assert result.exit_code == 3
    first, *others = json.loads(result.stdout)["checks"]
    assert (first["check"], first["status"], says in first["what"]) == ("settings", "failed", True)
    assert {one["what"] for one in others} == {"because of 'settings'"}


def test_another_fleet(store: str) -> None:
    """A store of another fleet is not written to, and both names are told."""
    in_store(store, lambda provider: lead(provider, fleet="north"))
    result = worker("doctor")
    assert result.exit_code == 3
    [line] = [line for line in result.stdout.splitlines() if line.startswith("failed")]
    assert "WORKER_FLEET is 'default', and the store belongs to fleet 'north'" in line
    assert "Fix: set WORKER_FLEET=north" in line


def test_it_is_a_command() -> None:
    """The help names it."""
    assert "doctor" in COMMANDS
    assert "Ends with 0" in worker("doctor", "--help").stdout
