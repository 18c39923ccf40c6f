"""`worker partitions`: who owns what, what comes next, and another partition count."""

from __future__ import annotations

from dataclasses import asdict

import click

from worker.admin.repartition import granted, repartition
from worker.admin.status import PartitionStatus
from worker.cli.fleet import Fleet, confirm, with_fleet
from worker.cli.options import Options, global_options
from worker.cli.output import print_json, print_table
from worker.core.intents import Repartition
from worker.errors import ConfigurationError


@click.command()
@click.argument("name", required=False)
@click.option("--next", "upcoming", is_flag=True, help="Only partitions on the move, or without an owner.")
@click.option(
    "--count", type=int, metavar="N", help="Give queue NAME this many partitions: it must be paused and empty."
)
@click.option("--force", is_flag=True, help="Take partition NAME from its owner without waiting for its release.")
@global_options
def partitions(name: str | None, upcoming: bool, count: int | None, force: bool) -> None:
    """Show the owner, fence and backlog of every partition, or of queue (or partition) NAME.

    With --count, order a queue's partition count to be changed. The leader does so once the queue is paused and
    empty; then deploy code that declares the same count, and `worker resume NAME`.
    """
    if count is not None or force:
        if name is None:
            raise click.UsageError("--count needs the NAME of a queue, and --force that of a partition")
        if count is not None and force:
            raise click.UsageError("--count and --force are two different orders")
        if count is not None:
            _change(name, count)
        else:
            _force(name)
        return

    async def work(fleet: Fleet) -> list[PartitionStatus]:
        found = list((await fleet.watcher.look()).partitions)
        known = sorted({partition.queue for partition in found})
        names = {partition.name for partition in found}
        if name is not None and name not in known and name not in names:
            raise ConfigurationError(
                f"no queue or partition {name!r} in the plan, which has: {', '.join(known) or 'none'}"
            )
        chosen = [partition for partition in found if name in (None, partition.queue, partition.name)]
        return [partition for partition in chosen if partition.state != "granted"] if upcoming else chosen

    found = with_fleet(work)
    if Options.current().json:
        print_json([asdict(partition) for partition in found])
        return
    print_table(
        ["partition", "state", "owner", "next", "fence", "waiting", "in hand"],
        [(one.name, one.state, one.owner, one.next, one.fence, one.visible, one.hidden) for one in found],
    )


def _change(queue: str, count: int) -> None:
    async def work(fleet: Fleet) -> Repartition:
        return await repartition(fleet.provider, fleet.watcher, fleet.orders, queue, count)

    order = with_fleet(work)
    if Options.current().json:
        print_json({"queue": order.queue, "from": order.old, "to": order.new})
        return
    click.echo(f"queue {order.queue}: from {order.old} to {order.new} partitions, as soon as the leader reads this")


def _force(partition: str) -> None:
    async def work(fleet: Fleet) -> tuple[str, int]:
        owner, order = await granted(fleet.provider, partition)
        confirm(fleet, f"Take {partition} from {owner}? If it still acts, two will, until it reads the plan.")
        await fleet.orders.give(order)
        return owner, order.fence

    owner, fence = with_fleet(work)
    if Options.current().json:
        print_json({"partition": partition, "owner": owner, "fence": fence})
        return
    click.echo(f"partition {partition} (fence {fence}) will be taken from {owner}")
