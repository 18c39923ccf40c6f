"""What the AWS driver makes of answers that break off or say too little: a known error, never one of a library below.

Nobody but the proxy answers here, so that an answer can end wherever a test wants it to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from providers.aws import AwsDriver
from providers.interface import Client, Misconfigured, OutcomeUnknown, Refused, Stamp, Unavailable, Version
from providers.options import StoreOptions
from tests.proxy import BROKEN, Canned, Fault, FaultProxy, Request

TOTAL = 0.5
"""Seconds: a body that stands still is given up after so long."""

OLD = Stamp("plan", Version('"1"'))
JSON = (("Content-Type", "application/x-amz-json-1.0"),)


@dataclass(frozen=True)
class Unfinished(Canned):
    """An answer that promises a hundred bytes more than ever come."""

    def to_bytes(self) -> bytes:
        whole, promised = super().to_bytes(), len(self.body) + 100
        return whole.replace(b"Content-Length: %d" % len(self.body), b"Content-Length: %d" % promised, 1)


@dataclass(frozen=True)
class Garbled(Canned):
    """An answer in chunks, of which the second is none."""

    def to_bytes(self) -> bytes:
        head, _, body = super().to_bytes().partition(b"\r\n\r\n")
        head = head.replace(b"Content-Length: %d" % len(self.body), b"Transfer-Encoding: chunked", 1)
        return head + b"\r\n\r\n%x\r\n%b\r\nno length\r\n" % (len(body), body)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy("http://127.0.0.1:1") as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    client = AwsDriver("bucket", "", StoreOptions(endpoint_url=proxy.url)).open(TOTAL)
    yield client
    client.close()


@pytest.mark.parametrize("kind", [Unfinished, Garbled])
@pytest.mark.parametrize("status, body", [(200, b'{"a":'), (404, b"<?xml version='1.0'?><Error><Co")])
def test_reading_breaks_off(client: Client, proxy: FaultProxy, kind: type[Canned], status: int, body: bytes) -> None:
    """A document or an error whose bytes stop coming makes a read unavailable, after one request."""
    proxy.inject(Fault.ANSWER, answer=kind(status, body, (("ETag", '"1"'), ("Content-Type", "application/xml"))))
    with pytest.raises(Unavailable, match="no clear answer"):
        client.documents.read("plan")
    with pytest.raises(Unavailable, match="no clear answer"):
        client.lease("leader").observe()
    assert len(proxy.log) == 2


@pytest.mark.parametrize("kind", [Unfinished, Garbled])
def test_writing_breaks_off(client: Client, proxy: FaultProxy, kind: type[Canned]) -> None:
    """An error answer to a write whose bytes stop coming leaves the outcome unknown, after one request."""
    proxy.inject(Fault.ANSWER, answer=kind(412, b"<?xml version='1.0'?><Error><Co"))
    with pytest.raises(OutcomeUnknown, match="no clear answer"):
        client.documents.replace(OLD, b"2")
    assert len(proxy.log) == 1


def is_look(request: Request) -> bool:
    return request.method == "HEAD"


@pytest.mark.parametrize(
    "answer, kind, told",
    [
        (Canned(503), Unavailable, "no clear answer|throttled"),
        (Canned(403), Misconfigured, "s3:GetObject on arn:aws:s3:::bucket/"),
        (Canned(404), Refused, "gone"),
        (Canned(200, headers=(("ETag", '"2"'),)), Refused, "changed"),
        (Canned(200), Misconfigured, "without ETag"),
    ],
)
def test_look_before_a_delete(
    client: Client, proxy: FaultProxy, answer: Canned, kind: type[Exception], told: str
) -> None:
    """What stops the look before a delete is told as what it is, and nothing is deleted."""
    proxy.inject(Fault.ANSWER, when=is_look, answer=answer)
    with pytest.raises(kind, match=told) as caught:
        client.documents.delete(OLD)
    assert type(caught.value) is kind
    assert [passed.request.method for passed in proxy.log] == ["HEAD"]


def test_delete_without_an_answer(client: Client, proxy: FaultProxy) -> None:
    """Once the delete itself is sent, a server that breaks leaves the outcome unknown."""
    proxy.inject(Fault.ANSWER, when=is_look, answer=Canned(200, headers=(("ETag", '"1"'),)))
    proxy.inject(Fault.ANSWER, answer=BROKEN)
    with pytest.raises(OutcomeUnknown):
        client.documents.delete(OLD)


def call_of(name: str) -> Callable[[Request], bool]:
    return lambda request: request.headers.get("x-amz-target") == f"AmazonSQS.{name}"


@pytest.mark.parametrize(
    "told, kind",
    [
        (b"{}", OutcomeUnknown),
        (b'{"Failed":[{"Id":"0","Code":"Busy","SenderFault":false}]}', OutcomeUnknown),
        (b'{"Failed":[{"Id":"0","Code":"Busy"},{"Id":"1","Code":"Busy"}]}', Unavailable),
        (b'{"Failed":[{"Id":"0"},{"Id":"1"}]}', Unavailable),
        (b'{"Failed":[{"Id":"0"},{"Id":"1"}],"Successful":[{"Id":"1","MessageId":"m"}]}', OutcomeUnknown),
        (b'{"Successful":[{"Id":"a","MessageId":"m"},{"Id":"b","MessageId":"n"}]}', OutcomeUnknown),
        (b'{"Successful":[{"Id":"0","MessageId":"m"},{"Id":"1"}]}', OutcomeUnknown),
    ],
)
def test_a_batch_of_which_too_little_is_said(
    client: Client, proxy: FaultProxy, told: bytes, kind: type[Exception]
) -> None:
    """Only when every message is said to have failed has nothing been sent."""
    proxy.inject(Fault.ANSWER, when=call_of("GetQueueUrl"), answer=Canned(200, b'{"QueueUrl":"http://q/1/o"}', JSON))
    proxy.inject(Fault.ANSWER, when=call_of("SendMessageBatch"), answer=Canned(200, told, JSON))
    with pytest.raises(kind) as caught:
        client.queue.send("orders-00", [b"1", b"2"])
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    "message, told",
    [
        (b'{"MessageId":"m","ReceiptHandle":"r","Body":"1"}', "without Attributes"),
        (b'{"ReceiptHandle":"r","Attributes":{}}', "without MessageId"),
        (b'{"MessageId":"m","ReceiptHandle":"r","Attributes":{"SentTimestamp":"1"}}', "without Approx"),
    ],
)
def test_a_message_of_which_too_little_is_said(client: Client, proxy: FaultProxy, message: bytes, told: str) -> None:
    """A server whose messages lack what SQS says of each is named, by who receives and by who looks (moto 4 is one)."""
    proxy.inject(Fault.ANSWER, when=call_of("GetQueueUrl"), answer=Canned(200, b'{"QueueUrl":"http://q/1/o"}', JSON))
    answer = Canned(200, b'{"Messages":[%b]}' % message, JSON)
    proxy.inject(Fault.ANSWER, when=call_of("ReceiveMessage"), answer=answer)
    with pytest.raises(Misconfigured, match=told):
        client.queue.receive("orders-00", 1, 30.0)
    with pytest.raises(Misconfigured, match=told):
        client.queue.peek("orders-00", 1)


def test_a_listing_of_which_too_little_is_said(client: Client, proxy: FaultProxy) -> None:
    """A server that lists documents without their versions is named."""
    body = b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>plan</Key></Contents></ListBucketResult>"
    proxy.inject(Fault.ANSWER, answer=Canned(200, body, (("Content-Type", "application/xml"),)))
    with pytest.raises(Misconfigured, match="without ETag"):
        client.documents.list("")


def test_a_queue_of_which_too_little_is_said(client: Client, proxy: FaultProxy) -> None:
    """A server that does not say how long a queue keeps its messages is named."""
    proxy.inject(Fault.ANSWER, when=call_of("GetQueueUrl"), answer=Canned(200, b'{"QueueUrl":"http://q/1/o"}', JSON))
    answer = Canned(200, b'{"Attributes":{"DelaySeconds":"0"}}', JSON)
    proxy.inject(Fault.ANSWER, when=call_of("GetQueueAttributes"), answer=answer)
    with pytest.raises(Misconfigured, match="without MessageRetentionPeriod"):
        client.queue.retention("orders-00")
