"""A document that only the newest fence may change (a term, or a partition owner's fence).

    open:  read; stop if its fence is above mine; write it back under my fence; only then use what it says.
    save:  compare-and-swap on exactly the version that I wrote last.

Writing before use is what defeats the write of an old term that is still in flight: it names a version that no
longer exists by the time the new owner believes what it has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from providers.body import decode, encode
from providers.interface import (
    BadDocument,
    Document,
    NewerFormat,
    NotFound,
    OutcomeUnknown,
    Refused,
    Stamp,
    Unavailable,
    Version,
)
from worker.clock import Clock
from worker.errors import Fenced, Overlapping

TRIES = 8
"""Rounds of reading back before an operation gives up; each is one request within its total time."""


class Documents(Protocol):
    """What this module needs of `providers.provider`."""

    async def read(self, key: str, *, unless: Version | None = None) -> Document | None: ...
    async def create(self, key: str, body: bytes) -> Stamp: ...
    async def replace(self, old: Stamp, body: bytes) -> Stamp: ...


class FencedDocument:
    """One document under one fence. `field` names the number that is compared: `term` in the plan, `fence` in state.

    Used by one task at a time, on the control thread.
    """

    def __init__(
        self,
        documents: Documents,
        key: str,
        fence: int,
        clock: Clock,
        *,
        field: str = "fence",
        replace_bad: bool = False,
        check: Callable[[Mapping[str, Any]], object] = lambda _: None,
    ) -> None:
        self.key = key
        self.fence = fence
        self.problem: str | None = None  # what is wrong with the stored document, as last read
        self._documents = documents
        self._clock = clock
        self._field = field
        self._replace_bad = replace_bad
        self._check = check  # raises BadDocument for fields that make no sense together
        self._stamp: Stamp | None = None
        self._fields: dict[str, Any] = {}
        self._unanswered: set[str] = set()  # nonces of saves that may have landed, or may yet

    async def open(self, *, fresh: bool = False) -> dict[str, Any]:
        """Claim the document and return its fields; {} when it is new. Raises Fenced, BadDocument, ProviderError.

        A document that carries this very fence is claimed already; `fresh` writes it all the same, so that no earlier
        write of this fence that is still in flight can land any more.
        """
        mine: set[str] = set()
        for _ in range(TRIES):
            stamp, fields = await self._read()
            if fields and (fields.get("nonce") in mine or (fields.get(self._field) == self.fence and not fresh)):
                assert stamp is not None
                return self._opened(stamp, fields)
            nonce = self._clock.token()
            mine.add(nonce)
            body = encode({**fields, self._field: self.fence, "nonce": nonce})
            try:
                written = await self._write(stamp, body)
            except (Refused, OutcomeUnknown):
                continue  # read back: it may be mine, or newer, or still unchanged
            return self._opened(written, {**fields, self._field: self.fence, "nonce": nonce})
        raise Unavailable(f"{self.key} kept changing, or its store kept answering unclearly, {TRIES} times in a row")

    async def save(self, fields: Mapping[str, Any]) -> None:
        """Write these fields over those that were there. Raises Fenced when a newer fence has opened the document."""
        if self._stamp is None:
            raise RuntimeError(f"{self.key} was saved before it was opened")
        nonce = self._clock.token()
        merged = {**self._fields, **fields, self._field: self.fence, "nonce": nonce}
        self._unanswered.add(nonce)
        for _ in range(TRIES):
            try:
                stamp = await self._documents.replace(self._stamp, encode(merged))
            except (Refused, OutcomeUnknown) as exc:
                seen, found = await self._read()
                if seen is not None and found.get("nonce") == nonce:
                    stamp = seen
                elif seen is not None and found.get("nonce") in self._unanswered:
                    self._stamp = seen  # an earlier save of mine has landed late
                    continue
                elif seen == self._stamp:
                    continue  # not there yet: the same compare-and-swap again; at most one of the two can land
                elif seen is not None and found.get(self._field) == self.fence:
                    raise Overlapping(
                        f"{self.key} was changed by somebody else under the same fence: opened twice"
                    ) from exc
                else:
                    raise Fenced(f"{self.key} was changed by somebody else: fence {self.fence} is over") from exc
            self._unanswered.clear()
            self._opened(stamp, merged)
            return
        raise OutcomeUnknown(f"{self.key}: nobody knows whether the last write landed")

    def _opened(self, stamp: Stamp, fields: dict[str, Any]) -> dict[str, Any]:
        self._stamp, self._fields = stamp, fields
        return dict(fields)

    async def _read(self) -> tuple[Stamp | None, dict[str, Any]]:
        self.problem = None
        try:
            document = await self._documents.read(self.key)
        except NotFound:
            return None, {}
        assert document is not None  # only a conditional read answers None
        try:
            fields = decode(document.body, self.key)
            found = fields.get(self._field, 0)
            if not isinstance(found, int):
                raise BadDocument(f"{self.key} has no valid {self._field}: {found!r}")
            if found > self.fence:
                raise Fenced(f"{self.key} belongs to {self._field} {found}: {self._field} {self.fence} is over")
            self._check(fields)
        except BadDocument as exc:
            if isinstance(exc, NewerFormat) or not self._replace_bad:
                raise
            self.problem = str(exc)
            return document.stamp, {}
        return document.stamp, fields

    async def _write(self, stamp: Stamp | None, body: bytes) -> Stamp:
        if stamp is None:
            return await self._documents.create(self.key, body)
        return await self._documents.replace(stamp, body)
