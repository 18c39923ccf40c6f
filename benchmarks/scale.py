"""Two hundred partitions on fifty instances, end to end: the real runtime in the simulator, on virtual time.

What the plan costs to store, how many rounds and seconds a new fleet takes to settle, and how many requests it makes
once it is at rest. Counts and virtual seconds: the same on every machine. Clear weather, a lease of 15 s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from providers.interface import Client
from worker.testing.fleet import FleetSim
from worker.testing.lane import Request
from worker.testing.schedule import Schedule
from worker.testing.weather import CLEAR

INSTANCES, PARTITIONS, LEASE = 50, 200, 15.0
SETTLING, REST = 120.0, 300.0
"""Virtual seconds: for the fleet to settle, and then at rest, when requests are counted."""


def counting(fleet: FleetSim, counts: Counter[str]) -> Callable[[Request], None]:
    """Return what counts the requests at rest, and hands them on to the invariants."""
    judge = fleet.network.applied

    def applied(request: Request) -> None:
        if fleet.loop.true >= SETTLING and fleet.loop.true < SETTLING + REST:
            counts[request.operation] += 1
        if judge is not None:
            judge(request)

    return applied


def main() -> None:
    calm = Schedule(weather=CLEAR, local=(), rates=(1.0,) * INSTANCES, faults=(), sendings=())
    fleet = FleetSim(1, instances=INSTANCES, partitions=PARTITIONS, lease=LEASE, duration=SETTLING + REST, events=calm)
    counts: Counter[str] = Counter()
    fleet.network.applied = counting(fleet, counts)
    started = time.perf_counter()
    fleet.run()
    wall = time.perf_counter() - started
    entries = fleet.timeline.entries
    plans = [entry for entry in entries if entry.event == "plan.published" and entry.at < SETTLING]
    granted = [entry for entry in entries if entry.event == "partition.granted" and entry.at < SETTLING]
    held = Counter(entry.node for entry in granted)
    for entry in entries:
        if entry.event == "partition.released" and entry.at < SETTLING:
            held[entry.node] -= 1
    body = client(fleet).documents.read("plan")
    assert body is not None
    print(
        f"{PARTITIONS} partitions, {INSTANCES} instances, lease {LEASE:g} s, simulated in {wall:.1f} s of wall time\n"
    )
    print(f"{'the plan as stored':<44}{len(body.body):>10,} bytes")
    print(f"{'plans published until it settled':<44}{len(plans):>10,}")
    print(f"{'first plan, last grant after the first start':<44}{plans[0].at:>9.1f} s, {granted[-1].at:.1f} s")
    print(f"{'grants, of which later moved for balance':<44}{len(granted):>10,}, {len(granted) - PARTITIONS:,}")
    print(f"{'partitions an instance, least and most':<44}{min(held.values()):>10} to {max(held.values())}")
    hours = REST / 3600
    print(f"\nrequests at rest{'an hour':>21}{'an instance and hour':>24}")
    for operation, count in sorted(counts.items(), key=lambda item: -item[1]):
        print(f"  {operation:<20}{count / hours:>15,.0f}{count / hours / INSTANCES:>24,.0f}")


def client(fleet: FleetSim) -> Client:
    """Return a look into the simulated store, past its network."""
    return fleet.network.driver.open(1.0)


if __name__ == "__main__":
    main()
