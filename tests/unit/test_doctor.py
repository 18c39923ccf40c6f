"""`worker doctor`, check by check: each is seen to be content with a good store, and to name one fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from providers.body import encode
from providers.host import End, Notice
from providers.interface import (
    Document,
    Misconfigured,
    OutcomeUnknown,
    Page,
    ProviderError,
    Stamp,
    Unavailable,
    Version,
)
from providers.memory.driver import CAPABILITIES, KEEPS_LEASES
from tests.unit.altered import Altered, AlteredDriver, creates_over, deletes_any, denied, replaces_any
from tests.unit.doctor_support import SetClock, examined
from tests.unit.host_support import Machine
from tests.unit.test_provider_probe import grants_anybody
from worker.doctor.checks import CHECKS
from worker.doctor.findings import Finding, Status, exit_code
from worker.errors import ConfigurationError, Exit

WARNING, FAILED, SKIPPED = Status.WARNING, Status.FAILED, Status.SKIPPED
DAY = 24 * 3600.0


def where(part: str, way: Altered) -> Altered:
    """Do it in this way for keys that have this part, and as it should be for others."""

    def mixed(real: Altered, key: Any, *args: Any, **named: Any) -> Any:
        name = key.key if isinstance(key, Stamp) else key
        return way(real, key, *args, **named) if part in name else real(key, *args, **named)

    return mixed


def raises(error: Exception) -> Altered:
    """Do nothing but raise this."""

    def way(real: Altered, *args: Any, **named: Any) -> Any:
        raise error

    return way


def answers(value: Any) -> Altered:
    """Do nothing, and give this answer."""
    return lambda real, *args, **named: value


def reads_old(real: Altered, key: str, **named: Any) -> Document:
    """Read what was there before, for ever."""
    return Document(Stamp(key, Version("old")), b"{}")


def grants_races(real: Altered, view: Any, bid: Any) -> Any:
    """Grant a lease to whoever asks when it was held before: only races do, after the probe."""
    racing = view.version is not None and bid.instance == "doctor"
    return grants_anybody(real, view, bid) if racing else real(view, bid)


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, and what must be said of it."""

    says: str
    ways: dict[str, Altered] = field(default_factory=dict)
    status: Status = FAILED
    code: Exit = Exit.CONFIGURATION
    options: dict[str, Any] = field(default_factory=dict)


def permission(operation: str) -> tuple[str, Fault]:
    return operation, Fault("needs the role Writer", {operation: denied("Writer")})


OPERATIONS = [
    *("documents.create", "documents.read", "documents.replace", "documents.list", "documents.delete"),
    *("lease.claim", "lease.renew", "lease.resign"),
    *("queue.send", "queue.receive", "queue.extend", "queue.release", "queue.delete", "queue.depth", "queue.peek"),
]

ENDS = (End.GONE, "Terminate")


def machine(*announced: Notice, error: ProviderError | None = None) -> Machine:
    one = Machine()
    one.announced, one.error = list(announced), error
    return one


