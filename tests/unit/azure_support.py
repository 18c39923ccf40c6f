"""A driver for Azure whose requests a proxy answers in Azure's place, so that a test sees them as they travel."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from azure.core.credentials import AccessToken

from providers.azure import AzureDriver
from providers.azure.lease import lease_id
from providers.interface import Bid, Client, Grant, Heir, LeaseView, Stamp, Version
from providers.options import StoreOptions
from tests.emulators import ACCOUNT, KEY
from tests.proxy import Canned, Fault, FaultProxy

CONTAINER = "box"
PREFIX = "fleet/"
QUEUES = "q-"
TOTAL = 5.0

DATE = "Sun, 01 Mar 2026 12:00:00 GMT"
DATED = 1772366400.0
ID = "11111111-2222-3333-4444-555555555555"
RECEIPT = f"{ID}:AgAAAAMAAAAAAAAA"

STAMP = Stamp("plan", Version('"0x1"'))
VIEW = LeaseView(version=Version('"0x1"'), term=6, fleet="fleet", extra={"later": [1]})
NEVER = LeaseView(version=None, free=True)
HANDED = LeaseView(version=Version('"0x1"'), term=8, holder="s", handed=True, token="t", fleet="fleet")
BID = Bid(session="s", instance="i-1", fleet="fleet", term=7, duration=15.0, nonce="n1")
ACCEPTING = Bid(session="s", instance="i-1", fleet="fleet", term=8, duration=15.0, nonce="n2")
GRANT = Grant(term=7, session="s", version=Version('"0x1"'), nonce="n1", bid=BID, proof=lease_id("s"))


def azure(status: int, body: bytes = b"", **headers: str) -> Canned:
    """Return an answer of Azure Storage's. Underscores in the names of headers are hyphens; "" leaves one out."""
    usual = {"x-ms-request-id": "r", "x-ms-version": "v", "Date": DATE, "ETag": '"0x2"'}
    if body:
        usual["Content-Type"] = "application/xml"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Canned(status, body, tuple((name, value) for name, value in {**usual, **named}.items() if value))


def error(status: int, code: str) -> Canned:
    """Return a failure as Azure Storage tells it, in a header and in the body."""
    body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>why.\nTime: x</Message></Error>'
    return azure(status, body.encode(), x_ms_error_code=code)


BLOB = azure(200, b"1", Content_Type="application/json", Content_Range="bytes 0-0/1", x_ms_blob_type="BlockBlob")
LISTED = azure(
    200,
    b'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="x" ContainerName="box">'
    b"<Prefix>fleet/beats/</Prefix><Blobs><Blob><Name>fleet/beats/a</Name><Properties><Etag>0x9</Etag>"
    b"<BlobType>BlockBlob</BlobType></Properties>"
    b"</Blob></Blobs><NextMarker>2!mark</NextMarker></EnumerationResults>",
)
LEASED = azure(200, x_ms_lease_state="leased", x_ms_blob_type="BlockBlob", x_ms_meta_format="1", x_ms_meta_term="0")
COUNTED = azure(200, x_ms_approximate_messages_count="3")
SENT = azure(
    201,
    b'<?xml version="1.0" encoding="utf-8"?><QueueMessagesList><QueueMessage><MessageId>%s</MessageId><InsertionTime>'
    b"%s</InsertionTime><ExpirationTime>%s</ExpirationTime><PopReceipt>p</PopReceipt><TimeNextVisible>%s"
    b"</TimeNextVisible></QueueMessage></QueueMessagesList>" % (ID.encode(), *[DATE.encode()] * 3),
)
MESSAGES = azure(
    200,
    b'<?xml version="1.0" encoding="utf-8"?><QueueMessagesList><QueueMessage><MessageId>%s</MessageId><InsertionTime>'
    b"%s</InsertionTime><ExpirationTime>%s</ExpirationTime><PopReceipt>p</PopReceipt><TimeNextVisible>%s"
    b"</TimeNextVisible><DequeueCount>2</DequeueCount><MessageText>MQ==</MessageText></QueueMessage>"
    b"</QueueMessagesList>" % (ID.encode(), *[DATE.encode()] * 3),
)
UPDATED = azure(204, x_ms_popreceipt="next", x_ms_time_next_visible=DATE)

Operation = Callable[[Client], object]

