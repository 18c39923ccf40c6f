"""The conformance suite sees what it is for: drivers with one thing wrong each fail the test that names it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from providers.conformance import (
    AnswersSuite,
    DocumentsSuite,
    Faults,
    Harness,
    LeaseSuite,
    PortableSuite,
    QueueSuite,
    TermsSuite,
)
from providers.interface import (
    Bid,
    Client,
    Driver,
    Grant,
    Lease,
    LeaseView,
    Page,
    ProviderError,
    Received,
    Refused,
    Stamp,
    Version,
)
from providers.lease_on_documents import LeaseOnDocuments
from providers.memory import MemoryDriver, MemoryStore
from providers.memory.driver import CAPABILITIES, MemoryClient
from providers.memory.native import NativeLease
from providers.memory.queue import MemoryQueue
from providers.memory.store import MemoryDocuments


class Blind(MemoryDocuments):
    """Accepts conditions and ignores them."""

    def _compare(self, old: Stamp) -> None:
        return None


class Overwriting(MemoryDocuments):
    """Creates over what exists."""

    def create(self, key: str, body: bytes) -> Stamp:
        with self._lock:
            return self._write(key, body) if key in self._found else super().create(key, body)


class TwoSteps(MemoryDocuments):
    """Compares, and then writes: two steps, as some emulators do."""

    together = threading.Barrier(16)

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        with self._lock:
            self._compare(old)
        self.together.wait(5.0)
        with self._lock:
            return self._write(old.key, body)


class ConstantVersions(MemoryDocuments):
    """Versions that say less than they should: one for all bodies of a length."""

    def _write(self, key: str, body: bytes) -> Stamp:
        super()._write(key, body)
        stamp = Stamp(key, Version(hashlib.sha256(b"%d" % len(body)).hexdigest()))
        self._found[key] = type(self._found[key])(stamp, body)
        return stamp


class OnePage(MemoryDocuments):
    """Forgets that a listing has a second page."""

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        return Page(super().list(prefix, after=after).stamps, None)


class Resetting(LeaseOnDocuments):
    """Deletes the lease on resignation, so that terms start again."""

    def resign(self, grant: Grant, nonce: str) -> None:
        self._documents.delete(Stamp(self._key, grant.version))


class Forgetful(LeaseOnDocuments):
    """Drops what newer versions wrote."""

    def _take(self, view: LeaseView, bid: Bid) -> Grant:
        return super()._take(replace(view, extra={}), bid)


class Careless(LeaseOnDocuments):
    """Takes whatever was there for nothing."""

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        return super().claim(LeaseView(version=view.version), bid)


class Unconditional(NativeLease):
    """Acquires whatever was written since it looked, and writes over it."""

    def _write(self, version: Version, id: str, body: bytes) -> Stamp:
        found = self._documents.read(self._key)
        assert found is not None
        return super()._write(found.stamp.version, id, body)

    def _acquire(self, version: Version, id: str, seconds: float) -> None:
        self._leases.acquire(self._key, id, seconds)


class SharedId(NativeLease):
    """Takes one lease id for everybody, as if it were the host's name on machines that are all called the same."""

    def _id(self, session: str) -> str:
        return "host"


class Erasing(NativeLease):
    """Deletes the object on resignation."""

    def resign(self, grant: Grant, nonce: str) -> None:
        super().resign(grant, nonce)
        self._documents.delete(Stamp(self._key, grant.version))


class Generous(MemoryQueue):
    """Honours receipts that are stale, as SQS may."""

    def _held(self, queue: Any, receipt: str) -> Any:
        number = receipt.partition(".")[0]
        message = queue.messages.get(int(number)) if number.isdecimal() else None
        if message is None:
            raise Refused("gone")
        return message


class Counting(MemoryQueue):
    """Counts a look as an attempt."""

    def peek(self, queue: str, limit: int) -> Sequence[Received]:
        for message in self._queues[queue].messages.values():
            message.attempts += 1
        return super().peek(queue, limit)


class Disordered(MemoryQueue):
    """Claims to keep order, and does not."""

    def ensure(self, queue: str, *, ordered: bool = False) -> None:
        super().ensure(queue, ordered=False)


LeaseKind = type[LeaseOnDocuments] | type[NativeLease]


