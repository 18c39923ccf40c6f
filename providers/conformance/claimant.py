"""A process that claims a lease and renews it until it is killed: `python -m providers.conformance.claimant`.

Arguments: URL, store options (JSON), role, session, total time of a request in seconds. Writes one line for every
answer.
"""

from __future__ import annotations

import itertools
import json
import os
import sys

from providers.connect import driver_for
from providers.interface import Bid
from providers.options import StoreOptions

DURATION = 15.0


def main(url: str, options: str, role: str, session: str, total: str) -> None:
    """Claim, then renew for ever."""
    lease = driver_for(url, StoreOptions(**json.loads(options))).open(float(total)).lease(role)
    view = lease.observe()
    term = view.term + 1
    grant = lease.claim(view, Bid(session, f"pid-{os.getpid()}", "fleet", term, DURATION, f"{session}-0"))
    _say(f"granted {grant.term}")
    for number in itertools.count(1):
        grant = lease.renew(grant, f"{session}-{number}")
        _say(f"renewed {grant.term}")


def _say(line: str) -> None:
    try:
        os.write(sys.stdout.fileno(), line.encode() + b"\n")
    except BrokenPipeError:  # whoever started us has gone
        sys.exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
