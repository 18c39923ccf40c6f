"""A document that only this session writes: its beat, its status. What it proves is that a write got through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from providers.body import decode, encode
from providers.interface import BadDocument, NotFound, OutcomeUnknown, Refused, Stamp, Unavailable
from providers.provider import PortableDocuments
from worker.clock import Clock

TRIES = 4

GARBLED = "?"
"""Stands for the nonce of a document that cannot be read: nobody's."""


class OwnDocument:
    """Keeps one document as this session last wrote it. Used by one task, on the control thread.

    `meddled` is called when somebody else has changed or deleted it.
    """

    def __init__(
        self, documents: PortableDocuments, key: str, clock: Clock, meddled: Callable[[], None] = lambda: None
    ) -> None:
        self.key = key
        self._documents, self._clock, self._meddled = documents, clock, meddled
        self._stamp: Stamp | None = None
        self._mine: set[str | None] = {None}  # nonces that may be found: the last one, and those without an answer

    async def write(self, fields: Mapping[str, Any]) -> float:
        """Write the document and return when the request was sent that made it so. Raises ProviderError.

        Whoever wrote over it or deleted it is overruled: nobody else has any business here.
        """
        for _ in range(TRIES):
            nonce, sent = self._clock.token(), self._clock.now()
            body = encode({**fields, "nonce": nonce})
            self._mine.add(nonce)
            try:
                if self._stamp is None:
                    self._stamp = await self._documents.create(self.key, body)
                else:
                    self._stamp = await self._documents.replace(self._stamp, body)
            except (Refused, OutcomeUnknown):
                self._stamp, seen = await self._read()
                if seen not in self._mine:
                    self._meddled()
                if seen != nonce:
                    continue  # written again over whatever is there now, be it an earlier write of mine
            self._mine = {nonce}
            return sent
        raise Unavailable(f"{self.key} could not be written in {TRIES} tries")

    @property
    def store_time(self) -> float | None:
        """The store's clock in the answer to the last write, Unix seconds, where it sent one."""
        return None if self._stamp is None else self._stamp.store_time

    async def stands(self) -> bool:
        """Say whether the document is still as this session wrote it last. Raises ProviderError."""
        if self._stamp is None:
            return True
        try:
            return await self._documents.read(self.key, unless=self._stamp.version) is None
        except NotFound:
            return False

    async def delete(self) -> None:
        """Remove the document, if it is still as this session wrote it. Raises ProviderError."""
        if self._stamp is not None:
            await self._documents.delete(self._stamp)
            self._stamp = None

    async def _read(self) -> tuple[Stamp | None, str | None]:
        try:
            document = await self._documents.read(self.key)
        except NotFound:
            return None, None
        assert document is not None  # only a conditional read answers None
        try:
            return document.stamp, decode(document.body, self.key).get("nonce")
        except BadDocument:
            return document.stamp, GARBLED
