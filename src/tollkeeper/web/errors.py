"""Every error answer: one table from code to HTTP status and title, and RFC 9457 problem details made from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple, NotRequired, TypedDict

import msgspec

from tollkeeper.core.catalog_faults import Fault
from tollkeeper.core.context import SCOPE_REQUEST_ID
from tollkeeper.core.errors import CatalogInvalid, TollkeeperError
from tollkeeper.core.gate import STATUS, TITLE

MEDIA_TYPE: Final = "application/problem+json"


class Row(NamedTuple):
    """How a code is answered."""

    status: int
    title: str


ERRORS: Final[Mapping[str, Row]] = {
    "invalid_request": Row(400, "The request is malformed"),
    "quantity_invalid": Row(400, "This is not a quantity"),
    "value_invalid": Row(400, "This value cannot tell events apart"),
    "currency_invalid": Row(400, "There is no such currency"),
    "zone_invalid": Row(400, "There is no such time zone"),
    "webhook_invalid": Row(400, "The webhook is not signed, or not an event"),
    "unauthorized": Row(401, "A valid token is needed"),
    "forbidden": Row(403, "This token may not do that"),
    "not_found": Row(404, "Not found"),
    "method_not_allowed": Row(405, "This address does not take that method"),
    "conflict": Row(409, "It exists already, or it changed meanwhile"),
    "provider_missing": Row(409, "There is no payment provider"),
    "event_voided": Row(409, "The event was voided"),
    "event_compacted": Row(409, "Single events of that time are not kept any more"),
    "too_large": Row(413, "The request is too large"),
    "unsupported_media_type": Row(415, "This type of content is not taken"),
    "headers_too_large": Row(431, "The request's head is too large"),
    "catalog_invalid": Row(422, "The catalog has faults"),
    "provider_refused": Row(422, "The payment provider refused"),
    "internal_error": Row(500, "Something failed inside Tollkeeper"),
    "settings_invalid": Row(500, "A setting has a wrong value"),
    "storage_mismatch": Row(500, "The database files do not belong together"),
    "not_supported": Row(501, "The proxy does not pass this on"),
    "unreachable": Row(502, "The other server does not answer"),
    "upstream_unreachable": Row(502, "The API behind the gate does not answer"),
    "provider_unavailable": Row(502, "The payment provider does not answer"),
    "provider_unauthorized": Row(502, "The payment provider does not accept our key"),
    "storage_unavailable": Row(503, "The database did not take the write"),
    "already_open": Row(503, "Another process owns the database"),
    "not_ready": Row(503, "Not ready"),
    "provider_busy": Row(503, "The payment provider asks to be called less often"),
    "overloaded": Row(503, "The API behind the gate has more to do than it can"),
    "gate_unreachable": Row(503, "The gate does not answer"),
    "upstream_timeout": Row(504, "The API behind the gate did not answer in time"),
    **{code: Row(STATUS[code], TITLE[code]) for code in STATUS if code != "VALID"},
}

EVENT_CODES: Final[Mapping[str, str]] = {
    "customer_missing": "The event names nobody",
    "data_too_large": "The event's data is too large",
    "id_conflict": "This id was sent before with another content",
    "id_invalid": "The event's id has a wrong length",
    "invalid_event": "This is not an event",
    "invalid_json": "The event is not JSON",
    "source_invalid": "The event's source has a wrong length",
    "source_reserved": "This source is the gate's own",
    "subject_invalid": "The event's subject cannot be taken",
    "time_invalid": "The event's time has no zone",
    "too_early": "The event lies in the future",
    "too_old": "The event is older than the window",
    "type_invalid": "The event's type has a wrong length",
    "unknown_customer": "There is no such customer",
    "unknown_subject": "The subject is nobody's",
}
"""Codes of single events, in the answer of `/v1/events`. `quantity_invalid` and `value_invalid` are told there, too."""

API_CODES: Final = tuple(code for code in ERRORS if code not in STATUS)
"""Codes of failures. The others are the gate's decisions, which `/v1/check` tells in a 200."""

RETRY_AFTER: Final[Mapping[str, int]] = {"storage_unavailable": 1, "not_ready": 1, "gate_unreachable": 1}
"""Seconds, for failures that pass by themselves."""


PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "An error, as RFC 9457 describes it. Branch on `code`; `type` links to its page.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, where, and what to do."},
        "code": {"type": "string", "enum": list(ERRORS)},
        "request_id": {"type": "string", "description": "The same as the header `X-Request-Id`."},
        "retry_after": {"type": "integer", "description": "Seconds; of a refusal that passes by itself."},
        "checkout_url": {
            "type": "string",
            "format": "uri",
            "description": "Of a refusal that another plan would mend: a page with the plans on offer, for two days.",
        },
        "errors": {
            "type": "array",
            "description": "Each fault of a malformed request.",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "A path such as `scopes[0]` or `query.limit`."},
                    "message": {"type": "string"},
                    "line": {"type": "integer", "description": "In a catalog's text."},
                },
                "required": ["field", "message"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "request_id"],
}


