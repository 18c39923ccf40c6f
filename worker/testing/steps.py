"""A simulated store whose calls of several requests can be taken apart: between two of them, anything may happen.

`SimLane` sees that such a call returns a generator instead of its result, and sends one request after the other.
"""

from __future__ import annotations

from typing import cast

from providers.interface import Bid, Client, Grant, Heir, Lease, LeaseView
from providers.memory import MemoryDriver
from providers.memory.native import NativeLease


class SteppedDriver(MemoryDriver):
    """Opens clients whose native leases claim, accept and hand over request by request."""

    def open(self, total: float) -> Client:
        """See `MemoryDriver.open`."""
        client = super().open(total)
        whole = client.lease

        def lease(role: str) -> Lease:
            found = whole(role)
            return SteppedLease(found) if isinstance(found, NativeLease) else found

        client.lease = lease  # type: ignore[method-assign] # this client's only
        return client


class SteppedLease:
    """A native lease whose compound calls return their steps. Only a lane that takes those may use it."""

    def __init__(self, lease: NativeLease) -> None:
        self._lease = lease
        self.expiry = lease.expiry
        self.observe, self.renew, self.resign = lease.observe, lease.renew, lease.resign

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        return cast("Grant", self._lease.claiming(view, bid))

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        return cast("None", self._lease.handing_over(grant, to, nonce))

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        return cast("Grant", self._lease.accepting(view, bid, token))
