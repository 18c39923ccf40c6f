"""Data on stdout: JSON where it is asked for, else tables, drawn by rich on a terminal and plain in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print one JSON value."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table. Numbers are set right; None is an empty cell."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    right = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(headers))]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for header, numeric in zip(headers, right, strict=True):
            table.add_column(header, justify="right" if numeric else "left", overflow="fold")
        for row in texts:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        Console().print(table)
        return
    widths = [max(len(line[i]) for line in [list(headers), *texts]) for i in range(len(headers))]
    for line in [list(headers), *texts]:
        cells = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def counted(number: int, thing: str) -> str:
    """Write a number of things: `1 message`, `1,200 messages`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def seconds(value: float | None) -> str | None:
    """Write a duration for people: `0.4 s`, `12 s`, `3.2 min`, `5.0 h`."""
    if value is None:
        return None
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"
