"""Message bodies out of files and pipes: one JSON value, a JSON array, JSON Lines, or CSV with a header."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from worker.core.envelope import BadMessage, parse

Format = Literal["auto", "json", "jsonl", "csv"]

_BY_SUFFIX: dict[str, Format] = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


class BadInput(ValueError):
    """An input that cannot be read; the message says where, and why."""


@dataclass(frozen=True, slots=True)
class Item:
    """One body to send and where it came from, for messages about it."""

    body: Any
    source: str


def read_text(text: str) -> Item:
    """Return the one body in a command line's argument. Raises BadInput."""
    try:
        return Item(parse(text.encode("utf-8", "surrogateescape")), "the argument")
    except BadMessage as exc:
        if Path(text).is_file():
            raise BadInput(f"the argument is {exc}; to send what is in that file, write --file {text}") from exc
        raise BadInput(f"the argument is {exc}; a JSON string needs quotes of its own: '\"text\"'") from exc


def read_file(path: Path, format: Format = "auto") -> Iterator[Item]:
    """Yield the bodies in a file, as they are read. Raises BadInput at the first that cannot be."""
    if format == "auto":
        format = _BY_SUFFIX.get(path.suffix.lower(), "auto")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from read_stream(stream, str(path), format)
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror or exc}") from exc


def read_stream(stream: TextIO, name: str, format: Format = "auto") -> Iterator[Item]:
    """Yield the bodies in a stream. "auto" means one JSON value, an array, or a value a line: the first line tells."""
    try:
        if format == "csv":
            yield from _csv(stream, name)
        elif format == "jsonl":
            yield from _lines(enumerate(stream, 1), name)
        elif format == "json":
            yield from _whole(stream.read(), name)
        else:
            yield from _guess(stream, name)
    except UnicodeDecodeError as exc:
        raise BadInput(f"{name}: not UTF-8 ({exc.reason} at byte {exc.start} of a block)") from exc


def _guess(stream: TextIO, name: str) -> Iterator[Item]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            first = parse(line.encode())
        except BadMessage:
            yield from _whole(line + stream.read(), name)
        else:
            if isinstance(first, list):
                yield from _whole(line + stream.read(), name)
            else:
                yield from _lines(itertools.chain([(number, line)], enumerate(stream, number + 1)), name)
        return


def _whole(text: str, name: str) -> Iterator[Item]:
    try:
        value = parse(text.encode())
    except BadMessage as exc:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1 and _is_json(lines[0]):  # many values in a file that is called .json
            yield from _lines(enumerate(text.splitlines(), 1), name)
            return
        raise BadInput(f"{name}: {exc}") from exc
    if isinstance(value, list):
        yield from (Item(body, f"{name}, element {index}") for index, body in enumerate(value, 1))
    else:
        yield Item(value, name)


def _lines(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Item]:
    for number, line in lines:
        if line.strip():
            try:
                yield Item(parse(line.encode()), f"{name}, line {number}")
            except BadMessage as exc:
                raise BadInput(f"{name}, line {number}: {exc}") from exc


def _csv(stream: TextIO, name: str) -> Iterator[Item]:
    reader = csv.DictReader(stream, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise BadInput(
                    f"{name}, line {reader.line_num}: its columns do not match the header's {reader.fieldnames}"
                )
            yield Item(dict(row), f"{name}, line {reader.line_num}")
    except csv.Error as exc:
        raise BadInput(f"{name}, line {reader.line_num}: {exc}") from exc


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
