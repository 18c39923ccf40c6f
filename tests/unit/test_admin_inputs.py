"""Reading message bodies: every usual shape is understood, and what is not says where and why."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.admin.inputs import BadInput, read_file, read_stream, read_text


def bodies(text: str, format: Any = "auto") -> list[Any]:
    return [item.body for item in read_stream(io.StringIO(text), "input", format)]


@pytest.mark.parametrize(
    "text, found",
    [
        ("", []),
        ("\n\n", []),
        ('{"a": 1}', [{"a": 1}]),
        ('{"a": 1}\n{"a": 2}\n\n{"a": 3}', [{"a": 1}, {"a": 2}, {"a": 3}]),
        ('[{"a": 1}, 2]', [{"a": 1}, 2]),
        ('{\n  "a": 1\n}\n', [{"a": 1}]),
        ("[\n1,\n2\n]", [1, 2]),
        ("1\n2\n", [1, 2]),
    ],
)
def test_json_of_any_shape_is_understood(text: str, found: list[Any]) -> None:
    """One value, an array and a value a line must be told apart by what they are."""
    assert bodies(text) == found


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), min_size=1, max_size=5))
def test_lines_and_arrays_are_the_same_messages(values: list[Any]) -> None:
    """A JSON array and JSON Lines of the same values must give the same messages."""
    assert bodies(json.dumps(values)) == values
    assert bodies("\n".join(json.dumps(value) for value in values)) == values


def test_csv_rows_become_objects_of_strings(tmp_path: Path) -> None:
    """A CSV's rows must become objects by its header, whatever marks the file begins with."""
    path = tmp_path / "routes.csv"
    path.write_text('\ufefforigin,count\nABE,853\n"A,B",1\n', encoding="utf-8")
    assert [item.body for item in read_file(path)] == [
        {"origin": "ABE", "count": "853"},
        {"origin": "A,B", "count": "1"},
    ]


@pytest.mark.parametrize(
    "text, format, says",
    [
        ('{"a": 1}\nnope\n', "auto", "line 2: not JSON"),
        ("nope", "auto", "not JSON"),
        ("a,b\n1\n", "csv", "line 2: its columns"),
        ("a,b\n1,2,3\n", "csv", "line 2: its columns"),
        ("{", "json", "not JSON"),
        ('{"a": NaN}\n', "jsonl", "line 1: JSON has no NaN"),
    ],
)
def test_bad_input_is_named_with_its_line(text: str, format: str, says: str) -> None:
    """An input that cannot be read must say where and why."""
    with pytest.raises(BadInput, match=says):
        bodies(text, format)


def test_a_missing_file_and_a_bad_argument(tmp_path: Path) -> None:
    """A missing file, one that is not text, and an argument without quotes must each be one clear sentence."""
    with pytest.raises(BadInput, match="No such file"):
        list(read_file(tmp_path / "no.json"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not UTF-8"):
        list(read_file(tmp_path / "binary"))
    with pytest.raises(BadInput, match="quotes of its own"):
        read_text("hello")
