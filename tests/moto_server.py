"""moto's server, with a clock that costs nothing: run as a program, with the arguments of `moto_server`.

moto looks through all messages of a queue at every request, and asks for the time twice for each, which its own
function takes ten microseconds to tell. With 700 messages in a queue a batch of ten was sent in 205 ms, and is in 11;
the demo's 5,366 messages did not get through in time. Its answers are the same.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime

from moto.core import utils

_told_by_moto = utils.unix_time


def unix_time(dt: datetime | None = None) -> float:
    """Return the seconds of the epoch, as moto's own function does."""
    return time.time() if dt is None else _told_by_moto(dt)


if __name__ == "__main__":
    utils.unix_time = unix_time  # before the services are imported, which take it by its name

    from moto.server import main

    main(sys.argv[1:])
