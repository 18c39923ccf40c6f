"""What the AWS driver really sends, seen on the way to its servers, and what it makes of bad answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from providers.aws import AwsDriver
from providers.aws.messages import group_of, to_bytes, to_text
from providers.interface import Client, Misconfigured, NotFound, OutcomeUnknown, ProviderError, Refused, Unavailable
from providers.options import StoreOptions
from tests.emulators import BUCKET, READER, AwsEmulator
from tests.proxy import BROKEN, SLOW_DOWN, TOO_MANY, WEB_PAGE, Canned, Fault, FaultProxy, Request
from tests.unit.requests_support import answered, cut_off

TOTAL = 5.0


@dataclass
class Way:
    """A client whose every request passes before our eyes."""

    client: Client
    s3: FaultProxy
    sqs: FaultProxy

    def sent(self, proxy: FaultProxy, call: Callable[[], object]) -> list[Request]:
        """Do something and return the requests that it was."""
        before = len(proxy.log)
        call()
        return [passed.request for passed in proxy.log[before:]]


@pytest.fixture
def way(seaweedfs: AwsEmulator, moto_server: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    for name, value in {**seaweedfs.env, "AWS_MAX_ATTEMPTS": "5", "AWS_RETRY_MODE": "adaptive"}.items():
        monkeypatch.setenv(name, value)
    name = f"t{secrets.token_hex(4)}"
    with FaultProxy(seaweedfs.url) as s3, FaultProxy(moto_server.url) as sqs:
        options = StoreOptions(endpoint_url=s3.url, queue_endpoint_url=sqs.url, queue_prefix=f"{name}-")
        client = AwsDriver(BUCKET, f"{name}/", options).open(TOTAL)
        yield Way(client, s3, sqs)
        client.close()


def test_documents(way: Way) -> None:
    """Each call on a document is one request, by path, that names its condition and has no checksum of the SDK's."""
    documents = way.client.documents
    [create] = way.sent(way.s3, lambda: documents.create("plan", b"1"))
    assert (create.method, create.headers["if-none-match"]) == ("PUT", "*")
    assert create.path.startswith(f"/{BUCKET}/")
    assert create.path.endswith("/plan")
    assert not [name for name in create.headers if "checksum" in name or name == "x-amz-trailer"]
    found = documents.read("plan")
    assert found is not None
    [replace] = way.sent(way.s3, lambda: documents.replace(found.stamp, b"2"))
    assert (replace.method, replace.headers["if-match"]) == ("PUT", found.stamp.version)
    [read] = way.sent(way.s3, lambda: documents.read("plan", unless=found.stamp.version))
    assert (read.method, read.headers["if-none-match"]) == ("GET", found.stamp.version)
    newer = documents.read("plan")
    assert newer is not None
    assert newer.stamp.store_time is not None
    [listing] = way.sent(way.s3, lambda: documents.list("pl", after="plan"))
    assert "list-type=2" in listing.target
    assert "start-after=" in listing.target
    look, delete = way.sent(way.s3, lambda: documents.delete(newer.stamp))
    assert (look.method, delete.method, delete.headers["if-match"]) == ("HEAD", "DELETE", newer.stamp.version)


def test_queue(way: Way) -> None:
    """Messages go ten in a request, and a queue's address is asked for once."""
    queue = way.client.queue
    queue.ensure("orders-00")
    [send] = way.sent(way.sqs, lambda: queue.send("orders-00", [b"%d" % n for n in range(10)]))
    assert send.headers["x-amz-target"] == "AmazonSQS.SendMessageBatch"
    received = queue.receive("orders-00", 10, 30.0)
    assert len(received) == 10
    [delete] = way.sent(way.sqs, lambda: queue.delete_many("orders-00", [one.receipt for one in received]))
    assert delete.headers["x-amz-target"] == "AmazonSQS.DeleteMessageBatch"
    assert queue.depth("orders-00").visible == 0
    [receive] = way.sent(way.sqs, lambda: queue.receive("orders-00", 1, 30.0, wait=1.9))
    assert receive.headers["x-amz-target"] == "AmazonSQS.ReceiveMessage"
    assert queue.retention("orders-00") == 14 * 24 * 3600


