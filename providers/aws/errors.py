"""What botocore's exceptions mean to a caller: one table of codes, and what was sent decides about the rest.

    nothing was sent        Unavailable
    sent, no clear answer   OutcomeUnknown for a change, Unavailable for a read
    answered                by its error code, else by its status

Every message is one line that names the object, and what to do where a setting or a permission is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    InvalidConfigError,
    LoginError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    RefreshWithMFAUnsupportedError,
    SSLError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from providers.interface import Misconfigured, NotFound, OutcomeUnknown, ProviderError, Refused, Unavailable

UNSENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)
"""Nothing has reached the store. Of TLS errors only one about a certificate says so: others come with answers too."""

CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    SSOError,
    LoginError,
    ProfileNotFound,
    ConfigParseError,
    InvalidConfigError,
    UnknownCredentialError,
    RefreshWithMFAUnsupportedError,
)
"""Somebody must do something about them."""

FETCHED = (CredentialRetrievalError, MetadataRetrievalError)
"""Whoever gives out credentials did not, this time; nothing has reached the store."""

Meaning = tuple[type[ProviderError], str]

FIX_KEYS = "the credentials are not accepted: renew them, or give the machine a role"
FIX_REGION = "set WORKER_AWS_REGION to the region of the bucket and the queues"
FIX_CLOCK = "this machine's clock is minutes off: synchronise it"
ELSEWHERE = "the bucket is in another region"
STALE = "the message is gone, or somebody else has received it since"

UNCLEAR = frozenset({"RequestTimeout", "RequestTimeoutException"})
"""Told with 400, and yet nobody's mistake: the store has waited too long for a machine that stood still."""

CODES: Mapping[str, Meaning] = {
    # documents
    "NoSuchKey": (NotFound, "there is no such document"),
    "PreconditionFailed": (Refused, "it exists already, has changed, or is gone"),
    "ConditionalRequestConflict": (Unavailable, "another request was under way: the same one may be sent again"),
    "NoSuchBucket": (Misconfigured, "there is no such bucket: create it, or correct WORKER_STORE"),
    "NoSuchUpload": (Refused, "it is gone"),
    # queues
    "AWS.SimpleQueueService.NonExistentQueue": (NotFound, "there is no such queue"),
    "QueueDoesNotExist": (NotFound, "there is no such queue"),
    "ReceiptHandleIsInvalid": (Refused, STALE),
    "InvalidReceiptHandle": (Refused, STALE),
    "MessageNotInflight": (Refused, "the message is visible again: somebody else may have received it since"),
    "AWS.SimpleQueueService.MessageNotInflight": (Refused, "the message is visible again"),
    "QueueDeletedRecently": (Unavailable, "a queue of this name was deleted within the last minute"),
    "AWS.SimpleQueueService.QueueDeletedRecently": (Unavailable, "a queue of this name was deleted a minute ago"),
    "QueueAlreadyExists": (Unavailable, "somebody else was creating it"),
    "QueueNameExists": (Unavailable, "somebody else was creating it"),
    "OverLimit": (Unavailable, "too many messages of this queue are in hand"),
    # the machine's group
    "ResourceContention": (Unavailable, "another request is changing the group: the same one may be sent again"),
    # who may do what, and where
    "AccessDenied": (Misconfigured, "access is denied"),
    "AccessDeniedException": (Misconfigured, "access is denied"),
    "Forbidden": (Misconfigured, "access is denied"),
    "AllAccessDisabled": (Misconfigured, "access is disabled"),
    "ExpiredToken": (Misconfigured, "the credentials have expired: renew them"),
    "ExpiredTokenException": (Misconfigured, "the credentials have expired: renew them"),
    "TokenRefreshRequired": (Misconfigured, "the credentials have expired: renew them"),
    "InvalidAccessKeyId": (Misconfigured, FIX_KEYS),
    "InvalidClientTokenId": (Misconfigured, FIX_KEYS),
    "UnrecognizedClientException": (Misconfigured, FIX_KEYS),
    "InvalidToken": (Misconfigured, FIX_KEYS),
    "SignatureDoesNotMatch": (Misconfigured, FIX_KEYS),
    "InvalidSignatureException": (Misconfigured, FIX_KEYS),
    "RequestTimeTooSkewed": (Misconfigured, FIX_CLOCK),
    "RequestExpired": (Misconfigured, FIX_CLOCK),
    "PermanentRedirect": (Misconfigured, ELSEWHERE),
    "AuthorizationHeaderMalformed": (Misconfigured, ELSEWHERE),
    "IllegalLocationConstraintException": (Misconfigured, ELSEWHERE),
    "InvalidBucketName": (Misconfigured, "no bucket can have this name: correct WORKER_STORE"),
    "OptInRequired": (Misconfigured, "this account has not signed up for the service"),
    # later
    "IncompleteBody": (Unavailable, "the request has not arrived whole"),
    "PriorRequestNotComplete": (Unavailable, "another request was under way: the same one may be sent again"),
    "KMS.ThrottlingException": (Unavailable, "throttled"),
    "KmsThrottled": (Unavailable, "throttled"),
    "SlowDown": (Unavailable, "throttled"),
    "ServiceUnavailable": (Unavailable, "throttled"),
    "RequestThrottled": (Unavailable, "throttled"),
    "RequestThrottledException": (Unavailable, "throttled"),
    "Throttling": (Unavailable, "throttled"),
    "ThrottlingException": (Unavailable, "throttled"),
    "ThrottledException": (Unavailable, "throttled"),
    "TooManyRequestsException": (Unavailable, "throttled"),
    "TooManyRequests": (Unavailable, "throttled"),
    "RequestLimitExceeded": (Unavailable, "throttled"),
}
"""What S3, SQS, Auto Scaling and the servers that speak like them call it: what it means, and what is said of it."""

