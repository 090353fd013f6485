"""The body of `POST /v1/events`, decoded strictly: plain JSON, CloudEvents structured, CloudEvents batched.

One bad event never spoils its batch: it becomes an answer of its own. Fast when every event is well-formed; when one is not, each is
decoded alone to say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tollkeeper.core.errors import InvalidRequest, TooLarge
from tollkeeper.core.events import Event
from tollkeeper.services.ingest import Result
from tollkeeper.web.unique import count_pairs, decimal_of, has_only, require_strict

MAX_EVENTS = 10_000
MAX_DEPTH = 32

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


_many = msgspec.json.Decoder(list[EventBody], float_hook=decimal_of)
_one = msgspec.json.Decoder(EventBody, float_hook=decimal_of)
_cloud = msgspec.json.Decoder(CloudEventBody, float_hook=decimal_of)
_each = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder(float_hook=decimal_of)


def decode_events(body: bytes, content_type: str = "application/json") -> Sequence[Event | Result]:
    """The events of a body in order; a `Result` stands where one could not be decoded. Raises InvalidRequest, TooLarge."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/cloudevents+json", "application/cloudevents-batch+json", ""):
        raise InvalidRequest(
            f"Content-Type is {kind[:80]!r}; expected application/json, application/cloudevents+json or application/cloudevents-batch+json."
        )
    if body[:1] == b"[" or body.lstrip()[:1] == b"[":
        return _decode_many(body)
    return [_decode_one(0, body)]


def _decode_many(body: bytes) -> Sequence[Event | Result]:
    try:
        events = _many.decode(body)
    except (msgspec.MsgspecError, InvalidRequest, ValueError, RecursionError):
        return _decode_each(body)
    if len(events) > MAX_EVENTS:
        raise TooLarge(f"{len(events)} events; at most {MAX_EVENTS} in one request. Send several requests.")
    if not has_only(body, sum(map(_pairs, events))):
        return _decode_each(body)
    return events


def _decode_each(body: bytes) -> Sequence[Event | Result]:
    try:
        raws = _each.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from None
    if len(raws) > MAX_EVENTS:
        raise TooLarge(f"{len(raws)} events; at most {MAX_EVENTS} in one request. Send several requests.")
    return [_decode_one(index, bytes(raw)) for index, raw in enumerate(raws)]


def _decode_one(index: int, body: bytes) -> Event | Result:
    try:
        require_strict(body, MAX_DEPTH)
        try:
            event = _one.decode(body)
        except msgspec.ValidationError:
            found = _any.decode(body)
            if not (isinstance(found, dict) and "specversion" in found):
                raise
            event = _cloud.decode(body)
    except InvalidRequest as error:
        return Result(index, _id_of(body), "rejected", error.code, error.detail)
    except msgspec.ValidationError as error:
        return Result(index, _id_of(body), "rejected", "invalid_event", _plain(error))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Result(index, None, "rejected", "invalid_json", f"Not JSON: {error}.")
    if event.specversion not in (None, "1.0"):
        return Result(
            index,
            _id_of(body),
            "rejected",
            "invalid_event",
            "specversion is not 1.0; other versions of CloudEvents are not known.",
        )
    return event


def _pairs(event: EventBody) -> int:
    """How many `"key":` an event's text has, if it holds no key twice and no explicit default."""
    pairs = 2
    if event.source != "default":
        pairs += 1
    if event.subject is not None:
        pairs += 1
    if event.customer is not None:
        pairs += 1
    if event.time is not None:
        pairs += 1
    if event.data is not None:
        pairs += 1 + count_pairs(event.data, MAX_DEPTH - 1)
    if event.specversion is not None:
        if event.specversion != "1.0":
            return 0  # looked at alone
        pairs += 1
    if event.datacontenttype is not None:
        pairs += 1
    if event.dataschema is not None:
        pairs += 1
    return pairs


def _id_of(body: bytes) -> str | None:
    try:
        found = _any.decode(body)
    except (msgspec.MsgspecError, InvalidRequest, ValueError, RecursionError):
        return None
    id = found.get("id") if isinstance(found, dict) else None
    return id[:256] if isinstance(id, str) else None


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec says "Expected `str`, got `int` - at `$.id`": say it in our words."""
    text = str(error)
    if "unknown field" in text:
        return f"{text}; known are {', '.join(ATTRIBUTES)}."
    return f"{text}."
