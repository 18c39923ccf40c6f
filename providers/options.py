"""How a store is reached, beside its URL: endpoints, credentials, names. A driver takes what concerns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """What `providers.connect` passes on to a driver. None and "" mean: as the cloud has it.

    A store that has no endpoint refuses one (`providers.connect`); what is another cloud's is not looked at.
    """

    endpoint_url: str | None = None  # of documents and leases (Blob, S3): emulators, other S3-compatible stores
    queue_endpoint_url: str | None = None  # of the queues (Queue Storage, SQS), where it is another one
    queue_prefix: str = ""  # goes before every physical queue's name: keeps fleets in one account apart
    aws_region: str | None = None  # else AWS_REGION, AWS_DEFAULT_REGION or the profile's
    azure_connection_string: str | None = field(default=None, repr=False)  # a secret: account and key, for emulators
    azure_credential: Literal["managed", "default"] = "managed"  # the machine's identity, or a developer's own
    azure_client_id: str | None = None  # of a user-assigned identity, where the machine has several


PLAIN = StoreOptions()
"""Nothing but the URL."""
