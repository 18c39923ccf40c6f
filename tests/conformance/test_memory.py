"""The simulated store passes the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from providers.conformance import (
    AnswersSuite,
    DocumentsSuite,
    Harness,
    HostSuite,
    LeaseSuite,
    PortableSuite,
    QueueSuite,
    TermsSuite,
)
from providers.interface import Driver
from providers.memory import MemoryDriver, MemoryStore


class MemoryHarness(Harness):
    """One simulated store, its clock moved by hand, its pages small."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.store = MemoryStore(now=lambda: self.now, page=5)

    def driver(self) -> Driver:
        return MemoryDriver(self.store)

    def elapse(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def harness() -> Iterator[Harness]:
    harness = MemoryHarness()
    yield harness
    harness.close()


class TestDocuments(DocumentsSuite):
    """Documents in memory."""


class TestLease(LeaseSuite):
    """The lease on them."""


class TestTerms(TermsSuite):
    """Its terms."""


class TestQueue(QueueSuite):
    """Queues in memory."""


class TestHost(HostSuite):
    """No host."""


class TestPortable(PortableSuite):
    """The provider over all of it."""


class TestAnswers(AnswersSuite):
    """Answers that do not come."""
