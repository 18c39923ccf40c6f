"""What the Azure driver really sends: every condition, lease id and limit, and one request where it says one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from providers.azure.driver import API_VERSION
from providers.azure.lease import lease_id
from providers.interface import (
    Document,
    Grant,
    LeaseView,
    OutcomeUnknown,
    Page,
    Received,
    Refused,
    Stamp,
    Unavailable,
    Version,
)
from tests.proxy import Canned, Fault, FaultProxy
from tests.unit.azure_support import (
    ACCEPTING,
    BID,
    DATED,
    GRANT,
    ID,
    MESSAGES,
    OPERATIONS,
    QUEUES,
    STAMP,
    TOTAL,
    Asked,
    ask,
    asked,
    azure,
    each_failing,
    error,
)

NOWHERE = "http://127.0.0.1:9"
"""Nothing may reach a store behind the proxy: it answers everything itself."""

CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "x-ms-if-tags")
LEASE = "/box/fleet/leases/leader"
MINE, HEIRS = lease_id("s"), lease_id("h")
RECORD = {
    "format": 1,
    "role": "leader",
    "fleet": "fleet",
    "holder": "s",
    "instance": "i-1",
    "term": 7,
    "duration": 15.0,
    "renewals": 0,
    "nonce": "n1",
}
QUEUE = f"/{QUEUES}orders"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy(NOWHERE) as proxy:
        yield proxy


def done(proxy: FaultProxy, name: str) -> tuple[object, list[Asked]]:
    """Do one operation; return what it returned and what it asked."""
    _, operation, answers = OPERATIONS[name]
    return ask(proxy, operation, answers), asked(proxy)


def conditions(one: Asked) -> dict[str, str]:
    return {name: value for name, value in one.headers.items() if name in CONDITIONS}


def recorded(one: Asked) -> dict[str, object]:
    """Return the record that a request writes."""
    return {name: json.loads(value) for name, value in one.metadata.items()}


# --- all of them ---


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request(proxy: FaultProxy, name: str) -> None:
    """Every operation sends exactly the requests it is answered, signed, all in the API version that is pinned."""
    _, requests = done(proxy, name)
    assert len(requests) == len(OPERATIONS[name][2])
    for one in requests:
        assert one["x-ms-version"] == API_VERSION
        assert str(one["authorization"]).startswith("SharedKey ")


BAD = {
    "500": error(500, "InternalError"),
    "500 timed out": error(500, "OperationTimedOut"),
    "502": Canned(502, b"<html>bad gateway</html>", (("Content-Type", "text/html"),)),
    "503 of somebody on the way": Canned(503, b"", ()),
    "504": Canned(504, b"", ()),
    "503": error(503, "ServerBusy"),
    "429": error(429, "TooManyRequests"),
    "408": Canned(408, b"", ()),
    "cut": None,
    "silent": None,
}
THROTTLED = ("503", "429")


@pytest.mark.parametrize("name, step", each_failing())
@pytest.mark.parametrize("bad", BAD)
def test_nothing_is_sent_twice(proxy: FaultProxy, name: str, step: int, bad: str) -> None:
    """Whatever goes wrong with a request is told at once: unknown for a change that may have happened, else not."""
    changes, operation, answers = OPERATIONS[name]
    answer = BAD[bad]
    total = 0.2 if bad == "silent" else TOTAL
    failed = [answer] * 2 if answer is not None else []  # one more than is asked for: a second request would be seen
    for good in answers[:step]:
        proxy.inject(Fault.ANSWER, answer=good, times=1)
    if bad == "silent":
        proxy.inject(Fault.BLACK_HOLE)
    elif bad == "cut":
        proxy.inject(Fault.CUT_REQUEST)
    unclear = bad not in THROTTLED or _taken(name, step)
    with pytest.raises(OutcomeUnknown if changes and unclear else Unavailable) as raised:
        ask(proxy, operation, failed, total=total)
    assert len(asked(proxy)) == step + 1
    assert "\n" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value) or bad in THROTTLED


def _taken(name: str, step: int) -> bool:
    """Say whether the requests before this one have changed what others may do."""
    return step > 0 and not (name == "first claim" and step == 1)


@pytest.mark.parametrize("name", OPERATIONS)
def test_nobody_there(name: str) -> None:
    """Where nobody listens nothing has changed, and the endpoint is named."""
    with FaultProxy(NOWHERE) as gone:
        url = gone.url
    _, operation, _ = OPERATIONS[name]
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1") as raised:
        ask(gone, operation, [])
    assert url.rpartition(":")[2] in str(raised.value)


# --- documents ---


def test_create(proxy: FaultProxy) -> None:
    """A document is created in one piece, on condition that there is none."""
    stamp, [one] = done(proxy, "create")
    assert (one.method, one.path, one.query) == ("PUT", "/box/fleet/plan", {})
    assert conditions(one) == {"if-none-match": "*"}
    assert one["x-ms-blob-type"] == "BlockBlob"
    assert stamp == Stamp("plan", Version('"0x2"'))
    assert isinstance(stamp, Stamp)
    assert stamp.store_time == DATED


def test_replace(proxy: FaultProxy) -> None:
    """A document is replaced on condition that it is the version that was read."""
    stamp, [one] = done(proxy, "replace")
    assert (one.method, one.path, conditions(one)) == ("PUT", "/box/fleet/plan", {"if-match": STAMP.version})
    assert stamp == Stamp("plan", Version('"0x2"'))


def test_large_document(proxy: FaultProxy) -> None:
    """A document of several megabytes is still one request: two would be two versions, or none."""
    ask(proxy, lambda c: c.documents.create("plan", b"x" * 9_000_000), [azure(201)])
    [one] = asked(proxy)
    assert (one.query, one["content-length"]) == ({}, "9000000")


def test_delete(proxy: FaultProxy) -> None:
    """A document is deleted on condition that it is the version that was read."""
    _, [one] = done(proxy, "delete")
    assert (one.method, one.path, conditions(one)) == ("DELETE", "/box/fleet/plan", {"if-match": STAMP.version})


def test_read(proxy: FaultProxy) -> None:
    """A document is read without a condition, and its ETag is its version as it stands there."""
    document, [one] = done(proxy, "read")
    assert (one.method, one.path, conditions(one)) == ("GET", "/box/fleet/plan", {})
    assert document == Document(Stamp("plan", Version('"0x2"')), b"1")


def test_read_unless(proxy: FaultProxy) -> None:
    """A document that is still the version that one has is not sent again."""
    found = ask(proxy, lambda c: c.documents.read("plan", unless=STAMP.version), [azure(304)])
    [one] = asked(proxy)
    assert found is None
    assert conditions(one) == {"if-none-match": STAMP.version}


def test_cut_document(proxy: FaultProxy) -> None:
    """A document that is cut in the middle is not asked for again behind the caller's back."""

    class Cut(Canned):
        def to_bytes(self) -> bytes:
            return super().to_bytes().replace(b"Content-Length: 2", b"Content-Length: 9")

    answer = azure(200, b"12", Content_Range="bytes 0-8/9", x_ms_blob_type="BlockBlob")
    with pytest.raises(Unavailable):
        ask(proxy, OPERATIONS["read"][1], [Cut(answer.status, answer.body, answer.headers)], total=0.5)
    assert len(asked(proxy)) == 1


