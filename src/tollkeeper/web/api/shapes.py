"""What the shapes of the API have in common: strict objects, instants in RFC 3339, pages of lists."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from tollkeeper.core.customers import Environment
from tollkeeper.core.periods import EARLIEST_US, LATEST_US

T = TypeVar("T")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC3339: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EXPECTED: Final = "expected RFC 3339 with a zone, such as 2026-11-21T12:00:00Z"


class Sent(BaseModel):
    """A body as sent: no field that is not known, no type turned into another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """The parameters of an address: none that is not known. They arrive as text, so numbers are read from it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Shown(BaseModel):
    """An answer."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


def parse_instant(text: Any) -> int:
    """Microseconds since 1970 of an RFC 3339 time with a zone. Digits beyond the sixth are cut. Raises ValueError."""
    found = _RFC3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(_EXPECTED)
    day, time, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{time}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError as error:
        raise ValueError(f"there is no such time ({error}); {_EXPECTED}") from None
    instant = (at - _EPOCH) // _MICROSECOND + int((fraction or "")[:6].ljust(6, "0"))
    if not EARLIEST_US <= instant < LATEST_US:
        raise ValueError("expected a time in the years 1900 to 2999")
    return instant


def show_instant(at: int) -> str:
    """RFC 3339 in UTC; microseconds only when there are any."""
    whole = (_EPOCH + timedelta(seconds=at // 1_000_000)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{at % 1_000_000:06d}Z" if at % 1_000_000 else f"{whole}Z"


Instant = Annotated[
    int,
    BeforeValidator(lambda value: value if type(value) is int else parse_instant(value)),
    PlainSerializer(show_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-21T12:00:00Z"]}),
]
"""Microseconds inside, RFC 3339 outside."""

SentInstant = Annotated[
    int,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2027-01-01T00:00:00Z"]}),
]

EnvironmentName = Annotated[Environment, Field(description="`live` or `test`; the two never mix.", examples=["live"])]


class PageQuery(Query):
    """Which part of a list."""

    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="`next_cursor` of the page before; leave it out for the first page.",
    )
    limit: int = Field(50, ge=1, le=100, description="How many at most.")


class Listed(Shown, Generic[T]):
    """A page of a list; `next_cursor` is null on the last."""

    data: list[T]
    next_cursor: str | None = Field(examples=[None])
