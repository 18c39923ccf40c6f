"""A report for people: plain tables, as lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.core.bounds import Bound
from worker.dev.history import Gap, Report

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]


def promise_for(gap: Gap, promises: Mapping[str, Bound]) -> Bound:
    """Return what `worker bounds` promises for a change of leader that began like this one."""
    return promises["hand-over" if gap.how == "stepped down" else "failover"]


def gap_table(report: Report, promises: Mapping[str, Bound]) -> Rows:
    """Return every change of leader beside what `worker bounds` promises for it."""
    headers = ["term", "leader", "its end", "then no leader for", "promised", "next term", "leader"]
    rows = []
    for gap in report.gaps:
        promise = promise_for(gap, promises)
        promised = f"{promise.usual:.1f} s, at most {promise.worst:.1f} s"
        cells = [gap.term, gap.instance, gap.how, f"{gap.seconds:.2f} s", promised, gap.next_term, gap.successor]
        rows.append([str(cell) for cell in cells])
    return headers, rows


def message_table(report: Report, sent: int | None = None) -> Rows:
    """Return what became of the messages, and how often partitions changed hands. `sent`: None when nobody knows."""
    counted = {
        "handled": report.handled,
        "of them twice": report.duplicates,
        "retried": report.retried,
        "dead-lettered": report.dead_lettered,
        "partition moves": report.moves,
    }
    if sent is not None:
        counted = {"messages sent": sent, **counted}
    return list(counted), [[f"{count:,}" for count in counted.values()]]


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
