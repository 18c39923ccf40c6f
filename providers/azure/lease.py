"""Azure's own lease on a blob. The store decides that it has run out, by its own clock.

    what                      request
    observe                   Get Blob Properties
    claim                     [Put Blob, if there is none yet] Acquire, then Set Blob Metadata under the lease
    renew                     Renew Lease: nothing that anybody else can see changes
    resign                    Release Lease: the state `available` then says that nobody holds it
    hand over                 Change Lease to the heir's id, then Set Blob Metadata under that
    accept                    Acquire by the heir's own id (it has it already), then Set Blob Metadata

The record (`providers.lease_record`) is the blob's metadata, one entry for each field, its value JSON. It is written
under the lease id and on condition that nobody has written since it was seen (If-Match): so a term grows before
anybody acts in it, and whoever sees a nonce sees the proof that its writer held the lease. The acquire has that
condition too: one that comes late, or loses a race, must not keep the lease from everybody.

The lease id is made from the session alone. A session is new for every candidacy and trusted in one leadership only,
so this is a fresh id for every leadership, and the same one for whatever repeats an unanswered request of it. Being
handed a lease, or finding one's claim had worked, needs no secret to travel: everybody knows their own session.

Once the first request of a call has changed something, the failure of a later one is OutcomeUnknown: the caller
repeats the call under the same id, or lets the lease run out. Nobody here ever breaks a lease.
"""

from __future__ import annotations

import json
import uuid  # noqa: TID251 - uuid5 computes: nothing here is drawn
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobClient, BlobLeaseClient, ContainerClient

from providers.azure.documents import BlobDocuments, store_time, version_of
from providers.azure.errors import translated
from providers.body import checked, encode, parse
from providers.interface import (
    BadDocument,
    Bid,
    Expiry,
    Grant,
    Heir,
    LeaseView,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    Refused,
    Unavailable,
    Version,
)
from providers.lease_record import PREFIX, check_accept, check_claim, garbled_view, named, record_of, view_of

SHORTEST, LONGEST = 15, 60
"""Seconds that Azure leases for. Longer ones have no end at all, and would need a person after a crash."""

FREE = frozenset({"available", "expired", "broken"})
"""States in which a lease can be acquired."""

NAMESPACE = uuid.UUID("6f9d3c1e-0c57-5d0b-9a3f-8f6f3f4b5a21")
"""Keeps our lease ids apart from anybody else's."""


def lease_id(session: str) -> str:
    """Return the lease id of a session."""
    return str(uuid.uuid5(NAMESPACE, session))


