"""The body of `POST /v1/events`, decoded strictly: plain JSON, CloudEvents structured, CloudEvents batched.

One bad event never spoils its batch: it becomes an answer of its own. Fast when every event is well-formed; when one is not, each is
decoded alone to say what is wrong with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tollkeeper.core.errors import InvalidRequest, TooLarge
from tollkeeper.core.events import Event
from tollkeeper.services.ingest import Result
from tollkeeper.web.errors import UnsupportedMediaType
from tollkeeper.web.json import UNDECODED, count_keys, exact_number, inspect, refusal, surely_strict

MAX_EVENTS = 10_000
MAX_EVENT_BYTES = 256 * 1024
"""Of one event that is looked at closely: more than every attribute and all data that is kept, each character escaped."""
SMALL = 64 * 1024
"""Bytes of a body that is decoded on the event loop, whatever is in it."""

ATTRIBUTES = (
    "id",
    "type",
    "source",
    "subject",
    "customer",
    "time",
    "data",
    "specversion",
    "datacontenttype",
    "dataschema",
)


class EventBody(msgspec.Struct, forbid_unknown_fields=True):
    """One event. `id` and `type` are required, and `customer` or a `subject` that names one. Decimals in `data` stay exact."""

    id: str
    type: str
    source: str = "default"
    subject: str | None = None
    customer: str | None = None
    time: datetime | None = None
    data: dict[str, Any] | None = None
    specversion: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None


class CloudEventBody(EventBody, forbid_unknown_fields=False):
    """CloudEvents 1.0 allows extension attributes; those Tollkeeper does not know are not kept."""


_many = msgspec.json.Decoder(list[EventBody], float_hook=exact_number)
_one = msgspec.json.Decoder(EventBody, float_hook=exact_number)
_cloud = msgspec.json.Decoder(CloudEventBody, float_hook=exact_number)
_each = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder(float_hook=exact_number)


def decode_events(body: bytes, content_type: str = "application/json") -> Sequence[Event | Result]:
    """The events of a body in order; a `Result` stands where one could not be decoded.

    Raises InvalidRequest, TooLarge, UnsupportedMediaType.
    """
    _require_json(content_type)
    if body[:1] == b"[" or body.lstrip()[:1] == b"[":
        return _well_formed(body) or _decode_each(body)
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNDECODED as error:  # it is no event, so the whole request is refused
        raise refusal(body, error) from None
    return [_decode_one(0, body)]


async def read_events(body: bytes, content_type: str) -> Sequence[Event | Result]:
    """`decode_events` on an event loop: a large body that is looked at event by event does not hold up everybody else."""
    if len(body) <= SMALL:
        return decode_events(body, content_type)
    _require_json(content_type)
    events = _well_formed(body) if body[:1] == b"[" else None
    return events if events is not None else await asyncio.to_thread(decode_events, body, content_type)


def _require_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", ""):
        raise UnsupportedMediaType(
            f"Content-Type is {kind[:80]!r}; expected application/json, application/cloudevents+json or application/cloudevents-batch+json."
        )


def _well_formed(body: bytes) -> Sequence[Event] | None:
    """The events of a batch without any fault; None says look closer. Raises TooLarge."""
    try:
        events = _many.decode(body)
    except UNDECODED:
        return None
    if len(events) > MAX_EVENTS:
        raise TooLarge(f"{len(events)} events; at most {MAX_EVENTS} in one request. Send several requests.")
    return events if surely_strict(body, sum(map(_keys, events))) else None


def _decode_each(body: bytes) -> Sequence[Event | Result]:
    try:
        raws = _each.decode(body)
    except UNDECODED as error:
        raise refusal(body, error) from None
    if len(raws) > MAX_EVENTS:
        raise TooLarge(f"{len(raws)} events; at most {MAX_EVENTS} in one request. Send several requests.")
    return [_decode_one(index, bytes(raw)) for index, raw in enumerate(raws)]


def _decode_one(index: int, body: bytes) -> Event | Result:
    if len(body) > MAX_EVENT_BYTES:
        detail = f"The event has {len(body):,} bytes; at most {MAX_EVENT_BYTES:,} are read."
        return Result(index, None, "rejected", "data_too_large", detail)
    try:
        value = inspect(body)
    except InvalidRequest as error:
        return Result(index, _id_of(body), "rejected", "invalid_json", error.detail)
    cloud = isinstance(value, dict) and "specversion" in value
    try:
        event = (_cloud if cloud else _one).decode(body)
    except UNDECODED as error:
        detail = refusal(body, error).detail
        if "no such field" in detail:
            detail += f" Known are {', '.join(ATTRIBUTES)}."
        return Result(index, _id_of(body), "rejected", "invalid_event", detail)
    if event.specversion not in (None, "1.0"):
        return Result(
            index,
            _id_of(body),
            "rejected",
            "invalid_event",
            "specversion is not 1.0; other versions of CloudEvents are not known.",
        )
    return event


def _keys(event: EventBody) -> int:
    """How many keys an event's text has, if it has none twice and no explicit default."""
    keys = 2
    if event.source != "default":
        keys += 1
    if event.subject is not None:
        keys += 1
    if event.customer is not None:
        keys += 1
    if event.time is not None:
        keys += 1
    if event.data is not None:
        keys += 1 + count_keys(event.data, 2)
    if event.specversion is not None:
        if event.specversion != "1.0":
            return 0  # looked at alone
        keys += 1
    if event.datacontenttype is not None:
        keys += 1
    if event.dataschema is not None:
        keys += 1
    return keys


def _id_of(body: bytes) -> str | None:
    try:
        found = _any.decode(body)
    except UNDECODED:
        return None
    id = found.get("id") if isinstance(found, dict) else None
    return id[:256] if isinstance(id, str) else None