OPERATIONS: Mapping[str, tuple[bool, Operation, Sequence[Canned]]] = {  # whether it changes, how, what is answered
    "read": (False, lambda c: c.documents.read("plan"), [BLOB]),
    "create": (True, lambda c: c.documents.create("plan", b"1"), [azure(201)]),
    "replace": (True, lambda c: c.documents.replace(STAMP, b"1"), [azure(201)]),
    "delete": (True, lambda c: c.documents.delete(STAMP), [azure(202)]),
    "list": (False, lambda c: c.documents.list("beats/"), [LISTED]),
    "observe": (False, lambda c: c.lease("leader").observe(), [LEASED]),
    "claim": (True, lambda c: c.lease("leader").claim(VIEW, BID), [azure(201), azure(200)]),
    "first claim": (True, lambda c: c.lease("leader").claim(NEVER, BID), [azure(201), azure(201), azure(200)]),
    "renew": (True, lambda c: c.lease("leader").renew(GRANT, "n2"), [azure(200)]),
    "resign": (True, lambda c: c.lease("leader").resign(GRANT, "n2"), [azure(200)]),
    "hand over": (True, lambda c: c.lease("leader").hand_over(GRANT, Heir("h", "t"), "n2"), [azure(200), azure(200)]),
    "accept": (True, lambda c: c.lease("leader").accept(HANDED, ACCEPTING, "t"), [azure(201), azure(200)]),
    "ensure": (False, lambda c: c.queue.ensure("orders"), [COUNTED]),
    "send": (True, lambda c: c.queue.send("orders", [b"1"]), [SENT]),
    "receive": (True, lambda c: c.queue.receive("orders", 40, 30.0), [MESSAGES]),
    "extend": (True, lambda c: c.queue.extend("orders", RECEIPT, 29.5), [UPDATED]),
    "release": (True, lambda c: c.queue.release("orders", RECEIPT), [UPDATED]),
    "delete message": (True, lambda c: c.queue.delete("orders", RECEIPT), [azure(204)]),
    "peek": (False, lambda c: c.queue.peek("orders", 40), [MESSAGES]),
    "depth": (False, lambda c: c.queue.depth("orders"), [COUNTED, MESSAGES]),
    "retention": (False, lambda c: c.queue.retention("orders"), [COUNTED]),
}
"""Everything that a client of this driver can be asked for."""


class Asked:
    """One request as it came."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        self.method, self.headers = method, headers
        self.path = urlsplit(target).path.removeprefix(f"/{ACCOUNT}")
        self.query = dict(parse_qsl(urlsplit(target).query))

    def __getitem__(self, name: str) -> str | None:
        """Return a header."""
        return self.headers.get(name)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that it writes."""
        mark = "x-ms-meta-"
        return {name.removeprefix(mark): value for name, value in self.headers.items() if name.startswith(mark)}


def options_for(url: str) -> StoreOptions:
    """Return the options of a driver whose blobs and queues are both at this URL."""
    place = f"{url}/{ACCOUNT}"
    return StoreOptions(
        azure_connection_string=f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={place};QueueEndpoint={place}",
        queue_prefix=QUEUES,
    )


def driver_at(url: str) -> AzureDriver:
    """Return a driver of the container at this URL."""
    return AzureDriver(ACCOUNT, CONTAINER, PREFIX, options_for(url))


def ask(proxy: FaultProxy, operation: Operation, answers: Sequence[Canned], *, total: float = TOTAL) -> object:
    """Return what an operation makes of these answers; one that asks for more than these finds no store."""
    for answer in answers:
        proxy.inject(Fault.ANSWER, answer=answer, times=1)
    client = driver_at(proxy.url).open(total)
    try:
        return operation(client)
    finally:
        client.close()


def asked(proxy: FaultProxy) -> list[Asked]:
    """Return the requests that have come so far."""
    return [Asked(one.request.method, one.request.target, one.request.headers) for one in proxy.log]


def each_failing() -> list[tuple[str, int]]:
    """Return every request of every operation: the operation's name, and which of its requests, from 0."""
    return list(
        itertools.chain.from_iterable(
            [(name, step) for step in range(len(answers))] for name, (_, _, answers) in OPERATIONS.items()
        )
    )


class Signer:
    """A credential that gives what a test wants, and remembers what it is asked for."""

    def __init__(self, given: AccessToken | Exception | None = None) -> None:
        self.given = given or AccessToken("secret-token", 2**40)
        self.asked: list[tuple[str, ...]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.asked.append(scopes)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given
