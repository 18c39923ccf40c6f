"""Azure Storage: blobs with ETag conditions, native blob leases, Storage Queues."""

from __future__ import annotations

from providers.azure.driver import AzureDriver

__all__ = ["AzureDriver"]
