"""What Stripe finds out about meter events after it has answered: counted for a few seconds, then told by a thin event for each meter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tollkeeper.sandbox.thin_events import emit, instant_text
from tollkeeper.sandbox.world import due

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

WINDOW_SECONDS = 5
_SAMPLES = 5
_KIND = "_meter_errors"


def report(world: World, code: str, meter: str | None, message: str, event: dict[str, Any]) -> None:
    """Note that an event was rejected. `meter` None: there is none of its name."""
    del event
    held = world.store.get(_KIND, meter or "none")
    if held is None:
        now = world.clock.now()
        held = {"object": _KIND, "id": meter or "none", "meter": meter, "start": now, "codes": {}}
        world.at(now + WINDOW_SECONDS, "meter_errors", {"id": held["id"]})
    found = held["codes"].setdefault(code, {"count": 0, "samples": []})
    found["count"] += 1
    if len(found["samples"]) < _SAMPLES:
        found["samples"].append({"message": message, "request": world.request["idempotency_key"] or ""})
    world.store.save(held)


@due("meter_errors")
def tell(world: World, data: dict[str, Any]) -> None:
    held = world.store.get(_KIND, data["id"])
    if held is None:
        return
    world.store.remove(held)
    total = sum(found["count"] for found in held["codes"].values())
    types = [
        {
            "code": code,
            "error_count": found["count"],
            "sample_errors": [
                {"error_message": sample["message"], "request": {"identifier": sample["request"]}}
                for sample in found["samples"]
            ],
        }
        for code, found in sorted(held["codes"].items())
    ]
    plural = "" if total == 1 else "s"
    report = {
        "developer_message_summary": f"There is {total} invalid event{plural}"
        if total == 1
        else f"There are {total} invalid events",
        "reason": {"error_count": total, "error_types": types},
        "validation_end": instant_text(world.clock.now()),
        "validation_start": instant_text(held["start"]),
    }
    meter = held["meter"]
    if meter is None:
        emit(world, "v1.billing.meter.no_meter_found", report)
    else:
        related = (meter, "billing.meter", f"/v1/billing/meters/{meter}")
        emit(world, "v1.billing.meter.error_report_triggered", report, related)
