"""Every request of an idle fleet, seen on the way to the store: by operation and by role, per hour, and as money.

    python -m benchmarks.requests [--minutes 10] [--store azure|s3] [--instances 3]

Each instance talks to the emulators through a proxy of its own, which counts; nothing is taken from the worker's word.
The sample app has sixteen partitions and one intake. By default both clouds, with 3 and with 10 instances, at once.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from tests import emulators
from tests.proxy import FaultProxy, Passed, Request
from worker.dev.fleet import LocalFleet, named
from worker.dev.instance import Instance

PARTITIONS = 16
SETTLING = 75.0
"""Seconds after the last grant: idle polls have backed off, successors are in step, start-up requests are over."""

HOURS = 730
"""Of a month."""

PRICES_OF = "2026-11"
PRICES: Mapping[str, float] = {
    "azure write": 0.05 / 1e4,
    "azure list": 0.05 / 1e4,
    "azure read": 0.004 / 1e4,
    "azure other": 0.004 / 1e4,
    "azure queue": 0.004 / 1e4,
    "s3 write": 0.005 / 1e3,
    "s3 list": 0.005 / 1e3,
    "s3 read": 0.0004 / 1e3,
    "sqs": 0.40 / 1e6,
}
"""Dollars for one request: hot, locally redundant storage in East US; us-east-1. Lease operations count as other."""

Rates = defaultdict[tuple[str, str], defaultdict[str, float]]
"""Requests per hour of each instance of a role, by operation and price."""

ELECTION = ("renew the lease", "take the lease", "look at the lease")
POLL = "poll a queue"
QUEUE_PRICE = {"azure": "azure queue", "s3": "sqs"}


OPERATIONS: tuple[tuple[str, str, str], ...] = (
    (r"PUT .*comp=lease renew", "renew the lease", "azure other"),
    (r"PUT .*comp=lease", "take the lease", "azure other"),
    (r"HEAD .*/leases/leader", "look at the lease", "azure other"),
    (r"GET .*comp=list.*prefix=[^&]*beats", "list beats", "azure list"),
    (r"GET .*comp=list.*prefix=[^&]*members", "list statuses", "azure list"),
    (r"GET .*comp=list", "list others", "azure list"),
    (r"GET .*/messages", POLL, "azure queue"),
    (r"GET .*comp=metadata", "count a queue", "azure queue"),
    (r"PUT .*/leases/leader", "renew the lease", "s3 write"),
    (r"GET .*/leases/leader", "look at the lease", "s3 read"),
    (r"GET .*list-type=2.*prefix=[^&]*beats", "list beats", "s3 list"),
    (r"GET .*list-type=2.*prefix=[^&]*members", "list statuses", "s3 list"),
    (r"GET .*list-type=2", "list others", "s3 list"),
    (r"POST .*ReceiveMessage", POLL, "sqs"),
    (r"POST .*AmazonSQS", "other of a queue", "sqs"),
    (r"GET .*/plan\b", "read the plan", "read"),
    (r"GET .*/control\b", "read orders", "read"),
    (r"GET ", "read others", "read"),
    (r"PUT .*/beats/", "beat", "write"),
    (r"PUT ", "write others", "write"),
    (r"(HEAD|DELETE) ", "others", "read"),
)


@dataclass(frozen=True)
class Scene:
    """One fleet, and the proxies of its instances."""

    cloud: str  # "azure" or "s3"
    fleet: LocalFleet
    proxies: Mapping[str, tuple[FaultProxy, FaultProxy]]

    def log(self, name: str) -> list[Passed]:
        """Return what one instance has sent since `forget`."""
        documents, queues = self.proxies[name]
        return [*documents.log, *queues.log]

    def forget(self) -> None:
        """Count from now on."""
        for proxy in (it for pair in self.proxies.values() for it in pair):
            proxy.log.clear()


def kind_of(request: Request, cloud: str) -> tuple[str, str]:
    """Return what a request does, and what it costs as."""
    extra = request.headers.get("x-ms-lease-action") or request.headers.get("x-amz-target") or ""
    text = f"{request.method} {request.target} {extra}"
    for pattern, name, price in OPERATIONS:
        if re.match(pattern, text):
            return name, price if price in PRICES else f"{cloud} {price}"
    return text, f"{cloud} write"


def scene(stack: ExitStack, cloud: str, count: int, servers: Mapping[str, object]) -> Scene:
    """Start a fleet whose instances each have their own way to the store."""
    name = f"n{count}{secrets.token_hex(3)}"
    env: dict[str, str] = {"WORKER_QUEUE_PREFIX": f"{name}-"}
    if cloud == "azure":
        azure = servers["azurite"]
        assert isinstance(azure, emulators.AzureEmulator)
        azure.create_container(name)
        documents, queues, store = azure.blob_url, azure.queue_url, f"azure://{azure.account}/{name}"
        env["WORKER_AZURE_CONNECTION_STRING"] = azure.connection_string
    else:
        buckets, messages = servers["seaweedfs"], servers["moto"]
        assert isinstance(buckets, emulators.AwsEmulator)
        assert isinstance(messages, emulators.AwsEmulator)
        documents, queues, store = buckets.url, messages.url, f"s3://{emulators.BUCKET}/{name}"
        env |= buckets.env
    names = [f"i-{number}" for number in range(1, count + 1)]
    proxies = {
        it: (stack.enter_context(FaultProxy(documents)), stack.enter_context(FaultProxy(queues))) for it in names
    }

    fleet = LocalFleet(store, count=count, app="jobs:app", env=env)
    for instance, (one, two) in proxies.items():
        fleet.instances[instance].env |= {"WORKER_ENDPOINT_URL": one.url, "WORKER_QUEUE_ENDPOINT_URL": two.url}
    return Scene(cloud, stack.enter_context(fleet), proxies)


def roles(found: Scene) -> dict[str, str]:
    """Say who is the leader, who looks at the lease as a successor does, and who as everybody else."""
    looks = Counter(
        {
            name: sum(kind_of(passed.request, found.cloud)[0] == "look at the lease" for passed in found.log(name))
            for name in found.proxies
        }
    )
    leader = found.fleet.leader
    assert leader is not None
    others = [name for name, _ in looks.most_common() if name != leader.name]
    return {leader.name: "leader", **dict.fromkeys(others[:2], "successor"), **dict.fromkeys(others[2:], "follower")}


def report(found: Scene, who: Mapping[str, str], seconds: float) -> None:
    """Print what was counted."""
    size = Counter(who.values())
    rates: Rates = defaultdict(lambda: defaultdict(float))
    for name, role in who.items():
        for passed in found.log(name):
            rates[kind_of(passed.request, found.cloud)][role] += 3600 / seconds / size[role]
    polls = {kind: rates.pop(kind) for kind in list(rates) if kind[0] == POLL}
    print(f"\n### {found.cloud}, {len(found.proxies)} instances, {PARTITIONS} partitions, {seconds / 60:.0f} minutes\n")
    print("| requests per hour, each | counts as | " + " | ".join(f"{role} ({size[role]})" for role in size) + " |")
    print("|---|---|" + "---:|" * len(size))
    for kind in sorted(rates):
        print(_row(kind[0], kind[1], [f"{rates[kind][role]:,.0f}" for role in size]))
    election = {role: sum(tally[role] for kind, tally in rates.items() if kind[0] in ELECTION) for role in size}
    bill = {role: _bill(rates, role) for role in size}
    print(_row("**of these, for the election**", "", [f"{election[role]:,.0f}" for role in size]))
    print(_row("**$ a month, each**", "", [f"{bill[role]:.2f}" for role in size]))
    each = sum(tally[role] * size[role] for tally in polls.values() for role in size) / (PARTITIONS + 1)
    cost = each * HOURS * PRICES[QUEUE_PRICE[found.cloud]]
    print(f"\nPolls: {each:,.0f} an hour for each partition and the intake, ${cost:.3f} a month each.")
    whole = sum(bill[role] * size[role] for role in size) + cost * (PARTITIONS + 1)
    print(f"The whole fleet: ${whole:.2f} a month, at prices of {PRICES_OF}.")


def _row(name: str, price: str, cells: list[str]) -> str:
    return f"| {name} | {price} | " + " | ".join(cells) + " |"


def _bill(rates: Rates, role: str) -> float:
    return sum(tally[role] * HOURS * PRICES[price] for (_, price), tally in rates.items())


def main() -> None:
    """Count, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--store", choices=("azure", "s3"), action="append")
    parser.add_argument("--instances", type=int, action="append")
    wishes = parser.parse_args()
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    with ExitStack() as stack:
        servers = {name: stack.enter_context(getattr(emulators, name)()) for name in ("azurite", "seaweedfs", "moto")}
        scenes = [
            scene(stack, cloud, count, servers)
            for cloud in wishes.store or ("azure", "s3")
            for count in wishes.instances or (3, 10)
        ]
        for found in scenes:
            found.fleet.wait_for(named("leader.elected"), 120, what="a leader")
            found.fleet.wait_until(partial(owned, found.fleet.instances), 300, "owners")
        time.sleep(SETTLING)
        who = [roles(found) for found in scenes]
        for found in scenes:
            found.forget()
        started = time.monotonic()
        time.sleep(wishes.minutes * 60)
        seconds = time.monotonic() - started
        for found, role in zip(scenes, who, strict=True):
            report(found, role, seconds)
            print(f"Leaders elected in all: {len(found.fleet.events('leader.elected'))}.")


def owned(instances: Mapping[str, Instance]) -> bool:
    """Say whether all partitions have an owner."""
    return sum(len(it.partitions) for it in instances.values()) == PARTITIONS


if __name__ == "__main__":
    main()
