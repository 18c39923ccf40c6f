"""What the AWS driver makes of answers that only the real services give, told by a proxy with no server behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from botocore.exceptions import (
    CredentialRetrievalError,
    MetadataRetrievalError,
    ProfileNotFound,
    UnauthorizedSSOTokenError,
)

from providers.aws import AwsDriver
from providers.aws import errors as aws_errors
from providers.aws.messages import ENCODED, LIMIT, OVERHEAD, to_bytes, to_text
from providers.interface import (
    Client,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Stamp,
    Unavailable,
    Version,
)
from providers.options import StoreOptions
from tests.proxy import Canned, Fault, FaultProxy, Request

JSON = (("Content-Type", "application/x-amz-json-1.0"), ("x-amzn-requestid", "canned"))
XML = (("Content-Type", "application/xml"), ("x-amz-request-id", "canned"))
STAMP = Stamp("plan", Version('"1"'))


@dataclass
class Told:
    """A driver to which the proxy says what a test wants it to hear."""

    driver: AwsDriver
    client: Client
    proxy: FaultProxy

    def s3(self, status: int, code: str, *headers: tuple[str, str], when: str = "", times: int | None = 1) -> None:
        """Let S3 answer requests of the method `when` with an error."""
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        canned = Canned(status, body, (*XML, *headers))
        self.proxy.inject(Fault.ANSWER, when=lambda asked: when in ("", asked.method), answer=canned, times=times)

    def sqs(self, operation: str, answer: object, status: int = 200, query: str = "", times: int | None = 1) -> None:
        """Let SQS answer an operation."""
        headers = (*JSON, ("x-amzn-query-error", f"{query};Sender")) if query else JSON
        self.proxy.inject(
            Fault.ANSWER,
            when=lambda asked: asked.headers.get("x-amz-target") == f"AmazonSQS.{operation}",
            answer=Canned(status, json.dumps(answer).encode(), headers),
            times=times,
        )

    def sent(self) -> list[Request]:
        """Return the requests so far."""
        return [passed.request for passed in self.proxy.log]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "dummy")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with FaultProxy("http://127.0.0.1:9") as proxy:
        driver = AwsDriver("bucket", "p/", StoreOptions(endpoint_url=proxy.url, aws_region="eu-north-1"))
        client = driver.open(5.0)
        told = Told(driver, client, proxy)
        told.sqs("GetQueueUrl", {"QueueUrl": f"{proxy.url}/1/orders-00"}, times=None)
        yield told
        client.close()


@pytest.mark.parametrize(
    "status, code, for_write, for_read, words",
    [
        (400, "RequestTimeout", OutcomeUnknown, Unavailable, "no clear answer"),
        (408, "", OutcomeUnknown, Unavailable, "no clear answer"),
        (503, "SlowDownWrite", OutcomeUnknown, Unavailable, "no clear answer"),
        (503, "SlowDown", Unavailable, Unavailable, "throttled"),
        (400, "IncompleteBody", Unavailable, Unavailable, "not arrived"),
        (400, "KMS.DisabledException", Misconfigured, Misconfigured, "kms:Decrypt"),
        (403, "RequestExpired", Misconfigured, Misconfigured, "clock"),
        (400, "InvalidRequest", Misconfigured, Misconfigured, "refuses it"),
    ],
)
def test_answers_of_s3(
    told: Told, status: int, code: str, for_write: type[ProviderError], for_read: type[ProviderError], words: str
) -> None:
    """What S3 says of a stall, a key or a half-done write means to the caller what it means to the object."""
    told.s3(status, code, times=None)
    for kind, call in (
        (for_write, lambda: told.client.documents.replace(STAMP, b"1")),
        (for_read, lambda: told.client.documents.read("plan")),
    ):
        with pytest.raises(ProviderError, match=words) as caught:
            call()
        assert type(caught.value) is kind


def test_regions(told: Told) -> None:
    """A bucket in another region is an error that names that region and the one that was asked."""
    told.s3(301, "PermanentRedirect", ("x-amz-bucket-region", "ap-south-1"))
    with pytest.raises(Misconfigured, match=r"in ap-south-1, .* signed for eu-north-1.*WORKER_AWS_REGION"):
        told.client.documents.read("plan")


def test_gone_is_for_stores_to_say(told: Told) -> None:
    """A web server's 404 on a write that names a version says nothing about the document, and a store's says all."""
    told.proxy.inject(Fault.ANSWER, answer=Canned(404, b"<html>", (("Content-Type", "text/html"),)), times=1)
    with pytest.raises(Misconfigured, match="no such store"):
        told.client.documents.replace(STAMP, b"1")
    told.s3(404, "NoSuchKey")
    with pytest.raises(Refused, match="gone"):
        told.client.documents.replace(STAMP, b"1")


def test_bodies_are_not_announced(told: Told) -> None:
    """A write is sent whole, without asking first whether it may be: no renewal waits for that."""
    told.s3(412, "PreconditionFailed")
    with pytest.raises(Refused):
        told.client.documents.replace(STAMP, b"1")
    [put] = told.sent()
    assert "expect" not in put.headers
    assert put.headers["content-length"] == "1"


def test_delete_where_conditions_are_unknown(told: Told) -> None:
    """Where a server does not know conditional deletes, the version is compared first, and another is left alone."""
    told.proxy.inject(
        Fault.ANSWER,
        when=lambda asked: asked.method == "HEAD",
        answer=Canned(200, b"", (*XML, ("ETag", STAMP.version))),
    )
    told.s3(501, "NotImplemented", when="DELETE")
    told.proxy.inject(Fault.ANSWER, when=lambda asked: asked.method == "DELETE", answer=Canned(204), times=1)
    told.client.documents.delete(STAMP)
    assert [(asked.method, asked.headers.get("if-match")) for asked in told.sent()] == [
        ("HEAD", None),
        ("DELETE", STAMP.version),
        ("DELETE", None),
    ]
    with pytest.raises(Refused):
        told.client.documents.delete(Stamp("plan", Version('"2"')))
    assert told.sent()[-1].method == "HEAD"


@pytest.mark.parametrize(
    "kind, query",
    [
        ("InvalidParameterValueException", "InvalidParameterValue"),
        ("InvalidParameterValue", ""),
        ("MissingParameter", "MissingParameter"),
        ("AWS.SimpleQueueService.MissingParameter", "AWS.SimpleQueueService.MissingParameter"),
        ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
        ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
    ],
)
def test_receipts_that_have_run_out(told: Told, kind: str, query: str) -> None:
    """Under each of its names, a receipt whose visibility has ended is refused and is nobody's misconfiguration."""
    queue = told.client.queue
    calls: list[tuple[str, Callable[[], object]]] = [
        ("ChangeMessageVisibility", lambda: queue.extend("orders-00", "r", 30.0)),
        ("ChangeMessageVisibility", lambda: queue.release("orders-00", "r")),
        ("DeleteMessage", lambda: queue.delete("orders-00", "r")),
    ]
    for operation, call in calls:
        message = "Value r for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
        told.sqs(operation, {"__type": f"com.amazonaws.sqs#{kind}", "message": message}, 400, query)
        with pytest.raises(Refused):
            call()


