"""Where the Azure driver goes, and how it signs in. No test here asks anybody for a token."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError

from providers.azure import AzureDriver, credentials
from providers.azure.credentials import SCOPE, Access
from providers.connect import driver_for
from providers.interface import Misconfigured, ProviderError, Unavailable
from providers.options import PLAIN, StoreOptions
from tests.emulators import ACCOUNT, KEY
from tests.unit.azure_support import Signer

SIGNED = f"AccountName={ACCOUNT};AccountKey={KEY}"
HERE = "http://127.0.0.1:10000/devstoreaccount1"
THERE = "http://127.0.0.1:10001/devstoreaccount1"
MANAGED = f"https://{ACCOUNT}.blob.core.windows.net", f"https://{ACCOUNT}.queue.core.windows.net"


@pytest.mark.parametrize(
    "options, blobs, queues",
    [
        (PLAIN, *MANAGED),
        (StoreOptions(azure_connection_string=SIGNED), *MANAGED),
        (
            StoreOptions(azure_connection_string=f"{SIGNED};EndpointSuffix=core.chinacloudapi.cn"),
            f"https://{ACCOUNT}.blob.core.chinacloudapi.cn",
            f"https://{ACCOUNT}.queue.core.chinacloudapi.cn",
        ),
        (
            StoreOptions(azure_connection_string=f"{SIGNED};BlobEndpoint={HERE};QueueEndpoint={THERE};"),
            HERE,
            THERE,
        ),
        (
            StoreOptions(
                azure_connection_string=f"{SIGNED};BlobEndpoint=http://x/;QueueEndpoint=http://y/",
                endpoint_url=HERE,
                queue_endpoint_url=THERE,
            ),
            HERE,
            THERE,
        ),
        (
            StoreOptions(endpoint_url="https://a.blob.core.usgovcloudapi.net"),
            "https://a.blob.core.usgovcloudapi.net",
            "https://a.queue.core.usgovcloudapi.net",
        ),
    ],
)
def test_endpoints(options: StoreOptions, blobs: str, queues: str) -> None:
    """What is set counts first, then the connection string, then where Azure has the account."""
    access = Access(ACCOUNT, options)
    assert (access.blob_url, access.queue_url) == (blobs, queues)


@pytest.mark.parametrize(
    "options, says",
    [
        (StoreOptions(azure_connection_string=f"AccountName=other;AccountKey={KEY}"), f"{ACCOUNT}.*other"),
        (StoreOptions(azure_connection_string="SharedAccessSignature=sv=secret"), "AccountName=… and AccountKey=…"),
        (StoreOptions(azure_connection_string="UseDevelopmentStorage=true"), "AccountName=… and AccountKey=…"),
        (StoreOptions(azure_connection_string=f"AccountName={ACCOUNT};AccountKey=secret"), "copy it whole"),
        (StoreOptions(azure_connection_string=f"AccountName={ACCOUNT};AccountKey=schlüssel"), "copy it whole"),
        (StoreOptions(azure_connection_string=SIGNED, endpoint_url=HERE), "WORKER_QUEUE_ENDPOINT_URL"),
        (StoreOptions(azure_connection_string=SIGNED, endpoint_url="ftp://a.blob.b"), "must be a URL"),
        (
            StoreOptions(azure_connection_string=SIGNED, endpoint_url="https://x:secret@a.blob.b"),
            "must be a URL",
        ),
        *(
            (StoreOptions(azure_connection_string=SIGNED, endpoint_url=bad, queue_endpoint_url=THERE), "must be a URL")
            for bad in ("http://127.0.0.1:99999/secret", "http://[::1/secret", "http://127.0.0.1:secret", "http://a:0")
        ),
        (
            StoreOptions(azure_connection_string=SIGNED, endpoint_url=HERE, queue_endpoint_url=f"{THERE}?sig=secret"),
            "before the '\\?'",
        ),
        (StoreOptions(azure_connection_string=f"{SIGNED};BlobEndpoint={HERE}?sig=secret"), "before the '\\?'"),
        (StoreOptions(endpoint_url="http://a.example/?sig=secret"), "before the '\\?'"),
        (StoreOptions(endpoint_url=HERE, queue_endpoint_url=THERE), "not encrypted.*WORKER_AZURE_CONNECTION_STRING"),
    ],
)
def test_refused(options: StoreOptions, says: str) -> None:
    """What cannot work is refused before anything is sent, without repeating a secret."""
    with pytest.raises(Misconfigured, match=says) as raised:
        driver_for(f"azure://{ACCOUNT}/box", options)
    assert "secret" not in str(raised.value)
    assert KEY not in str(raised.value)


def test_a_key_needs_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a connection string no identity is made, and none is asked for a token."""
    monkeypatch.setattr(credentials, "_identity", lambda options: pytest.fail("an identity was made"))
    driver = driver_for(f"azure://{ACCOUNT}/box", StoreOptions(azure_connection_string=SIGNED))
    driver.open(1.0).close()


def test_nothing_is_asked_for_before_the_store_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity is made, once for all threads and clients, when the store is first opened."""
    made: list[Signer] = []

    def make(options: StoreOptions) -> Signer:
        assert options.azure_client_id == "id"
        made.append(Signer(AccessToken("t", 2**40)))
        return made[-1]

    monkeypatch.setattr(credentials, "_identity", make)
    driver = AzureDriver(ACCOUNT, "box", "", StoreOptions(azure_client_id="id"))
    assert made == []
    together = threading.Barrier(4)

    def open_one() -> None:
        together.wait(10)
        driver.open(1.0).close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(open_one) for _ in range(4)]:
            done.result()
    assert len(made) == 1
    assert made[0].asked == [(SCOPE,)] * 4


def silent() -> AzureError:
    """Return what a managed identity says on a machine where nobody gives tokens."""
    error = ClientAuthenticationError("no response from\nthe IMDS endpoint")
    error.__cause__ = ServiceRequestError("timed out")
    return error


@pytest.mark.parametrize(
    "error, kind",
    [
        (silent(), Unavailable),
        (ServiceRequestError("refused"), Unavailable),
        (ClientAuthenticationError("No identity has been assigned\nto this resource"), Misconfigured),
    ],
)
def test_no_token(monkeypatch: pytest.MonkeyPatch, error: AzureError, kind: type[ProviderError]) -> None:
    """Without a token the store is not opened, and one line names the settings that choose the identity."""
    monkeypatch.setattr(credentials, "_identity", lambda options: Signer(error))
    with pytest.raises(kind, match=f"{ACCOUNT}.*WORKER_AZURE_CLIENT_ID") as raised:
        AzureDriver(ACCOUNT, "box", "", PLAIN).open(1.0)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)


def test_a_token_that_cannot_be_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose token cannot be had is not sent: it is told as what it is, and never as unclear."""
    signer = Signer(AccessToken("t", 0))
    monkeypatch.setattr(credentials, "_identity", lambda options: signer)
    client = AzureDriver(ACCOUNT, "box", "", PLAIN).open(1.0)
    signer.given = silent()
    for ask in (lambda: client.documents.create("plan", b"1"), lambda: client.queue.send("orders", [b"1"])):
        with pytest.raises(Unavailable, match="no token"):
            ask()
    signer.given = ClientAuthenticationError("no identity")
    with pytest.raises(Misconfigured, match="no token"):
        client.documents.create("plan", b"1")
    client.close()
