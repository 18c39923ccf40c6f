"""The simulated store passes the suite, as one where observers decide about leases and as one that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
from providers.interface import Driver, Refused
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import KEEPS_LEASES
from providers.memory.leases import LeaseState, MemoryLeases


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


class KeepingHarness(MemoryHarness):
    """The same store, keeping leases itself: who tampers with a leased object has to break its lease first."""

    def driver(self) -> Driver:
        return MemoryDriver(self.store, capabilities=KEEPS_LEASES)

    def write_lease(self, role: str, body: bytes) -> None:
        self.store.leases.break_now(f"leases/{role}")
        super().write_lease(role, body)

    def delete_lease(self, role: str) -> None:
        self.store.leases.break_now(f"leases/{role}")
        super().delete_lease(role)


@pytest.fixture(params=[MemoryHarness, KeepingHarness], ids=["observer", "store"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    harness: MemoryHarness = request.param()
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


class TestPortable(PortableSuite):
    """The provider over all of it."""


class TestAnswers(AnswersSuite):
    """Answers that do not come."""


KEY = "leases/leader"


def found_in(state: str) -> KeepingHarness:
    """Return a store with one lease in this state, last held under the id A for 15 s."""
    harness = KeepingHarness()
    if state != "available":
        harness.store.leases.acquire(KEY, "A", 15.0)
    if state == "expired":
        harness.elapse(15.0)
    if state == "broken":
        harness.store.leases.break_now(KEY)
    assert harness.store.leases.state(KEY).value == state
    return harness


STATES = ["available", "leased", "expired", "broken"]
DONE: dict[str, Callable[[MemoryLeases], None]] = {
    "acquire A": lambda leases: leases.acquire(KEY, "A", 15.0),
    "acquire B": lambda leases: leases.acquire(KEY, "B", 15.0),
    "renew A": lambda leases: leases.renew(KEY, "A"),
    "renew B": lambda leases: leases.renew(KEY, "B"),
    "change A to B": lambda leases: leases.change(KEY, "A", "B"),
    "change B to A": lambda leases: leases.change(KEY, "B", "A"),
    "release A": lambda leases: leases.release(KEY, "A"),
    "release B": lambda leases: leases.release(KEY, "B"),
}
LEASED, AVAILABLE = LeaseState.LEASED, LeaseState.AVAILABLE
OUTCOMES: dict[str, tuple[LeaseState | None, ...]] = {  # by state found; None: refused
    "acquire A": (LEASED, LEASED, LEASED, LEASED),
    "acquire B": (LEASED, None, LEASED, LEASED),
    "renew A": (None, LEASED, LEASED, None),
    "renew B": (None, None, None, None),
    "change A to B": (None, LEASED, None, None),
    "change B to A": (None, LEASED, None, None),
    "release A": (None, AVAILABLE, AVAILABLE, AVAILABLE),
    "release B": (None, None, None, None),
}


@pytest.mark.parametrize("found", STATES)
@pytest.mark.parametrize("done", DONE)
def test_what_a_lease_operation_does(found: str, done: str) -> None:
    """The simulated leases do in every state what Azure's documents say that its own do."""
    leases = found_in(found).store.leases
    expected = OUTCOMES[done][STATES.index(found)]
    if expected is None:
        with pytest.raises(Refused):
            DONE[done](leases)
        assert leases.state(KEY).value == found
    else:
        DONE[done](leases)
        assert leases.state(KEY) is expected


@pytest.mark.parametrize("found", STATES)
def test_a_write_needs_the_lease_id_exactly_while_leased(found: str) -> None:
    """A leased object is written under its id only, any other without one, and nobody renews over such a write."""
    store = found_in(found).store
    documents, leases = store.documents, store.leases
    stamp = documents.create(KEY, b"1")
    if found == "leased":
        with pytest.raises(Refused):
            documents.replace(stamp, b"2")
        with leases.under("B"), pytest.raises(Refused):
            documents.replace(stamp, b"2")
        with leases.under("A"):
            documents.replace(stamp, b"2")
        leases.renew(KEY, "A")
        return
    with leases.under("A"), pytest.raises(Refused):
        documents.replace(stamp, b"2")
    documents.replace(stamp, b"2")
    with pytest.raises(Refused):
        leases.renew(KEY, "A")


def test_a_change_of_the_id_keeps_the_time() -> None:
    """A lease that was handed on runs out when it would have, and its first id is worth nothing from then on."""
    harness = KeepingHarness()
    leases = harness.store.leases
    leases.acquire(KEY, "A", 15.0)
    harness.elapse(10.0)
    leases.change(KEY, "A", "B")
    leases.change(KEY, "A", "B")
    with pytest.raises(Refused):
        leases.renew(KEY, "A")
    harness.elapse(5.0)
    assert leases.state(KEY) is LeaseState.EXPIRED
