"""The shapes of `/v1/check` and `/v1/events` as the OpenAPI document tells them. The code that answers is `web/hot.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.json_schema import models_json_schema

from tollkeeper.core.gate import Code
from tollkeeper.web.api.shapes import EnvironmentName, Instant, Sent, SentInstant, Shown
from tollkeeper.web.errors import documented

KEY: Final = "tk_live_4fQz0000000000000000000000000000001bXk"
EVENT: Final[dict[str, Any]] = {
    "id": "01JD3V5E6QN8Z4V9W1T7B2X3YE",
    "type": "api.call",
    "customer": "cus_01JD3V5E6QN8Z4V9W1T7B2X3YA",
    "time": "2026-11-21T12:00:00Z",
}


class Check(Sent):
    """One call of one key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": KEY, "meter": "api_calls"}]})

    key: str = Field(description="The key as the caller sent it.")
    meter: str | None = Field(
        None, description="The meter that counts the call; null only identifies, within the limits of every request."
    )
    cost: str | int = Field("1", description="A decimal: what the call costs.")
    scope: str | None = Field(None, description="A scope that the key must have.")
    ip: str | None = Field(None, description="The caller's address, for keys that are bound to some.")
    id: str | None = Field(
        None, min_length=1, max_length=256, description="An id of your own makes a retry safe: it counts once."
    )
    reserve: bool = Field(
        False,
        description="Take `cost` from limits and quota, and record nothing yet: `reservation` is the token to commit or release by.",
    )
    durable: bool = Field(
        True, description="false answers before the commit: faster, may be lost in a crash, refused for hard quotas."
    )


class LimitState(Shown):
    """One rate limit after this decision."""

    name: str = Field(examples=["burst"])
    limit: int = Field(examples=[10])
    remaining: int = Field(examples=[9])
    reset_seconds: int = Field(description="Until it is full again.", examples=[1])


class QuotaNow(Shown):
    """The quota after this decision. Past the limit of a soft quota `remaining` stays 0."""

    meter: str = Field(examples=["api_calls"])
    kind: Literal["hard", "soft"]
    limit: str = Field(examples=["1000"])
    used: str = Field(examples=["1"])
    remaining: str = Field(examples=["999"])
    resets_at: Instant = Field(examples=["2026-12-21T12:00:00Z"])


class Decided(Shown):
    """The decision. `status` is what another surface would answer with; `problem` its body, null when allowed."""

    code: Code
    status: int = Field(examples=[200])
    request_id: str = Field(examples=["req_01JD3V5E6QN8Z4V9W1T7B2X3YF"])
    event_id: str | None = Field(
        description="The usage event, null when nothing was recorded.", examples=["evt_01JD3V5E6QN8Z4V9W1T7B2X3YF"]
    )
    reservation: str | None = Field(description="The token of what was reserved.", examples=[None])
    customer: str | None = Field(examples=["cus_01JD3V5E6QN8Z4V9W1T7B2X3YA"])
    key_id: str | None = Field(examples=["key_01JD3V5E6QN8Z4V9W1T7B2X3YD"])
    environment: EnvironmentName | None
    plan: str | None = Field(examples=["free"])
    rate_limits: list[LimitState]
    quota: QuotaNow | None
    problem: dict[str, Any] | None = Field(examples=[None])
    shadow: Code | None = Field(
        None, description="Only in shadow mode: what would have refused it.", json_schema_extra={"x-optional": True}
    )
    pending: Literal[True] | None = Field(
        None,
        description="Only with `durable` false: answered before the commit.",
        json_schema_extra={"x-optional": True},
    )


