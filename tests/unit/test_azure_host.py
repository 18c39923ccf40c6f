"""The Azure host driver, over real HTTP: its own machine's events and no other's, and its scale set's backlog."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError

from providers.azure import credentials
from providers.azure.credentials import Identity as Credential
from providers.azure.host import AzureHost
from providers.azure.monitor import Monitor
from providers.host import End, Host, Identity, Notice
from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.metadata import MetadataServer
from providers.options import PLAIN
from tests import fake_metadata as fake
from tests.fake_metadata import SET, Answer, FakeMetadata
from tests.unit.azure_support import Signer

TIMEOUT = 10.0
"""Seconds: far above what an answer takes here, on a machine under load too."""

HASTY = 0.3
"""Seconds, where no answer is to come."""

DATE, DATED = "Mon, 19 Sep 2033 18:29:47 GMT", 2010767387.0
NOW = 1772366400.7
BACKLOG = {
    "time": "2026-03-01T12:00:00Z",
    "data": {
        "baseData": {
            "metric": "Backlog",
            "namespace": "CloudWorker",
            "dimNames": ["Fleet"],
            "series": [{"dimValues": ["orders"], "min": 7, "max": 7, "sum": 7, "count": 1}],
        }
    },
}


@pytest.fixture
def server() -> Iterator[FakeMetadata]:
    with FakeMetadata() as running:
        yield running


@pytest.fixture
def signer() -> Signer:
    return Signer()


@pytest.fixture
def host(server: FakeMetadata, signer: Signer) -> Iterator[Host]:
    host: Host = AzureHost(
        MetadataServer(server.url, TIMEOUT), credential=signer, monitor_url=server.url, wall=lambda: NOW
    )
    yield host
    host.close()


# --- which machine ---------------------------------------------------------------------------------------------------


def test_identity(server: FakeMetadata, host: Host) -> None:
    """The machine has the name, zone and scale set that Azure's events and logs use, and asks as Azure wants it."""
    assert host.identity() == Identity(machine="set_0", zone="2", group="set")
    (asked,) = server.asked
    assert (asked.path, asked.query, asked.headers["metadata"]) == (
        fake.COMPUTE,
        {"api-version": "2021-02-01"},
        "true",
    )


@pytest.mark.parametrize("absent", [None, ""])
def test_alone(server: FakeMetadata, host: Host, absent: str | None) -> None:
    """A machine of no zone and no scale set says so."""
    server.describe(zone=absent, vmScaleSetName=absent)
    assert host.identity() == Identity(machine="set_0", zone=None, group=None)


@pytest.mark.parametrize(
    "answer, kind",
    [
        (fake.ABSENT, Misconfigured),
        (fake.PAGE, Misconfigured),
        (fake.LIST, Misconfigured),
        (fake.REFUSING, Misconfigured),
        (fake.redirecting("http://127.0.0.1:9/"), Misconfigured),
        (Answer(body=b"{}"), Misconfigured),
        (Answer(body=b'{"name": 7}'), Misconfigured),
        (Answer(body=b'{"name": "set_0", "zone": ["2"]}'), Misconfigured),
        (Answer(body=b'{"name": "set_0\\n"}'), Misconfigured),
        (fake.REPLACED, Unavailable),
        (fake.THROTTLED, Unavailable),
        (fake.FAILING, Unavailable),
        (fake.GARBAGE, Unavailable),
        (fake.DEEP, Unavailable),
        (fake.EMPTY, Unavailable),
        (fake.CUT, Unavailable),
        (fake.HUGE, Unavailable),
    ],
)
def test_no_identity(server: FakeMetadata, host: Host, answer: Answer, kind: type[ProviderError]) -> None:
    """Without a machine's description there is no identity and no notice, but one line that says why."""
    server.disturb(answer)
    for ask in (host.identity, host.notices):
        with pytest.raises(kind, match=fake.COMPUTE) as raised:
            ask()
        assert str(raised.value).isprintable()
    server.calm()
    assert host.identity().machine == "set_0"


# --- what is announced -----------------------------------------------------------------------------------------------


def test_nothing_announced(server: FakeMetadata, host: Host) -> None:
    """A machine that goes on has no notice, and its name is asked for once however often it looks."""
    assert host.notices() == []
    assert host.notices() == []
    assert [asked.path for asked in server.asked] == [fake.COMPUTE, fake.EVENTS, fake.EVENTS]
    assert server.asked[1].query == {"api-version": "2020-07-01"}
    assert server.asked[1].headers["metadata"] == "true"