STATUSES: Mapping[int, Meaning] = {
    301: (Misconfigured, ELSEWHERE),
    401: (Misconfigured, FIX_KEYS),
    403: (Misconfigured, "access is denied"),
    409: (Unavailable, "another request was under way: the same one may be sent again"),
    412: (Refused, "it exists already, has changed, or is gone"),
    429: (Unavailable, "throttled"),
    501: (Misconfigured, "the server does not implement this request: it cannot be a store"),
}
"""Where an answer has no code that is known, as HEAD and some servers give none. What 503 means only a code can tell:
some servers say so of a write that a part of them has done.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is being asked, for whoever reads the error."""

    what: str  # "PutObject on s3://bucket/leases/leader", with no secret in it
    endpoint: str
    changes: bool
    needs: str = ""  # the permission, such as "s3:PutObject on arn:aws:s3:::bucket/*"
    conditional: bool = False  # a 404 means that the version to compare with is gone
    receipt: bool = False  # a value that is refused is the receipt: the message's visibility has ended
    region: str = ""  # that it is signed for


@contextmanager
def translated(request: Request) -> Iterator[None]:
    """Turn whatever boto3 raises in this block into one of the interface's errors."""
    try:
        yield
    except ClientError as exc:
        raise answered(request, exc) from exc
    except (BotoCoreError, HTTPClientError, ResponseParserError, HTTPError) as exc:  # some of urllib3's pass botocore
        raise unanswered(request, exc) from exc
    except RuntimeError as exc:  # the only name that botocore has for credentials that are renewed and still expired
        if "credentials" not in str(exc):
            raise
        raise Misconfigured(f"{request.what}: the credentials have expired: renew them") from exc


def answered(request: Request, error: ClientError) -> ProviderError:
    """Return what an error answer means."""
    code, status = code_of(error)
    if code in UNCLEAR or status == 408:
        return _unclear(request, _short(error))
    meaning = _meaning(request, code, status, by_a_store=_told(error))
    if meaning is not None:
        kind, why = meaning
        if why is ELSEWHERE:
            why = f"{_elsewhere(request, error)}: {FIX_REGION}"
        needs = f"; it needs {request.needs}" if kind is Misconfigured and "denied" in why and request.needs else ""
        return kind(f"{request.what}: {why}{needs} ({_short(error)})")
    if status >= 500 and not (status == 500 and _is_page(error)):  # so botocore calls a page that came with a 200
        return _unclear(request, _short(error))
    if _told(error):
        return Misconfigured(f"{request.what}: {request.endpoint} refuses it with {status} {_short(error)}")
    return Misconfigured(
        f"{request.what}: {request.endpoint} answered {status} {_short(error)}: it is no such store; correct the "
        "endpoint"
    )


