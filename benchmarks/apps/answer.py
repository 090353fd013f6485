"""The answer of a check, in the shape and size of `POST /v1/check`, for servers that stand beside Tollkeeper."""

from __future__ import annotations

from typing import Any

ANSWER: dict[str, Any] = {
    "code": "VALID",
    "status": 200,
    "request_id": "req_01JD3V5E6QN8Z4V9W1T7B2X3YA",
    "event_id": "01JD3V5E6QN8Z4V9W1T7B2X3YB",
    "reservation": None,
    "customer": "cus_01JD3V5E6QN8Z4V9W1T7B2X3YC",
    "key_id": "key_01JD3V5E6QN8Z4V9W1T7B2X3YD",
    "environment": "live",
    "plan": "bench",
    "rate_limits": [{"name": "burst", "limit": 1000000, "remaining": 999999, "reset_seconds": 1}],
    "quota": {
        "meter": "api_calls",
        "kind": "hard",
        "limit": "1000000000000",
        "used": "123456",
        "remaining": "999999876544",
        "resets_at": "2026-01-01T00:00:00Z",
    },
    "problem": None,
}
