"""The live view: a fleet on one screen. Values in, something that rich can draw out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.admin.status import Status
from worker.dev.events import Event
from worker.dev.instance import Instance

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red", "bright_cyan", "bright_magenta", "bright_green")
"""One per instance, in turn."""

RECENT = 10
"""Events shown."""

QUIET = frozenset({"message.handled", "partition.granted", "partition.released", "leader.observed"})
"""Events too many to be shown one by one: the tables show what they add up to."""

SHOWN_FIELDS = (
    "term",
    "why",
    "reason",
    "moves",
    "partition",
    "next",
    "cause",
    "queue",
    "error",
    "problem",
    "what",
    "alive",
)

_STYLES = {"fault": "red", "leader": "bold green", "write": "bold red", "problem": "yellow", "process": "red"}


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is shown. Rates in messages per second, times in seconds."""

    title: str
    hint: str  # how others reach this fleet
    instances: Sequence[Instance]
    trust: Mapping[str, float | None]  # by instance
    rates: Mapping[str, float]
    status: Status | None
    led: bool  # somebody has led
    leaderless: float | None  # for how long by now; None while somebody leads
    last_gap: float | None
    promise: float  # the longest that a failover may take
    recent: Sequence[Event]
    now: float
    prompt: str
    note: str


def draw(scene: Scene) -> RenderableType:
    """Return the whole screen."""
    return Group(
        Text(scene.title, style="bold"),
        Text(scene.hint, style="dim"),
        Text(),
        _instances(scene),
        Text(),
        *_queues(scene),
        Text(),
        _stopwatch(scene),
        Text(),
        *[_event(event, scene) for event in scene.recent[-RECENT:]],
        *[Text()] * max(0, RECENT - len(scene.recent)),
        Text(),
        Text(scene.note, style="yellow"),
        Text(scene.prompt, style="reverse"),
    )


def _instances(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for header in ("#", "instance", "state", "role", "term", "session", "trust left (est.)"):
        table.add_column(header)
    for header in ("partitions", "handled", "per s"):
        table.add_column(header, justify="right")
    for number, it in enumerate(scene.instances, 1):
        trust = scene.trust.get(it.name)
        table.add_row(
            Text(str(number), style=_colour(number - 1)),
            Text(it.name, style=_colour(number - 1)),
            Text(it.state, style="" if it.state == "running" else "red"),
            Text(it.role, style="bold green" if it.role == "leader" else ""),
            "" if it.term is None else str(it.term),
            it.member or "",
            "" if trust is None else f"{trust:.1f} s",
            str(len(it.partitions)),
            f"{it.handled:,}",
            f"{scene.rates.get(it.name, 0.0):.0f}",
        )
    return table


def _queues(scene: Scene) -> list[RenderableType]:
    if scene.status is None or not scene.status.queues:
        return [Text("no plan yet", style="dim")]
    numbers = {it.name: number for number, it in enumerate(scene.instances)}
    lines: list[RenderableType] = []
    for queue in scene.status.queues:
        line = Text(f"{queue.name}  ", style="bold")
        for item in scene.status.partitions:
            if item.queue == queue.name:
                line.append_text(_owner(item.owner, item.next, numbers))
        waiting = sum(count or 0 for count in (queue.visible, queue.hidden))
        line.append(f"  {waiting:,} waiting, {queue.intake or 0:,} in the intake, {queue.dead or 0:,} dead-lettered")
        if queue.paused:
            line.append("  paused", style="yellow")
        lines.append(line)
    lines.append(Text("one mark per partition: its owner's number, > while it moves, . without an owner", style="dim"))
    return lines


def _owner(owner: str | None, heir: str | None, numbers: Mapping[str, int]) -> Text:
    if owner is None:
        return Text(".", style="red")
    number = numbers.get(owner.partition("~")[0])
    if number is None:
        return Text("?", style="red")
    return Text(f"{number + 1}>" if heir else str(number + 1), style=_colour(number))


def _stopwatch(scene: Scene) -> Text:
    promise = f"promised: at most {scene.promise:.1f} s"
    if not scene.led:
        return Text("nobody has led yet", style="dim")
    if scene.leaderless is not None:
        return Text(f"no leader for {scene.leaderless:.1f} s ({promise})", style="bold red")
    if scene.last_gap is None:
        return Text(f"nobody has been replaced yet; a failover takes a while ({promise})", style="dim")
    return Text(f"the last change of leader took {scene.last_gap:.2f} s ({promise})", style="green")


def _event(event: Event, scene: Scene) -> Text:
    number = next((i for i, it in enumerate(scene.instances) if it.name == event.instance), 0)
    line = Text(f"{scene.now - event.at:6.1f} s ago  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f"{event.instance:<5} ", style=_colour(number))
    line.append(f"{event.name:<22} ", style=_STYLES.get(event.name.partition(".")[0], ""))
    line.append("  ".join(f"{field} {event.get(field)}" for field in SHOWN_FIELDS if field in event.fields))
    return line


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