class EventSent(Sent):
    """Something that was used. CloudEvents 1.0 attributes and `customer`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EVENT}]})

    id: str = Field(min_length=1, max_length=256, description="Unique within `source`, whatever its time.")
    type: str = Field(min_length=1, max_length=256, description="The `event_type` of the meters that count it.")
    source: str = Field("default", min_length=1, max_length=256, description="The program that sends.")
    subject: str | None = Field(
        None, min_length=1, max_length=256, description="What caused it: a key's id, an install …"
    )
    customer: str | None = Field(
        None, description="Who is billed; not needed when `subject` is a key's or a customer's id."
    )
    time: SentInstant | None = Field(None, description="When it happened; the moment of arrival when left out.")
    data: dict[str, Any] | None = Field(None, description="What meters sum and group by; at most 16 KiB.")
    specversion: Literal["1.0"] | None = Field(None, description="1.0 for CloudEvents.")
    datacontenttype: str | None = None
    dataschema: str | None = None


class EventResult(Shown):
    """The answer for one event, which is its acknowledgement: `accepted` and `duplicate` are in the total exactly once."""

    index: int = Field(examples=[0])
    id: str | None = Field(examples=["01JD3V5E6QN8Z4V9W1T7B2X3YE"])
    status: Literal["accepted", "duplicate", "conflict", "rejected"]
    code: str | None = Field(description="Why it was not accepted.", examples=[None])
    detail: str | None = Field(examples=[None])
    meters: list[str] = Field(
        description="The meters that count it; accepted with none is unmatched.", examples=[["api_calls"]]
    )


class WebhookReceived(Shown):
    """The webhook is on the disk."""

    received: Literal[True] = True


class EventResults(Shown):
    """An answer for every event, in order."""

    results: list[EventResult]
    accepted: int = Field(examples=[1])
    duplicate: int = Field(examples=[0])
    conflict: int = Field(examples=[0])
    rejected: int = Field(examples=[0])


HOT: Final[Mapping[str, tuple[str, ...]]] = {
    "/v1/check": ("POST",),
    "/v1/events": ("POST",),
    "/webhooks/stripe": ("POST",),
}
"""What the endpoints in front take, so that the application behind them can say so."""

REFUSED: Final = """\
Always 200 when a decision was made, also when it is no: look at `code`. The call is counted when it is `VALID`, and the answer comes
after its usage event is on the disk. A refusal costs nothing.
"""

INGESTED: Final = """\
One event or a list of up to 10,000, plain or as CloudEvents, structured or batched. The answer per event is the acknowledgement, not
the status of the request: sending the same events again after a failure is safe, each counts once.
"""


RECEIVED: Final = """\
For Stripe. The body is an event as Stripe sends it, signed in the header `Stripe-Signature` with the secret of the endpoint
(`STRIPE_WEBHOOK_SECRET`). The answer comes after it is stored, and says nothing of its effect; the same event again is stored once.
"""


def hot_operations() -> tuple[dict[str, Any], dict[str, Any]]:
    """The paths and the schemas of the hot endpoints."""
    models = (Check, EventSent)
    answers = (Decided, EventResults, WebhookReceived)
    places, found = models_json_schema(
        [*((model, "validation") for model in models), *((answer, "serialization") for answer in answers)],
        ref_template="#/components/schemas/{model}",
    )
    sent = {model: places[model, "validation"] for model in models}
    shown = {answer: places[answer, "serialization"] for answer in answers}
    schemas: dict[str, Any] = found["$defs"]
    decided = schemas["Decided"]
    decided["required"] = [name for name in decided["properties"] if name not in ("pending", "shadow")]
    events = {"anyOf": [sent[EventSent], {"type": "array", "items": sent[EventSent], "maxItems": 10_000}]}
    environment = {
        "name": "environment",
        "in": "query",
        "required": False,
        "description": "For the admin token; a server key has its own.",
        "schema": {"type": "string", "enum": ["live", "test"], "default": "live"},
    }
    signature = {
        "name": "Stripe-Signature",
        "in": "header",
        "required": True,
        "description": "`t=SECONDS,v1=HEX`, made by Stripe.",
        "schema": {"type": "string"},
    }
    paths = {
        "/v1/check": {
            "post": _operation(
                "Gate",
                "check",
                "Check a key",
                REFUSED,
                "Needs the admin token or a server key with `check`.",
                {"application/json": {"schema": sent[Check]}},
                shown[Decided],
                ("quantity_invalid", 401, 403, 404, 409, 413, 503),
            )
        },
        "/v1/events": {
            "post": _operation(
                "Events",
                "send_events",
                "Send usage events",
                INGESTED,
                "Needs the admin token or a server key with `events:write`.",
                {
                    "application/json": {"schema": events, "example": EVENT},
                    "application/cloudevents+json": {"schema": sent[EventSent]},
                    "application/cloudevents-batch+json": {"schema": {"type": "array", "items": sent[EventSent]}},
                },
                shown[EventResults],
                (400, 401, 403, 413, 415, 503),
            )
            | {"parameters": [environment]}
        },
        "/webhooks/stripe": {
            "post": _operation(
                "Webhooks",
                "receive_webhook",
                "Receive a webhook of Stripe",
                RECEIVED,
                "Needs a signature; no token.",
                {"application/json": {"schema": {"type": "object"}}},
                shown[WebhookReceived],
                ("webhook_invalid", 404, 413, 503),
            )
            | {"parameters": [signature], "security": []}
        },
    }
    return paths, schemas


def _operation(
    tag: str,
    name: str,
    summary: str,
    description: str,
    needs: str,
    content: dict[str, Any],
    answer: Mapping[str, Any],
    problems: tuple[int | str, ...],
) -> dict[str, Any]:
    return {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "operationId": name,
        "security": [{"bearer": []}],
        "x-needs": needs,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {"description": "Successful Response", "content": {"application/json": {"schema": answer}}},
            **{str(status): response for status, response in documented(*problems).items()},
        },
    }
