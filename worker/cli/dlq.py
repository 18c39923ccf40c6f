"""`worker dlq`: dead letters."""

from __future__ import annotations

import click

from worker.admin import dlq as letters
from worker.admin.dlq import Done, Letter
from worker.admin.routing import route_for
from worker.cli.fleet import Fleet, app_if_there, confirm, with_fleet
from worker.cli.options import Options, global_options
from worker.cli.output import counted, print_json, print_table
from worker.errors import LostPrecondition


@click.group()
@global_options
def dlq() -> None:
    """List, show, replay or discard the dead letters of a queue."""


@dlq.command("list")
@click.argument("queue")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="Most letters to show.")
@global_options
def list_(queue: str, limit: int) -> None:
    """List the dead letters of QUEUE."""

    async def work(fleet: Fleet) -> list[Letter]:
        await route_for(fleet.provider, queue, app_if_there(fleet))
        return await letters.peek(fleet.provider, queue, limit=limit)

    found = with_fleet(work)
    if Options.current().json:
        print_json([letter.to_dict() for letter in found])
        return
    rows = []
    for letter in found:
        failure = letter.letter.failure
        what = "(not put there by a worker)" if failure is None else f"{failure.error_type}: {failure.error}"
        first = what.splitlines()[0][:100] if what else ""
        attempts = None if failure is None else failure.attempts
        rows.append((letter.id, letter.letter.envelope.key, attempts, failure.at if failure else None, first))
    print_table(["id", "key", "attempts", "given up", "error"], rows)


@dlq.command()
@click.argument("queue")
@click.argument("id")
@global_options
def show(queue: str, id: str) -> None:
    """Show one dead letter of QUEUE: its body, its error and the traceback."""

    async def work(fleet: Fleet) -> Letter:
        await route_for(fleet.provider, queue, app_if_there(fleet))
        return await letters.find(fleet.provider, queue, id)

    found = with_fleet(work)
    if Options.current().json:
        print_json(found.to_dict())
        return
    fields = found.to_dict()
    trace = fields.pop("traceback")
    print_json({name: value for name, value in fields.items() if value is not None})
    if trace:
        click.echo(trace.rstrip())


@dlq.command()
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter that is there now.")
@global_options
def replay(queue: str, ids: tuple[str, ...], everything: bool) -> None:
    """Send dead letters of QUEUE to their partitions again, under new ids."""
    chosen = _chosen(ids, everything)

    async def work(fleet: Fleet) -> Done:
        route = await route_for(fleet.provider, queue, app_if_there(fleet))
        return await letters.replay(fleet.provider, fleet.clock, route, chosen)

    _report(with_fleet(work), "replayed")


@dlq.command()
@click.argument("queue")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every letter that is there now.")
@global_options
def discard(queue: str, ids: tuple[str, ...], everything: bool) -> None:
    """Delete dead letters of QUEUE for good."""
    chosen = _chosen(ids, everything)

    async def work(fleet: Fleet) -> Done:
        await route_for(fleet.provider, queue, app_if_there(fleet))
        what = "all dead letters" if chosen is None else counted(len(chosen), "dead letter")
        confirm(fleet, f"Delete {what} of queue {queue} for good?")
        return await letters.discard(fleet.provider, queue, chosen)

    _report(with_fleet(work), "discarded")


def _chosen(ids: tuple[str, ...], everything: bool) -> tuple[str, ...] | None:
    if bool(ids) == everything:
        raise click.UsageError("name the letters by their ids, or give --all")
    return None if everything else ids


def _report(done: Done, verb: str) -> None:
    if Options.current().json:
        print_json({verb: done.ids, "failed": done.failed})
    else:
        click.echo(f"{counted(len(done.ids), 'dead letter')} {verb}")
    if done.failed:
        raise LostPrecondition("\n".join(f"{id}: {why}" for id, why in done.failed.items()))