@pytest.mark.parametrize("source", ["Platform", "User"])
@pytest.mark.parametrize(
    "kind, end",
    [
        ("Terminate", End.GONE),
        ("Preempt", End.GONE),
        ("Freeze", End.PAUSE),
        ("Reboot", End.PAUSE),
        ("Redeploy", End.PAUSE),
        ("Hibernate", End.PAUSE),
    ],
)
def test_kinds(server: FakeMetadata, host: Host, kind: str, end: End, source: str) -> None:
    """Every kind of event means an end or a pause, whoever asked for it; one that is not known yet means a pause."""
    server.schedule(kind, NotBefore=DATE, EventSource=source)
    assert host.notices() == [Notice("e1", end, kind, DATED)]
    assert host.notices() == [Notice("e1", end, kind, DATED)], "the same announcement is an equal value"


@pytest.mark.parametrize(
    "resources, mine",
    [
        (["set_0"], True),
        (["SET_0"], True),
        (["set_1", "Set_0"], True),
        (["set_1"], False),
        (["set_00", "xset_0", "set_"], False),
        ([], False),
        ([7, None, ["set_0"]], False),
        ("set_0", False),
        (None, False),
    ],
)
def test_own_events_only(server: FakeMetadata, host: Host, resources: Any, mine: bool) -> None:
    """Every machine of the placement group is shown every event: only those that name this one concern it."""
    server.schedule("Terminate", id="other", resources=["set_1"])
    server.schedule("Reboot", id="e1", Resources=resources)
    assert [notice.id for notice in host.notices()] == (["e1"] if mine else [])


@pytest.mark.parametrize(
    "said, at",
    [
        (DATE, DATED),
        ("Mon, 19 Sep 2033 18:29:47 -0000", DATED),
        ("Mon, 19 Sep 2033 18:29:47", DATED),
        ("", None),
        (None, None),
        (7, None),
        ("soon", None),
        ("Mon, 99 Sep 2033 18:29:47 GMT", None),
        ("Mon, 19 Sep 99999999999999999999 18:29:47 GMT", None),
        ("Mon, 19 Sep 2033 18:29:47 +99999999999999", None),
    ],
)
def test_dates(
    monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, host: Host, said: object, at: float | None
) -> None:
    """A time is told in UTC, wherever this machine believes to be, and one that cannot be read hides no event."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        server.schedule("Reboot", NotBefore=said)
        assert host.notices() == [Notice("e1", End.PAUSE, "Reboot", at)]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_started(server: FakeMetadata, host: Host) -> None:
    """An event that has started is noticed if it never was before, and is still the announcement that it was."""
    server.schedule("Freeze", id="late", EventStatus="Started", NotBefore="")
    server.schedule("Terminate", id="known", NotBefore=DATE)
    first = host.notices()
    assert first == [Notice("late", End.PAUSE, "Freeze", None), Notice("known", End.GONE, "Terminate", DATED)]
    server.schedule("Terminate", id="known", EventStatus="Started", NotBefore="")
    assert set(host.notices()) == set(first)
    server.finish("known")
    server.finish("late")
    assert host.notices() == []
    server.schedule("Terminate", id="known", EventStatus="Started", NotBefore="")
    assert host.notices() == [Notice("known", End.GONE, "Terminate", None)], "what is over is forgotten"


@pytest.mark.parametrize("status", ["Completed", "completed", "Canceled"])
def test_over(server: FakeMetadata, host: Host, status: str) -> None:
    """What is said to be over announces nothing."""
    server.schedule("Freeze", EventStatus=status)
    assert host.notices() == []


def test_order(server: FakeMetadata, host: Host) -> None:
    """The soonest comes first: what has started, then what does not say when, then by time."""
    server.schedule("Reboot", id="last", NotBefore="Tue, 20 Sep 2033 18:29:47 GMT")
    server.schedule("Reboot", id="next", NotBefore=DATE)
    server.schedule("Reboot", id="unclear", NotBefore="soon")
    server.schedule("Freeze", id="now", EventStatus="Started", NotBefore="")
    assert [notice.id for notice in host.notices()] == ["now", "unclear", "next", "last"]


def test_strange_events(server: FakeMetadata, host: Host) -> None:
    """An event that makes no sense hides none of the others, and one that names this machine is never passed over."""
    server.schedule("Terminate", id="e1", NotBefore=DATE)
    strange: list[object] = [
        7,
        None,
        [],
        "x",
        {},
        {"Resources": ["set_0"], "EventId": 5, "EventType": "Re\x1b[1mboot\n" + "!" * 999},
    ]
    told = {"Events": [*strange, {"EventId": "e1", "EventType": "Terminate", "Resources": ["set_0"]}]}
    server.disturb(Answer(body=json.dumps(told).encode()), path=fake.EVENTS)
    unknown, known = host.notices()
    assert (known.id, known.end) == ("e1", End.GONE)
    assert unknown.end is End.PAUSE
    assert unknown.id
    assert unknown.cause.startswith("Re[1mboot !!!")
    assert len(unknown.cause) <= 200
    host.acknowledge(unknown)
    assert server.started == []


@pytest.mark.parametrize(
    "answer, kind",
    [
        (fake.PAGE, Misconfigured),
        (fake.LIST, Misconfigured),
        (fake.REFUSING, Misconfigured),
        (fake.ABSENT, Unavailable),
        (Answer(body=b"{}"), Unavailable),
        (Answer(body=b'{"Events": {"EventId": "e1"}}'), Unavailable),
        (fake.GARBAGE, Unavailable),
        (fake.DEEP, Unavailable),
        (fake.NUMBER, Unavailable),
        (fake.CUT, Unavailable),
        (fake.REPLACED, Unavailable),
        (fake.THROTTLED, Unavailable),
        (fake.FAILING, Unavailable),
    ],
)
def test_no_answer_is_not_no_event(server: FakeMetadata, host: Host, answer: Answer, kind: type[ProviderError]) -> None:
    """Whatever else is answered, it is never taken for an empty list, and the next question finds the event."""
    server.schedule("Terminate")
    server.disturb(answer, path=fake.EVENTS)
    with pytest.raises(kind, match=fake.EVENTS) as raised:
        host.notices()
    assert str(raised.value).isprintable()
    server.calm()
    assert len(host.notices()) == 1


@pytest.mark.parametrize("answer", [fake.SILENT, fake.DRIPPING], ids=["silent", "dripping"])
def test_too_slow(server: FakeMetadata, answer: Answer) -> None:
    """A service that takes minutes for its first answer, as Azure's may, is Unavailable until then."""
    host = AzureHost(MetadataServer(server.url, HASTY))
    server.disturb(answer)
    for ask in (host.identity, host.notices):
        with pytest.raises(Unavailable):
            ask()
    host.close()


