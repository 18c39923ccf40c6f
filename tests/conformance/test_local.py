"""The SQLite driver passes the suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.conformance import (
    AnswersSuite,
    DocumentsSuite,
    Harness,
    LeaseSuite,
    PortableSuite,
    QueueSuite,
    TermsSuite,
)
from providers.interface import Driver
from providers.local import SqliteDriver


class LocalHarness(Harness):
    """One file, the clock of its queues moved by hand, its pages small."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.path = path

    def driver(self) -> Driver:
        return SqliteDriver(self.path, now=lambda: self.now, page=5)

    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def elapse(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    harness = LocalHarness(tmp_path / "store.db")
    yield harness
    harness.close()


class TestDocuments(DocumentsSuite):
    """Documents in a file."""


class TestLease(LeaseSuite):
    """The lease on them."""


class TestTerms(TermsSuite):
    """Its terms."""


class TestQueue(QueueSuite):
    """Queues in a file."""


class TestPortable(PortableSuite):
    """The provider over all of it."""


class TestAnswers(AnswersSuite):
    """Answers that do not come."""
