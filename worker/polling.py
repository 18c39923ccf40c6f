"""How a queue is asked again and again: a poll waits in the store where it can, else idle polls back off."""

from __future__ import annotations

from worker.ports import Ports

IDLE_FIRST = 0.05
"""Seconds between polls of an idle queue where the store has no long poll: doubled up to `Ports.idle_poll`."""

LONG_POLL = 20.0
"""Longest wait of a poll in the store, in seconds, where it has long polls."""


def next_pause(pause: float, waited: float, ports: Ports) -> float:
    """Return the pause after one more empty poll, in seconds, given the last one and how long the poll waited.

    A message that comes during a pause waits for its end; during a wait in the store it does not.
    """
    return min(IDLE_FIRST if waited > 0 else pause * 2, ports.idle_poll)


def long_poll(ports: Ports) -> float:
    """Return how long a poll waits in the store, in seconds; 0 where it cannot.

    A poll is waited for when its partition is taken away, since what it brings must be given back: with half of what
    a handler gets to end in, it never makes a move longer than `worker bounds` says.
    """
    return min(LONG_POLL, ports.member.grace / 2) if ports.provider.capabilities.long_poll else 0.0
