"""Documents as blobs: the ETag is the version, and every write names the one it has read.

Azure continues a listing at a marker that means nothing to anybody else. So `after`, where it comes from a page of
ours, carries that marker behind the last key; a plain key works too, and is searched for from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient

from providers.azure.errors import Request, translated
from providers.http_date import unix_seconds
from providers.interface import Document, Page, Stamp, Version

PAGE = 1000
"""Keys on one page; Azure would give 5,000."""

ROLE = "Storage Blob Data Contributor"

_MARK = "\n"
"""Separates the last key from Azure's marker: no key holds it, and it sorts before all that a key may go on with."""


class BlobDocuments:
    """`interface.Documents` under one prefix of one container."""

    def __init__(self, container: ContainerClient, prefix: str, *, page: int = PAGE) -> None:
        self._container, self._prefix, self._page = container, prefix, page

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """See `interface.Documents.read`."""
        condition: dict[str, Any] = (
            {} if unless is None else {"etag": unless, "match_condition": MatchConditions.IfModified}
        )
        with translated(self.request("Get Blob", key, changes=False)) as asked:
            try:
                found = self._container.download_blob(self._prefix + key, raw_response_hook=asked.whole, **condition)
                return Document(Stamp(key, version_of(found.properties.etag), store_time(asked)), found.readall())
            except HttpResponseError as exc:
                if exc.status_code == 304:
                    return None
                raise

    def create(self, key: str, body: bytes) -> Stamp:
        """See `interface.Documents.create`."""
        with translated(self.request("Put Blob", key, changes=True)) as asked:
            blob = self._container.get_blob_client(self._prefix + key)
            written = blob.upload_blob(body, overwrite=False, raw_response_hook=asked.hook)
            return Stamp(key, version_of(written["etag"]), store_time(asked))

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        """See `interface.Documents.replace`."""
        with translated(self.request("Put Blob", old.key, changes=True, conditional=True)) as asked:
            blob = self._container.get_blob_client(self._prefix + old.key)
            written = blob.upload_blob(
                body,
                overwrite=True,
                etag=old.version,
                match_condition=MatchConditions.IfNotModified,
                raw_response_hook=asked.hook,
            )
            return Stamp(old.key, version_of(written["etag"]), store_time(asked))

    def delete(self, old: Stamp) -> None:
        """See `interface.Documents.delete`."""
        with translated(self.request("Delete Blob", old.key, changes=True, conditional=True)) as asked:
            self._container.get_blob_client(self._prefix + old.key).delete_blob(
                etag=old.version, match_condition=MatchConditions.IfNotModified, raw_response_hook=asked.hook
            )

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        """See `interface.Documents.list`."""
        last, marked, marker = (after or "").partition(_MARK)
        while True:
            page, marker = self._list(prefix, marker)
            stamps = page if marked else [stamp for stamp in page if stamp.key > last]
            if stamps or not marker:
                return Page(stamps, stamps[-1].key + _MARK + marker if marker else None)

    def _list(self, prefix: str, marker: str) -> tuple[Sequence[Stamp], str]:
        cut = len(self._prefix)
        with translated(self.request("List Blobs", prefix, changes=False)) as asked:
            pages = self._container.list_blobs(
                self._prefix + prefix, results_per_page=self._page, raw_response_hook=asked.hook
            ).by_page(marker or None)
            found = [Stamp(blob.name[cut:], version_of(_quoted(blob.etag))) for blob in next(pages)]
            following: str | None = getattr(pages, "continuation_token", None)
        return sorted(found, key=lambda stamp: stamp.key), following or ""

    def request(self, operation: str, key: str, *, changes: bool, conditional: bool = False) -> Request:
        """Describe a request on one key, for its errors."""
        where = f"azure://{self._container.account_name}/{self._container.container_name}"
        role = f"{ROLE} on the container {self._container.container_name}"
        return Request(
            f"{operation} {where}/{self._prefix}{key}", self._container.primary_endpoint, changes, role, conditional
        )


def version_of(etag: Any) -> Version:
    """Return the version that an answer names. Raises ValueError where it names none: inside `translated` only."""
    if not etag:
        raise ValueError("there is no ETag in it")
    return Version(str(etag))


def store_time(asked: Request) -> float | None:
    """Return the store's clock in an answer, Unix seconds."""
    return unix_seconds((asked.headers or {}).get("Date"))


def _quoted(etag: str) -> str:
    """Return an ETag as every other request has it: a listing leaves the quotes out."""
    return etag if not etag or etag.startswith('"') else f'"{etag}"'