def test_no_date(proxy: FaultProxy) -> None:
    """A store that tells no time is believed in everything else."""
    stamp = ask(proxy, OPERATIONS["create"][1], [azure(201, Date="")])
    assert isinstance(stamp, Stamp)
    assert stamp.store_time is None


def test_unreadable_date(proxy: FaultProxy) -> None:
    """An answer that cannot be read leaves open what has happened."""
    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        ask(proxy, OPERATIONS["create"][1], [azure(201, Date="no date at all")])


def test_list(proxy: FaultProxy) -> None:
    """A listing asks for names only, a thousand at once, and goes on at the store's own mark."""
    page, [first] = done(proxy, "list")
    assert isinstance(page, Page)
    assert (first.method, first.path) == ("GET", "/box")
    assert first.query == {"restype": "container", "comp": "list", "prefix": "fleet/beats/", "maxresults": "1000"}
    assert page.stamps == [Stamp("beats/a", Version('"0x9"'))]
    assert page.after is not None
    ask(proxy, lambda c: c.documents.list("beats/", after=page.after), OPERATIONS["list"][2])
    assert asked(proxy)[-1].query["marker"] == "2!mark"


# --- lease ---


def test_observe(proxy: FaultProxy) -> None:
    """A look at the lease is one request without a body, and tells the store's time."""
    view, [one] = done(proxy, "observe")
    assert (one.method, one.path, one.query) == ("HEAD", LEASE, {})
    assert isinstance(view, LeaseView)
    assert (view.version, view.free, view.store_time) == ('"0x2"', False, DATED)


