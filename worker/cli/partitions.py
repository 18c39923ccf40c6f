"""`worker partitions`: who owns what, what comes next, and another partition count."""

from __future__ import annotations

from dataclasses import asdict

import click

from worker.admin.repartition import repartition
from worker.admin.status import PartitionStatus
from worker.cli.fleet import Fleet, with_fleet
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
@global_options
def partitions(name: str | None, upcoming: bool, count: int | None) -> None:
    """Show the owner, fence and backlog of every partition, or of queue NAME's.

    With --count, order a queue's partition count to be changed. The leader does so once the queue is paused and
    empty; then deploy code that declares the same count, and `worker resume NAME`.
    """
    if count is not None:
        if name is None:
            raise click.UsageError("--count needs the NAME of a queue")
        _change(name, count)
        return

    async def work(fleet: Fleet) -> list[PartitionStatus]:
        found = list((await fleet.watcher.look()).partitions)
        known = sorted({partition.queue for partition in found})
        if name is not None and name not in known:
            raise ConfigurationError(f"no queue {name!r} in the plan, which has: {', '.join(known) or 'none'}")
        chosen = [partition for partition in found if name in (None, partition.queue)]
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
