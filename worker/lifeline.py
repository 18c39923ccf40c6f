"""A small record that a worker keeps in memory shared with its launcher, so that its death can be explained.

A worker ended by the dead-man's switch gets no chance to say so. It writes ahead instead: who it is, and when the
earliest deadline falls. The launcher reads the record once the worker is dead and logs why (`launcher.why_dead`). It
also keeps the deadline itself, for the worker's children: a process with gigabytes to give back is dying for tenths of
a second before anybody is told, and they would act on meanwhile.

The memory is an anonymous file (memfd; an unlinked temporary file on macOS) whose descriptor the worker inherits,
named by the variable `_CLOUD_WORKER_LIFELINE`. That variable's presence is what makes a process the worker.

Layout: two cells, each with exactly one writer at a time, so that no lock is needed: identity is written by the
control thread, the deadline under the dead-man's lock. A cell is two slots, written in turn, each with a sequence
number and a checksum: a worker that dies in the middle of a write leaves the slot before it whole. Behind them the
launcher notes when it will look again; a worker whose deadline falls earlier than that wakes it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import sys
from binascii import crc32
from collections.abc import MutableMapping
from typing import NamedTuple

from worker.errors import ConfigurationError

VARIABLE = "_CLOUD_WORKER_LIFELINE"
"""Holds the number of the inherited descriptor. Set by the launcher only, removed by the worker once read."""

_SLOT = 256  # bytes
_HEAD = struct.Struct("<IQ")  # checksum of all that follows, sequence number
_IDENTITY = struct.Struct("<Q?64s")  # term (0: none), ready, session
_DEADLINE = struct.Struct("<d?128s")  # deadline, whether there is one, its entry's name
_WATCH = struct.Struct("<dQ")  # when the launcher looks again, its pid (0: does not look yet)
_SIZE = 5 * _SLOT


class Record(NamedTuple):
    """What the worker last said about itself. Nothing said yet: the defaults."""

    session: str | None = None
    term: int | None = None
    ready: bool = False
    entry: str | None = None  # name of the entry with the earliest deadline
    deadline: float | None = None  # seconds of CLOCK_BOOTTIME


class _Cell:
    """One value in two slots. One writer at a time; a reader may come at any time."""

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset
        self._sequence = 0

    def write(self, payload: bytes) -> None:
        self._sequence += 1
        body = _HEAD.pack(0, self._sequence)[4:] + payload
        start = self._offset + self._sequence % 2 * _SLOT
        self._memory[start : start + 4 + len(body)] = struct.pack("<I", crc32(body)) + body

    def read(self, length: int) -> bytes | None:
        newest, payload = 0, None
        for start in (self._offset, self._offset + _SLOT):
            slot = self._memory[start : start + _HEAD.size + length]
            checksum, sequence = _HEAD.unpack_from(slot)
            if sequence > newest and checksum == crc32(slot[4:]):
                newest, payload = sequence, slot[_HEAD.size :]
        return payload


class Lifeline:
    """The shared record. The launcher creates it and reads, the worker inherits it and writes."""

    def __init__(self, descriptor: int) -> None:
        """Map the file behind `descriptor`. Raises OSError or ValueError if it is not as create() makes it."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._identity = _Cell(self._memory, 0)
        self._deadline = _Cell(self._memory, 2 * _SLOT)

    @classmethod
    def create(cls) -> Lifeline:
        """Make an empty record, for one worker's life. For the launcher; pass `environment()` to the worker."""
        if sys.platform == "linux":
            descriptor = os.memfd_create("worker-lifeline", 0)
        else:
            import tempfile  # brings a megabyte that the launcher has no other use for

            descriptor, path = tempfile.mkstemp(prefix="worker-lifeline-")
            os.unlink(path)
        os.ftruncate(descriptor, _SIZE)
        os.set_inheritable(descriptor, True)
        return cls(descriptor)

    @classmethod
    def inherited(cls, environ: MutableMapping[str, str] = os.environ) -> Lifeline | None:
        """Return the launcher's record, or None in a process that no launcher started. For the worker, once.

        Removes the variable and closes the descriptor to children: a program that the worker starts is no worker.
        Raises ConfigurationError when the variable names something that is no such record.
        """
        value = environ.pop(VARIABLE, None)
        if value is None:
            return None
        try:
            descriptor = int(value)
            os.set_inheritable(descriptor, False)
            return cls(descriptor)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(
                f"{VARIABLE}={value!r} is not the record of a launcher ({exc}): unset it, only the launcher may set it"
            ) from exc

    def environment(self) -> dict[str, str]:
        """Return the variable through which the worker finds this record."""
        return {VARIABLE: str(self.descriptor)}

    def announce(self, *, session: str, term: int | None, ready: bool) -> None:
        """Say who this worker is now. For the control thread. A session is cut at 64 bytes of UTF-8."""
        self._identity.write(_IDENTITY.pack(term or 0, ready, session.encode()))

    def set_deadline(self, entry: str | None, deadline: float | None) -> None:
        """Say which entry ends this process first, and when; None when nothing is armed.

        For the dead-man's switch, under its lock: `deadman(publish=lifeline.set_deadline)`.
        """
        self._deadline.write(_DEADLINE.pack(deadline or 0.0, deadline is not None, (entry or "").encode()))
        looks_again, launcher = _WATCH.unpack_from(self._memory, 4 * _SLOT)
        if launcher and deadline is not None and deadline < looks_again:
            with contextlib.suppress(ProcessLookupError):
                os.kill(launcher, signal.SIGCHLD)  # what it waits for anyway, and harmless to anybody else

    def watch(self) -> float | None:
        """Return the deadline, having noted that the caller looks again by then (or when woken by SIGCHLD).

        For the launcher, before it waits. Either we see a deadline that is set meanwhile, or its setter sees our note.
        """
        while True:
            deadline = self.read().deadline
            _WATCH.pack_into(self._memory, 4 * _SLOT, float("inf") if deadline is None else deadline, os.getpid())
            if self.read().deadline == deadline:
                return deadline

    def read(self) -> Record:
        """Return the last complete state of the record."""
        record = Record()
        if identity := self._identity.read(_IDENTITY.size):
            term, ready, session = _IDENTITY.unpack(identity)
            record = record._replace(session=_text(session), term=term or None, ready=ready)
        if found := self._deadline.read(_DEADLINE.size):
            deadline, armed, entry = _DEADLINE.unpack(found)
            if armed:
                record = record._replace(entry=_text(entry), deadline=deadline)
        return record

    def close(self) -> None:
        """Unmap and close. What the other process has mapped stays."""
        self._memory.close()
        os.close(self.descriptor)


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode(errors="replace")