class BrokenHarness(Harness):
    """A store in memory with one part replaced."""

    def __init__(self, documents: type[MemoryDocuments], lease: LeaseKind, queue: type[MemoryQueue]) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self._store = MemoryStore(now=lambda: self.now, page=5)
        self._store.documents = documents(self._store.lock, self._store.leases, self._store.time, 5)
        self._store.queue = queue(self._store.lock, lambda: self.now)
        self._lease = lease

    def driver(self) -> Driver:
        return _BrokenDriver(self._store, self._lease)

    def elapse(self, seconds: float) -> None:
        self.now += seconds

    def write_lease(self, role: str, body: bytes) -> None:
        self._store.leases.break_now(f"leases/{role}")
        super().write_lease(role, body)

    def delete_lease(self, role: str) -> None:
        self._store.leases.break_now(f"leases/{role}")
        super().delete_lease(role)


class _BrokenDriver(MemoryDriver):
    def __init__(self, store: MemoryStore, lease: LeaseKind) -> None:
        super().__init__(store, capabilities=replace(CAPABILITIES, expiry=lease.expiry))
        self._lease = lease

    def open(self, total: float) -> Client:
        client = MemoryClient(self.store)
        client.lease = partial(_lease_of, self._lease, self.store, client)  # type: ignore[method-assign]  # one part replaced
        return client


def _lease_of(kind: LeaseKind, store: MemoryStore, client: Client, role: str) -> Lease:
    return kind(store, client.documents, role) if issubclass(kind, NativeLease) else kind(client.documents, role)


def broken(part: type) -> BrokenHarness:
    """Return a harness of a store in which `part` stands in for the right one."""
    return BrokenHarness(
        part if issubclass(part, MemoryDocuments) else MemoryDocuments,
        part if issubclass(part, LeaseOnDocuments | NativeLease) else LeaseOnDocuments,
        part if issubclass(part, MemoryQueue) else MemoryQueue,
    )


@pytest.fixture
def faults() -> Iterator[Faults]:
    faults = Faults()
    yield faults
    faults.release()


@pytest.mark.parametrize(
    "part, test",
    [
        (Blind, DocumentsSuite().test_stale_replace),
        (Blind, DocumentsSuite().test_replace_race),
        (Blind, LeaseSuite().test_claim_of_a_changed_lease),
        (Blind, LeaseSuite().test_spent_grant),
        (Blind, PortableSuite().test_probe),
        (Overwriting, DocumentsSuite().test_create_once),
        (Overwriting, DocumentsSuite().test_create_race),
        (TwoSteps, DocumentsSuite().test_replace_race),
        (ConstantVersions, DocumentsSuite().test_nonce_makes_versions_differ),
        (OnePage, DocumentsSuite().test_list_pages),
        (OnePage, PortableSuite().test_all_pages),
        (Resetting, LeaseSuite().test_resign),
        (Resetting, TermsSuite().test_over_everything),
        (Forgetful, LeaseSuite().test_unknown_fields),
        (Careless, LeaseSuite().test_newer_format),
        (Careless, LeaseSuite().test_term_must_grow),
        (Careless, LeaseSuite().test_another_fleet),
        (Unconditional, LeaseSuite().test_accept_by_others),
        (SharedId, LeaseSuite().test_superseded_grant),
        (Erasing, LeaseSuite().test_resign),
        (Erasing, TermsSuite().test_over_everything),
        (Generous, QueueSuite().test_stale_receipt),
        (Generous, QueueSuite().test_extended_receipt),
        (Generous, QueueSuite().test_released_receipt),
        (Counting, QueueSuite().test_peek),
        (Counting, QueueSuite().test_attempts),
        (Disordered, QueueSuite().test_ordered),
        (Disordered, QueueSuite().test_ordered_retry),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_broken_driver(part: type, test: Callable[[Harness], None]) -> None:
    """A driver with this one fault fails this test of the suite."""
    with pytest.raises((AssertionError, pytest.fail.Exception, ProviderError)):
        test(broken(part))


def test_late_write_on_a_blind_store(faults: Faults) -> None:
    """A store that lets a late write land on a newer document fails the suite."""
    with pytest.raises(AssertionError):
        AnswersSuite().test_late_write(broken(Blind), faults)


def test_late_resignation_on_a_blind_store(faults: Faults) -> None:
    """A store that lets a late resignation blank the successor's lease fails the suite."""
    with pytest.raises(AssertionError):
        AnswersSuite().test_late_resignation(broken(Blind), faults)


@pytest.mark.parametrize("part", [MemoryDocuments, NativeLease])
def test_right_driver(part: type) -> None:
    """The same harness with nothing broken passes those tests."""
    for suite in (DocumentsSuite(), LeaseSuite(), QueueSuite(), TermsSuite()):
        for name in dir(suite):
            test = getattr(suite, name)
            if name.startswith("test_") and test.__code__.co_argcount == 2 and name != "test_killed_process":
                try:
                    test(broken(part))
                except pytest.skip.Exception:
                    continue
