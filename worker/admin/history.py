"""Who led when: the records that every term creates as it opens."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from providers.body import decode
from providers.interface import BadDocument, NotFound
from providers.provider import Provider

PREFIX = "terms/"


@dataclass(frozen=True, slots=True)
class TermRecord:
    """One term: who opened it and when, by that machine's clock, and how the one before it had ended."""

    term: int
    instance: str | None = None
    session: str | None = None
    opened_at: str | None = None
    previous_end: str | None = None  # "resigned", "handed over", "expired", "unknown"
    problem: str | None = None  # why the record cannot be read

    def to_dict(self) -> dict[str, Any]:
        """Return the record for `--json`."""
        return asdict(self)


async def history(provider: Provider, *, limit: int = 20) -> list[TermRecord]:
    """Return the newest terms, oldest of them first. A damaged record is in its place and says so."""
    keys = [stamp.key for stamp in await provider.documents.list(PREFIX)]
    terms = [key for key in keys if key.removeprefix(PREFIX).isdecimal()]
    return [record for key in terms[-limit:] if (record := await _read(provider, key)) is not None]


async def _read(provider: Provider, key: str) -> TermRecord | None:
    term = int(key.removeprefix(PREFIX))
    try:
        document = await provider.documents.read(key)
        fields = decode(document.body, key) if document is not None else {}
    except NotFound:
        return None  # collected meanwhile
    except BadDocument as exc:
        return TermRecord(term, problem=str(exc))
    if fields.get("reminded") is True:
        return TermRecord(term, problem=f"forgotten by the store; noted by {fields.get('instance')}, who had seen it")
    texts = {name: fields.get(name) for name in ("instance", "session", "opened_at", "previous_end")}
    return TermRecord(term, **{name: None if text is None else str(text) for name, text in texts.items()})
