"""`worker step-down`, `drain`, `pause` and `resume`: entries of the control document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import click

from worker.admin.routing import route_for
from worker.admin.waiting import drained, next_leader
from worker.cli.fleet import Fleet, app_if_there, with_fleet
from worker.cli.options import Options, global_options
from worker.cli.output import print_json
from worker.core.bounds import bounds
from worker.core.names import BadName, check_queue_name, member_id
from worker.core.roster import LONGEST_PATIENCE
from worker.errors import ConfigurationError


@click.command("step-down")
@click.option("--wait", is_flag=True, help="Return when the next term has a leader.")
@global_options
def step_down(wait: bool) -> None:
    """Tell the leader of the present term to hand over and stay.

    The order names that term: a later leader is never meant. Ends with 5 when nobody leads.
    """

    async def work(fleet: Fleet) -> dict[str, Any]:
        watcher = fleet.watcher
        term = await fleet.orders.step_down()
        if not wait:
            return {"term": term}
        lease = await next_leader(watcher, fleet.clock, term, within=_longest(fleet, "failover"), every=fleet.every)
        return {"term": term, "next_term": lease.term, "next_leader": lease.instance}

    def say(done: dict[str, Any]) -> str:
        if "next_term" in done:
            return f"term {done['term']} is over; {done['next_leader']} leads term {done['next_term']}"
        return f"the leader of term {done['term']} was told to step down"

    _run(work, say)


@click.command()
@click.argument("instance")
@click.option("--wait", is_flag=True, help="Return when it has left.")
@global_options
def drain(instance: str, wait: bool) -> None:
    """Tell INSTANCE to finish what it is doing, release its partitions and exit.

    The order names its present session: whatever is started in its place is never meant.
    """

    async def work(fleet: Fleet) -> dict[str, Any]:
        orders = await fleet.orders.drain(instance)
        ids = [member_id(order.instance, order.session) for order in orders]
        if not wait:
            return {"sessions": ids}
        within = _longest(fleet, "drain") + LONGEST_PATIENCE
        done = await drained(fleet.watcher, fleet.clock, ids, within=within, every=fleet.every)
        return {"sessions": ids, **asdict(done)}

    def say(done: dict[str, Any]) -> str:
        if "left" not in done:
            return f"{', '.join(done['sessions'])} was told to drain"
        said = (
            (done["left"], "has left"),
            (done["silent"], "did not say that it has left; it has been silent for too long to act any more"),
            (done["instead"], "stands in its place, and was not told to drain"),
        )
        return "\n".join(f"{', '.join(ids)} {what}" for ids, what in said if ids)

    _run(work, say)


@click.command()
@click.argument("queue")
@global_options
def pause(queue: str) -> None:
    """Stop handling QUEUE, everywhere, until it is resumed. Running handlers finish; ownership stays."""
    _check(queue)

    async def work(fleet: Fleet) -> dict[str, Any]:
        await _remark_unknown(fleet, queue)
        return {"paused": sorted((await fleet.orders.pause(queue)).paused)}

    _run(work, lambda done: f"paused: {', '.join(done['paused'])}")


@click.command()
@click.argument("queue")
@global_options
def resume(queue: str) -> None:
    """Handle a paused QUEUE again."""
    _check(queue)

    async def work(fleet: Fleet) -> dict[str, Any]:
        await _remark_unknown(fleet, queue)
        return {"paused": sorted((await fleet.orders.resume(queue)).paused)}

    _run(work, lambda done: f"queue {queue} runs; still paused: {', '.join(done['paused']) or 'none'}")


def _run(work: Callable[[Fleet], Awaitable[dict[str, Any]]], say: Callable[[dict[str, Any]], str]) -> None:
    done = with_fleet(work)
    if Options.current().json:
        print_json(done)
    else:
        click.echo(say(done))


def _check(queue: str) -> None:
    try:
        check_queue_name(queue)
    except BadName as exc:
        raise click.UsageError(str(exc)) from exc


async def _remark_unknown(fleet: Fleet, queue: str) -> None:
    """Remark a name that looks misspelt. The order stands: only the app knows a shared queue, and it may be away."""
    try:
        await route_for(fleet.provider, queue, app_if_there(fleet))
    except ConfigurationError as exc:
        fleet.note(f"warning: {exc}")


def _longest(fleet: Fleet, name: str) -> float:
    settings = fleet.settings
    found = bounds(settings.leader, settings.member, drain_timeout=settings.drain_seconds)
    return next(bound.worst for bound in found if bound.name == name)