@pytest.mark.parametrize(
    "value", ["nonsense", "9" * 5000, "NaN", "1e999", "[" * 5000, '"\\ud800'], ids=lambda one: one[:9]
)
def test_observe_garbage(proxy: FaultProxy, value: str) -> None:
    """Whatever somebody has written into the lease's metadata is a lease that is damaged, and says so."""
    garbage = azure(200, x_ms_lease_state="leased", x_ms_meta_format="1", x_ms_meta_term="3", x_ms_meta_later=value)
    view = ask(proxy, OPERATIONS["observe"][1], [garbage])
    assert isinstance(view, LeaseView)
    assert "the metadata 'later' is not JSON" in (view.garbled or "")


def test_claim(proxy: FaultProxy) -> None:
    """A claim acquires what was seen, then records its term under the lease and over exactly what was seen."""
    grant, [acquire, record] = done(proxy, "claim")
    assert (acquire.method, acquire.path, acquire.query) == ("PUT", LEASE, {"comp": "lease"})
    assert (acquire["x-ms-lease-action"], acquire["x-ms-lease-duration"]) == ("acquire", "15")
    assert acquire["x-ms-proposed-lease-id"] == MINE
    assert conditions(acquire) == conditions(record) == {"if-match": '"0x1"'}
    assert (record.method, record.path, record.query) == ("PUT", LEASE, {"comp": "metadata"})
    assert record["x-ms-lease-id"] == MINE
    found = recorded(record)
    assert found == {**found, **RECORD, "later": [1]}
    assert isinstance(grant, Grant)
    assert (grant.term, grant.version, grant.proof, grant.store_time) == (7, '"0x2"', MINE, DATED)


def test_first_claim(proxy: FaultProxy) -> None:
    """The first claim creates a blob that names nobody, and only under the lease is a nonce ever written."""
    _, [create, acquire, record] = done(proxy, "first claim")
    assert (create.method, create.query, conditions(create)) == ("PUT", {}, {"if-none-match": "*"})
    assert recorded(create) == {"format": 1, "term": 0}
    assert create["content-length"] == "0"
    assert conditions(acquire) == conditions(record) == {"if-match": '"0x2"'}
    assert recorded(record)["nonce"] == BID.nonce


def test_beaten_claim(proxy: FaultProxy) -> None:
    """A claim that is refused its record gives the lease back by its own id."""
    answers = [azure(201), error(412, "ConditionNotMet"), azure(200)]
    with pytest.raises(Refused, match="changed"):
        ask(proxy, OPERATIONS["claim"][1], answers)
    release = asked(proxy)[-1]
    assert (release["x-ms-lease-action"], release["x-ms-lease-id"]) == ("release", MINE)


def test_beaten_claim_that_cannot_be_given_back(proxy: FaultProxy) -> None:
    """A claim that is refused its record stays refused, whatever becomes of giving the lease back."""
    answers = [azure(201), error(412, "ConditionNotMet"), error(500, "InternalError")]
    with pytest.raises(Refused, match="changed"):
        ask(proxy, OPERATIONS["claim"][1], answers)
    assert len(asked(proxy)) == 3


def test_renew(proxy: FaultProxy) -> None:
    """A renewal is one lease operation under one's own id, and writes nothing."""
    grant, [one] = done(proxy, "renew")
    assert (one.method, one.path, one.query) == ("PUT", LEASE, {"comp": "lease"})
    assert (one["x-ms-lease-action"], one["x-ms-lease-id"]) == ("renew", MINE)
    assert one.metadata == {}
    assert isinstance(grant, Grant)
    assert (grant.nonce, grant.renewals, grant.version, grant.store_time) == ("n2", 1, GRANT.version, DATED)


def test_resign(proxy: FaultProxy) -> None:
    """A resignation is one lease operation under one's own id, and breaks nothing."""
    _, [one] = done(proxy, "resign")
    assert (one.query, one["x-ms-lease-action"], one["x-ms-lease-id"]) == ({"comp": "lease"}, "release", MINE)


def test_hand_over(proxy: FaultProxy) -> None:
    """A hand-over passes the lease to the heir's id first, and names it, one term higher, under that id."""
    _, [change, record] = done(proxy, "hand over")
    assert (change["x-ms-lease-action"], change["x-ms-lease-id"]) == ("change", MINE)
    assert change["x-ms-proposed-lease-id"] == HEIRS
    assert (record["x-ms-lease-id"], conditions(record)) == (HEIRS, {"if-match": GRANT.version})
    found = recorded(record)
    assert (found["holder"], found["term"], found["handed"], found["token"]) == ("h", 8, True, "t")


