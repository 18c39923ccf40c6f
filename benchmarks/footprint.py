"""What an idle fleet costs on its machine: resident memory and CPU time a minute of launcher, follower and leader.

And how long a start takes: from the command to the first act of an election, and beside it what a bare `python -c pass`
takes in the same run. On the embedded store, or on a cloud's emulator:

    python scripts/emulated.py azurite python -m benchmarks.footprint
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from worker.dev.fleet import LocalFleet

IDLE = 30.0
"""Seconds of idling that are measured."""

WITHIN = 60.0
TICKS = os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Return a process's resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def bare_start() -> float:
    """Return the seconds that a Python which does nothing takes."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        store = os.environ.get("WORKER_STORE", f"sqlite:///{Path(name) / 'fleet.sqlite'}")
        bare = min(bare_start() for _ in range(5))
        begun = time.clock_gettime(time.CLOCK_BOOTTIME)
        with LocalFleet(store, app="benchmarks.apps:app") as fleet:
            elected = fleet.wait_for(lambda event: event.name == "leader.elected", WITHIN)
            granted = "partition.granted"
            fleet.wait_until(lambda: len(fleet.events(granted)) >= 16 or None, WITHIN, "all partitions granted")
            leader = elected.instance
            rows: list[tuple[str, int]] = []
            for instance in fleet.instances.values():
                role = "leader" if instance.name == leader else "follower"
                assert instance.launcher is not None
                assert instance.worker is not None
                rows += [(f"{role} {instance.name}", instance.worker), (f"launcher {instance.name}", instance.launcher)]
            before = {pid: cpu(pid) for _, pid in rows}
            since = time.perf_counter()
            time.sleep(IDLE)
            minutes = (time.perf_counter() - since) / 60
            print(
                f"{store.partition(':')[0]}, idle for {IDLE:.0f} s: 3 instances, 16 partitions, the store's usual lease"
            )
            print("(3 s on SQLite, 15 s on Azurite, 5 s on SeaweedFS: how often they ask depends on it)\n")
            print(f"{'process':<20}{'RSS MB':>10}{'CPU s/min':>12}")
            for what, pid in rows:
                print(f"{what:<20}{resident(pid):>10.1f}{(cpu(pid) - before[pid]) / minutes:>12.2f}")
        print(f"\nthree started at once, to the first elected leader: {elected.at - begun:.2f} s")
        print(f"a bare Python's start in the same run: {bare:.3f} s, so {(elected.at - begun) / bare:.0f} of those")


if __name__ == "__main__":
    main()
