"""`worker status` and `worker history`."""

from __future__ import annotations

import click

from worker.admin.history import TermRecord
from worker.admin.history import history as read_history
from worker.admin.status import Lead, MemberStatus, QueueStatus, Status
from worker.admin.waiting import known_lease
from worker.cli.fleet import Fleet, with_fleet
from worker.cli.options import Options, global_options
from worker.cli.output import print_json, print_table, seconds
from worker.errors import Exit


@click.command()
@click.option("--no-wait", is_flag=True, help="Show what is recorded, without watching whether the leader renews.")
@click.option("--no-depths", is_flag=True, help="Do not count messages: fewer requests.")
@global_options
def status(no_wait: bool, no_depths: bool) -> None:
    """Show the leader, the instances and the queues.

    Whether the leader lives is seen by watching its lease: for a renew interval if it does, for a whole lease if it
    does not. Ends with 5 when nobody leads and with 6 when something is not as it should be.
    """

    async def work(fleet: Fleet) -> Status:
        watcher = fleet.watcher
        if not no_wait:
            first = await watcher.lease()
            if first.state is Lead.SILENT:
                fleet.note(f"watching whether {first.instance} renews its lease (at most {first.duration * 1.1:.0f} s)")
            await known_lease(watcher, fleet.clock, every=fleet.every)
        return await watcher.look(depths=not no_depths)

    found = with_fleet(work)
    if Options.current().json:
        print_json(found.to_dict())
    else:
        _print_status(found)
    code = found.exit_code
    if no_wait and found.lease.state is Lead.SILENT:
        code = Exit.DEGRADED if found.degraded else Exit.OK
    click.get_current_context().exit(int(code))


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="Newest terms to show.")
@global_options
def history(limit: int) -> None:
    """Show who led when, and how each term ended. Times are those of the leaders' own clocks."""

    async def work(fleet: Fleet) -> list[TermRecord]:
        return await read_history(fleet.provider, limit=limit + 1)

    found = with_fleet(work)
    ends = {record.term - 1: record.previous_end for record in found}
    shown = found[-limit:]
    if Options.current().json:
        print_json([{**record.to_dict(), "end": ends.get(record.term)} for record in shown])
        return
    print_table(
        ["term", "instance", "session", "opened", "ended"],
        [
            (record.term, record.instance, record.session, record.problem or record.opened_at, ends.get(record.term))
            for record in shown
        ],
    )


def _print_status(found: Status) -> None:
    click.echo(f"fleet   {found.fleet or '(unknown)'}")
    click.echo(f"leader  {_leader(found)}")
    plan = "none" if found.plan_term is None else f"generation {found.generation} of term {found.plan_term}"
    click.echo(f"plan    {plan}" + (f", successors {', '.join(found.successors)}" if found.successors else ""))
    leading = _leading(found)
    if found.members:
        click.echo()
        print_table(
            ["instance", "session", "state", "role", "partitions", "version", "status of"],
            [_member_row(found, one, leading=one.id == leading) for one in found.members],
        )
    if found.queues:
        click.echo()
        print_table(
            ["queue", "partitions", "waiting", "in hand", "oldest", "intake", "dead", ""],
            [_queue_row(one) for one in found.queues],
        )
    shown = {queue.name for queue in found.queues}  # which tell of their own pauses
    for order in found.orders:
        if order.get("kind") != "pause" or order.get("queue") not in shown:
            facts = ", ".join(f"{name} {value}" for name, value in order.items() if name not in ("id", "kind"))
            click.echo(f"\norder   {order.get('kind')}: {facts}")
    if found.degraded:
        click.echo()
        for reason in found.degraded:
            click.echo(f"degraded: {reason}")


def _leading(found: Status) -> str | None:
    """Return the leader's member id. One instance may have several sessions: dead ones stay for a while."""
    if found.lease.led is False:
        return None
    if found.leader:
        return found.leader
    same = [one.id for one in found.members if one.here and one.instance == found.lease.instance]
    return same[0] if len(same) == 1 else None


def _member_row(found: Status, one: MemberStatus, *, leading: bool) -> tuple[object, ...]:
    role = _role(found, one.id, leading)
    return one.instance, one.session, one.state, role, one.partitions, one.version, one.at


def _queue_row(one: QueueStatus) -> tuple[object, ...]:
    counts = (one.visible, one.hidden, seconds(one.oldest_age), one.intake, one.dead)
    return one.name, one.partitions, *counts, "paused" if one.paused else ""


def _leader(found: Status) -> str:
    lease = found.lease
    match lease.state:
        case Lead.LEADING:
            return f"{lease.instance}, term {lease.term}"
        case Lead.SILENT:
            return f"{lease.instance}, term {lease.term} (as recorded; not seen to renew for {seconds(lease.still)})"
        case Lead.EXPIRED:
            return f"nobody: {lease.instance} has not renewed term {lease.term}, and its lease has run out"
        case Lead.HANDED:
            return f"nobody yet: term {lease.term} was handed to {lease.session}"
        case Lead.VACANT:
            return f"nobody: term {lease.term} was given up"
        case Lead.ABSENT if found.plan_term:
            return f"nobody: somebody has deleted the lease; the plan is of term {found.plan_term}"
        case Lead.ABSENT:
            return "nobody: no instance has ever led in this store"
        case Lead.DAMAGED:
            return "unknown: the lease is damaged"


def _role(found: Status, id: str, leading: bool) -> str:
    if leading:
        return "leader"
    return f"successor {found.successors.index(id) + 1}" if id in found.successors else ""