# --- what is done about it -------------------------------------------------------------------------------------------


def test_acknowledge(server: FakeMetadata, host: Host) -> None:
    """Acknowledging starts exactly the one event, and may be done again, and when it is over."""
    for id in ("e0", "e1", "e2"):
        server.schedule("Terminate", id=id)
    (notice,) = [notice for notice in host.notices() if notice.id == "e1"]
    host.acknowledge(notice)
    host.acknowledge(notice)
    assert server.started == ["e1", "e1"]
    posted = [asked for asked in server.asked if asked.method == "POST"]
    for asked in posted:
        assert json.loads(asked.body) == {"StartRequests": [{"EventId": "e1"}]}
        assert asked.query == {"api-version": "2020-07-01"}
        assert asked.headers["metadata"] == "true"
    server.finish("e1")
    host.acknowledge(notice)
    assert len(server.started) == 2


def test_what_has_started_is_not_started_again(server: FakeMetadata, host: Host) -> None:
    """There is nothing to ask of an event that is under way; a notice of it is acknowledged without a request."""
    server.schedule("Terminate", id="e1", EventStatus="Started")
    (notice,) = host.notices()
    host.acknowledge(notice)
    assert server.started == []


def test_others_are_not_hurried(server: FakeMetadata, host: Host) -> None:
    """An event that names other machines too is left to its time: they may not be ready."""
    server.schedule("Freeze", resources=["set_0", "set_1"])
    (notice,) = host.notices()
    host.acknowledge(notice)
    assert server.started == []


def test_not_of_this_machine(server: FakeMetadata, host: Host) -> None:
    """No other machine's event is ever started from here."""
    server.schedule("Terminate", id="theirs", resources=["set_1"])
    host.acknowledge(Notice("theirs", End.GONE, "Terminate", None))
    assert server.started == []


