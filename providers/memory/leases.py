"""Simulated leases that the store itself keeps, as Azure keeps those of its blobs: by id, on the store's own clock.

What a lease operation does, by the state that it finds (A is the id that holds or held the lease):

                AVAILABLE     LEASED by A              EXPIRED, A was last       BROKEN
    acquire A   A, anew       A, its time anew         A, anew                   A, anew
    acquire B   B, anew       Refused                  B, anew                   B, anew
    renew A     Refused       A, its time anew         A, its time anew          Refused
    change A→B  Refused       B, its time goes on      Refused                   Refused
    release A   Refused       available                available                 available
    anything B  Refused       Refused                  Refused                   Refused

`change` to the id that holds the lease already succeeds: a repeated request changes nothing. A write to a leased
object needs the id; a write to one that is not leased must not present one, and makes it AVAILABLE: after that nobody
renews. No lease operation changes the object's version.
"""

from __future__ import annotations

import enum
import threading  # noqa: TID251 - a lock only: the store is shared, and starts no thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from providers.interface import Refused


class LeaseState(enum.Enum):
    """What everybody may see of a lease. Who holds it and for how long, nobody may."""

    AVAILABLE = "available"
    LEASED = "leased"
    EXPIRED = "expired"
    BROKEN = "broken"


@dataclass(slots=True)
class _Held:
    id: str
    seconds: float
    until: float  # on the store's clock
    broken: bool = False


class MemoryLeases:
    """The leases of one simulated store, by the key of the object. `now` is the store's clock, in seconds."""

    def __init__(self, lock: threading.RLock, now: Callable[[], float]) -> None:
        self._lock = lock
        self._now = now
        self._held: dict[str, _Held] = {}
        self._presented: str | None = None  # the lease id that comes with the write under way

    def state(self, key: str) -> LeaseState:
        """Say what can be seen of an object's lease."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return LeaseState.AVAILABLE
            if held.broken:
                return LeaseState.BROKEN
            return LeaseState.LEASED if self._now() < held.until else LeaseState.EXPIRED

    def acquire(self, key: str, id: str, seconds: float) -> None:
        """Take the lease for `seconds`. Raises Refused while another id holds it."""
        with self._lock:
            if self.state(key) is LeaseState.LEASED and self._held[key].id != id:
                raise Refused(f"the lease of {key} is held under another id")
            self._held[key] = _Held(id, seconds, self._now() + seconds)

    def renew(self, key: str, id: str) -> None:
        """Let the lease's time begin anew, also after it has expired. Raises Refused unless `id` had it last."""
        with self._lock:
            held = self._find(key, id, LeaseState.LEASED, LeaseState.EXPIRED)
            held.until = self._now() + held.seconds

    def change(self, key: str, id: str, proposed: str) -> None:
        """Give the lease another id; its time goes on. Raises Refused unless it is held under one of the two."""
        with self._lock:
            held = self._held.get(key)
            if held is None or held.id != proposed:
                held = self._find(key, id, LeaseState.LEASED)
            elif self.state(key) is not LeaseState.LEASED:
                raise Refused(f"the lease of {key} is {self.state(key).value}")
            held.id = proposed

    def release(self, key: str, id: str) -> None:
        """Make the lease available at once. Raises Refused unless `id` had it last."""
        with self._lock:
            self._find(key, id, *LeaseState)
            del self._held[key]

    def break_now(self, key: str) -> None:
        """End the lease without its id, as anybody can who may write. Nothing here ever does, but tests do."""
        with self._lock:
            if key in self._held:
                self._held[key].broken = True

    # --- writes to leased objects: what the documents of the store ask ---

    @contextmanager
    def under(self, id: str) -> Iterator[None]:
        """Present a lease id with the writes inside."""
        with self._lock:
            self._presented = id
            try:
                yield
            finally:
                self._presented = None

    def check_write(self, key: str) -> None:
        """Raise Refused unless this object may be written under the lease id that is presented."""
        state = self.state(key)
        holder = self._held[key].id if state is LeaseState.LEASED else None
        if holder != self._presented:
            raise Refused(f"the lease of {key} is {state.value}, and this write does not come from its holder")

    def written(self, key: str) -> None:
        """Take note that an object was written or deleted: a lease that had run out is forgotten."""
        if self.state(key) is not LeaseState.LEASED:
            self._held.pop(key, None)

    def _find(self, key: str, id: str, *states: LeaseState) -> _Held:
        held, state = self._held.get(key), self.state(key)
        if held is None or held.id != id or state not in states:
            raise Refused(f"the lease of {key} is {state.value}, and not held under this id")
        return held
