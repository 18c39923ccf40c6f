"""What is believed of a stored document, and what is damage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.body import decode, encode
from providers.interface import BadDocument, NewerFormat

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "format"), VALUES, max_size=5))
def test_all_that_is_written_is_read_back(fields: dict[str, object]) -> None:
    """Whatever a document can hold comes back as it was, half surrogate pairs and large numbers included."""
    assert decode(encode(fields), "it") == {"format": 1, **fields}


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789.eE+-format NaIity', max_size=60).map(str.encode))
def test_nothing_that_is_stored_crashes_its_reader(body: bytes) -> None:
    """Bytes are a document or damage, and nothing else is ever raised."""
    with suppress(BadDocument):
        assert decode(body, "it")["format"] == 1


@pytest.mark.parametrize(
    "value",
    ["9" * 5000, "-" + "9" * 5000, "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[" * 100_000, '{"a":' * 100_000],
    ids=lambda value: value[:9],
)
def test_what_no_reader_could_bear_is_damage(value: str) -> None:
    """Numbers that are none, or beyond what is computed with, and endless nesting are damage like any other."""
    with pytest.raises(BadDocument, match=r"^plan is not JSON") as raised:
        decode(f'{{"format": 1, "x": {value}'.encode() + b"}" * value[0].isalnum(), "plan")
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_could_not_be_read_back_is_not_written(value: float) -> None:
    """A document that its own readers would take for damage must not be written."""
    with pytest.raises(ValueError, match="JSON"):
        encode({"x": [value]})


@pytest.mark.parametrize("found", ["null", "true", "0", "-1", '"1"', "1.0", "[]"])
def test_a_format_is_a_whole_number(found: str) -> None:
    """A document without a valid format is damage."""
    with pytest.raises(BadDocument, match="format"):
        decode(f'{{"format": {found}}}'.encode(), "it")


@pytest.mark.parametrize("found", ["2", "9" * 400])
def test_a_newer_format_is_told_apart(found: str) -> None:
    """A document of a newer format is no damage: it says that this worker must be upgraded."""
    with pytest.raises(NewerFormat, match="upgrade"):
        decode(f'{{"format": {found}}}'.encode(), "it")
