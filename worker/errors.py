"""The runtime's own errors and exit codes. An error that ends a command says which code it ends with."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """What the exit code of every command means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    STORE = 4  # unreachable or denied
    NO_LEADER = 5
    DEGRADED = 6
    LOST_PRECONDITION = 7


class Fenced(Exception):
    """A newer term or owner has opened this document: the write was refused and nothing has changed."""


class Overlapping(Fenced):
    """The document was opened twice at once under one fence, and the other one has saved first."""


class WorkerError(Exception):
    """Ends a command with one line on stderr and `exit_code`."""

    exit_code = Exit.FAILED


class ConfigurationError(WorkerError):
    """A setting, the app or the store's content contradicts what was asked; the message names value and fix."""

    exit_code = Exit.CONFIGURATION


class StoreError(WorkerError):
    """The store cannot be reached or denies access."""

    exit_code = Exit.STORE


class NoLeader(WorkerError):
    """Nobody leads, and the command needs a leader."""

    exit_code = Exit.NO_LEADER


class LostPrecondition(WorkerError):
    """What the command relied on has changed meanwhile."""

    exit_code = Exit.LOST_PRECONDITION