FAULTS: Sequence[tuple[str, Fault]] = [
    *map(permission, OPERATIONS),
    ("app", Fault("importing failed", options={"app": ConfigurationError("importing failed")})),
    ("app", Fault("--app", status=SKIPPED, options={"app": ConfigurationError("there is no module 'jobs'")})),
    ("stop grace", Fault("gets 30 s from SIGTERM to SIGKILL, and needs 80 s", options={"stop_grace": 30.0})),
    ("machine", Fault("nobody is asked", status=SKIPPED)),
    ("machine", Fault("Terminate", status=WARNING, code=Exit.OK, options={"host": machine(Notice("e", *ENDS, None))})),
    ("machine", Fault("hop limit", options={"host": machine(error=Misconfigured("hop limit"))})),
    ("reach", Fault("connection refused", {"open": raises(Unavailable("connection refused"))}, code=Exit.STORE)),
    ("reach", Fault("no container", {"lease.observe": raises(Misconfigured("no container"))}, code=Exit.STORE)),
    ("reach", Fault("no clear answer", {"lease.observe": raises(OutcomeUnknown("late"))}, code=Exit.STORE)),
    ("documents.read", Fault("not what was written last", {"documents.read": where("-document", reads_old)})),
    ("documents.list", Fault("does not show", {"documents.list": answers(Page([], None))})),
    ("conditions", Fault("it allowed creating", {"documents.create": where("-probe", creates_over)})),
    ("create race", Fault("writers at once created", {"documents.create": where("-create-", creates_over)})),
    ("replace race", Fault("writers at once wrote", {"documents.replace": where("-replace", replaces_any)})),
    ("claim race", Fault("16 of 16 claims", {"lease.claim": grants_races})),
    ("stale delete", Fault("deletes a document", {"documents.delete": deletes_any}, WARNING, Exit.OK)),
    ("queue.ensure", Fault("the role Writer", {"queue.ensure": denied("Writer")}, WARNING, Exit.OK)),
    (
        "queue.ensure",
        Fault("the role Writer", {"queue.ensure": denied("Writer")}, options={"app": ConfigurationError("no")}),
    ),
    ("queue.receive", Fault("did not arrive", {"queue.receive": answers([])}, code=Exit.STORE)),
    ("queue.release", Fault("did not arrive", {"queue.release": answers(None)}, code=Exit.STORE)),
    ("queues", Fault("6 of 6 queues are missing", status=WARNING, code=Exit.OK, options={"queues": False})),
    ("queues", Fault("the role Writer", {"queue.ensure": denied("Writer")}, options={"queues": False})),
    ("queues", Fault("the role Writer", {"queue.retention": denied("Writer")})),
    ("retention", Fault("orders (4 days)", {"queue.retention": answers(4 * DAY)}, code=Exit.DEGRADED)),
    ("order", Fault("order='strict'", options={"capabilities": replace(KEEPS_LEASES, ordered=False)})),
    ("read latency", Fault("WORKER_LEASE=23 or more", options={"clock": SetClock(tick=3.0)})),
    ("replace latency", Fault("WORKER_LEASE=23 or more", options={"clock": SetClock(tick=3.0)})),
    ("renewal latency", Fault("WORKER_LEASE=23 or more", options={"clock": SetClock(tick=3.0)})),
    ("read latency", Fault("little is left", status=WARNING, code=Exit.OK, options={"clock": SetClock(tick=1.5)})),
    ("renewal latency", Fault("is a replace", status=SKIPPED, options={"capabilities": CAPABILITIES})),
    ("clock", Fault("s ahead of", status=WARNING, code=Exit.OK, options={"clock": SetClock(ahead=61.0)})),
    ("clock", Fault("s behind", code=Exit.DEGRADED, options={"clock": SetClock(ahead=-600.0)})),
    ("clean up", Fault("could not be removed", {"documents.delete": denied("Writer")}, WARNING, Exit.OK)),
]


def test_a_good_store() -> None:
    """Of a store, an app and settings with which nothing is wrong, every check says that all is well."""
    driver = AlteredDriver(capabilities=KEEPS_LEASES)
    found = examined(driver=driver, stop_grace=80.0, host=machine())
    assert {name: one.what for name, one in found.items() if one.status is not Status.OK} == {}
    assert list(found) == [check.name for check in CHECKS]
    assert exit_code(found.values()) == Exit.OK
    assert driver.stored() == []
    assert driver.store.queue.depth("worker-doctor").visible == 0


@pytest.mark.parametrize("name, fault", FAULTS, ids=[f"{name}: {fault.says}" for name, fault in FAULTS])
def test_fault(name: str, fault: Fault) -> None:
    """One thing that is wrong is named by its check, and decides the exit code."""
    found = examined(fault.ways, **fault.options)
    one = found[name]
    assert (one.status, fault.says in f"{one.what}. {one.fix}") == (fault.status, True), one
    if fault.status is FAILED:
        assert one.code == fault.code
        assert exit_code([one]) == fault.code
    if fault.status is WARNING:
        assert one.fix


def test_every_check_is_seen_to_find_a_fault() -> None:
    """No check is in the table that no test has seen to be other than content, but for two with tests of their own."""
    shown = {name for name, _ in FAULTS}
    assert {check.name for check in CHECKS} - shown == {"settings", "fleet"}


