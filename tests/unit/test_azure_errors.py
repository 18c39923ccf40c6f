"""What the Azure driver makes of answers: one error for each, one line, with the name and the fix in it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator

import pytest
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceRequestTimeoutError, ServiceResponseError
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError, SSLError

from providers.azure.errors import Request, meaning_of, translated
from providers.interface import Misconfigured, NotFound, OutcomeUnknown, ProviderError, Refused, Unavailable
from tests.emulators import KEY
from tests.proxy import WEB_PAGE, Canned, Fault, FaultProxy
from tests.unit.azure_support import LISTED, OPERATIONS, ask, azure, error

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with FaultProxy(NOWHERE) as proxy:
        yield proxy


ANSWERS: tuple[tuple[str, Canned, type[ProviderError], str], ...] = (  # asked, answered, raised, and what it says
    ("read", error(404, "BlobNotFound"), NotFound, "fleet/plan"),
    ("read", error(404, "ContainerNotFound"), Misconfigured, "azure://devstoreaccount1/box.*create it"),
    ("read", error(403, "AuthorizationPermissionMismatch"), Misconfigured, "Storage Blob Data Contributor.*box"),
    ("read", error(403, "AuthorizationFailure"), Misconfigured, "Storage Blob Data Contributor.*box"),
    ("read", error(403, "AuthenticationFailed"), Misconfigured, "signing in failed.*clock"),
    ("read", error(403, "KeyBasedAuthenticationNotPermitted"), Misconfigured, "unset WORKER_AZURE_CONNECTION_STRING"),
    ("read", error(401, "InvalidAuthenticationInfo"), Misconfigured, "signing in failed"),
    ("read", azure(403), Misconfigured, "Storage Blob Data Contributor.*box"),
    ("read", error(400, "InvalidHeaderValue"), Misconfigured, "does not understand"),
    ("read", error(418, "SomethingNew"), Misconfigured, "418 SomethingNew"),
    ("create", error(409, "BlobAlreadyExists"), Refused, "exists already"),
    ("create", error(412, "ConditionNotMet"), Refused, "exists already"),
    ("create", error(404, "ContainerNotFound"), Misconfigured, "create it"),
    ("create", error(409, "ContainerBeingDeleted"), Misconfigured, "being deleted"),
    ("replace", error(412, "ConditionNotMet"), Refused, "changed"),
    ("replace", error(404, "BlobNotFound"), Refused, "gone"),
    ("replace", error(412, "LeaseIdMissing"), Refused, "lease"),
    ("delete", error(412, "ConditionNotMet"), Refused, "changed"),
    ("delete", error(404, "BlobNotFound"), Refused, "gone"),
    ("list", error(404, "ContainerNotFound"), Misconfigured, "create it"),
    ("observe", error(404, "ContainerNotFound"), Misconfigured, "create it"),
    ("observe", azure(403), Misconfigured, "Storage Blob Data Contributor.*box"),
    ("claim", error(409, "LeaseAlreadyPresent"), Refused, "somebody else"),
    ("claim", error(412, "ConditionNotMet"), Refused, "changed"),
    ("claim", error(409, "LeaseIsBreakingAndCannotBeAcquired"), Refused, "being broken"),
    ("claim", error(404, "BlobNotFound"), Refused, "gone"),
    ("claim", error(403, "AuthorizationPermissionMismatch"), Misconfigured, "Storage Blob Data Contributor.*box"),
    ("renew", error(409, "LeaseIdMismatchWithLeaseOperation"), Refused, "somebody else"),
    ("renew", error(409, "LeaseIsBrokenAndCannotBeRenewed"), Refused, "broken"),
    ("renew", error(409, "LeaseNotPresentWithLeaseOperation"), Refused, "nobody"),
    ("renew", error(409, "SomethingNew"), Refused, "not as it was"),
    ("renew", error(412, "LeaseLost"), Refused, "run out"),
    ("renew", error(404, "BlobNotFound"), Refused, "gone"),
    ("renew", error(404, "ContainerNotFound"), Refused, "gone"),
    ("resign", error(409, "LeaseIdMismatchWithLeaseOperation"), Refused, "somebody else"),
    ("resign", error(404, "BlobNotFound"), Refused, "gone"),
    ("hand over", error(409, "LeaseIdMismatchWithLeaseOperation"), Refused, "somebody else"),
    ("hand over", error(409, "LeaseIsBreakingAndCannotBeChanged"), Refused, "being broken"),
    ("accept", error(409, "LeaseAlreadyPresent"), Refused, "somebody else"),
    ("ensure", error(403, "AuthorizationPermissionMismatch"), Misconfigured, "Storage Queue Data Contributor.*queues"),
    ("ensure", error(409, "QueueDisabled"), Misconfigured, "q-orders"),
    ("send", error(404, "QueueNotFound"), NotFound, "q-orders"),
    ("send", error(409, "QueueBeingDeleted"), Unavailable, "being deleted"),
    ("receive", error(404, "QueueNotFound"), NotFound, "q-orders"),
    ("receive", error(403, "AuthorizationFailure"), Misconfigured, "Storage Queue Data Contributor"),
    ("extend", error(404, "MessageNotFound"), Refused, "gone"),
    ("extend", error(400, "PopReceiptMismatch"), Refused, "since"),
    ("release", error(404, "MessageNotFound"), Refused, "gone"),
    ("delete message", error(400, "InvalidQueryParameterValue"), Refused, "receipt"),
    ("delete message", error(400, "PopReceiptMismatch"), Refused, "since"),
    ("depth", error(404, "QueueNotFound"), NotFound, "q-orders"),
)


@pytest.mark.parametrize("name, answer, kind, says", ANSWERS, ids=[f"{n}-{a.status}-{s}" for n, a, _, s in ANSWERS])
def test_answer(proxy: FaultProxy, name: str, answer: Canned, kind: type[ProviderError], says: str) -> None:
    """An answer of Azure's becomes the error that says what to do next, on one line that says about what."""
    with pytest.raises(kind, match=says) as raised:
        ask(proxy, OPERATIONS[name][1], [answer])
    assert type(raised.value) is kind
    assert raised.value.__cause__ is not None
    assert "\n" not in str(raised.value)


