"""Opens clients of one bucket and the queues of its region."""

from __future__ import annotations

from providers.interface import Capabilities, Client, Misconfigured
from providers.options import StoreOptions

CAPABILITIES = Capabilities(
    ordered=False, atomic_move=False, long_poll=True, batch=10, limit=1024 * 1024, ordered_suffix=".fifo"
)


class AwsDriver:
    """`interface.Driver` for `s3://BUCKET[/PREFIX]`; `prefix` is "" or ends in a slash."""

    def __init__(self, bucket: str, prefix: str, options: StoreOptions) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.capabilities = CAPABILITIES

    def open(self, total: float) -> Client:
        """Open a client."""
        raise Misconfigured(f"{self.url}: s3:// stores are not available in this version yet")
