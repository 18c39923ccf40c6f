"""What the exceptions of Azure's SDK mean to a caller: one table of codes, and what was sent decides about the rest.

    nothing was sent        Unavailable
    sent, no clear answer   OutcomeUnknown for a change, Unavailable for a read
    answered                by its error code, else by its status

The SDK calls a request unsent in more cases than it is (a TLS connection that breaks while the answer is read): here
only what cannot have reached anybody counts as unsent.

Every message is one line that names the object, and the role or the setting where one is wrong.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

from providers.interface import Misconfigured, NotFound, OutcomeUnknown, ProviderError, Refused, Unavailable

SIGN_IN = "give the machine's identity that role, or set WORKER_AZURE_CLIENT_ID to the identity that has it"

Meaning = tuple[type[ProviderError], str]

CODES: Mapping[str, Meaning] = {
    # documents
    "BlobNotFound": (NotFound, "there is no such document"),
    "BlobAlreadyExists": (Refused, "it exists already"),
    "ConditionNotMet": (Refused, "it has changed"),
    "TargetConditionNotMet": (Refused, "it has changed"),
    "ContainerNotFound": (Misconfigured, "there is no such container: create it, or correct WORKER_STORE"),
    "ContainerBeingDeleted": (Misconfigured, "the container is being deleted: correct WORKER_STORE"),
    "ContainerDisabled": (Misconfigured, "the container is disabled"),
    # leases
    "LeaseAlreadyPresent": (Refused, "somebody else holds it"),
    "LeaseIdMismatchWithLeaseOperation": (Refused, "somebody else holds it, or nobody does"),
    "LeaseIdMismatchWithBlobOperation": (Refused, "somebody else holds it"),
    "LeaseIdMissing": (Refused, "somebody holds a lease on it"),
    "LeaseLost": (Refused, "the lease has run out"),
    "LeaseNotPresentWithBlobOperation": (Refused, "nobody holds it any more"),
    "LeaseNotPresentWithLeaseOperation": (Refused, "nobody holds it any more"),
    "LeaseIsBrokenAndCannotBeRenewed": (Refused, "the lease was broken"),
    "LeaseIsBreakingAndCannotBeAcquired": (Refused, "the lease is being broken"),
    "LeaseIsBreakingAndCannotBeChanged": (Refused, "the lease is being broken"),
    "LeaseAlreadyBroken": (Refused, "the lease was broken"),
    # queues
    "QueueNotFound": (NotFound, "there is no such queue"),
    "QueueBeingDeleted": (Unavailable, "the queue is being deleted"),
    "QueueDisabled": (Misconfigured, "the queue is disabled"),
    "MessageNotFound": (Refused, "the message is gone, or somebody else has received it since"),
    "PopReceiptMismatch": (Refused, "somebody else has received the message since"),
    "InvalidQueryParameterValue": (Refused, "nobody was ever given this receipt"),
    # who may do what, and where
    "AuthenticationFailed": (
        Misconfigured,
        "signing in failed: check the key or the identity, and this machine's clock",
    ),
    "InvalidAuthenticationInfo": (Misconfigured, "signing in failed: the token is not accepted"),
    "NoAuthenticationInformation": (Misconfigured, "signing in failed: nothing was sent to sign in with"),
    "AuthorizationFailure": (
        Misconfigured,
        "access is denied: by a missing role, a wrong key, or the account's network rules",
    ),
    "AuthorizationPermissionMismatch": (Misconfigured, "access is denied"),
    "InsufficientAccountPermissions": (Misconfigured, "access is denied"),
    "AuthorizationProtocolMismatch": (Misconfigured, "the account takes https only: correct the endpoint"),
    "AuthorizationSourceIPMismatch": (Misconfigured, "the account's network rules keep this machine out"),
    "KeyBasedAuthenticationNotPermitted": (
        Misconfigured,
        "the account takes no keys: unset WORKER_AZURE_CONNECTION_STRING and use an identity",
    ),
    "PublicAccessNotPermitted": (Misconfigured, "access is denied"),
    "AccountIsDisabled": (Misconfigured, "the storage account is disabled"),
    "InvalidHeaderValue": (Misconfigured, "the store does not understand this request"),
    "UnsupportedHeader": (Misconfigured, "the store does not understand this request"),
    "InvalidResourceName": (Misconfigured, "no container or queue can have this name"),
    "OutOfRangeInput": (Misconfigured, "a value or a name is out of the range that Azure takes"),
    # later
    "ServerBusy": (Unavailable, "throttled"),
    "TooManyRequests": (Unavailable, "throttled"),
    "AccountBeingCreated": (Unavailable, "the storage account is being created"),
}
"""What Azure calls it: what it means, and what is said of it."""

STATUSES: Mapping[int, Meaning] = {
    401: (Misconfigured, "signing in failed"),
    403: (Misconfigured, "access is denied"),
    404: (NotFound, "there is no such object"),
    409: (Refused, "it is not as it was"),
    412: (Refused, "it has changed"),
    429: (Unavailable, "throttled"),
}
"""Where an answer has no code that is known: a HEAD gives it in a header, and not always."""

OURS = "x-ms-request-id"
"""The header that every answer of Azure Storage has."""

UNSENT = (NewConnectionError, ConnectTimeoutError, ProxyError, ssl.SSLCertVerificationError)
"""What ends a connection before anything of the request was sent."""

NOT_HTTP_AS_WE_KNOW_IT = (501, 505)
"""Statuses that say for certain that the server did nothing."""


@dataclass(slots=True)
class Request:
    """What is being asked, for whoever reads the error, and the headers of its answer."""

    what: str  # "Put Blob azure://account/container/plan", with no secret in it
    endpoint: str
    changes: bool
    role: str = ""  # what it needs: "Storage Blob Data Contributor on …"
    conditional: bool = False  # a 404 means that the version, or the lease, to compare with is gone
    headers: Mapping[str, str] | None = None

    def hook(self, response: Any) -> None:
        """Remember the headers of the answer: what the SDK takes as `raw_response_hook`."""
        self.headers = response.http_response.headers

    def whole(self, response: Any) -> None:
        """Do as `hook` does, and read the whole body: the SDK would later ask again for one that was cut."""
        self.hook(response)
        try:
            response.http_response.body()
        except OSError as exc:  # of requests: nothing has translated it yet
            raise ServiceResponseError(str(exc), error=exc) from exc


@contextmanager
def translated(request: Request) -> Iterator[Request]:
    """Turn whatever the SDK raises in this block into one of the interface's errors, and refuse what is no Azure."""
    try:
        yield request
    except AzureError as exc:
        raise meaning_of(request, exc) from exc
    except ProviderError:
        raise
    except Exception as exc:  # the SDK stumbles over an answer that it did not expect wherever it first looks
        if request.headers is None:  # nothing was answered: this is a bug, and no answer of anybody's
            raise
        if OURS not in request.headers:
            raise _stranger(request, "success") from exc
        raise _unclear(request, f"{type(exc).__name__}: {' '.join(str(exc).split())[:200]}") from exc
    if request.headers is not None and OURS not in request.headers:
        raise _stranger(request, "success")


