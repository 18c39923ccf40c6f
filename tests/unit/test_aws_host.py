"""What an EC2 instance's metadata say of its end, asked over real HTTP of a service that may be slow or wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from providers.aws.host import LIFECYCLE, REBALANCE, SPOT, AwsHost
from providers.host import End, Notice
from providers.interface import Misconfigured, ProviderError, Unavailable
from providers.metadata import MetadataServer
from tests import fake_metadata as fake
from tests.fake_metadata import Answer, FakeMetadata
from tests.proxy import FaultProxy

TIMEOUT = 0.5
AT = "2033-09-19T18:29:47Z"
WHEN = datetime(2033, 9, 19, 18, 29, 47, tzinfo=UTC).timestamp()


@pytest.fixture
def server() -> Iterator[FakeMetadata]:
    with FakeMetadata() as running:
        yield running


@pytest.fixture
def host(server: FakeMetadata) -> Iterator[AwsHost]:
    host = AwsHost(MetadataServer(server.url, TIMEOUT))
    yield host
    host.close()


def interrupt(server: FakeMetadata, **fields: object) -> None:
    server.say(fake.SPOT, json.dumps({"action": "terminate", "time": AT, **fields}))


def tokens(server: FakeMetadata) -> int:
    """Count the sessions that were begun."""
    return sum(asked.path == fake.TOKEN for asked in server.asked)


# --- what is announced ---


def test_nothing_is_announced(server: FakeMetadata, host: AwsHost) -> None:
    """A machine in service has no notices, and is asked three questions under one token."""
    assert host.notices() == []
    assert host.notices() == []
    assert [asked.method for asked in server.asked] == ["PUT"] + ["GET"] * 6
    assert {asked.headers.get("x-aws-ec2-metadata-token") for asked in server.asked[1:]} == {"token-1=="}


def test_a_machine_without_a_group_or_spot(server: FakeMetadata, host: AwsHost) -> None:
    """Where the metadata have nothing, nothing is announced."""
    server.hush(fake.LIFECYCLE)
    assert host.notices() == []


@pytest.mark.parametrize(
    "target, end",
    [
        ("Terminated", End.GONE),
        ("Warmed:Terminated", End.GONE),
        ("Warmed:Stopped", End.PAUSE),
        ("Warmed:Hibernated", End.PAUSE),
        ("Warmed:Running", End.PAUSE),
    ],
)
def test_the_group_takes_the_machine_away(server: FakeMetadata, host: AwsHost, target: str, end: End) -> None:
    """A target state out of service is a notice that is the same at every look, and over with the state."""
    server.say(fake.LIFECYCLE, target)
    expected = [Notice(f"{LIFECYCLE}={target}", end, LIFECYCLE, None)]
    assert host.notices() == expected
    assert host.notices() == expected
    server.say(fake.LIFECYCLE, "InService")
    assert host.notices() == []


@pytest.mark.parametrize("target", ["InService", "Standby", "Detached", "Something:New"])
def test_other_target_states(server: FakeMetadata, host: AwsHost, target: str) -> None:
    """States that end nothing, and those that nobody knows yet, are no notices."""
    server.say(fake.LIFECYCLE, target)
    assert host.notices() == []


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_a_spot_interruption(server: FakeMetadata, host: AwsHost, action: str) -> None:
    """Whatever is done with the capacity that is wanted back, the machine is gone at the time that is told."""
    interrupt(server, action=action)
    assert host.notices() == [Notice(f"{SPOT}={action}@{AT}", End.GONE, SPOT, WHEN)]


@pytest.mark.parametrize("time", [None, "", "soon", "9999-99-99T00:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_an_interruption_whose_time_is_unreadable(server: FakeMetadata, host: AwsHost, time: str | None) -> None:
    """An interruption at a time that cannot be read is an interruption all the same."""
    interrupt(server, time=time)
    (notice,) = host.notices()
    assert (notice.end, notice.at) == (End.GONE, None)


@pytest.mark.parametrize("time", ["2033-09-19T18:29:47", "2033-09-19T20:29:47+02:00"])
def test_times_in_other_zones(server: FakeMetadata, host: AwsHost, time: str) -> None:
    """A time without a zone is UTC, and one with a zone is the instant that it names."""
    interrupt(server, time=time)
    assert host.notices()[0].at == WHEN


def test_a_rebalance_recommendation(server: FakeMetadata, host: AwsHost) -> None:
    """A recommendation is a risk, without a time: the one that it tells is its own."""
    server.say(fake.REBALANCE, json.dumps({"noticeTime": AT}))
    assert host.notices() == [Notice(f"{REBALANCE}@{AT}", End.RISK, REBALANCE, None)]


def test_all_at_once(server: FakeMetadata, host: AwsHost) -> None:
    """What is under way comes before what has a time, and that before what may be."""
    server.say(fake.REBALANCE, json.dumps({"noticeTime": AT}))
    interrupt(server)
    server.say(fake.LIFECYCLE, "Terminated")
    assert [notice.cause for notice in host.notices()] == [LIFECYCLE, SPOT, REBALANCE]


# --- tokens ---


def test_a_token_that_has_run_out(server: FakeMetadata, host: AwsHost) -> None:
    """A token that is not accepted any more is renewed at once, and nobody notices."""
    server.say(fake.LIFECYCLE, "Terminated")
    assert host.notices()
    server.forget_tokens()
    assert host.notices()
    assert tokens(server) == 2
    assert {asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds") for asked in server.asked} == {"21600", None}


def test_a_service_that_accepts_no_token(server: FakeMetadata, host: AwsHost) -> None:
    """A new token that is not accepted either ends the question, with an error."""
    server.disturb(Answer(401), method="GET")
    with pytest.raises(Misconfigured, match="401"):
        host.notices()
    assert tokens(server) == 4  # the first, and one more for each of three questions


@pytest.mark.parametrize(
    "answer, kind, told",
    [
        (fake.SILENT, Unavailable, "http_put_response_hop_limit = 2"),
        (fake.FAILING, Unavailable, "failed with 500"),
        (fake.THROTTLED, Unavailable, "429"),
        (fake.EMPTY, Unavailable, "not one line"),
        (fake.GARBAGE, Unavailable, "not one line"),
        (Answer(403), Misconfigured, "http_endpoint = enabled"),
        (fake.ABSENT, Misconfigured, "no EC2 instance"),
        (fake.REFUSING, Misconfigured, "400"),
        (fake.PAGE, Misconfigured, "web page"),
    ],
)
def test_no_token(server: FakeMetadata, host: AwsHost, answer: Answer, kind: type[ProviderError], told: str) -> None:
    """Where no token is to be had, the error names the option of the instance that is behind it, and passes with it."""
    server.disturb(answer, path=fake.TOKEN)
    with pytest.raises(ProviderError, match=told) as raised:
        host.notices()
    assert isinstance(raised.value, kind)
    assert "\n" not in str(raised.value)
    server.calm()
    assert host.notices() == []


# --- bad answers ---


@pytest.mark.parametrize("path", [fake.LIFECYCLE, fake.SPOT, fake.REBALANCE])
@pytest.mark.parametrize(
    "answer",
    [
        fake.SILENT,
        fake.DRIPPING,
        fake.FAILING,
        fake.REPLACED,
        fake.THROTTLED,
        fake.REFUSING,
        fake.PAGE,
        fake.GARBAGE,
        fake.EMPTY,
        fake.DEEP,
        fake.HUGE,
        fake.CUT,
        fake.NO_HTTP,
        fake.HANGING_UP,
        fake.redirecting("http://127.0.0.1:9/"),
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_bad_answers(server: FakeMetadata, host: AwsHost, path: str, answer: Answer) -> None:
    """A bad answer to one question is one error in one line, and hides nothing of what another question finds."""
    server.disturb(answer, path=path)
    with pytest.raises((Unavailable, Misconfigured)) as raised:
        host.notices()
    assert str(raised.value).isprintable()
    others: dict[str, str] = {
        fake.LIFECYCLE: "Terminated",
        fake.SPOT: json.dumps({"action": "terminate", "time": AT}),
        fake.REBALANCE: json.dumps({"noticeTime": AT}),
    }
    for other, page in others.items():
        server.say(other, page)
    assert len(host.notices()) == 2
    server.calm()
    assert len(host.notices()) == 3


@pytest.mark.parametrize("body", ["[1]", "7", "{}", '{"action": 7}', '{"action": "a\\nb"}'])
def test_an_interruption_that_says_nothing(server: FakeMetadata, host: AwsHost, body: str) -> None:
    """JSON that names no action comes from no metadata service, and is called that."""
    server.say(fake.SPOT, body)
    with pytest.raises(Misconfigured, match=SPOT):
        host.notices()


def test_nobody_there() -> None:
    """A metadata service that cannot be reached is unavailable."""
    with FakeMetadata() as server:
        url = server.url
    host = AwsHost(MetadataServer(url, TIMEOUT))
    with pytest.raises(Unavailable, match="cannot be reached"):
        host.notices()
    with pytest.raises(Unavailable, match="cannot be reached"):
        host.identity()
    host.close()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_never_through_a_proxy(server: FakeMetadata, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Whatever proxy the environment names, the metadata are asked for directly."""
    with FaultProxy(server.url) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        host = AwsHost(MetadataServer(server.url, TIMEOUT))
        assert host.notices() == []
        host.close()
        assert proxy.log == []


def test_no_machine_of_ec2(server: FakeMetadata, host: AwsHost) -> None:
    """A metadata service that knows no instance is none of EC2's."""
    server.hush("/latest/meta-data/instance-id")
    with pytest.raises(Misconfigured, match="no EC2 instance; correct WORKER_HOST"):
        host.identity()
