"""A store that is away for longer than trust lasts, on Azure's and on AWS's emulators."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.clouds import Venue
from tests.acceptance.support import STARTING, acted, acts, all_owned
from tests.proxy import Fault
from worker.dev.fleet import named
from worker.dev.history import check

PARTITIONS = 8  # of the app
MESSAGES = 200
TESTED = 20.0
SHOWN = 60.0
"""Seconds of each kind of outage: in the tests on every change, and in `scripts/must_show.py` for the record."""


def outlast(venue: Venue, folder: Path, seconds: float) -> list[str]:
    """Take the store away in mid-run, first silently, then by refusing connections; return what went wrong."""
    with venue.fleet(folder) as fleet:
        all_owned(fleet, PARTITIONS, within=120)
        for number, kind in enumerate(("black hole", "refused")):
            venue.send(folder, MESSAGES, first=1 + number * MESSAGES)
            acted(folder, "done", times=1 + number * MESSAGES, within=60)
            mark = fleet.mark()
            if kind == "black hole":
                holes = [proxy.inject(Fault.BLACK_HOLE) for proxy in (venue.documents, venue.queues)]
                assert holes
            else:
                venue.documents.refuse()
                venue.queues.refuse()
            fleet.wait_for(named("leader.lost"), seconds + STARTING, since=mark, what="the leader to give up")
            end = fleet.mark()
            _pass(seconds)
            for proxy in (venue.documents, venue.queues):
                if kind == "black hole":
                    proxy.clear()
                else:
                    proxy.accept()
            bound = venue.bounds["outage"].worst
            fleet.wait_for(named("leader.elected"), bound, since=end, what=f"a leader after the {kind}")
            wanted = set(range(1, 1 + (number + 1) * MESSAGES))
            fleet.wait_until(
                partial(_all_done, folder, wanted),
                bound + 120,
                f"all messages handled after the {kind}",
            )
        fleet.wait_until(lambda: not check(fleet.history, sent=2 * MESSAGES).problems, 120, "all messages acknowledged")
        died = [f"{event.instance} died: {event.get('why')}" for event in fleet.events("instance.killed")]
        return check(fleet.history, sent=2 * MESSAGES).problems + died


def _all_done(folder: Path, wanted: set[int]) -> bool:
    return wanted <= {one["number"] for one in acts(folder, "done")}


def _pass(seconds: float) -> None:
    """Let an outage last: what is waited for is that it has been long."""
    time.sleep(seconds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_outage_kills_nobody(venue: Venue, tmp_path: Path) -> None:
    """A store that is silent, and then refuses, for longer than trust lasts ends no process and loses no message."""
    assert outlast(venue, tmp_path, TESTED) == []