def documented(*problems: int | str) -> dict[int | str, dict[str, Any]]:
    """The problem responses of an operation, as the OpenAPI document has them.

    A status stands for its general code, the first in the table; a code is told beside the general one of its status.
    `x-codes` names the codes of each status.
    """
    codes: dict[int, list[str]] = {}
    for problem in problems:
        status = ERRORS[problem].status if isinstance(problem, str) else problem
        told = codes.setdefault(status, [next(code for code in API_CODES if ERRORS[code].status == status)])
        if isinstance(problem, str) and problem not in told:
            told.append(problem)
    return {
        status: {
            "description": " or ".join(ERRORS[code].title for code in told),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            "x-codes": told,
        }
        for status, told in codes.items()
    }


class MethodNotAllowed(TollkeeperError):
    """This address exists, but does not take that method."""

    code = "method_not_allowed"
    permanent = True


class UnsupportedMediaType(TollkeeperError):
    """The body has a type that is not taken here."""

    code = "unsupported_media_type"
    permanent = True


class HeadersTooLarge(TollkeeperError):
    """The request line and the headers together are larger than what is read."""

    code = "headers_too_large"
    permanent = True


class NotReady(TollkeeperError):
    """The server is starting or stopping."""

    code = "not_ready"


class Overloaded(TollkeeperError):
    """The API behind the gate has more to do than it can."""

    code = "overloaded"


class NotSupported(TollkeeperError):
    """The proxy does not pass this kind of request on."""

    code = "not_supported"
    permanent = True


class UpstreamUnreachable(TollkeeperError):
    """The API behind the gate does not answer."""

    code = "upstream_unreachable"


class UpstreamTimeout(TollkeeperError):
    """The API behind the gate did not answer in time."""

    code = "upstream_timeout"


class FieldError(TypedDict):
    """One fault of a request. `field` is a path such as `scopes[0]` or `query.limit`; `line` is of a catalog's text."""

    field: str
    message: str
    line: NotRequired[int]


_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_-]{8,64}")
"""The key in an ASGI scope under which the request's id stands, once it has one."""

_encode = msgspec.json.Encoder().encode


class Problems:
    """Makes error answers. `public_url` begins the links to the pages of the codes."""

    def __init__(self, public_url: str, new_request_id: Callable[[], str]) -> None:
        self._pages = f"{public_url.rstrip('/')}/docs/errors/"
        self._new_request_id = new_request_id

    def request_id(self, scope: MutableMapping[str, Any]) -> str:
        """The caller's `X-Request-Id` when it is 8 to 64 of A-Z a-z 0-9 _ -, else a new one; the same for all of a request."""
        known: str | None = scope.get(SCOPE_REQUEST_ID)
        if known is None:
            for name, value in scope["headers"]:
                if name == b"x-request-id":
                    if _REQUEST_ID.fullmatch(value):
                        known = value.decode()
                    break
            if known is None:
                known = self._new_request_id()
            scope[SCOPE_REQUEST_ID] = known
        return known

    def answer(
        self, scope: MutableMapping[str, Any], error: TollkeeperError
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers and body. `extra` of the error may hold `field`, `errors`, `headers` and, for a gate code, `type`."""
        row = ERRORS.get(error.code, ERRORS["internal_error"])
        code = error.code if error.code in ERRORS else "internal_error"
        request_id = self.request_id(scope)
        problem: dict[str, Any] = {
            "type": self._pages + code,
            "title": row.title,
            "status": row.status,
            "detail": error.detail,
            "code": code,
            "request_id": request_id,
        }
        if faults := field_errors(error):
            problem["errors"] = faults
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"x-request-id", request_id.encode()),
            *((name.encode(), value.encode("latin-1")) for name, value in error.extra.get("headers", {}).items()),
        ]
        if row.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="Tollkeeper"'))
        if code in RETRY_AFTER:
            headers.append((b"retry-after", str(RETRY_AFTER[code]).encode()))
        body = _encode(problem)
        headers.append((b"content-length", str(len(body)).encode()))
        return row.status, headers, body


def field_errors(error: TollkeeperError) -> list[FieldError]:
    """The faults by field, when the error knows them. Services name one as `extra["field"]` and begin the detail with it."""
    if isinstance(error, CatalogInvalid):
        return [_of_catalog(fault) for fault in error.faults]
    many: list[FieldError] | None = error.extra.get("errors")
    if many is not None:
        return many
    field = error.extra.get("field")
    return [FieldError(field=field, message=error.detail.removeprefix(f"{field}: "))] if field else []


def _of_catalog(fault: Fault) -> FieldError:
    entry = FieldError(field=fault.key_path, message=fault.told())
    if fault.line is not None:
        entry["line"] = fault.line
    return entry
