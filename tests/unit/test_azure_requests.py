"""What the Azure driver really sends, seen on the way to Azurite, and what it makes of bad answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from azure.storage.blob import BlobServiceClient

from providers.azure import AzureDriver
from providers.azure.driver import API_VERSION
from providers.azure.lease import lease_id
from providers.interface import (
    Bid,
    Client,
    Heir,
    Misconfigured,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Stamp,
    Unavailable,
    Version,
)
from providers.options import StoreOptions
from tests.emulators import AzureEmulator
from tests.proxy import BROKEN, SERVER_BUSY, TOO_MANY, WEB_PAGE, Canned, Fault, FaultProxy, Request
from tests.unit.requests_support import answered, cut_off

TOTAL = 5.0


@dataclass
class Way:
    """A client whose every request passes before our eyes."""

    client: Client
    blobs: FaultProxy
    queues: FaultProxy

    def sent(self, proxy: FaultProxy, call: Callable[[], object]) -> list[Request]:
        """Do something and return the requests that it was."""
        before = len(proxy.log)
        call()
        return [passed.request for passed in proxy.log[before:]]


@pytest.fixture
def way(azurite: AzureEmulator) -> Iterator[Way]:
    name = f"t{secrets.token_hex(4)}"
    with (
        BlobServiceClient.from_connection_string(azurite.connection_string, api_version=API_VERSION) as service,
        FaultProxy(azurite.blob_url) as blobs,
        FaultProxy(azurite.queue_url) as queues,
    ):
        service.create_container(name)
        options = StoreOptions(
            azure_connection_string=azurite.connection_string,
            endpoint_url=blobs.url,
            queue_endpoint_url=queues.url,
            queue_prefix=f"{name}-",
        )
        client = AzureDriver(azurite.account, name, "fleet/", options).open(TOTAL)
        yield Way(client, blobs, queues)
        client.close()
        service.delete_container(name)


def bid(session: str, term: int) -> Bid:
    """Return a bid for a lease of fifteen seconds."""
    return Bid(session, f"i-{session}", "fleet", term, 15.0, secrets.token_hex(4))


def test_documents(way: Way) -> None:
    """Each call on a document is one request that names its condition, in the pinned version of the API."""
    documents = way.client.documents
    [create] = way.sent(way.blobs, lambda: documents.create("plan", b"1"))
    assert (create.method, create.path.endswith("/fleet/plan"), create.headers["if-none-match"]) == ("PUT", True, "*")
    assert "comp=" not in create.target
    found = documents.read("plan")
    assert found is not None
    [replace] = way.sent(way.blobs, lambda: documents.replace(found.stamp, b"2"))
    assert (replace.method, replace.headers["if-match"]) == ("PUT", found.stamp.version)
    [read] = way.sent(way.blobs, lambda: documents.read("plan", unless=found.stamp.version))
    assert (read.method, read.headers["if-none-match"]) == ("GET", found.stamp.version)
    newer = documents.read("plan")
    assert newer is not None
    [unchanged] = way.sent(way.blobs, lambda: documents.read("plan", unless=newer.stamp.version))
    assert unchanged.headers["if-none-match"] == newer.stamp.version
    [listing] = way.sent(way.blobs, lambda: documents.list("pl"))
    assert "comp=list" in listing.target
    [delete] = way.sent(way.blobs, lambda: documents.delete(newer.stamp))
    assert (delete.method, delete.headers["if-match"]) == ("DELETE", newer.stamp.version)
    assert {passed.request.headers["x-ms-version"] for passed in way.blobs.log} == {API_VERSION}


def test_large_document(way: Way) -> None:
    """A document of several megabytes is written, and read, in one request."""
    body = b"x" * (9 * 1024 * 1024)
    [create] = way.sent(way.blobs, lambda: way.client.documents.create("plan", body))
    assert int(create.headers["content-length"]) == len(body)
    assert len(way.sent(way.blobs, lambda: way.client.documents.read("plan"))) == 1


def test_lease(way: Way) -> None:
    """A claim acquires and records under its lease id and on condition; a renewal is a lease operation, and no more."""
    lease = way.client.lease("leader")
    make, acquire, record = way.sent(way.blobs, lambda: lease.claim(lease.observe(), bid("a", 1)))[1:]
    assert (make.method, make.headers["if-none-match"]) == ("PUT", "*")
    assert "x-ms-meta-holder" not in make.headers
    assert (acquire.headers["x-ms-lease-action"], acquire.headers["x-ms-lease-duration"]) == ("acquire", "15")
    assert acquire.headers["x-ms-proposed-lease-id"] == lease_id("a")
    assert "if-match" in acquire.headers
    assert "comp=metadata" in record.target
    assert (record.headers["x-ms-lease-id"], record.headers["if-match"]) == (lease_id("a"), acquire.headers["if-match"])
    assert (record.headers["x-ms-meta-term"], record.headers["x-ms-meta-holder"]) == ("1", '"a"')
    view = lease.observe()
    grant = lease.claim(view, bid("a", 2))
    [renew] = way.sent(way.blobs, lambda: lease.renew(grant, "n1"))
    assert (renew.method, "comp=lease" in renew.target) == ("PUT", True)
    assert (renew.headers["x-ms-lease-action"], renew.headers["x-ms-lease-id"]) == ("renew", lease_id("a"))
    [observe] = way.sent(way.blobs, lease.observe)
    assert observe.method == "HEAD"
    change, named = way.sent(way.blobs, lambda: lease.hand_over(grant, Heir("b", "token"), "n2"))
    assert (change.headers["x-ms-lease-action"], change.headers["x-ms-lease-id"]) == ("change", lease_id("a"))
    assert change.headers["x-ms-proposed-lease-id"] == lease_id("b")
    assert (named.headers["x-ms-lease-id"], named.headers["if-match"]) == (lease_id("b"), grant.version)
    handed = lease.observe()
    held = lease.accept(handed, bid("b", handed.term), "token")
    [release] = way.sent(way.blobs, lambda: lease.resign(held, "n3"))
    assert (release.headers["x-ms-lease-action"], release.headers["x-ms-lease-id"]) == ("release", lease_id("b"))


def changes(request: Request) -> bool:
    """Whether a request changes a lease's id."""
    return request.headers.get("x-ms-lease-action") == "change"


