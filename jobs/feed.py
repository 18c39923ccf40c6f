"""The sample app's input as JSON lines: `python -m jobs.feed | worker send routes -`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

FLIGHTS = Path(__file__).parent / "data" / "flights-airport.csv"


def routes() -> Iterator[dict[str, str | int]]:
    """Yield every route of the file as the body of one message."""
    with FLIGHTS.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {"origin": row["origin"], "destination": row["destination"], "count": int(row["count"])}


if __name__ == "__main__":
    for route in routes():
        sys.stdout.write(json.dumps(route) + "\n")
