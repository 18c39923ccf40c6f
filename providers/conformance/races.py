"""Many clients at once: threads that are let go together, and what came of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import pytest

from providers.conformance.harness import Harness
from providers.interface import Bid, Client, Grant, LeaseView, ProviderError, Refused, Unavailable

T = TypeVar("T")

RACERS = 16
"""Clients that ask at the same time."""

PATIENCE = 30.0
"""Seconds in which all of them must be done."""


def need_atomic_writes(harness: Harness) -> None:
    """Skip the test on a server that checks and writes in two steps: it is there for the shape of its API only."""
    if not harness.atomic_writes:
        pytest.skip("this server checks a condition and writes in two steps: nothing may be elected on it")


def race(clients: Sequence[Client], ask: Callable[[Client, int], T]) -> tuple[dict[int, T], dict[int, ProviderError]]:
    """Let all clients ask at once; return the answers and the errors, by the client's number.

    Losers may be told `Refused`, or `Unavailable` (too many at once, and nothing has changed); anything else fails.
    """
    answers: dict[int, T] = {}
    errors: dict[int, ProviderError] = {}
    surprises: list[BaseException] = []
    barrier = threading.Barrier(len(clients))

    def run(number: int, client: Client) -> None:
        try:
            barrier.wait(PATIENCE)
            answers[number] = ask(client, number)
        except (Refused, Unavailable) as exc:
            errors[number] = exc
        except BaseException as exc:  # shown by the test, on its own thread
            surprises.append(exc)

    threads = [threading.Thread(target=run, args=each, daemon=True) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if surprises:
        raise surprises[0]
    assert len(answers) + len(errors) == len(clients), "a client did not come back from the race"
    return answers, errors


def claim_races(harness: Harness, *, clients: int = RACERS, rounds: int = 60) -> list[int]:
    """Let clients claim one lease at once, so many times, and return how many were granted it each time.

    The winner resigns before the next round. On a store that elects, every number is 1.
    """
    racers = [harness.client() for _ in range(clients)]
    winners = []
    for round_ in range(rounds):
        view = racers[0].lease("race").observe()
        bids = [
            Bid(f"s{round_}-{n}", f"i-{n}", "fleet", view.term + 1, 15.0, f"nonce-{round_}-{n}") for n in range(clients)
        ]
        won, _ = race(racers, partial(_claim, view, bids))
        winners.append(len(won))
        for number, grant in won.items():
            racers[number].lease("race").resign(grant, f"resign-{round_}-{number}")
    return winners


def _claim(view: LeaseView, bids: Sequence[Bid], client: Client, number: int) -> Grant:
    return client.lease("race").claim(view, bids[number])