@pytest.mark.parametrize(
    "record, status, says",
    [
        ({"fleet": "north", "holder": "s", "term": 3, "duration": 15, "nonce": "n", "renewals": 0}, FAILED, "'north'"),
        ({"term": "?"}, WARNING, "is damaged"),
        ({"format": 99}, FAILED, "upgrade"),
    ],
)
def test_fleet(record: dict[str, Any], status: Status, says: str) -> None:
    """A store of another fleet, or of a newer version, is left alone: nothing is written, and the lease stays."""
    driver = AlteredDriver()
    before = encode(record)
    driver.store.documents.create("leases/leader", before)
    found = examined(driver=driver, capabilities=CAPABILITIES)
    one = found["fleet"]
    assert (one.status, says in f"{one.what} {one.fix}") == (status, True), one
    if status is FAILED:
        assert found["documents.create"].what == found["clean up"].what == "because of 'fleet'"
    after = driver.store.documents.read("leases/leader")
    assert after is not None
    assert after.body == before
    assert driver.stored() == ["leases/leader"]


def test_real_messages_are_left_alone() -> None:
    """Messages of the fleet are neither received nor counted as tried, whether or not queues may be created."""
    for ways in ({}, {"queue.ensure": denied("Writer")}):
        driver = AlteredDriver(ways)
        driver.store.queue.ensure("orders")
        driver.store.queue.send("orders", [b"real"])
        examined(driver=driver)
        [message] = driver.store.queue.receive("orders", 1, 30.0)
        assert (message.body, message.attempts) == (b"real", 1)


def test_queues_that_may_not_be_created() -> None:
    """Where no queue may be created, a declared one is counted and looked at, unless a look would be a receive."""
    found = examined({"queue.ensure": denied("Writer")})
    assert (found["queue.depth"].what, found["queue.send"].status) == ("messages can be counted (orders)", SKIPPED)
    assert "(orders)" in found["queue.peek"].what
    found = examined({"queue.ensure": denied("Writer")}, capabilities=replace(CAPABILITIES, peeks=False))
    assert found["queue.peek"].status is SKIPPED
    assert exit_code(found.values()) == Exit.OK


def test_messages_of_other_doctors() -> None:
    """A message of another doctor is given back to it, and removed when it was left behind."""
    driver = AlteredDriver()
    driver.store.queue.ensure("worker-doctor")
    driver.store.queue.send("worker-doctor", [b'{"doctor": "another"}'])
    for left in (1, 1, 0):
        found = examined(driver=driver)
        assert found["queue.receive"].status is Status.OK
        depth = driver.store.queue.depth("worker-doctor")
        assert depth.visible + depth.hidden == left
        if left:
            [message] = driver.store.queue._queues["worker-doctor"].messages.values()
            driver.store.queue._queues["worker-doctor"].hide(message, 0.0)  # the pause is over


def test_a_bug_in_a_driver_leaves_nothing_behind() -> None:
    """What was written is removed also when the examination itself is broken off."""
    driver = AlteredDriver({"documents.list": raises(RuntimeError("a bug"))})
    with pytest.raises(RuntimeError, match="a bug"):
        examined(driver=driver)
    assert driver.stored() == []


def test_a_forbidden_delete_of_leases_is_no_fault() -> None:
    """A bucket whose policy keeps leases from being deleted is right to: nothing is said of what stays."""
    driver = AlteredDriver({"documents.delete": where("leases/", denied("Owner"))})
    found = examined(driver=driver)
    assert found["clean up"].status is Status.OK
    assert all(key.startswith("leases/probe-") for key in driver.stored())


def test_the_gravest_code_counts() -> None:
    """What cannot work comes before a store that does not answer, and that before what only should be better."""
    kinds = [Finding(FAILED, "", code=code) for code in (Exit.DEGRADED, Exit.STORE, Exit.CONFIGURATION)]
    assert [exit_code(kinds[:n]) for n in range(4)] == [Exit.OK, Exit.DEGRADED, Exit.STORE, Exit.CONFIGURATION]