def _meaning(request: Request, code: str, status: int, *, by_a_store: bool) -> Meaning | None:
    """Look an error answer up; None where neither its code nor its status says anything."""
    if status == 404 and request.conditional and by_a_store and code != "NoSuchBucket":
        return Refused, "it is gone"
    own = code.removeprefix("AWS.SimpleQueueService.")  # some servers that speak like SQS put it before every code
    if request.receipt and own.removesuffix("Exception") in ("InvalidParameterValue", "MissingParameter"):
        return Refused, STALE  # so SQS calls a receipt that is well formed and has run out; and one that is empty
    meaning = CODES.get(code) or CODES.get(own)
    if meaning is None and code.lower().startswith("kms"):
        return Misconfigured, "the encryption key cannot be used: allow kms:Decrypt and kms:GenerateDataKey on it"
    if meaning is None and status == 404 and by_a_store:
        return NotFound, "there is no such object"
    return meaning or STATUSES.get(status)


def unanswered(request: Request, error: Exception) -> ProviderError:
    """Return what it means that there was no answer, or none that can be read."""
    why = " ".join(str(error).split())
    if isinstance(error, CREDENTIALS):
        return Misconfigured(
            f"{request.what}: no usable AWS credentials ({why}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "give the machine a role"
        )
    if isinstance(error, FETCHED):
        return Unavailable(f"{request.what}: no AWS credentials could be fetched: {why}")
    if isinstance(error, NoRegionError):
        return Misconfigured(f"no AWS region: {FIX_REGION}")
    if isinstance(error, ResponseParserError):
        return Misconfigured(
            f"{request.what}: what {request.endpoint} answers is not of this API: correct the endpoint"
        )
    if isinstance(error, ParamValidationError):
        return Misconfigured(f"{request.what}: {why}")
    if isinstance(error, UNSENT) or (isinstance(error, SSLError) and "CERTIFICATE" in why.upper()):
        return Unavailable(f"{request.what}: {request.endpoint} cannot be reached: {why}")
    return _unclear(request, why)


def check_answer(request: Request, answer: Mapping[str, Any], *fields: str) -> None:
    """Refuse an answer of "success" that lacks what every such store answers. Raises Misconfigured."""
    absent = [name for name in fields if name not in answer]
    if absent:
        raise Misconfigured(
            f"{request.what}: {request.endpoint} answered without {', '.join(absent)}: it is no such store; correct "
            "the endpoint"
        )


def code_of(error: ClientError) -> tuple[str, int]:
    """Return an error answer's code and HTTP status."""
    answer: Mapping[str, Any] = error.response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(answer.get("Error", {}).get("Code", "")), int(status)


def _elsewhere(request: Request, error: ClientError) -> str:
    """Name the two regions, as far as the answer tells."""
    told: Mapping[str, Any] = error.response
    headers: Mapping[str, str] = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    there = headers.get("x-amz-bucket-region") or told.get("Error", {}).get("Region") or "another region"
    return f"the bucket is in {there}, and the request was signed for {request.region}"


def _told(error: ClientError) -> bool:
    """Say whether an answer comes from a store at all: a 404 of some web server says nothing about a document."""
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return any(name.startswith("x-amz") for name in headers) or "xml" in headers.get("content-type", "")


def _is_page(error: ClientError) -> bool:
    headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "html" in headers.get("content-type", "")


def _unclear(request: Request, why: str) -> ProviderError:
    kind: Callable[[str], ProviderError] = OutcomeUnknown if request.changes else Unavailable
    return kind(f"{request.what}: no clear answer from {request.endpoint}: {why}")


def _short(error: ClientError) -> str:
    told = error.response.get("Error", {})
    text = f"{told.get('Code', '')}: {told.get('Message', '')}".strip(": ")
    return " ".join(text.split())[:300]
