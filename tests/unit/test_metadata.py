"""What is made of a metadata service's answers, over real HTTP: one error for each, one line, and no detours."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.interface import Misconfigured, OutcomeUnknown, ProviderError, Unavailable
from providers.metadata import LONGEST_LINE, MetadataServer, Rejected, read_json, read_line, read_text
from tests import fake_metadata as fake
from tests.fake_metadata import Answer, FakeMetadata
from tests.waiting import until

PATH = f"{fake.COMPUTE}?api-version=2021-02-01"
AZURE = {"Metadata": "true"}
TIMEOUT = 10.0
"""Seconds: far above what an answer takes here, on a machine under load too."""

HASTY = 0.3
"""Seconds, where no answer is to come."""

BOUND = 20.0
"""Seconds within which a hasty question has ended: a third of what the fake would take."""

Call = Callable[[MetadataServer], object]

CALLS: dict[str, tuple[Call, type[ProviderError]]] = {  # how, and what an unclear answer to it means
    "get": (lambda one: one.get(PATH, AZURE), Unavailable),
    "put": (lambda one: one.put(fake.TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": "60"}), Unavailable),
    "post": (lambda one: one.post_json(f"{fake.EVENTS}?api-version=1", {"StartRequests": []}, AZURE), OutcomeUnknown),
}


@pytest.fixture
def server() -> Iterator[FakeMetadata]:
    with FakeMetadata() as running:
        yield running


@pytest.fixture
def metadata(server: FakeMetadata) -> Iterator[MetadataServer]:
    metadata = MetadataServer(server.url, TIMEOUT)
    yield metadata
    metadata.close()


def refused(metadata: MetadataServer, name: str) -> ProviderError:
    """Return the error that a call ends with, and see that it is one short line that names the question."""
    with pytest.raises(ProviderError) as raised:
        CALLS[name][0](metadata)
    said = str(raised.value)
    assert said.isprintable()
    assert len(said) < 600
    assert said.startswith(f"{name.upper()} {metadata.url}/")
    return raised.value


def test_get(server: FakeMetadata, metadata: MetadataServer) -> None:
    """What is at a path comes back as it is, and the request carries the headers and the query it was given."""
    body = metadata.get(PATH, AZURE)
    assert body is not None
    assert json.loads(body) == fake.AZURE_MACHINE
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.query) == ("GET", fake.COMPUTE, {"api-version": "2021-02-01"})
    assert asked.headers["metadata"] == "true"


def test_nothing_there(metadata: MetadataServer) -> None:
    """A 404 is an answer to a GET: there is none."""
    assert metadata.get("/metadata/nothing?api-version=1", AZURE) is None


def test_put(server: FakeMetadata, metadata: MetadataServer) -> None:
    """A PUT without a body gives the token that further questions carry."""
    token = metadata.put(fake.TOKEN, {"X-aws-ec2-metadata-token-ttl-seconds": "60"}).decode()
    assert metadata.get("/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": token})
    server.forget_tokens()
    with pytest.raises(Rejected) as raised:
        metadata.get("/latest/meta-data/instance-id", {"X-aws-ec2-metadata-token": token})
    assert raised.value.status == 401


def test_post(server: FakeMetadata, metadata: MetadataServer) -> None:
    """A POST carries its body as JSON."""
    server.schedule("Reboot", id="e1")
    assert metadata.post_json(f"{fake.EVENTS}?api-version=1", {"StartRequests": [{"EventId": "e1"}]}, AZURE) == b""
    (asked,) = server.asked
    assert json.loads(asked.body) == {"StartRequests": [{"EventId": "e1"}]}
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "answer",
    [fake.FAILING, fake.CUT, fake.HUGE, fake.NO_HTTP, fake.HANGING_UP],
    ids=["failing", "cut", "huge", "no http", "hanging up"],
)
def test_no_clear_answer(server: FakeMetadata, metadata: MetadataServer, name: str, answer: Answer) -> None:
    """What is not answered whole may be asked again, except for what may have been done, and never is from here."""
    server.disturb(answer)
    assert type(refused(metadata, name)) is CALLS[name][1]
    assert len(server.asked) == 1
    server.calm()
    assert metadata.get(PATH, AZURE), "the next question finds a connection that works"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("answer", [fake.SILENT, fake.DRIPPING], ids=["silent", "dripping"])
def test_slow(server: FakeMetadata, name: str, answer: Answer) -> None:
    """Nobody is waited for longer than it was said, whether nothing comes or always a little more."""
    metadata = MetadataServer(server.url, HASTY)
    server.disturb(answer)
    started = time.monotonic()
    assert type(refused(metadata, name)) is CALLS[name][1]
    assert time.monotonic() - started < BOUND
    server.calm()

    def answered() -> bytes | None:
        with suppress(Unavailable):  # this machine may be slow too
            return metadata.get(PATH, AZURE)
        return None

    assert until(answered, BOUND, "the next question finds a connection that works")
    metadata.close()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("answer", [fake.REPLACED, fake.THROTTLED], ids=["410", "429"])
def test_later(server: FakeMetadata, metadata: MetadataServer, name: str, answer: Answer) -> None:
    """A service that says that it did nothing is asked again later."""
    server.disturb(answer)
    assert type(refused(metadata, name)) is Unavailable


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [400, 401, 403, 405])
def test_rejected(server: FakeMetadata, metadata: MetadataServer, name: str, status: int) -> None:
    """A service that refuses the question will do so again: the error has the status, and what it said."""
    server.disturb(Answer(status, b"because\r\n of\x00 \x1b[31mthis" + b"!" * 1000))
    error = refused(metadata, name)
    assert isinstance(error, Rejected)
    assert isinstance(error, Misconfigured)
    assert error.status == status
    assert f"{status}: because of [31mthis!!!" in str(error)


@pytest.mark.parametrize("name", ["put", "post"])
def test_absent(server: FakeMetadata, metadata: MetadataServer, name: str) -> None:
    """Whatever has no place to put or post to is no such service."""
    server.disturb(fake.ABSENT)
    error = refused(metadata, name)
    assert isinstance(error, Rejected)
    assert error.status == 404


@pytest.mark.parametrize("name", CALLS)
def test_nobody(name: str) -> None:
    """Where nobody listens nothing was sent, and so nothing was done."""
    with FakeMetadata() as server:
        url = server.url
    metadata = MetadataServer(url, TIMEOUT)
    assert type(refused(metadata, name)) is Unavailable
    metadata.close()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: FakeMetadata, metadata: MetadataServer, name: str, status: int) -> None:
    """Nobody can send these questions, and the tokens in them, anywhere else."""
    with FakeMetadata() as elsewhere:
        server.disturb(Answer(status, b"", (("Location", elsewhere.url + PATH),)))
        error = refused(metadata, name)
        assert isinstance(error, Rejected)
        assert elsewhere.url in str(error)
        assert elsewhere.asked == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("name", CALLS)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, server: FakeMetadata, name: str) -> None:
    """Whatever the environment says of proxies, the machine asks the service itself."""
    with FakeMetadata() as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        metadata = MetadataServer(server.url, TIMEOUT)
        CALLS[name][0](metadata)
        metadata.close()
        assert proxy.asked == []
    assert len(server.asked) == 1


def test_one_connection(server: FakeMetadata, metadata: MetadataServer) -> None:
    """Answers that came whole, good or bad, leave the connection open for the next question."""
    for _ in range(3):
        metadata.get(PATH, AZURE)
        metadata.get("/metadata/nothing?api-version=1", AZURE)
        with pytest.raises(Rejected):
            metadata.get(PATH)
    assert server.connections == 1


@pytest.mark.parametrize(
    "url",
    [
        "169.254.169.254",
        "ftp://127.0.0.1",
        "http://",
        "http://user:secret@127.0.0.1",
        "http://127.0.0.1/?secret=1",
        "http://127.0.0.1/#secret",
        "http://127.0.0.1:secret",
        "http://127.0.0.1:0",
        "http://[::1/secret",
    ],
)
def test_bad_url(url: str) -> None:
    """A URL that no service can have is refused before anything is asked, without repeating what it may hide."""
    with pytest.raises(Misconfigured, match=r"must be one such as http://169\.254\.169\.254") as raised:
        MetadataServer(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "answer, kind",
    [
        (fake.PAGE, Misconfigured),
        (fake.LIST, Misconfigured),
        (Answer(body=b"null"), Misconfigured),
        (Answer(body=b'"text"'), Misconfigured),
        (Answer(body=b"7"), Misconfigured),
        (fake.EMPTY, Unavailable),
        (fake.GARBAGE, Unavailable),
        (fake.DEEP, Unavailable),
        (fake.NUMBER, Unavailable),
        (Answer(body=b'{"name": "\xff"}'), Unavailable),
        (Answer(body=b'{"name": "set_0"'), Unavailable),
    ],
)
def test_not_an_object(answer: Answer, kind: type[ProviderError]) -> None:
    """What no metadata service says is a mistake of the settings; what may be half an answer is asked again."""
    with pytest.raises(kind, match=r"^the question: ") as raised:
        read_json(answer.body, "the question")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("value", [7, True, 1.5, [], ["set_0"], {}, "a\nb", "\x1b[31m", "\ud800", "x" * 3000])
def test_not_a_name(value: object) -> None:
    """A field that should be a name is one line of text, and is believed in no other form."""
    with pytest.raises(Misconfigured, match=r"^the question: name is not one line of text") as raised:
        read_text(json.loads(json.dumps({"name": value})), "name", "the question")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "fields, expected", [({}, None), ({"name": None}, None), ({"name": ""}, None), ({"name": "é"}, "é")]
)
def test_names(fields: dict[str, object], expected: str | None) -> None:
    """A name that is absent, null or empty is none."""
    assert read_text(fields, "name", "the question") == expected


@pytest.mark.parametrize(
    "body, expected",
    [(b"i-0123\n", "i-0123"), (b" InService ", "InService"), (b"x" * LONGEST_LINE, "x" * LONGEST_LINE)],
)
def test_line(body: bytes, expected: str) -> None:
    """An answer of one word is that word."""
    assert read_line(body, "the question") == expected


@pytest.mark.parametrize(
    "body, kind",
    [
        (fake.PAGE.body, Misconfigured),
        (b"", Unavailable),
        (b" \n", Unavailable),
        (b"a\nb", Unavailable),
        (b"a\r\nX-Header: b", Unavailable),
        (b"\xff", Unavailable),
        ("é".encode(), Unavailable),
        (b"x" * (LONGEST_LINE + 1), Unavailable),
    ],
)
def test_no_line(body: bytes, kind: type[ProviderError]) -> None:
    """An answer that is no single word can become no header and no name."""
    with pytest.raises(kind, match=r"^the question: ") as raised:
        read_line(body, "the question")
    assert str(raised.value).isprintable()


def said_by(read: Callable[[bytes, str], object], body: bytes) -> str:
    """Return the error that an answer ends with, or nothing."""
    try:
        read(body, "the question")
    except ProviderError as exc:
        return str(exc)
    return ""


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(body: bytes) -> None:
    """Whatever is answered becomes an object or a line, or one of the interface's errors in one printable line."""
    for read in (read_json, read_line):
        assert said_by(read, body).isprintable()