def test_order_by_name(way: Way) -> None:
    """Strict order is refused for a queue whose name does not ask for it, and the message says which name does."""
    with pytest.raises(Misconfigured, match="fifo"):
        way.client.queue.ensure("orders-00", ordered=True)


def aws(status: int, code: str, message: str = "no") -> Canned:
    """Return an error as S3 tells it."""
    return Canned(
        status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    )


@pytest.mark.parametrize(
    "answer, for_write, for_read, told",
    [
        (SLOW_DOWN, Unavailable, Unavailable, "throttled"),
        (TOO_MANY, Unavailable, Unavailable, "throttled"),
        (aws(409, "ConditionalRequestConflict"), Unavailable, Unavailable, "under way"),
        (BROKEN, OutcomeUnknown, Unavailable, "no clear answer"),
        (Canned(502, b"<html>"), OutcomeUnknown, Unavailable, "no clear answer"),
        (aws(403, "AccessDenied"), Misconfigured, Misconfigured, "Object on arn:aws:s3:::cloud-worker/"),
        (aws(403, "InvalidAccessKeyId"), Misconfigured, Misconfigured, "credentials"),
        (aws(403, "SignatureDoesNotMatch"), Misconfigured, Misconfigured, "credentials"),
        (aws(400, "ExpiredToken"), Misconfigured, Misconfigured, "expired"),
        (aws(403, "RequestTimeTooSkewed"), Misconfigured, Misconfigured, "clock"),
        (aws(301, "PermanentRedirect"), Misconfigured, Misconfigured, "WORKER_AWS_REGION"),
        (aws(400, "AuthorizationHeaderMalformed"), Misconfigured, Misconfigured, "WORKER_AWS_REGION"),
        (aws(404, "NoSuchBucket"), Misconfigured, Misconfigured, "create it"),
        (aws(501, "NotImplemented"), Misconfigured, Misconfigured, "does not implement"),
        (aws(418, "Teapot"), Misconfigured, Misconfigured, "418"),
        (WEB_PAGE, Misconfigured, Misconfigured, "such store"),
        (
            Canned(404, b"<html>nothing here</html>", (("Content-Type", "text/html"),)),
            Misconfigured,
            Misconfigured,
            "404",
        ),
    ],
)
def test_answers(
    way: Way, answer: Canned, for_write: type[ProviderError], for_read: type[ProviderError], told: str
) -> None:
    """Every kind of bad answer is one error in one line that says what to do, after one request and no other."""
    answered(way.s3, way.client, answer, for_write, for_read, told)


@pytest.mark.parametrize("fault", [Fault.CUT_REQUEST, Fault.CUT_AFTER_REQUEST, Fault.CUT_ANSWER])
def test_cut_off(way: Way, fault: Fault) -> None:
    """A connection that is cut makes a write unknown and a read unavailable, and nothing is sent a second time."""
    cut_off(way.s3, way.client, fault)


def test_refused_connection(way: Way) -> None:
    """Where nobody listens, nothing was sent: unavailable, naming the endpoint."""
    way.s3.refuse()
    with pytest.raises(Unavailable, match="cannot be reached"):
        way.client.documents.create("plan", b"1")


def test_silence(way: Way, seaweedfs: AwsEmulator) -> None:
    """A store that accepts and never answers makes a write unknown after the time that one request may take."""
    way.s3.inject(Fault.BLACK_HOLE)
    client = AwsDriver(BUCKET, "", StoreOptions(endpoint_url=way.s3.url)).open(0.2)
    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        client.documents.create("plan", b"1")
    with pytest.raises(Unavailable, match="no clear answer"):
        client.documents.read("plan")
    client.close()


def test_conditions_that_fail(way: Way) -> None:
    """412 is a refusal, and so is 404 on a write that names a version; 404 on a read means that nothing is there."""
    documents = way.client.documents
    stamp = documents.create("plan", b"1")
    for answer in (aws(412, "PreconditionFailed"), aws(404, "NoSuchKey")):
        way.s3.inject(Fault.ANSWER, answer=answer, times=1)
        with pytest.raises(Refused):
            documents.replace(stamp, b"2")
    way.s3.inject(Fault.ANSWER, answer=aws(404, "NoSuchKey"), times=1)
    with pytest.raises(NotFound):
        documents.read("plan")


