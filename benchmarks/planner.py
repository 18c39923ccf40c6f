"""How long the planner takes, and how much it moves: 10,000 partitions on 1,000 instances by default.

    python -m benchmarks.planner [--partitions 10000] [--instances 1000] [--queues 100] [--runs 9] [--json]

Each row is one kind of round: its median time, and what the fleet looks like once everything has settled. `moves` are
partitions that changed hands, `loads` the fewest and the most partitions on one instance.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from providers.body import decode, encode
from worker.core.plan import Plan, plan_from_fields
from worker.core.planner import Candidate, Facts, advance


@dataclass(frozen=True)
class Row:
    """One kind of round."""

    name: str
    median_ms: float  # wall time
    worst_ms: float
    cpu_ms: float  # median of the processor's time: less, where others share the machine
    moves: int
    rounds: int
    loads: tuple[int, int]


def fleet(size: int, queues: int, partitions: int, first: int = 0) -> list[Candidate]:
    """Return members of one version, each with a mapping of its own, as read from its own document."""
    return [
        Candidate(
            f"worker-{number:04d}~{number:016x}",
            {f"queue-{queue:03d}x": partitions // queues for queue in range(queues)},
        )
        for number in range(first, first + size)
    ]


def settle(plan: Plan, facts: Facts) -> tuple[Plan, int]:
    """Plan until nothing changes, with owners that release at once; return the plan and the number of rounds."""
    for rounds in range(1000):
        released: dict[str, dict[str, int]] = {}
        for name, record in plan.partitions.items():
            if record.owner is not None and record.next is not None:
                released.setdefault(record.owner, {})[name] = record.fence
        members = [replace(member, released=released.get(member.id, {})) for member in facts.candidates]
        after = advance(plan, replace(facts, candidates=members))
        if after is plan:
            return plan, rounds
        plan = after
    raise RuntimeError("the plan did not settle in 1,000 rounds")


def measure(name: str, plan: Plan, facts: Facts, runs: int) -> tuple[Row, Plan]:
    """Time the first round of a change, then let the fleet settle."""
    times, cpu = [], []
    for _ in range(runs):
        gc.collect()
        start, began = time.perf_counter(), time.process_time()
        advance(plan, facts)
        times.append((time.perf_counter() - start) * 1000)
        cpu.append((time.process_time() - began) * 1000)
    after, rounds = settle(plan, facts)
    before = plan.partitions
    moves = sum(1 for key, record in after.partitions.items() if key not in before or before[key].owner != record.owner)
    counts = Counter(record.owner for record in after.partitions.values())
    loads = [counts[member.id] for member in facts.candidates]
    return Row(
        name, statistics.median(times), max(times), statistics.median(cpu), moves, rounds, (min(loads), max(loads))
    ), after


def table(partitions: int, instances: int, queues: int, runs: int) -> tuple[list[Row], Plan]:
    """Measure every kind of round."""
    members = fleet(instances, queues, partitions)
    facts = Facts(members[0].id, members)
    cold, plan = measure("cold", Plan(term=1), facts, runs)
    idle, _ = measure("idle", plan, facts, runs)
    lost = max(1, instances // 100)
    crash, _ = measure(
        "1 % crash",
        plan,
        replace(facts, candidates=members[:-lost], gone={member.id for member in members[-lost:]}),
        runs,
    )
    more = members + fleet(max(1, instances // 10), queues, partitions, first=instances)
    joined, _ = measure("+10 % instances", plan, replace(facts, candidates=more), runs)
    return [cold, idle, crash, joined], plan


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.planner", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--partitions", type=int, default=10_000)
    parser.add_argument("--instances", type=int, default=1_000)
    parser.add_argument("--queues", type=int, default=100)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rows, plan = table(options.partitions, options.instances, options.queues, options.runs)
    start = time.perf_counter()
    body = encode(plan.to_fields())
    written = (time.perf_counter() - start) * 1000
    start = time.perf_counter()
    plan_from_fields(decode(body, "plan"))
    read = (time.perf_counter() - start) * 1000
    if options.json:
        document = {"bytes": len(body), "encode_ms": written, "decode_ms": read}
        print(json.dumps({"rounds": [vars(row) for row in rows], "document": document}))
        return
    print(f"{options.partitions:,} partitions of {options.queues} queues on {options.instances:,} instances\n")
    print(f"{'round':<16}{'median ms':>11}{'worst ms':>11}{'cpu ms':>11}{'moves':>9}{'rounds':>9}{'loads':>10}")
    for row in rows:
        loads = f"{row.loads[0]}-{row.loads[1]}"
        times = f"{row.median_ms:>11.1f}{row.worst_ms:>11.1f}{row.cpu_ms:>11.1f}"
        print(f"{row.name:<16}{times}{row.moves:>9,}{row.rounds:>9}{loads:>10}")
    print(f"\nthe plan's document: {len(body):,} bytes, written in {written:.1f} ms, read in {read:.1f} ms")


if __name__ == "__main__":
    main()
