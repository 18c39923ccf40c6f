"""The real runtime in virtual time under seeded faults: every promise of docs/design.md, checked at every step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from providers.interface import Expiry
from worker.core import bounds
from worker.core.roster import LONGEST_PATIENCE
from worker.core.timings import Timings, leader_timings, member_timings
from worker.testing.fleet import FleetSim
from worker.testing.schedule import Fault, Profile, Schedule, Sending
from worker.testing.weather import CLEAR

ROOT = Path(__file__).parents[2]


KINDS = pytest.mark.parametrize("expiry", list(Expiry), ids=lambda expiry: expiry.value)
"""Who decides that a lease has run out: the store or its observers."""


@KINDS
@pytest.mark.parametrize("seed", range(100, 120))
def test_a_fleet_keeps_its_promises(seed: int, expiry: Expiry) -> None:
    """Whatever a seed brings, no promise is broken at any step, and afterwards the fleet is whole and drains."""
    FleetSim(seed, expiry=expiry).run()


@KINDS
@pytest.mark.parametrize("seed", range(10))
def test_a_fleet_keeps_its_promises_in_hard_times(seed: int, expiry: Expiry) -> None:
    """Slow answers, stuttering leaders and writes that outlive their writer break no promise."""
    FleetSim(seed, profile=Profile.HARD, expiry=expiry).run()


def test_seeds_take_turns_between_the_kinds_of_store() -> None:
    """A run over consecutive seeds covers both kinds of store without being told to."""
    assert {FleetSim(seed).run().expiry for seed in range(2)} == set(Expiry)


@KINDS
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind, bound", [("crash", bounds.failover), ("step-down", bounds.hand_over)])
def test_a_leader_is_replaced_within_the_printed_bound(
    seed: int, kind: str, bound: Callable[[Timings, Timings], bounds.Bound], expiry: Expiry
) -> None:
    """After a crash or a step-down the next leader is elected within what `worker bounds` prints."""
    lease = (3.0, 15.0)[seed % 2]
    leader = leader_timings(lease)
    at = 8 * lease + seed * lease / 12
    rates = [(0.9, 1.0, 1.1)[(seed + number) % 3] for number in range(3)]
    events = Schedule(CLEAR, [], rates, [Fault(at, kind, leader=True)], [])
    sim = FleetSim(seed, instances=3, lease=lease, duration=16 * lease, events=events, expiry=expiry)
    sim.run()
    elected = [entry.at for entry in sim.timeline.entries if entry.event == "leader.elected"]
    ended = {"crash": "[end]", "step-down": "leader.stepped_down"}[kind]
    gone = next(entry.at for entry in sim.timeline.entries if entry.event == ended and entry.at >= at)
    gap = min(when for when in elected if when > gone) - gone
    assert gap <= bound(leader, member_timings(leader)).worst


@KINDS
@pytest.mark.parametrize("profile", list(Profile), ids=lambda profile: profile.value)
@pytest.mark.parametrize("seed", range(6))
def test_a_lease_that_is_being_changed_breaks_no_promise(seed: int, profile: Profile, expiry: Expiry) -> None:
    """Instances of two settings, as in a roll that changes WORKER_LEASE, wait for each other's, not for their own."""
    FleetSim(
        seed, instances=4, lease=15.0, leases=[15.0, 3.0] * 2, duration=300.0, profile=profile, expiry=expiry
    ).run()


def emptied(seed: int, expiry: Expiry, *faults: Fault) -> FleetSim:
    """A fleet at work, whose store is emptied at some moment between two renewals, and what else goes wrong.

    It has the time in which an owner is waited for of whom the store has forgotten everything.
    """
    lease = (3.0, 15.0)[seed % 2]
    at = (8 + seed / 12) * lease
    rates = [(0.9, 1.0, 1.1)[(seed + number) % 3] for number in range(3)]
    sendings = [Sending(lease * number / 2, number, f"k{number % 7}", "plain", number % 3 == 0) for number in range(60)]
    later = [replace(fault, at=at + fault.at * lease) for fault in faults]
    events = Schedule(CLEAR, [], rates, [Fault(at, "wipe"), *later], sendings)
    duration = at + 30 * lease + LONGEST_PATIENCE
    return FleetSim(seed, instances=3, lease=lease, duration=duration, events=events, expiry=expiry)


@KINDS
@pytest.mark.parametrize("seed", range(12))
def test_an_emptied_store_resets_nothing(seed: int, expiry: Expiry) -> None:
    """Where every document is deleted under a fleet, terms and fences go on above all that a survivor has seen."""
    sim = emptied(seed, expiry)
    assert sim.run().elections >= 2


@KINDS
@pytest.mark.parametrize("seed", range(12))
def test_who_starts_over_an_emptied_store_is_told(seed: int, expiry: Expiry) -> None:
    """An instance that starts a lease after that, and remembers nothing, breaks no promise either."""
    emptied(seed, expiry, Fault(1.0, "crash", target=seed % 3)).run()


def test_a_seed_replays_exactly() -> None:
    """Two processes with different string hashing run a seed to the same timeline."""

    def once(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        program = "from worker.testing import FleetSim; print(FleetSim(3).run().digest)"
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout

    assert once("1") == once("2")
