"""Messages on the wire: plain JSON and envelopes both work, and what cannot be understood says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.aws.messages import to_text
from worker.core.dead_letter import DeadLetter, Failure, dead_letter, read_dead_letter, replayable
from worker.core.envelope import MARK, BadMessage, encode, key_of, parse, unwrap, wrap

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
FAILURE = Failure(
    "boom", "builtins.ValueError", "Traceback …\n  line\n", 5, "orders", "orders-03", "2026-03-01T12:00:00Z"
)


@given(json_values, st.none() | st.text(alphabet=st.characters(codec="utf-8")))
def test_an_envelope_reads_back(body: Any, key: str | None) -> None:
    """What is wrapped must be unwrapped unchanged, whatever its body looks like."""
    envelope = unwrap(wrap(body, id="i1", key=key, origin="send"))
    assert (envelope.body, envelope.id, envelope.key, envelope.origin) == (body, "i1", key, "send")


@given(json_values)
def test_plain_json_is_its_own_body(body: Any) -> None:
    """A producer that knows nothing of envelopes must be understood."""
    if isinstance(body, dict) and MARK in body:
        return
    envelope = unwrap(json.dumps(body).encode())
    assert envelope.body == body
    assert envelope.id is None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_bad_message(data: bytes) -> None:
    """No bytes whatever may raise anything but BadMessage, and a dead letter must carry them unharmed."""
    try:
        unwrap(data)
    except BadMessage:
        letter = read_dead_letter(dead_letter(data, FAILURE, id="i1", key=None, limit=10_000))
        assert letter.raw == data
        assert replayable(letter, id="i2", at="now") == data


@pytest.mark.parametrize(
    "data, says",
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"{oops", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": NaN}', "no NaN"),
        (b'{"a": 1e999}', "beyond a double"),
        (b"1" * 5000, "cannot be read"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"cloud-worker": 1}', "without a 'body'"),
        (b'{"cloud-worker": 2, "body": 1}', "upgrade"),
        (b'{"cloud-worker": "x", "body": 1}', "must be the number"),
        (b'{"cloud-worker": true, "body": 1}', "must be the number"),
        (b'{"cloud-worker": 1, "body": 1, "id": 7}', "'id' is 7"),
        (b'{"cloud-worker": 1, "body": 1, "id": ""}', "'id' is empty"),
        (b'{"cloud-worker": 1, "body": 1, "key": "\\ud800"}', "surrogate"),
    ],
)
def test_a_bad_message_says_why(data: bytes, says: str) -> None:
    """Each way in which a message can be wrong must be named."""
    with pytest.raises(BadMessage, match=says):
        unwrap(data)


@pytest.mark.parametrize(
    "body, key",
    [
        ({"c": "x"}, "x"),
        ({"c": ""}, ""),
        ({"c": 17}, "17"),
        ({"c": True}, "true"),
        ({"c": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        ({"c": None}, None),
        ({}, None),
        ("text", None),
    ],
)
def test_the_key_of_a_body(body: Any, key: str | None) -> None:
    """The key must be the field's text, the same on every machine and in every language."""
    assert key_of(body, "c") == key
    assert key_of(body, None) is None


def test_unknown_fields_survive() -> None:
    """A newer version's envelope field must survive being wrapped again and being buried and replayed."""
    data = b'{"cloud-worker": 1, "body": 1, "id": "i1", "trace": "t9"}'
    assert unwrap(data).extra == {"trace": "t9"}
    letter = read_dead_letter(dead_letter(data, FAILURE, id="i1", key="k", limit=10_000))
    assert unwrap(replayable(letter, id="i2", at="now")).extra == {"trace": "t9"}


@given(json_values, st.text(max_size=300), st.text(max_size=300), st.integers(700, 3000))
def test_a_dead_letter_fits_and_keeps_its_failure(body: Any, error: str, trace: str, limit: int) -> None:
    """A dead letter must fit its queue's limit, and must still say what failed, where and how often."""
    failure = Failure(error, "builtins.ValueError", trace, 3, "orders", "orders-03", "2026-03-01T12:00:00Z")
    data = dead_letter(wrap(body, id="i1"), failure, id="i1", key="k", limit=limit)
    assert len(data) <= limit
    letter = read_dead_letter(data)
    assert letter.failure is not None
    assert (letter.failure.attempts, letter.failure.partition) == (3, "orders-03")
    assert letter.envelope.id == "i1"
    if not letter.cut:
        assert letter.envelope.body == body
        assert (letter.failure.error, letter.failure.traceback) == (error, trace)


def test_what_is_cut_first_is_missed_least() -> None:
    """The traceback's beginning must go first, then the error, and the body last of all."""

    def letter(limit: int) -> DeadLetter:
        failure = Failure("e" * 1000, "T", "start " + "t" * 1000 + " end", 1, "orders", "orders-0", "now")
        return read_dead_letter(dead_letter(wrap("b" * 1000), failure, id="i", key=None, limit=limit))

    assert letter(9000).cut == ()
    some = letter(2800)
    assert some.cut == ("traceback",)
    assert some.failure is not None
    assert some.failure.traceback.endswith(" end")
    assert not some.failure.traceback.startswith("start")
    assert letter(1800).cut == ("traceback", "error")
    least = letter(800)
    assert least.cut == ("traceback", "error", "body")
    with pytest.raises(BadMessage, match="cut"):
        replayable(least, id="new", at="now")


def test_a_replay_has_a_new_id_and_keeps_key_and_body() -> None:
    """A replayed letter must be a new message: an id that was finished once would be dropped as a duplicate."""
    letter = read_dead_letter(dead_letter(b'{"a": 1}', FAILURE, id="store-id", key="k", limit=10_000))
    again = unwrap(replayable(letter, id="fresh", at="now"))
    assert (again.id, again.key, again.body, again.origin) == ("fresh", "k", {"a": 1}, "replay")


@pytest.mark.parametrize("data", [b'{"a": 1}', b"garbage", b'{"cloud-worker": 1, "body": 2}'])
def test_a_strangers_message_in_the_dead_letter_queue_is_readable(data: bytes) -> None:
    """A message that somebody else put into the dead-letter queue must be shown and be replayable."""
    letter = read_dead_letter(data)
    assert letter.failure is None
    assert replayable(letter, id="fresh", at="now")


@given(st.text() | st.dictionaries(st.text(), st.text(), max_size=3))
@example("\ufffe\uffff")
@example("\ud800")
@example("\x00\r\n\x7f")
def test_all_json_travels_as_text(value: object) -> None:
    """What is encoded is text that every store takes as it is, and comes back as it was."""
    data = encode(value)
    assert to_text(data) == (data.decode(), {})
    assert parse(data) == value