def test_accept(proxy: FaultProxy) -> None:
    """An heir acquires by the id that the lease has already, and records itself in the term that it was handed."""
    grant, [acquire, record] = done(proxy, "accept")
    assert (acquire["x-ms-lease-action"], acquire["x-ms-proposed-lease-id"]) == ("acquire", MINE)
    assert (record["x-ms-lease-id"], conditions(record)) == (MINE, {"if-match": '"0x1"'})
    found = recorded(record)
    assert (found["holder"], found["term"], found["nonce"]) == ("s", 8, ACCEPTING.nonce)
    assert not found.get("handed")
    assert isinstance(grant, Grant)
    assert grant.term == 8


# --- queues ---


def test_send(proxy: FaultProxy) -> None:
    """A message is sent for ever: without that Azure would forget it after seven days."""
    ids, [one] = done(proxy, "send")
    assert ids == [ID]
    assert (one.method, one.path, one.query) == ("POST", f"{QUEUE}/messages", {"messagettl": "-1"})


def test_receive(proxy: FaultProxy) -> None:
    """A receive takes at most what Azure gives at once, hides it, and returns what identifies message and receipt."""
    received, [one] = done(proxy, "receive")
    assert (one.method, one.path) == ("GET", f"{QUEUE}/messages")
    assert one.query == {"numofmessages": "32", "visibilitytimeout": "30"}
    assert received == [Received(ID, b"1", 2, f"{ID}:p", DATED)]


def test_extend(proxy: FaultProxy) -> None:
    """An extension sends whole seconds, rounded up, and no text: so the message's own stays."""
    receipt, [one] = done(proxy, "extend")
    assert (one.method, one.path) == ("PUT", f"{QUEUE}/messages/{ID}")
    assert one.query == {"popreceipt": "AgAAAAMAAAAAAAAA", "visibilitytimeout": "30"}
    assert one["content-length"] in ("0", None)
    assert receipt == f"{ID}:next"


@pytest.mark.parametrize("delay, seconds", [(0.0, "0"), (0.2, "1"), (7.0, "7"), (1e9, "604800")])
def test_release(proxy: FaultProxy, delay: float, seconds: str) -> None:
    """A released message is visible at once, or not before its delay is over."""
    ask(proxy, lambda c: c.queue.release("orders", f"{ID}:p", delay), OPERATIONS["release"][2])
    assert asked(proxy)[-1].query["visibilitytimeout"] == seconds


def test_delete_message(proxy: FaultProxy) -> None:
    """A message is deleted by its receipt, whatever characters that has."""
    ask(proxy, lambda c: c.queue.delete("orders", f"{ID}:a+b/c=="), [azure(204)])
    [one] = asked(proxy)
    assert (one.method, one.path, one.query) == ("DELETE", f"{QUEUE}/messages/{ID}", {"popreceipt": "a+b/c=="})


def test_peek(proxy: FaultProxy) -> None:
    """A look takes nothing."""
    seen, [one] = done(proxy, "peek")
    assert one.query == {"peekonly": "true", "numofmessages": "32"}
    assert seen == [Received(ID, b"1", 0, "", DATED)]


def test_depth(proxy: FaultProxy) -> None:
    """The depth is what Azure counts, less what a look shows to be visible."""
    depth, [count, look] = done(proxy, "depth")
    assert (count.path, count.query) == (QUEUE, {"comp": "metadata"})
    assert look.query["peekonly"] == "true"
    assert (getattr(depth, "visible", None), getattr(depth, "hidden", None)) == (1, 2)


def test_ensure(proxy: FaultProxy) -> None:
    """A queue is created only where there is none: whoever may not create queues can use those that exist."""
    done(proxy, "ensure")
    ask(proxy, OPERATIONS["ensure"][1], [error(404, "QueueNotFound"), azure(201)])
    looked, looked_again, created = asked(proxy)
    assert looked.query == looked_again.query == {"comp": "metadata"}
    assert (created.method, created.path, created.query) == ("PUT", QUEUE, {})


def test_empty_message(proxy: FaultProxy) -> None:
    """A message without a text is one without a body."""
    empty = MESSAGES.body.replace(b"<MessageText>MQ==</MessageText>", b"<MessageText />")
    received = ask(proxy, lambda c: [one.body for one in c.queue.receive("orders", 1, 30.0)], [azure(200, empty)])
    assert received == [b""]
