"""Orders about partitions that an operator should not give without a look first.

Another partition count is given only while the queue is paused and empty: otherwise keys would change their owner.
Taking a partition by force is for an owner that neither releases nor dies: it is told which grant is meant.
"""

from __future__ import annotations

from providers.provider import Provider
from worker.admin.control import Orders, read_control
from worker.admin.routing import read_plan
from worker.admin.watcher import Watcher
from worker.app import MAX_PARTITIONS
from worker.core.intents import Force, Repartition
from worker.core.names import partition_names
from worker.errors import ConfigurationError, LostPrecondition


async def repartition(provider: Provider, watcher: Watcher, orders: Orders, queue: str, count: int) -> Repartition:
    """Order a queue's partition count to be changed, and return the order. The leader looks again before it obeys.

    Raises LostPrecondition, with the next step, for a queue that is not paused or not empty.
    """
    if not 1 <= count <= MAX_PARTITIONS:
        raise ConfigurationError(f"a queue has from 1 to {MAX_PARTITIONS} partitions, not {count}")
    plan, problems = await read_plan(provider)
    if plan is None:
        why = problems[0] if problems else "there is no plan yet"
        raise LostPrecondition(f"{why}: a queue that was never planned gets the count that the app declares")
    if queue not in plan.queues:
        raise ConfigurationError(
            f"no queue {queue!r} in the plan, which has: {', '.join(sorted(plan.queues)) or 'none'}"
        )
    old = plan.queues[queue]
    if old == count:
        raise LostPrecondition(f"queue {queue!r} has {old} partitions already")
    _, control = await read_control(provider)
    if queue not in control.paused:
        raise LostPrecondition(
            f"queue {queue!r} is not paused: stop its producers, let it run empty, "
            f"`worker pause {queue}`, and repeat this"
        )
    depths = await watcher.depths([queue, *partition_names(queue, old)])
    holding = [name for name, depth in depths.items() if depth.visible or depth.hidden]
    if holding:
        messages = sum(depths[name].visible + depths[name].hidden for name in holding)
        raise LostPrecondition(
            f"queue {queue!r} still holds {messages} messages in {len(holding)} of its queues ("
            f"{', '.join(holding[:3])}): `worker resume {queue}` until it is empty, pause it, and repeat this"
        )
    order = Repartition(queue=queue, old=old, new=count)
    await orders.give(order)
    return order


async def granted(provider: Provider, partition: str) -> tuple[str, Force]:
    """Return a partition's owner, and the order that would take exactly this grant from it.

    Raises LostPrecondition when nobody owns it, ConfigurationError when there is no such partition.
    """
    plan, problems = await read_plan(provider)
    if plan is None or plan.queue_of(partition) is None:
        raise ConfigurationError(f"no partition {partition!r} in the plan{': ' + problems[0] if problems else ''}")
    record = plan.partitions.get(partition)
    if record is None or record.owner is None:
        raise LostPrecondition(f"partition {partition!r} has no owner: there is nobody to take it from")
    return record.owner, Force(partition=partition, fence=record.fence)
