"""Opens clients of one container and the queues of its account."""

from __future__ import annotations

from providers.interface import Capabilities, Client, Expiry, Misconfigured
from providers.options import StoreOptions

CAPABILITIES = Capabilities(
    ordered=False, atomic_move=False, long_poll=False, batch=1, limit=48 * 1024, expiry=Expiry.STORE
)


class AzureDriver:
    """`interface.Driver` for `azure://ACCOUNT/CONTAINER[/PREFIX]`; `prefix` is "" or ends in a slash."""

    def __init__(self, account: str, container: str, prefix: str, options: StoreOptions) -> None:
        self.url = f"azure://{account}/{container}/{prefix}".rstrip("/")
        self.capabilities = CAPABILITIES

    def open(self, total: float) -> Client:
        """Open a client."""
        raise Misconfigured(f"{self.url}: azure:// stores are not available in this version yet")