def records(request: Request) -> bool:
    """Whether a request writes a lease's record."""
    return "comp=metadata" in request.target


def test_repeated_hand_over(way: Way) -> None:
    """A hand-over whose answer was lost is repeated, and ends handed over, whichever of its two answers it was."""
    lease = way.client.lease("leader")
    for number, action in enumerate(("change", "record"), 1):
        view = lease.observe()
        grant = lease.claim(view, bid(f"a{number}", view.term + 1))
        way.blobs.inject(
            Fault.CUT_ANSWER,
            when=changes if action == "change" else records,
            times=1,
        )
        heir = Heir(f"b{number}", "token")
        with pytest.raises(OutcomeUnknown):
            lease.hand_over(grant, heir, f"n{number}")
        if action == "change":
            lease.hand_over(grant, heir, f"m{number}")
        else:  # all of it had worked
            with pytest.raises(Refused):
                lease.hand_over(grant, heir, f"m{number}")
        view = lease.observe()
        assert (view.handed, view.holder) == (True, f"b{number}")
        lease.resign(lease.accept(view, bid(f"b{number}", view.term), "token"), f"r{number}")


def test_a_claim_that_failed_half_way_is_repeated(way: Way) -> None:
    """When the record of a claim got no answer, or could not be sent, the claim is unclear, and repeating it works."""
    lease = way.client.lease("leader")
    for number, (fault, answer) in enumerate(((Fault.CUT_REQUEST, None), (Fault.ANSWER, SERVER_BUSY)), 1):
        view = lease.observe()
        way.blobs.inject(fault, when=records, times=1, answer=answer or SERVER_BUSY)
        with pytest.raises(OutcomeUnknown):
            lease.claim(view, bid(f"a{number}", view.term + 1))
        seen = lease.observe()
        lease.resign(lease.claim(seen, bid(f"a{number}", seen.term + 1)), f"r{number}")
        assert lease.observe().term == number