def meaning_of(request: Request, error: AzureError) -> ProviderError:
    """Return what an exception means."""
    if isinstance(error, HttpResponseError) and error.response is not None:
        return _answered(request, error)
    why = " ".join(str(error).split())[:300]
    if isinstance(error, ClientAuthenticationError):
        return Misconfigured(f"{request.what}: the request cannot be signed: {why}")
    if isinstance(error, ServiceRequestError) and _unsent(error):
        return Unavailable(f"{request.what}: {request.endpoint} cannot be reached: {why}")
    return _unclear(request, why)


def _answered(request: Request, error: HttpResponseError) -> ProviderError:
    status = int(error.status_code or 0)
    response: Any = error.response
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    told_code = getattr(error, "error_code", None) or headers.get("x-ms-error-code") or ""
    code = str(getattr(told_code, "value", told_code))
    told = f"{status} {code}".strip()
    if OURS not in headers and (status < 500 or status in NOT_HTTP_AS_WE_KNOW_IT) and status not in (408, 429):
        return _stranger(request, told)
    if status == 404 and request.conditional:
        return Refused(f"{request.what}: it is gone ({told})")
    meaning = CODES.get(code) or STATUSES.get(status)
    if meaning is None and (status >= 500 or status == 408 or status < 300):
        return _unclear(request, told)
    if meaning is None:
        return Misconfigured(f"{request.what}: {request.endpoint} answered {told}: {_reason(error)}")
    kind, why = meaning
    denied = kind is Misconfigured and "denied" in why and bool(request.role)
    needs = f"; it needs the role {request.role}: {SIGN_IN}" if denied else ""
    return kind(f"{request.what}: {why}{needs} ({told})")


def _unsent(error: ServiceRequestError) -> bool:
    """Say whether nothing of the request can have reached anybody."""
    cause: BaseException | None = error.inner_exception
    if cause is None:
        return True  # the SDK itself has refused to send it
    while cause is not None:
        if isinstance(cause, UNSENT):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _stranger(request: Request, answer: str) -> Misconfigured:
    return Misconfigured(
        f"{request.what}: {request.endpoint} answers ({answer}), but not as Azure Storage does: correct the endpoint"
    )


def _unclear(request: Request, why: str) -> ProviderError:
    kind = OutcomeUnknown if request.changes else Unavailable
    return kind(f"{request.what}: no clear answer from {request.endpoint}: {why}")


def _reason(error: HttpResponseError) -> str:
    return " ".join(str(error.reason or error.message or "").split())[:200]
