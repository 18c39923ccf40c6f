"""Many clients at once: threads that are let go together, and what came of each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from providers.interface import Client, ProviderError, Refused, Unavailable

T = TypeVar("T")

RACERS = 16
"""Clients that ask at the same time."""

PATIENCE = 30.0
"""Seconds in which all of them must be done."""


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
