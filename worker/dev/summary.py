"""A report for people: plain tables, as lines."""

from __future__ import annotations

from collections.abc import Sequence

from worker.core.bounds import Bound
from worker.dev.history import Report

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


def gap_table(report: Report, promise: Bound) -> Rows:
    """Return every change of leader beside what `worker bounds` promises for it."""
    headers = ["term", "leader", "its end", "then no leader for", "promised", "next term", "leader"]
    promised = f"{promise.usual:.1f} s, at most {promise.worst:.1f} s"
    rows = [
        [str(gap.term), gap.instance, gap.how, f"{gap.seconds:.2f} s", promised, str(gap.next_term), gap.successor]
        for gap in report.gaps
    ]
    return headers, rows


def message_table(report: Report, sent: int) -> Rows:
    """Return what became of the messages, and how often partitions changed hands."""
    headers = ["messages sent", "handled", "of them twice", "retried", "dead-lettered", "partition moves"]
    counts = [sent, report.handled, report.duplicates, report.retried, report.dead_lettered, report.moves]
    return headers, [[f"{count:,}" for count in counts]]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; columns of numbers are set right."""
    lines = [list(headers), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    right = [bool(rows) and all(row[i][:1].isdigit() for row in rows) for i in range(len(headers))]
    return [
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
