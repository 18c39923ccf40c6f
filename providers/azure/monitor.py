"""Azure Monitor's custom metrics: one figure of one resource, sent by whoever may publish for it.

    nothing was sent        Unavailable
    sent, no clear answer   OutcomeUnknown: sent again, the figure may count twice in its minute
    429                     Unavailable
    answered otherwise      Misconfigured, with the role that is needed where access is denied

The SDK's own pipeline signs the request and sends it, through the proxy of the environment if there is one, as it does
for the store. It repeats nothing and follows no redirect.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from azure.core import PipelineClient
from azure.core.exceptions import AzureError, ServiceResponseError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest, HttpResponse

from providers.azure.errors import SIGN_IN, Request, meaning_of
from providers.http_url import names_a_server
from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.metadata import shown

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

SCOPE = "https://monitoring.azure.com//.default"
"""Both slashes count: the audience that Azure Monitor takes ends in one, and the SDK cuts `/.default` off."""

ROLE = "Monitoring Metrics Publisher"

TIMEOUT = 5.0
"""Seconds for connecting to Azure Monitor, and again for every piece of its answer."""

NAMESPACE, METRIC, DIMENSION = "CloudWorker", "Backlog", "Fleet"
"""What a scaling rule names."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Where a token may be sent in the clear: it does not leave the machine."""


class Monitor:
    """Publishes backlogs for scaling rules. `url` is Azure Monitor's, in the region of the resources."""

    def __init__(self, url: str, credential: TokenCredential) -> None:
        self.url = _checked(url)
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            self.url,
            policies=[UserAgentPolicy("cloud-worker"), BearerTokenCredentialPolicy(credential, SCOPE)],
            transport=RequestsTransport(
                connection_timeout=TIMEOUT,
                read_timeout=TIMEOUT,
                use_env_settings=not _on_loopback(self.url),  # a proxy's loopback is another one
            ),
        )

    def publish(self, resource: str, fleet: str, messages: int, at: float) -> None:
        """Publish a fleet's backlog at a time (Unix seconds) as a figure of this resource.

        Raises Unavailable, OutcomeUnknown, Misconfigured.
        """
        request = Request(f"metric {METRIC} of {resource}", self.url, changes=True, role=f"{ROLE} on {resource}")
        sent = HttpRequest(
            "POST", f"{self.url}{quote(resource, safe='/()')}/metrics", json=_document(fleet, messages, at)
        )
        try:
            response = self._client.send_request(sent, enforce_https=not _on_loopback(self.url))
        except AzureError as exc:
            raise meaning_of(request, exc) from exc
        except OSError as exc:  # of requests, while it reads the answer: nothing has translated it yet
            raise meaning_of(request, ServiceResponseError(str(exc), error=exc)) from exc
        if not 200 <= response.status_code < 300:
            raise _refusal(request, response)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _document(fleet: str, messages: int, at: float) -> Mapping[str, Any]:
    figures = {"min": messages, "max": messages, "sum": messages, "count": 1}
    return {
        "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "data": {
            "baseData": {
                "metric": METRIC,
                "namespace": NAMESPACE,
                "dimNames": [DIMENSION],
                "series": [{"dimValues": [fleet], **figures}],
            }
        },
    }


def _refusal(request: Request, response: HttpResponse) -> ProviderError:
    """Return what an answer means that is no success."""
    status = response.status_code
    said = shown(response.content[:800].decode("utf-8", "replace")) or "(nothing more)"
    if status == 429:
        return Unavailable(f"{request.what}: throttled ({status}): {said}")
    if status >= 500 or status == 408:
        return OutcomeUnknown(f"{request.what}: no clear answer from {request.endpoint}: {status}: {said}")
    if status == 401:
        return Misconfigured(f"{request.what}: signing in failed: the token is not accepted ({status}): {said}")
    if status == 403:
        return Misconfigured(
            f"{request.what}: access is denied; it needs the role {request.role}: {SIGN_IN} ({status}): {said}"
        )
    return Misconfigured(f"{request.what}: {request.endpoint} refuses it with {status}: {said}")


def _checked(url: str) -> str:
    if not names_a_server(url):
        raise Misconfigured("the URL of Azure Monitor must be one such as https://westeurope.monitoring.azure.com")
    if urlsplit(url).scheme != "https" and not _on_loopback(url):
        raise Misconfigured(f"{url!r} is not encrypted, and no token is sent there: use https")
    return url.rstrip("/")


def _on_loopback(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK
