"""Turns a message's JSON into what its handler asks for."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from worker.core.envelope import BadMessage


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check_kind(kind: type) -> None:
    """Raise TypeError for a type that nothing can ever be parsed into."""
    try:
        _adapter(kind)
    except PydanticSchemaGenerationError as exc:
        name = getattr(kind, "__name__", str(kind))
        raise TypeError(f"{name} is no type that JSON can be parsed into: use a pydantic model or a dataclass") from exc


def parse_body(kind: type | None, body: Any) -> Any:
    """Return the body as `kind`; as it is when that is None. Raises BadMessage with every validation error."""
    if kind is None:
        return body
    try:
        return _adapter(kind).validate_python(body)
    except ValidationError as exc:
        errors = "; ".join(
            f"{'.'.join(str(part) for part in error['loc']) or 'body'}: {error['msg']}"
            for error in exc.errors(include_url=False, include_context=False, include_input=False)
        )
        name = getattr(kind, "__name__", str(kind))
        raise BadMessage(f"not a valid {name}: {errors}") from exc
    except Exception as exc:  # a validator of the user's may raise anything
        raise BadMessage(f"not a valid {getattr(kind, '__name__', kind)}: {type(exc).__name__}: {exc}") from exc