@pytest.mark.parametrize(
    "answer, kind",
    [
        (fake.REFUSING, Misconfigured),
        (fake.ABSENT, Misconfigured),
        (fake.REPLACED, Unavailable),
        (fake.THROTTLED, Unavailable),
        (fake.FAILING, OutcomeUnknown),
        (fake.HANGING_UP, OutcomeUnknown),
    ],
)
def test_not_acknowledged(server: FakeMetadata, host: Host, answer: Answer, kind: type[ProviderError]) -> None:
    """An acknowledgement that was not taken, or may not have been, is an error that says which."""
    server.schedule("Terminate")
    (notice,) = host.notices()
    server.disturb(answer, method="POST")
    with pytest.raises(kind, match="POST") as raised:
        host.acknowledge(notice)
    assert str(raised.value).isprintable()


def test_what_azure_does_not_offer(server: FakeMetadata, host: Host) -> None:
    """Saying to be ready, asking for more time or for protection sends nothing, and nothing has to be repeated."""
    host.ready()
    host.hold(Notice("e1", End.GONE, "Terminate", None))
    host.protect(True)
    host.protect(False)
    assert host.grace is None
    assert server.asked == []


# --- the backlog -----------------------------------------------------------------------------------------------------


def test_backlog(server: FakeMetadata, host: Host, signer: Signer) -> None:
    """The backlog is a figure of the scale set, signed with a token for Azure Monitor's own audience."""
    host.publish_backlog("orders", 7)
    assert server.metrics == [(f"{SET}/metrics", BACKLOG)]
    assert signer.asked == [("https://monitoring.azure.com//.default",)]
    asked = server.asked[-1]
    assert asked.method == "POST"
    assert asked.headers["authorization"] == "Bearer secret-token"
    assert asked.headers["content-type"] == "application/json"
    host.publish_backlog("orders", 0)
    assert len(signer.asked) == 1, "a token is kept while it holds"
    assert server.metrics[1][1]["data"]["baseData"]["series"][0]["sum"] == 0


ALONE = "/subscriptions/s-1/resourceGroups/rg_1.(a)/providers/Microsoft.Compute/virtualMachines/set_0"


@pytest.mark.parametrize(
    "told, resource",
    [
        ({"resourceId": f"{SET}/virtualMachines/0", "vmScaleSetName": None}, SET),
        ({"resourceId": ALONE, "vmScaleSetName": ""}, ALONE),
        ({"resourceId": ALONE}, ALONE.replace("virtualMachines/set_0", "virtualMachineScaleSets/set")),
        (
            {"resourceId": ALONE, "vmScaleSetName": "a?b#c"},
            ALONE.replace("Machines/set_0", "MachineScaleSets/a%3Fb%23c"),
        ),
    ],
)
def test_whose_backlog(server: FakeMetadata, host: Host, told: dict[str, Any], resource: str) -> None:
    """The figure belongs to the scale set of either kind, and to the machine where there is none."""
    server.describe(**told)
    host.publish_backlog("orders", 7)
    assert server.metrics == [(f"{resource}/metrics", BACKLOG)]


@pytest.mark.parametrize(
    "resource", [None, "", "//evil.example/x", f"{ALONE}/../x", f"{ALONE}?x", f"{ALONE}/metrics", "@evil.example"]
)
def test_no_resource(server: FakeMetadata, host: Host, signer: Signer, resource: str | None) -> None:
    """A resource id that is none of a virtual machine's is never made part of a URL that gets a token."""
    server.describe(resourceId=resource)
    with pytest.raises(Misconfigured, match="resource id"):
        host.publish_backlog("orders", 7)
    assert signer.asked == []


@pytest.mark.parametrize(
    "location, url",
    [
        ("westeurope", "https://westeurope.monitoring.azure.com"),
        ("West Europe", "https://westeurope.monitoring.azure.com"),
        (None, None),
        ("evil.example/", None),
        ("a@b", None),
    ],
)
def test_region(
    monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, signer: Signer, location: str | None, url: str | None
) -> None:
    """Without a URL of its own the figure goes to Azure Monitor in the machine's region, and nowhere else."""
    went: list[str] = []
    monkeypatch.setattr(Monitor, "publish", lambda self, *figure: went.append(self.url))
    server.describe(location=location)
    host = AzureHost(MetadataServer(server.url, TIMEOUT), credential=signer)
    if url is None:
        with pytest.raises(Misconfigured, match="location"):
            host.publish_backlog("orders", 7)
    else:
        host.publish_backlog("orders", 7)
    host.close()
    assert went == [] if url is None else [url]


