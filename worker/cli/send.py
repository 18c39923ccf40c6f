"""`worker send`: a producer for people and scripts."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from worker.admin import inputs
from worker.admin.inputs import BadInput, Format, Item
from worker.admin.routing import route_for
from worker.admin.send import Sent
from worker.admin.send import send as send_items
from worker.cli.fleet import Fleet, app_if_there, with_fleet
from worker.cli.options import Options, global_options
from worker.cli.output import counted, print_json


@click.command()
@click.argument("queue")
@click.argument("payload", metavar="[JSON | -]", required=False)
@click.option(
    "-f", "--file", "source", metavar="FILE", help="Many messages: JSON array, JSON Lines or CSV; - is stdin."
)
@click.option("--format", "format", type=click.Choice(["auto", "json", "jsonl", "csv"]), default="auto")
@click.option("--key", help="One key for all of them. Else: the field that the app declares.")
@click.option("--key-field", metavar="NAME", help="Take each message's key from this field.")
@global_options
def send(
    queue: str, payload: str | None, source: str | None, format: Format, key: str | None, key_field: str | None
) -> None:
    """Send messages to QUEUE: one JSON value, a file of many, or stdin (-).

    A message goes to the partition of its key; where the partition count is not known, to the queue's intake. The
    rows of a CSV become objects of strings. A file is checked as a whole before its first message is sent.
    """
    if (payload is None) == (source is None):
        raise click.UsageError("give one JSON value, or --file FILE, or - for stdin")
    if payload == "-":
        payload, source = None, "-"
    try:
        total, items = _items(payload, source, format)
        sent = _send(queue, items, total, key, key_field)
    except BadInput as exc:
        raise click.UsageError(str(exc)) from exc
    if Options.current().json:
        print_json({"sent": sent.messages, "repeated": sent.repeated, "queues": sent.queues, "id": sent.last_id})
    elif total == 1:
        click.echo(sent.last_id)
    else:
        click.echo(f"{counted(sent.messages, 'message')} sent to {queue}")


def _items(payload: str | None, source: str | None, format: Format) -> tuple[int | None, Iterator[Item]]:
    """Return how many items there are, None when a pipe will tell, and the items."""
    if payload is not None:
        return 1, iter([inputs.read_text(payload)])
    if source == "-":
        return None, inputs.read_stream(io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig"), "stdin", format)
    path = Path(str(source))
    if path.exists() and not path.is_file():  # a named pipe is read once
        return None, inputs.read_file(path, format)
    return sum(1 for _ in inputs.read_file(path, format)), inputs.read_file(path, format)


def _send(queue: str, items: Iterator[Item], total: int | None, key: str | None, key_field: str | None) -> Sent:
    async def work(fleet: Fleet) -> Sent:
        route = await route_for(fleet.provider, queue, app_if_there(fleet))
        with _Progress(total, hidden=fleet.options.quiet or total == 1) as progress:
            sent = await send_items(
                fleet.provider, fleet.clock, route, items, key=key, key_field=key_field, on_progress=progress.show
            )
        if sent.repeated:
            fleet.note(f"sent again after a lost answer: {counted(sent.repeated, 'message')}; copies have the same id")
        return sent

    return with_fleet(work)


class _Progress:
    """A bar on stderr, for people only."""

    def __init__(self, total: int | None, *, hidden: bool) -> None:
        self._total = total
        self._hidden = hidden or not sys.stderr.isatty()
        self._stop: Callable[[], None] = lambda: None
        self.show: Callable[[Sent], None] = lambda sent: None

    def __enter__(self) -> _Progress:
        if not self._hidden:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            bar = Progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            task = bar.add_task("sending", total=self._total)
            bar.start()
            self._stop = bar.stop
            self.show = lambda sent: bar.update(task, completed=sent.messages)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
