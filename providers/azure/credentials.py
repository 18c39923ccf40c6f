"""How this worker signs in: with a connection string (emulators), the machine's identity, or a developer's own.

An identity is asked for only when there is no connection string, and only when the store is opened: on a machine
without one that takes time, and nobody pays for it unasked. A token is fetched before anything is claimed with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError

from providers.interface import Misconfigured, Unavailable
from providers.options import StoreOptions

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

SCOPE = "https://storage.azure.com/.default"


class Access:
    """Where an account's two services are, and what to sign in with. Shared by all threads."""

    def __init__(self, account: str, options: StoreOptions) -> None:
        told = _parsed(account, options.azure_connection_string)
        self.account = account
        self.blob_url = options.endpoint_url or told.get("BlobEndpoint") or f"https://{account}.blob.core.windows.net"
        self.queue_url = _queue_url(account, options, told)
        self._key = told.get("AccountKey")
        self._options = options
        self._identity: TokenCredential | None = None

    @property
    def credential(self) -> Any:
        """What the SDK's clients take."""
        if self._key is not None:
            return {"account_name": self.account, "account_key": self._key}
        return self._token_credential()

    def fetch_token(self) -> None:
        """Make sure that there is a token, from the cache where it holds. Raises Misconfigured, Unavailable."""
        if self._key is not None:
            return
        try:
            self._token_credential().get_token(SCOPE)
        except (ServiceRequestError, ServiceResponseError) as exc:
            raise Unavailable(f"no token for {self.account}: {_line(exc)}") from exc
        except ClientAuthenticationError as exc:
            how = self._options.azure_credential
            raise Misconfigured(
                f"no token for storage account {self.account} (WORKER_AZURE_CREDENTIAL={how}): {_line(exc)}: give the "
                "machine an identity, name it in WORKER_AZURE_CLIENT_ID where there are several, or set "
                "WORKER_AZURE_CREDENTIAL=default on a developer's machine"
            ) from exc

    def _token_credential(self) -> TokenCredential:
        if self._identity is None:
            self._identity = _identity(self._options)
        return self._identity


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
    if parts["AccountName"] != account:
        raise Misconfigured(
            f"WORKER_STORE names the storage account {account!r}, and WORKER_AZURE_CONNECTION_STRING is that of "
            f"{parts['AccountName']!r}: correct one of them"
        )
    return parts


def _queue_url(account: str, options: StoreOptions, told: dict[str, str]) -> str:
    if options.queue_endpoint_url:
        return options.queue_endpoint_url
    if told.get("QueueEndpoint"):
        return told["QueueEndpoint"]
    if options.endpoint_url is None:
        return f"https://{account}.queue.core.windows.net"
    host = urlsplit(options.endpoint_url).netloc
    if ".blob." not in host:
        raise Misconfigured(
            f"WORKER_ENDPOINT_URL={options.endpoint_url!r} is the endpoint of the blobs; set WORKER_QUEUE_ENDPOINT_URL "
            "to that of the queues"
        )
    return options.endpoint_url.replace(host, host.replace(".blob.", ".queue.", 1), 1)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