def test_queue(way: Way) -> None:
    """A message is sent to live for ever, and hiding it again sends no body that could change it."""
    queue = way.client.queue
    look, create = way.sent(way.queues, lambda: queue.ensure("orders-00"))
    assert (look.method, create.method) == ("GET", "PUT")
    assert len(way.sent(way.queues, lambda: queue.ensure("orders-00"))) == 1
    [send] = way.sent(way.queues, lambda: queue.send("orders-00", [b"\x00"]))
    assert "messagettl=-1" in send.target
    [received] = queue.receive("orders-00", 1, 30.0)
    [extend] = way.sent(way.queues, lambda: queue.extend("orders-00", received.receipt, 0.2))
    assert (extend.method, "visibilitytimeout=1" in extend.target, extend.headers["content-length"]) == (
        "PUT",
        True,
        "0",
    )
    assert len(way.sent(way.queues, lambda: queue.receive("orders-00", 32, 30.0))) == 1
    assert {passed.request.headers["x-ms-version"] for passed in way.queues.log} == {API_VERSION}


NOT_AZURE = Canned(404, b"<html>nothing here</html>", (("Content-Type", "text/html"),))


def azures(status: int, code: str) -> Canned:
    """Return an error as Azure tells it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return Canned(
        status, body, (("Content-Type", "application/xml"), ("x-ms-error-code", code), ("x-ms-request-id", "1"))
    )


@pytest.mark.parametrize(
    "answer, for_write, for_read, told",
    [
        (SERVER_BUSY, Unavailable, Unavailable, "throttled"),
        (TOO_MANY, Unavailable, Unavailable, "429"),
        (azures(500, "InternalError"), OutcomeUnknown, Unavailable, "500 InternalError"),
        (azures(500, "OperationTimedOut"), OutcomeUnknown, Unavailable, "OperationTimedOut"),
        (Canned(502, b"<html>"), OutcomeUnknown, Unavailable, "502"),
        (azures(403, "AuthorizationPermissionMismatch"), Misconfigured, Misconfigured, "Storage Blob Data Contributor"),
        (azures(403, "AuthorizationFailure"), Misconfigured, Misconfigured, "network rules"),
        (azures(403, "AuthenticationFailed"), Misconfigured, Misconfigured, "signing in failed"),
        (
            azures(403, "KeyBasedAuthenticationNotPermitted"),
            Misconfigured,
            Misconfigured,
            "WORKER_AZURE_CONNECTION_STRING",
        ),
        (azures(404, "ContainerNotFound"), Misconfigured, Misconfigured, "no such container"),
        (azures(400, "SomethingNew"), Misconfigured, Misconfigured, "400 SomethingNew"),
        (NOT_AZURE, Misconfigured, Misconfigured, "not as Azure Storage does"),
        (WEB_PAGE, Misconfigured, Misconfigured, "not as Azure Storage does"),
        (BROKEN, OutcomeUnknown, Unavailable, "500"),
    ],
)
def test_answers(
    way: Way, answer: Canned, for_write: type[ProviderError], for_read: type[ProviderError], told: str
) -> None:
    """Every kind of bad answer is one error in one line that says what to do, after one request and no other."""
    answered(way.blobs, way.client, answer, for_write, for_read, told)


@pytest.mark.parametrize("fault", [Fault.CUT_REQUEST, Fault.CUT_AFTER_REQUEST, Fault.CUT_ANSWER])
def test_cut_off(way: Way, fault: Fault) -> None:
    """A connection that is cut makes a write unknown and a read unavailable, and nothing is sent a second time."""
    cut_off(way.blobs, way.client, fault)


def test_refused_connection(way: Way) -> None:
    """Where nobody listens, nothing was sent: unavailable, naming the endpoint."""
    way.blobs.refuse()
    with pytest.raises(Unavailable, match="cannot be reached"):
        way.client.documents.create("plan", b"1")


def test_silence(azurite: AzureEmulator, way: Way) -> None:
    """A store that accepts and never answers makes a write unknown after the time that one request may take."""
    way.blobs.inject(Fault.BLACK_HOLE)
    options = StoreOptions(
        azure_connection_string=azurite.connection_string, endpoint_url=way.blobs.url, queue_endpoint_url=way.queues.url
    )
    client = AzureDriver(azurite.account, "silent", "", options).open(0.2)
    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        client.documents.create("plan", b"1")
    with pytest.raises(Unavailable, match="no clear answer"):
        client.documents.read("plan")
    client.close()


def test_wrong_lease_durations(way: Way) -> None:
    """A lease that Azure would not grant is refused before anything is acquired."""
    lease = way.client.lease("leader")
    for duration in (14.0, 61.0, 20.5):
        with pytest.raises(Misconfigured, match="from 15 to 60"):
            lease.claim(lease.observe(), Bid("a", "i", "fleet", 1, duration, secrets.token_hex(4)))
    assert lease.observe().term == 0


def test_store_time(way: Way) -> None:
    """The store's clock is read from its answers, wrong as it may be."""
    right = way.client.documents.create("plan", b"1").store_time
    way.blobs.inject(Fault.DATE, seconds=3600.0)
    found = way.client.documents.read("plan")
    assert found is not None
    assert right is not None
    assert found.stamp.store_time is not None
    assert 3500 < found.stamp.store_time - right < 3700