def test_reading_is_allowed_and_writing_is_not(
    way: Way, seaweedfs: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that may only read are told which permission a write needs, by a real server."""
    way.client.documents.create("plan", b"1")
    prefix = way.s3.log[-1].request.path.split("/")[2]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    reader = AwsDriver(BUCKET, f"{prefix}/", StoreOptions(endpoint_url=seaweedfs.url)).open(TOTAL)
    assert reader.documents.read("plan") is not None
    with pytest.raises(Misconfigured, match="s3:PutObject on arn:aws:s3:::cloud-worker"):
        reader.documents.create("other", b"1")
    reader.close()


def test_no_credentials(way: Way, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A machine without credentials is told how to give it some, and asks nobody for them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    client = AwsDriver(BUCKET, "", StoreOptions(endpoint_url=way.s3.url)).open(TOTAL)
    with pytest.raises(Misconfigured, match="no usable AWS credentials"):
        client.documents.read("plan")
    client.close()


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region, and without an endpoint that needs none, the setting is named."""
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(Misconfigured, match="WORKER_AWS_REGION"):
        AwsDriver(BUCKET, "", StoreOptions()).open(TOTAL)


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """AWS's own variables are looked at before anything else is done, and the error repeats what they say."""
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv(variable, "eu west 1")
    with pytest.raises(Misconfigured, match="no AWS region 'eu west 1'"):
        AwsDriver(BUCKET, "", StoreOptions())


@pytest.mark.parametrize("url", ["http://.", "http://a..b", "http://a_b:9000"])
def test_an_endpoint_that_cannot_be_one(url: str) -> None:
    """An endpoint whose host's name cannot be one is refused at once, and named; an address of IPv6 is one."""
    good = "http://[::1]:9000"
    AwsDriver(BUCKET, "", StoreOptions(endpoint_url=good, queue_endpoint_url=good))
    for wrong in (StoreOptions(endpoint_url=url), StoreOptions(endpoint_url=good, queue_endpoint_url=url)):
        with pytest.raises(Misconfigured, match=f"no server can be at {url!r}"):
            AwsDriver(BUCKET, "", wrong)


def test_some_of_a_batch(way: Way) -> None:
    """When a part of a batch is not taken, the answer is not "nothing changed"."""
    way.client.queue.ensure("orders-00")
    half = (
        b'{"Successful":[{"Id":"0","MessageId":"m0","MD5OfMessageBody":"c4ca4238a0b923820dcc509a6f75849b"}],'
        b'"Failed":[{"Id":"1","Code":"InternalError","SenderFault":false}]}'
    )
    json = (("Content-Type", "application/x-amz-json-1.0"),)
    way.sqs.inject(Fault.ANSWER, answer=Canned(200, half, json), times=1)
    with pytest.raises(OutcomeUnknown, match=r"1 of 2.*InternalError"):
        way.client.queue.send("orders-00", [b"1", b"2"])
    none = b'{"Successful":[],"Failed":[{"Id":"0","Code":"Throttled","SenderFault":false}]}'
    way.sqs.inject(Fault.ANSWER, answer=Canned(200, none, json), times=1)
    with pytest.raises(Unavailable, match="Throttled"):
        way.client.queue.send("orders-00", [b"1"])


@pytest.mark.parametrize("body", [b"{}", "ü 顧客 😀".encode(), b"\x00", b"a\r\nb", b"\xff\xfe", bytes(range(256)), b""])
def test_bodies(body: bytes) -> None:
    """Whatever is sent arrives as it was, and what is text travels as text."""
    text, attributes = to_text(body)
    assert to_bytes(text, attributes) == body


def test_groups() -> None:
    """A key is its message group where SQS can name one so, and else a hash of it; no key is the queue's own group."""
    assert group_of("customer-17", "q") == "customer-17"
    assert group_of(None, "orders-00.fifo") == "orders-00.fifo"
    assert len({group_of(key, "q") for key in ("a b", "a  b", "ü", "x" * 129, "")}) == 5
    assert all(len(group_of(key, "q")) <= 128 for key in ("a b", "x" * 1000))
