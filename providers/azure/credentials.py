"""How this worker signs in: with a connection string (emulators), the machine's identity, or a developer's own.

An identity is asked for only when there is no connection string, and only when the store is opened: on a machine
without one that takes time, and nobody pays for it unasked. A token is fetched before anything is claimed with it. It
lasts for hours, and the SDK renews it minutes before its end, within whatever request comes then: what goes wrong there
is told in the same words.
"""

from __future__ import annotations

import base64
import threading  # noqa: TID251 - a lock only: several threads may be the first to sign in
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError

from providers.http_url import names_a_server
from providers.interface import Misconfigured, ProviderError, Unavailable
from providers.options import StoreOptions

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential

SCOPE = "https://storage.azure.com/.default"


class Access:
    """Where an account's two services are, and what to sign in with. Shared by all threads."""

    def __init__(self, account: str, options: StoreOptions) -> None:
        told = _parsed(account, options.azure_connection_string)
        self.account = account
        suffix = told.get("EndpointSuffix", "core.windows.net")
        self.blob_url = options.endpoint_url or told.get("BlobEndpoint") or f"https://{account}.blob.{suffix}"
        self._key = told.get("AccountKey")
        self._identity = Identity(f"storage account {account}", options)
        _check_url(self.blob_url)  # first: the queues' may be made from it
        self.queue_url = _queue_url(options, told, f"https://{account}.queue.{suffix}")
        _check_url(self.queue_url)
        if self._key is None:
            _check_encrypted(self.blob_url, self.queue_url)

    @property
    def credential(self) -> Any:
        """What the SDK's clients take."""
        if self._key is not None:
            return {"account_name": self.account, "account_key": self._key}
        return self._identity

    def fetch_token(self) -> None:
        """Make sure that there is a token, from the cache where it holds. Raises Misconfigured, Unavailable."""
        if self._key is None:
            self._identity.get_token(SCOPE)


class Identity:
    """What the SDK's clients get their tokens from: one credential for all of them, made when it is first needed."""

    def __init__(self, purpose: str, options: StoreOptions) -> None:
        """`purpose` is what the tokens are for, as its errors name it."""
        self._purpose, self._options = purpose, options
        self._lock = threading.Lock()
        self._made: TokenCredential | None = None

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token, from the credential's own cache where it holds. Raises Misconfigured, Unavailable."""
        try:
            return self._credential().get_token(*scopes, **options)
        except AzureError as exc:
            raise self._meaning_of(exc) from exc

    def _credential(self) -> TokenCredential:
        with self._lock:
            if self._made is None:
                self._made = _identity(self._options)
            return self._made

    def _meaning_of(self, error: AzureError) -> ProviderError:
        what = f"no token for {self._purpose} (WORKER_AZURE_CREDENTIAL={self._options.azure_credential})"
        fix = (
            "give the machine an identity, name it in WORKER_AZURE_CLIENT_ID where there are several, or set "
            "WORKER_AZURE_CREDENTIAL=default on a developer's machine"
        )
        kind = Unavailable if _unanswered(error) else Misconfigured
        return kind(f"{what}: {_line(error)}: {fix}")


def _identity(options: StoreOptions) -> TokenCredential:
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    try:
        if options.azure_credential == "default":
            return DefaultAzureCredential(managed_identity_client_id=options.azure_client_id)
        return ManagedIdentityCredential(client_id=options.azure_client_id)
    except ValueError as exc:
        raise Misconfigured(f"WORKER_AZURE_CLIENT_ID or an AZURE_ variable is wrong: {_line(exc)}") from exc


def _parsed(account: str, text: str | None) -> dict[str, str]:
    """Return a connection string's parts; {} when there is none. Raises Misconfigured, without repeating it."""
    if text is None:
        return {}
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    parts = {name.strip(): value.strip() for name, _, value in pairs}
    if not parts.get("AccountName") or not parts.get("AccountKey"):
        raise Misconfigured("WORKER_AZURE_CONNECTION_STRING must have AccountName=… and AccountKey=…, separated by ';'")
    try:
        base64.b64decode(parts["AccountKey"], validate=True)
    except ValueError as exc:  # binascii.Error, or characters outside ASCII
        raise Misconfigured("WORKER_AZURE_CONNECTION_STRING: its AccountKey is no base64: copy it whole") from exc
    if parts["AccountName"] != account:
        raise Misconfigured(
            f"WORKER_STORE names the storage account {account!r}, and WORKER_AZURE_CONNECTION_STRING is that of "
            f"{parts['AccountName']!r}: correct one of them"
        )
    return parts


def _queue_url(options: StoreOptions, told: dict[str, str], usual: str) -> str:
    if options.queue_endpoint_url:
        return options.queue_endpoint_url
    if told.get("QueueEndpoint"):
        return told["QueueEndpoint"]
    if options.endpoint_url is None:
        return usual
    host = urlsplit(options.endpoint_url).netloc
    if ".blob." not in host:
        raise Misconfigured(
            f"WORKER_ENDPOINT_URL={options.endpoint_url!r} is the endpoint of the blobs; set WORKER_QUEUE_ENDPOINT_URL "
            "to that of the queues"
        )
    return options.endpoint_url.replace(host, host.replace(".blob.", ".queue.", 1), 1)


def _check_url(url: str) -> None:
    """Refuse what the SDK would stumble over, and secrets, which errors would repeat."""
    if "?" in url or "#" in url:
        raise Misconfigured(
            "an endpoint of Azure Storage ends before the '?': a shared access signature is no way to sign in here; "
            "use an identity, or WORKER_AZURE_CONNECTION_STRING with a key"
        )
    if not names_a_server(url):
        raise Misconfigured("an endpoint of Azure Storage must be a URL such as https://ACCOUNT.blob.core.windows.net")


def _check_encrypted(*urls: str) -> None:
    """Refuse to send a token in the clear."""
    for url in urls:
        if urlsplit(url).scheme != "https":
            raise Misconfigured(
                f"{url!r} is not encrypted, and no token is sent there: use https, or WORKER_AZURE_CONNECTION_STRING "
                "for an emulator"
            )


def _unanswered(error: BaseException | None) -> bool:
    """Say whether a token could not be had because whoever gives them did not answer."""
    while error is not None:
        if isinstance(error, ServiceRequestError | ServiceResponseError):
            return True
        error = error.__cause__
    return False


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