STRANGERS = {
    "a web page": WEB_PAGE,
    "a web page for everything that is missing": Canned(404, b"<html>", (("Content-Type", "text/html"),)),
    "a login page": Canned(403, b"<html>", (("Content-Type", "text/html"),)),
    "a server that takes no writes": Canned(501, b"<html>", (("Content-Type", "text/html"),)),
    "S3": Canned(400, b"<?xml version='1.0'?><Error><Code>AuthorizationHeaderMalformed</Code></Error>"),
    "broken XML": Canned(200, b"<?xml version='1.0'?><Enumer"),
    "JSON": Canned(200, b'{"it": "works"}', (("Content-Type", "application/json"),)),
    "nothing": Canned(204, b"", ()),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_not_azure(proxy: FaultProxy, name: str, stranger: str) -> None:
    """An endpoint that is something else is named as such, whatever it answers and whatever it was asked."""
    answers = [STRANGERS[stranger]] * 3
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1.*correct the endpoint") as raised:
        ask(proxy, OPERATIONS[name][1], answers)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("name", OPERATIONS)
def test_sent_elsewhere(proxy: FaultProxy, name: str, status: int) -> None:
    """Nobody is followed who sends us elsewhere: what was asked here is never asked, or written, there."""
    with FaultProxy(NOWHERE) as there:
        there.inject(Fault.ANSWER, answer=OPERATIONS[name][2][0])
        elsewhere = Canned(status, b"", (("Location", f"{there.url}/portal"),))
        with pytest.raises(Misconfigured, match=rf"127\.0\.0\.1.*{status}.*correct the endpoint"):
            ask(proxy, OPERATIONS[name][1], [elsewhere])
        assert there.log == []
    assert len(proxy.log) == 1


XML = b'<?xml version="1.0" encoding="utf-8"?>'

NONSENSE: tuple[tuple[str, Canned], ...] = (  # answers as Azure gives them, but for what is in them
    ("list", azure(200, XML + b"<Other/>")),
    ("list", azure(200)),
    ("list", azure(200, b"{}")),
    ("list", azure(200, LISTED.body.replace(b"<Etag>0x9</Etag>", b""))),
    ("receive", azure(200)),
    ("peek", azure(200)),
    ("send", azure(201, XML + b"<QueueMessagesList/>")),
    ("send", azure(201)),
    ("create", azure(201, ETag="")),
    ("replace", azure(201, ETag="")),
    ("read", azure(200, b"1", ETag="", Content_Range="bytes 0-0/1", x_ms_blob_type="BlockBlob")),
    ("observe", azure(200, ETag="", x_ms_lease_state="available", x_ms_blob_type="BlockBlob")),
    ("first claim", azure(201, ETag="")),
)


@pytest.mark.parametrize("name, answer", NONSENSE)
def test_nonsense(proxy: FaultProxy, name: str, answer: Canned) -> None:
    """An answer of Azure's that makes no sense tells nothing: never a crash, and never a version that nobody gave."""
    changes, operation, _ = OPERATIONS[name]
    with pytest.raises(OutcomeUnknown if changes else Unavailable, match="no clear answer") as raised:
        ask(proxy, operation, [answer])
    assert "\n" not in str(raised.value)


def test_a_bug_is_no_answer() -> None:
    """What breaks before anything was answered is a bug, and is not taken for the store's doing."""
    with pytest.raises(TypeError), translated(Request("Put Blob", NOWHERE, changes=True)):
        raise TypeError("ours")


class Cut(Canned):
    """An answer that promises more than ever comes."""

    def to_bytes(self) -> bytes:
        return super().to_bytes().replace(b"Content-Length: 4", b"Content-Length: 999")


CREATING = ("send", "create", "replace", "claim", "first claim", "accept")


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "observe"])  # whose answer has no body
def test_unreadable(proxy: FaultProxy, name: str) -> None:
    """An answer that stops in the middle leaves a change unclear, and a read to be asked again."""
    changes, operation, _ = OPERATIONS[name]
    answer = azure(201 if name in CREATING else 200, b"<?xm")
    with pytest.raises(OutcomeUnknown if changes else Unavailable):
        ask(proxy, operation, [Cut(answer.status, answer.body, answer.headers)], total=0.3)


SENT = Request("Put Blob", "https://account.blob.core.windows.net", changes=True)


def torn() -> AzureError:
    """Return what the SDK makes of a TLS connection that breaks while the answer is read."""
    return ServiceRequestError("x", error=OSError(SSLError(ssl.SSLError("bad record mac"))))


def stranger_than_known() -> AzureError:
    """Return what the SDK makes of a certificate that nobody knows."""
    wrapped = OSError("x")
    wrapped.__context__ = ssl.SSLCertVerificationError("self-signed certificate")
    return ServiceRequestError("x", error=wrapped)


@pytest.mark.parametrize(
    "raised, kind",
    [
        (torn(), OutcomeUnknown),
        (ServiceRequestError("x", error=OSError("who knows")), OutcomeUnknown),
        (ServiceResponseError("x"), OutcomeUnknown),
        (AzureError("Echoed client request ID does not match"), OutcomeUnknown),
        (stranger_than_known(), Unavailable),
        (ServiceRequestError("x", error=NewConnectionError(HTTPConnection("localhost"), "x")), Unavailable),
        (ServiceRequestError("tokens are for https only"), Unavailable),
    ],
)
def test_what_was_sent(raised: AzureError, kind: type[ProviderError]) -> None:
    """A change is said not to have happened only where nothing of the request can have left this machine."""
    assert type(meaning_of(SENT, raised)) is kind


def test_connecting_takes_too_long() -> None:
    """A connection that does not come about has carried nothing."""
    from urllib3.exceptions import ConnectTimeoutError

    assert type(meaning_of(SENT, ServiceRequestTimeoutError("x", error=ConnectTimeoutError("x")))) is Unavailable


def test_no_secret_is_told(proxy: FaultProxy, caplog: pytest.LogCaptureFixture) -> None:
    """Neither errors nor logs at their usual level hold the account's key or a signature."""
    caplog.set_level(logging.WARNING)
    for name, answer, _, _ in ANSWERS:
        with pytest.raises(ProviderError) as raised:
            ask(proxy, OPERATIONS[name][1], [answer])
        assert KEY not in repr(raised.value)
        assert "SharedKey" not in repr(raised.value)
    assert KEY not in caplog.text
    assert "SharedKey" not in caplog.text
