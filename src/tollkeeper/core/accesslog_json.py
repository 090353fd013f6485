"""JSON lines of access logs: Caddy's shape, and flat objects that bear names of nginx's variables or the usual others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tollkeeper.core.accesslog import NOBODY, Hit
from tollkeeper.core.accesslog_times import any_time

TIMES: Final = ("msec", "ts", "time_iso8601", "@timestamp", "timestamp", "time", "time_local", "datetime")
STATUSES: Final = ("status", "status_code", "response_code")
ADDRESSES: Final = ("client_ip", "remote_addr", "remote_ip", "client", "ip")
USERS: Final = ("remote_user", "user_id", "user")
REQUESTS: Final = ("request_uri", "uri", "request", "path", "url")
KEYS: Final = ("authorization", "x-api-key", "http_authorization", "http_x_api_key", "x_api_key", "api_key")
HIDDEN: Final = "REDACTED"  # what Caddy writes in the place of credentials, unless it is told to log them


def object_reader(key_field: str = "") -> Callable[[Any], Hit | str]:
    """What reads a decoded line. `key_field` names the field or header that bears the key, instead of the usual ones."""
    names = (key_field,) if key_field else KEYS

    def read(line: Any) -> Hit | str:
        if not isinstance(line, dict):
            return "JSON without a status"
        inner = line.get("request")
        request: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
        status = _status(_first(line, STATUSES))
        if status is None:
            return "JSON without a status"
        at = any_time(_first(line, TIMES))
        if at is None:
            return "JSON without a time"
        address = _text(_first(request, ADDRESSES) or _first(line, ADDRESSES))
        target = _text(_first(request, ("uri",)) or _first(line, REQUESTS))
        return Hit(at, status, address, _text(_first(line, USERS)), target, _key(names, line, request))

    return read


def _first(line: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        value = line.get(name)
        if value is not None and value != "" and value != "-":
            return value
    return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int and abs(value) < 1 << 64 else ""


def _status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 0 <= value <= 999 else None


def _key(names: tuple[str, ...], line: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """The first field or header of these names that holds something; HIDDEN only when none does."""
    hidden = ""
    for value in _candidates(names, line, request):
        if isinstance(value, list):
            value = value[0] if value else ""
        if isinstance(value, str) and value not in NOBODY:
            if value != HIDDEN:
                return value
            hidden = value
    return hidden


def _candidates(names: tuple[str, ...], line: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[Any]:
    for name in names:
        yield line.get(name)
    for headers in (request.get("headers"), line.get("headers")):
        if isinstance(headers, dict):
            lower = {name.lower(): value for name, value in headers.items()}
            for name in names:
                yield lower.get(name.lower())
