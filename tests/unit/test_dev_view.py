"""What `worker dev` shows, and how it takes keys."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from worker.admin.status import Lead, LeaseStatus, PartitionStatus, QueueStatus, Status
from worker.core.bounds import bounds
from worker.core.timings import leader_timings, member_timings
from worker.dev.events import Event
from worker.dev.history import Gap, check
from worker.dev.instance import Instance
from worker.dev.keys import HELP, Command, Keys
from worker.dev.narrator import Narrator
from worker.dev.summary import gap_table, message_table, promise_for, table
from worker.dev.view import Scene, draw

STATUS = Status(
    fleet="default",
    lease=LeaseStatus(Lead.LEADING, 2, "i-2", "s.1", 3.0, 0.1),
    plan_term=2,
    generation=4,
    successors=[],
    members=[],
    partitions=[
        PartitionStatus("orders-00", "orders", "granted", "i-1~s", None, 1),
        PartitionStatus("orders-01", "orders", "moving", "i-2~s", "i-1~s", 1),
        PartitionStatus("orders-02", "orders", "free", None, None, 1),
        PartitionStatus("orders-03", "orders", "granted", "i-9~s", None, 1),
    ],
    queues=[QueueStatus("orders", 4, paused=True, visible=1200, hidden=34, intake=5, dead=6)],
    orders=[],
    problems=[],
)
SCENE = Scene(
    title="fleet default",
    hint="from another terminal",
    instances=[
        Instance("i-1", state="stopped", worker=7, member="abc", handled=1234),
        Instance("i-2", state="running", worker=8, term=2),
    ],
    trust={"i-1": 6.2, "i-2": None},
    rates={"i-1": 99.6},
    status=STATUS,
    led=True,
    leaderless=None,
    last_gap=None,
    promise=8.3,
    recent=[Event(9.0, 9.0, "i-2", "instance.killed", {"event": "instance.killed", "why": "trust ran out"})],
    now=10.0,
    prompt=HELP,
    note="a note",
)


def shown(scene: Scene) -> str:
    console = Console(file=io.StringIO(), width=140)
    with console.capture() as capture:
        console.print(draw(scene))
    return capture.get()


def test_the_view_shows_instances_partitions_and_events() -> None:
    """One screen tells who leads, who owns what, what waits, and what has just happened."""
    text = shown(SCENE)
    for part in ("stopped", "follower", "leader", "6.2 s", "1,234", "100", "trust ran out", "a note", "1.0 s ago"):
        assert part in text
    assert "12>.?  1,234 waiting, 5 in the intake, 6 dead-lettered  paused" in text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"led": False}, "nobody has led yet"),
        ({}, "nobody has been replaced yet"),
        ({"last_gap": 3.456}, "took 3.46 s (promised: at most 8.3 s)"),
        ({"leaderless": 1.25, "last_gap": 3.0}, "no leader for 1.2 s (promised: at most 8.3 s)"),
        ({"status": None}, "no plan yet"),
    ],
    ids=["never", "first", "replaced", "leaderless", "unplanned"],
)
def test_the_stopwatch(change: dict[str, object], words: str) -> None:
    """Without a leader a stopwatch runs, and afterwards the time it took stands beside what was promised."""
    assert words in shown(dataclasses.replace(SCENE, **change))  # type: ignore[arg-type]  # fields by name


def test_a_verb_and_a_number_make_a_command() -> None:
    """`k2` kills the second instance; a letter alone only asks which."""
    keys = Keys()
    assert keys.prompt == HELP
    assert keys.press("k") is None
    assert "kill which instance" in keys.prompt
    assert keys.press("2") == Command("kill", 2)
    assert keys.prompt == HELP


def test_any_other_key_forgets_the_verb() -> None:
    """A slip of the finger kills nobody: the number that follows then means nothing."""
    keys = Keys()
    assert [keys.press(key) for key in "kx2s0r3"] == [None, None, None, None, None, None, Command("resume", 3)]


@pytest.mark.parametrize("key, verb", [("d", "step down"), ("q", "quit"), ("\x03", "quit")])
def test_some_verbs_need_no_number(key: str, verb: str) -> None:
    """Only the leader can step down, and quitting is about all."""
    command = Keys().press(key)
    assert command is not None
    assert command.verb == verb


def test_a_step_down_is_held_to_another_promise_than_a_death() -> None:
    """A change of leader is set beside the bound of its own kind."""
    leader = leader_timings(3.0)
    promises = {bound.name: bound for bound in bounds(leader, member_timings(leader))}
    died, left = Gap("killed", "i-1", 1, "i-2", 2, 3.5), Gap("stepped down", "i-2", 2, "i-1", 3, 0.1)
    assert promise_for(died, promises).name == "failover"
    assert promise_for(left, promises).name == "hand-over"
    report = dataclasses.replace(check([]), gaps=[died, left])
    headers, rows = gap_table(report, promises)
    assert [row[3] for row in rows] == ["3.50 s", "0.10 s"]
    assert len(headers) == len(rows[0])


def test_messages_that_nobody_counted_are_not_shown_as_sent() -> None:
    """The number of messages sent is only in the table where somebody knows it."""
    assert "messages sent" not in message_table(check([]))[0]
    assert message_table(check([]), 5366)[1][0][0] == "5,366"


def test_columns_of_numbers_are_set_right() -> None:
    """A table's columns line up."""
    assert table(["n", "name"], [["5", "a"], ["1,000", "bc"]]) == ["    n  name", "    5  a", "1,000  bc"]


def test_a_narrator_without_a_terminal_writes_plain_lines() -> None:
    """In a file there are lines and no control characters."""
    out = io.StringIO()
    narrator = Narrator(out)
    narrator.status("too soon to be worth a line")
    narrator.say("a leader died", mark="!")
    narrator.plain("the end")
    lines = out.getvalue().splitlines()
    assert [line.partition(" s ")[2] or line for line in lines] == ["! a leader died", "the end"]