@pytest.mark.parametrize(
    "kind, query, error",
    [
        ("KmsThrottled", "KMS.ThrottlingException", Unavailable),
        ("KmsAccessDenied", "KMS.AccessDeniedException", Misconfigured),
        ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", NotFound),
    ],
)
def test_answers_of_sqs(told: Told, kind: str, query: str, error: type[ProviderError]) -> None:
    """What SQS says of keys and missing queues is the same error under both of its names."""
    for name in (query, ""):
        told.sqs("ReceiveMessage", {"__type": f"com.amazonaws.sqs#{kind}", "message": "no"}, 400, name)
        with pytest.raises(error):
            told.client.queue.receive("orders-00", 1, 30.0)


def test_created_meanwhile(told: Told) -> None:
    """A queue that somebody else creates at the same moment, otherwise, is not a mistake: ask again and it is there."""
    told.proxy.clear()
    told.sqs("GetQueueUrl", {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"}, 400)
    told.sqs("CreateQueue", {"__type": "com.amazonaws.sqs#QueueNameExists", "message": "no"}, 400, "QueueAlreadyExists")
    with pytest.raises(Unavailable):
        told.client.queue.ensure("orders-00")


def test_a_second_request_that_fails(told: Told) -> None:
    """When messages take two requests and the second fails, nobody may conclude that nothing was sent."""
    big = b"\xff" * (150 * 1024)
    told.sqs("SendMessageBatch", {"Successful": [{"Id": "0", "MessageId": "m", "MD5OfMessageBody": ""}], "Failed": []})
    told.sqs("SendMessageBatch", {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "no"}, 400)
    with pytest.raises(OutcomeUnknown, match="1 of 2 messages"):
        told.client.queue.send("orders-00", [big, big])
    told.sqs("SendMessageBatch", {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "no"}, 400)
    with pytest.raises(Unavailable):
        told.client.queue.send("orders-00", [big, big])


def test_a_look_ends(told: Told) -> None:
    """A look at a queue that always has more ends after a few requests, however much was asked for."""
    sent = {"SentTimestamp": "1", "ApproximateReceiveCount": "1"}
    for number in range(40):
        message = {"MessageId": f"m{number}", "ReceiptHandle": "r", "Body": "1", "Attributes": sent}
        told.sqs("ReceiveMessage", {"Messages": [message]})
    assert len(told.client.queue.peek("orders-00", 1000)) == 20


def test_the_largest_message() -> None:
    """Three quarters of the limit fit SQS whatever their bytes are, with the attribute that then goes with them."""
    text, attributes = to_text(b"\xfe" * int(LIMIT * 0.74))
    counted = len(ENCODED) + sum(len(value) for value in attributes[ENCODED].values())
    assert counted <= OVERHEAD
    assert len(text) + OVERHEAD <= LIMIT


def test_a_message_that_is_too_large_as_base64_is_refused(told: Told) -> None:
    """Nothing of a batch is sent when one of its messages cannot be: the others would be sent again."""
    with pytest.raises(ValueError, match="message 1 for 'orders-00' takes"):
        told.client.queue.send("orders-00", [b"1", b"\xfe" * LIMIT])


def test_an_empty_message() -> None:
    """An empty body travels as a text that SQS takes, and arrives empty; that text itself arrives as it is."""
    text, attributes = to_text(b"")
    assert text
    assert to_bytes(text, attributes) == b""
    assert to_bytes(*to_text(text.encode())) == text.encode()


@pytest.mark.parametrize(
    "error, kind",
    [
        (CredentialRetrievalError(provider="iam-role", error_msg="no"), Unavailable),
        (MetadataRetrievalError(error_msg="no"), Unavailable),
        (UnauthorizedSSOTokenError(), Misconfigured),
        (ProfileNotFound(profile="x"), Misconfigured),
        (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), Misconfigured),
    ],
)
def test_credentials_that_are_not_given(error: Exception, kind: type[ProviderError]) -> None:
    """Without credentials nothing was sent: that passes where a machine hands them out, and is a mistake elsewhere."""
    request = aws_errors.Request("PutObject s3://bucket/plan", "https://s3", changes=True)
    with pytest.raises(kind), aws_errors.translated(request):
        raise error


def test_what_was_built_stays(told: Told) -> None:
    """A client that is closed closes no other's, and opening one after the last was closed builds nothing again."""
    other = told.driver.open(5.0)
    other.close()
    told.s3(404, "NoSuchKey")
    with pytest.raises(NotFound):
        told.client.documents.read("plan")
    only = AwsDriver("bucket", "p/", StoreOptions(endpoint_url=told.proxy.url))
    first = only.open(5.0)
    built = only._clients[5.0][0].s3
    first.close()
    again = only.open(5.0)
    assert only._clients[5.0][0].s3 is built
    told.s3(404, "NoSuchKey")
    with pytest.raises(NotFound):
        again.documents.read("plan")
    again.close()
