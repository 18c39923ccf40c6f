"""Becomes another program that is asked to stop (TERM) when the process that started it has died.

    python worker/dev/tied.py PARENT-PID PROGRAM [ARGUMENT ...]

A fleet on a laptop must not outlive the terminal that was closed over it. Run as a file, with the standard library
only: it is what every instance of a local fleet is for its first milliseconds. Linux only; elsewhere it ties nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to the parent's thread that started it, and become the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)  # it died before we were tied to it
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