@pytest.mark.parametrize(
    "answer, kind, says",
    [
        (Answer(401, b"no"), Misconfigured, "signing in failed"),
        (Answer(403, b"no"), Misconfigured, "Monitoring Metrics Publisher on /subscriptions/.*WORKER_AZURE_CLIENT_ID"),
        (Answer(400, b"bad\r\n\x1b[31m time"), Misconfigured, r"refuses it with 400: bad \[31m time"),
        (Answer(404, b""), Misconfigured, "404"),
        (fake.redirecting("http://127.0.0.1:9/"), Misconfigured, "302"),
        (fake.THROTTLED, Unavailable, "throttled"),
        (fake.FAILING, OutcomeUnknown, "500"),
        (Answer(503), OutcomeUnknown, "503"),
        (fake.CUT, OutcomeUnknown, "no clear answer"),
        (fake.HANGING_UP, OutcomeUnknown, "no clear answer"),
        (fake.NO_HTTP, OutcomeUnknown, "no clear answer"),
    ],
)
def test_backlog_refused(
    server: FakeMetadata, host: Host, answer: Answer, kind: type[ProviderError], says: str
) -> None:
    """What Azure Monitor answers is one error in one line, which names the figure, sent once, and shows no token."""
    server.disturb(answer, path="/subscriptions/")
    with pytest.raises(kind, match=says) as raised:
        host.publish_backlog("orders", 7)
    assert type(raised.value) is kind
    assert f"metric Backlog of {SET}" in str(raised.value)
    assert str(raised.value).isprintable()
    assert "secret-token" not in str(raised.value)
    assert [asked.method for asked in server.asked].count("POST") == 1


def test_no_proxy_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, host: Host, signer: Signer
) -> None:
    """No proxy of the environment gets to see a question to the metadata service, or what is published on loopback."""
    with FakeMetadata() as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert host.notices() == []
        host.publish_backlog("orders", 7)
        assert proxy.asked == []
    assert len(server.metrics) == 1


def test_monitor_silent(monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, host: Host) -> None:
    """Azure Monitor is waited for as long as it says, and not longer."""
    monkeypatch.setattr("providers.azure.monitor.TIMEOUT", HASTY)
    server.disturb(fake.SILENT, path="/subscriptions/")
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        host.publish_backlog("orders", 7)
    assert time.monotonic() - started < 20.0  # a third of what the fake would take


def test_monitor_absent(server: FakeMetadata, signer: Signer) -> None:
    """Where nobody listens nothing was published."""
    with FakeMetadata() as gone:
        url = gone.url
    host = AzureHost(MetadataServer(server.url, TIMEOUT), credential=signer, monitor_url=url)
    with pytest.raises(Unavailable, match="cannot be reached"):
        host.publish_backlog("orders", 7)
    host.close()


@pytest.mark.parametrize(
    "error, kind",
    [(ServiceRequestError("refused"), Unavailable), (ClientAuthenticationError("no identity"), Misconfigured)],
)
def test_no_token(
    monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, error: Exception, kind: type[ProviderError]
) -> None:
    """Without a token nothing is sent, and the error says what it was for."""
    monkeypatch.setattr(credentials, "_identity", lambda options: Signer(error))
    host = AzureHost(
        MetadataServer(server.url, TIMEOUT), credential=Credential("Azure Monitor", PLAIN), monitor_url=server.url
    )
    with pytest.raises(kind, match="no token for Azure Monitor"):
        host.publish_backlog("orders", 7)
    host.close()
    assert server.metrics == []


def test_no_identity_unasked(monkeypatch: pytest.MonkeyPatch, server: FakeMetadata) -> None:
    """The machine's own identity is made when a backlog is first published, and for nothing else."""
    made: list[Signer] = []

    def make(options: object) -> Signer:
        made.append(Signer())
        return made[-1]

    monkeypatch.setattr(credentials, "_identity", make)
    host = AzureHost(MetadataServer(server.url, TIMEOUT), monitor_url=server.url)
    server.schedule("Terminate")
    host.identity()
    for notice in host.notices():
        host.acknowledge(notice)
    assert made == []
    host.publish_backlog("orders", 7)
    host.publish_backlog("orders", 8)
    assert len(made) == 1
    host.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://monitor.example",
        "monitor",
        "ftp://127.0.0.1",
        "https://a:b@monitor.example",
        "https://a?b",
        "http://[::1",
    ],
)
def test_monitor_url(url: str, signer: Signer) -> None:
    """A token is sent only over TLS, or to this machine itself."""
    with pytest.raises(Misconfigured):
        Monitor(url, signer)