class BlobLease:
    """`interface.Lease` on one blob. `fetch_token` is called before a claim: signing in must not take its time."""

    expiry = Expiry.STORE

    def __init__(
        self,
        container: ContainerClient,
        prefix: str,
        documents: BlobDocuments,
        role: str,
        fetch_token: Callable[[], None],
    ) -> None:
        self._role, self._key = role, PREFIX + role
        self._documents, self._fetch_token = documents, fetch_token
        self._blob: BlobClient = container.get_blob_client(prefix + self._key)

    def observe(self) -> LeaseView:
        """See `interface.Lease.observe`."""
        try:
            with translated(self._documents.request("Get Blob Properties", self._key, changes=False)) as asked:
                found = self._blob.get_blob_properties(raw_response_hook=asked.hook)
                version = version_of(found.etag)
        except NotFound:
            return LeaseView(version=None, free=True)
        state, time = str(found.lease.state or ""), store_time(asked)
        free = state in FREE
        try:
            fields = _read(found.metadata or {}, self._key)
            if fields.get("term") == 0:  # made for a first claim that never came to its end
                return LeaseView(version=version, free=free, store_time=time)
            view = replace(view_of(version, fields, self._key), free=free, store_time=time)
        except BadDocument as exc:
            return replace(garbled_view(version, exc, time), free=free)
        return replace(view, holder=None, instance=None) if state == "available" else view

    def claim(self, view: LeaseView, bid: Bid) -> Grant:
        """See `interface.Lease.claim`."""
        check_claim(view, bid, self._key)
        self._fetch_token()
        return self._take(view if view.version is not None else self._made(view, bid), bid)

    def renew(self, grant: Grant, nonce: str) -> Grant:
        """See `interface.Lease.renew`. Repeating it does no harm; what it renews cannot be seen by looking."""
        with translated(self._documents.request("Renew Lease", self._key, changes=True, conditional=True)) as asked:
            self._lease(grant).renew(raw_response_hook=asked.hook)
        return replace(grant, nonce=nonce, renewals=grant.renewals + 1, store_time=store_time(asked))

    def resign(self, grant: Grant, nonce: str) -> None:
        """See `interface.Lease.resign`. One request: the record stays as it is."""
        with translated(self._documents.request("Release Lease", self._key, changes=True, conditional=True)) as asked:
            self._lease(grant).release(raw_response_hook=asked.hook)

    def hand_over(self, grant: Grant, to: Heir, nonce: str) -> None:
        """See `interface.Lease.hand_over`. Both its requests may be repeated, also after they have worked."""
        proof = lease_id(to.session)
        with translated(self._documents.request("Change Lease", self._key, changes=True, conditional=True)) as asked:
            self._lease(grant).change(proof, raw_response_hook=asked.hook)
        record = record_of(self._role, grant.bid, grant.extra, term=grant.term + 1, nonce=nonce, **named(to))
        self._then(lambda: self._write(record, proof, grant.version))

    def accept(self, view: LeaseView, bid: Bid, token: str) -> Grant:
        """See `interface.Lease.accept`."""
        check_accept(view, bid, token, self._key)
        return self._take(view, bid)

    # --- requests ---

    def _made(self, view: LeaseView, bid: Bid) -> LeaseView:
        """Create the blob, without a record: that is written by whoever holds the lease."""
        with translated(self._documents.request("Put Blob", self._key, changes=True)) as asked:
            made = self._blob.upload_blob(
                b"", overwrite=False, metadata=_written({"term": 0}), raw_response_hook=asked.hook
            )
            return replace(view, version=version_of(made["etag"]))

    def _take(self, view: LeaseView, bid: Bid) -> Grant:
        if not SHORTEST <= bid.duration <= LONGEST or bid.duration % 1:
            raise Misconfigured(
                f"a lease of {bid.duration:g} s: Azure leases blobs for whole seconds from {SHORTEST} to {LONGEST}; "
                "set WORKER_LEASE"
            )
        assert view.version is not None  # whoever claims has made one
        proof = lease_id(bid.session)
        with translated(self._documents.request("Acquire Lease", self._key, changes=True, conditional=True)) as asked:
            BlobLeaseClient(self._blob, proof).acquire(
                int(bid.duration),
                etag=view.version,
                match_condition=MatchConditions.IfNotModified,
                raw_response_hook=asked.hook,
            )
        record = record_of(self._role, bid, view.extra, term=bid.term, nonce=bid.nonce)
        try:
            version, time = self._then(lambda: self._write(record, proof, Version(str(view.version))))
        except Refused:
            with suppress(AzureError, ProviderError):  # it runs out by itself
                BlobLeaseClient(self._blob, proof).release()
            raise
        return Grant(
            term=bid.term,
            session=bid.session,
            version=version,
            nonce=bid.nonce,
            bid=bid,
            proof=proof,
            store_time=time,
            extra=view.extra,
        )

    def _write(self, record: Mapping[str, Any], proof: str, seen: Version) -> tuple[Version, float | None]:
        with translated(
            self._documents.request("Set Blob Metadata", self._key, changes=True, conditional=True)
        ) as asked:
            written = self._blob.set_blob_metadata(
                _written(record),
                lease=proof,
                etag=seen,
                match_condition=MatchConditions.IfNotModified,
                raw_response_hook=asked.hook,
            )
            return version_of(written["etag"]), store_time(asked)

    def _then(self, write: Callable[[], tuple[Version, float | None]]) -> tuple[Version, float | None]:
        """Do the second part of a call whose first part has changed something."""
        try:
            return write()
        except Unavailable as exc:
            raise OutcomeUnknown(f"the lease was taken, and not yet recorded: {exc}") from exc

    def _lease(self, grant: Grant) -> BlobLeaseClient:
        return BlobLeaseClient(self._blob, grant.proof or lease_id(grant.session))


def _written(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return a record as metadata: each value as JSON, which has only characters that a header may have."""
    known = json.loads(encode(fields))  # with its format, and refused here if it has no JSON form
    return {name: json.dumps(value, separators=(",", ":")) for name, value in known.items()}


def _read(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """Return the fields of a record. Raises BadDocument; NewerFormat for a newer one."""
    fields: dict[str, Any] = {}
    for name, value in metadata.items():
        fields[name.lower()] = parse(value, f"{key}: the metadata {name!r}")
    return checked(fields, f"{key} (its metadata)")
