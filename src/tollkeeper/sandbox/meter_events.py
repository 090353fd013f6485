"""Meter events, their cancellation and the high-throughput stream (https://docs.stripe.com/api/billing/meter-event).

Checked at once: identifier, timestamp, payload keys, value. Found out later, and told by a thin event: no meter of that
name, a meter that was
deactivated, no such customer. The stream checks everything later.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.errors import ApiError, invalid, missing_parameter, rate_limited
from tollkeeper.sandbox.meter_errors import report
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.thin_events import instant_of, instant_text

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

LONGEST = 100
MOST_DIGITS = 15
OLDEST_SECONDS = 35 * 86_400
NEWEST_SECONDS = 5 * 60
SESSION = "v2.billing.meter_event_session"
SESSION_SECONDS = 15 * 60
MOST_IN_STREAM = 100
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


class Rejected(Exception):
    """An event that is not counted: `code` as in Stripe's error reports, `param` for the answer of a call."""

    def __init__(self, code: str, message: str, param: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def _receive(world: World, event: dict[str, Any], now: int) -> tuple[str, str, int]:
    """Check an event and count it. Its identifier, value and timestamp. Raises Rejected for what is checked at once."""
    name, payload = event["event_name"], event["payload"]
    meter, archived = _meter(world, name)
    customer_key = meter["customer_mapping"]["event_payload_key"] if meter else "stripe_customer_id"
    value_key = meter["value_settings"]["event_payload_key"] if meter else "value"
    needs_value = meter is None or meter["default_aggregation"]["formula"] != "count"
    if len(name) > LONGEST:
        raise Rejected("parameter_invalid_string", f"event_name must be at most {LONGEST} characters.", "event_name")
    identifier = event.get("identifier") or world.ids.new("", 32)
    if len(identifier) > LONGEST:
        raise Rejected("parameter_invalid_string", f"identifier must be at most {LONGEST} characters.", "identifier")
    if meter is not None and not payload.get(customer_key):
        raise Rejected(
            "meter_event_no_customer_defined",
            f"The event payload must contain the key `{customer_key}`.",
            f"payload[{customer_key}]",
        )
    value = _value(payload.get(value_key), value_key) if needs_value and meter is not None else "1"
    customer = payload.get(customer_key, "")
    holder = world.store.get("customer", customer)
    here = now if holder is None else world.now(holder)
    timestamp = event.get("timestamp", here)
    if timestamp < here - OLDEST_SECONDS:
        raise Rejected(
            "timestamp_too_far_in_past", "The timestamp must be within the past 35 calendar days.", "timestamp"
        )
    if timestamp > here + NEWEST_SECONDS:
        raise Rejected("timestamp_in_future", "The timestamp must be at most 5 minutes in the future.", "timestamp")
    if world.meters.known(identifier, now):
        raise Rejected("duplicate_meter_event", f"An event already exists with identifier {identifier}.", "identifier")
    if meter is None:
        world.meters.add(identifier, now, "", "", timestamp, value)
        code = "archived_meter" if archived else "no_meter"
        words = "an archived meter" if archived else "no meter"
        report(world, code, archived, f"The event name {name} belongs to {words}.", event)
    elif holder is None or holder.get("deleted"):
        world.meters.add(identifier, now, "", "", timestamp, value)
        report(world, "meter_event_customer_not_found", meter["id"], f"No such customer: {customer}.", event)
    else:
        world.meters.add(identifier, now, meter["id"], customer, timestamp, value)
    return identifier, value, timestamp


def _meter(world: World, name: str) -> tuple[Object | None, str | None]:
    """The active meter of an event name; otherwise the id of an inactive one, or None."""
    archived = None
    for meter in world.store.table("billing.meter"):
        if meter["event_name"] == name:
            if meter["status"] == "active":
                return meter, None
            archived = meter["id"]
    return None, archived


def _value(text: str | None, key: str) -> str:
    """A value as a plain decimal. Raises Rejected when it is none, or has more than 15 significant digits."""
    param = f"payload[{key}]"
    if text is None or text == "":
        raise Rejected("meter_event_invalid_value", f"The event payload must contain the key `{key}`.", param)
    try:
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:
        number = None
    if number is None:
        raise Rejected("meter_event_invalid_value", f"The value in the event payload is not a number: {text}.", param)
    if (
        len(number.normalize().as_tuple().digits) > MOST_DIGITS
        or len(text.partition(".")[0].lstrip("+-0")) > MOST_DIGITS
    ):
        raise Rejected(
            "meter_event_value_too_many_digits",
            f"The value in the event payload can have at most {MOST_DIGITS} digits. Received {text}.",
            param,
        )
    return format(number, "f")


def _counted(call: Call, event: dict[str, Any]) -> tuple[str, str, int]:
    world = call.world
    if not world.faults.meter_event_admitted(world.clock.now()):
        raise rate_limited("endpoint-rate")
    try:
        return _receive(world, event, world.now())
    except Rejected as fault:
        raise ApiError(400, fault.message, code=fault.code, param=fault.param) from None


@operation("POST", "/v1/billing/meter_events")
def create(call: Call) -> Object:
    params = call.params
    identifier, _, timestamp = _counted(call, params)
    return {
        "object": "billing.meter_event",
        "created": call.world.now(),
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": params["payload"],
        "timestamp": timestamp,
    }


@operation("POST", "/v2/billing/meter_events")
def create_v2(call: Call) -> Object:
    event = dict(call.params)
    if "timestamp" in event:
        event["timestamp"] = int(instant_of(event["timestamp"], "timestamp"))
    identifier, _, timestamp = _counted(call, event)
    return {
        "object": "v2.billing.meter_event",
        "created": instant_text(call.world.clock.now()),
        "event_name": event["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": event["payload"],
        "timestamp": instant_text(timestamp),
    }


@operation("POST", "/v2/billing/meter_event_session")
def create_session(call: Call) -> Object:
    world = call.world
    now = world.clock.now()
    token = world.ids.new("mes_test_", 48)
    session: Object = {
        "id": world.ids.new("mes_"),
        "object": SESSION,
        "created": instant_text(now),
        "expires_at": instant_text(now + SESSION_SECONDS),
        "livemode": False,
        "_token": token,
        "_until": now + SESSION_SECONDS,
    }
    for old in list(world.store.table(SESSION)):
        if old["_until"] <= now:
            world.store.remove(old)
    world.store.save(session)
    return {**session, "authentication_token": token}


@operation("POST", "/v2/billing/meter_event_stream")
def create_stream(call: Call) -> Object:
    """Up to 100 events; each is checked later, and told by a thin event when it does not count."""
    world = call.world
    events = call.params["events"]
    if len(events) > MOST_IN_STREAM:
        raise invalid(f"At most {MOST_IN_STREAM} events.", "events")
    for event in events:
        event = dict(event)
        if "timestamp" in event:
            event["timestamp"] = int(instant_of(event["timestamp"], "timestamp"))
        try:
            _receive(world, event, world.now())
        except Rejected as fault:
            meter, archived = _meter(world, event["event_name"])
            if fault.code != "duplicate_meter_event":  # dropped without a word
                report(world, fault.code, meter["id"] if meter else archived, fault.message, event)
    return {}


def _cancel(call: Call) -> tuple[str, str]:
    """Cancel the event that the call names. Its identifier and the status to show."""
    world, params = call.world, call.params
    identifier = params.get("cancel", {}).get("identifier")
    if identifier is None:
        raise missing_parameter("cancel[identifier]")
    meter, archived = _meter(world, params["event_name"])
    id = meter["id"] if meter else archived
    if id is None:
        raise invalid(f"No meter with the event name `{params['event_name']}`.", "event_name", "no_meter")
    fault = world.meters.cancel(id, identifier, world.now())
    if fault == "too_old":
        raise invalid("Only events received within the last 24 hours can be cancelled.", "cancel[identifier]")
    if fault == "unknown":
        raise invalid(f"No event with identifier {identifier}.", "cancel[identifier]", "resource_missing")
    if fault == "cancelled":
        raise invalid(f"The event with identifier {identifier} is cancelled already.", "cancel[identifier]")
    return identifier, "pending"


@operation("POST", "/v1/billing/meter_event_adjustments")
def adjust(call: Call) -> Object:
    identifier, status = _cancel(call)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": call.params["event_name"],
        "livemode": False,
        "status": status,
        "type": "cancel",
    }


@operation("POST", "/v2/billing/meter_event_adjustments")
def adjust_v2(call: Call) -> Object:
    identifier, status = _cancel(call)
    return {
        "id": call.world.ids.new("mtrea_test_"),
        "object": "v2.billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "created": instant_text(call.world.clock.now()),
        "event_name": call.params["event_name"],
        "livemode": False,
        "status": status,
        "type": "cancel",
    }