def test_looks_are_compared_without_their_time(way: Way) -> None:
    """A lease that nobody touched looks the same to whoever looks an hour later."""
    lease = way.client.lease("leader")
    lease.claim(lease.observe(), bid("a", 1))
    before = lease.observe()
    way.blobs.inject(Fault.DATE, seconds=3600.0)
    later = lease.observe()
    assert before.store_time is not None
    assert later.store_time is not None
    assert 3500 < later.store_time - before.store_time < 3700
    assert later == before


@pytest.mark.parametrize(
    "options, told",
    [
        (StoreOptions(azure_connection_string="AccountName=other;AccountKey=secret=="), "'account'.*'other'"),
        (StoreOptions(azure_connection_string="SharedAccessSignature=secret"), "AccountName="),
        (StoreOptions(endpoint_url="http://127.0.0.1:10000/account"), "WORKER_QUEUE_ENDPOINT_URL"),
    ],
)
def test_contradictions(options: StoreOptions, told: str) -> None:
    """Settings that contradict each other are refused at once, and no secret is repeated."""
    with pytest.raises(Misconfigured, match=told) as caught:
        AzureDriver("account", "container", "", options)
    assert "secret" not in str(caught.value)


def test_queue_names(way: Way) -> None:
    """A queue that Azure cannot have, or keep in order, is refused in one line before anything is sent."""
    queue = way.client.queue
    for name in ("orders.fifo", "Orders", "o" * 64, "a--b"):
        with pytest.raises(Misconfigured, match="lower-case letters"):
            queue.send(name, [b"1"])
    with pytest.raises(Misconfigured, match="no"):
        queue.ensure("orders-00", ordered=True)
    assert way.queues.log == []


def test_foreign_bodies(way: Way, azurite: AzureEmulator) -> None:
    """What a foreign producer sends as plain text arrives as that text."""
    from azure.storage.queue import QueueClient

    way.client.queue.ensure("orders-00")
    name = way.queues.log[-1].request.path.rsplit("/", 1)[1]
    with QueueClient.from_connection_string(azurite.connection_string, name, api_version=API_VERSION) as foreign:
        foreign.send_message('{"customer": "ann"}')
    [received] = way.client.queue.receive("orders-00", 1, 30.0)
    assert received.body == b'{"customer": "ann"}'
    stale = Stamp("plan", Version('"0x0"'))
    with pytest.raises(Refused):
        way.client.documents.replace(stale, b"1")
