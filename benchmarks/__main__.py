"""All benchmarks, one after the other: `make bench`, or `python -m benchmarks NAME …` for some of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

NAMES = ("planner", "scale", "throughput", "footprint")


def main(arguments: Sequence[str]) -> int:
    unknown = [name for name in arguments if name not in NAMES]
    if unknown:
        print(f"no benchmark is called {unknown[0]!r}: there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in arguments or NAMES:
        print(f"\n== {name}\n", flush=True)
        sys.argv = [f"benchmarks.{name}"]  # each runs with its defaults
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
