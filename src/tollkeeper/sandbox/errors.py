"""Stripe's error answers (https://docs.stripe.com/api/errors): one exception that carries status, type, code and parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer that is an error. `extra` stands in the error object beside the usual fields (payment_intent, decline_code)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        replayable: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        self.replayable = replayable
        """False for what Stripe does not keep under an Idempotency-Key: refused before the operation began."""

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON object of the answer."""
        error: dict[str, Any] = {}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = f"https://stripe.com/docs/error-codes/{self.code.replace('_', '-')}"
        error["message"] = self.message
        if self.param is not None:
            error["param"] = self.param
        error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
        error["type"] = self.type
        error.update(self.extra)
        return {"error": error}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 found while the operation ran."""
    return ApiError(400, message, param=param, code=code)


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 found before the operation began: nothing is kept under the Idempotency-Key."""
    return ApiError(400, message, param=param, code=code, replayable=False)


def missing_parameter(param: str) -> ApiError:
    return refused(f"Missing required param: {param}.", param, "parameter_missing")


def unknown_parameters(names: list[str]) -> ApiError:
    plural = "s" if len(names) > 1 else ""
    return refused(f"Received unknown parameter{plural}: {', '.join(names)}", names[0], "parameter_unknown")


def empty_parameter(param: str) -> ApiError:
    return refused(
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; however "
        f"'{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty value.",
        param,
        "parameter_invalid_empty",
    )


def no_such(kind: str, id: str, param: str = "id", *, status: int = 404) -> ApiError:
    """404 where the id stands in the path, 400 where it is a parameter."""
    return ApiError(status, f"No such {kind}: '{id}'", code="resource_missing", param=param)


def unknown_url(method: str, path: str) -> ApiError:
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        replayable=False,
    )


def no_key() -> ApiError:
    return ApiError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer auth "
        "(e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
        replayable=False,
        headers={"WWW-Authenticate": 'Bearer realm="Stripe"'},
    )


def bad_key(shown: str) -> ApiError:
    return ApiError(
        401,
        f"Invalid API Key provided: {shown}",
        replayable=False,
        headers={"WWW-Authenticate": 'Bearer realm="Stripe"'},
    )


def rate_limited(reason: str = "global-rate") -> ApiError:
    return ApiError(
        429,
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        replayable=False,
        headers={"Stripe-Rate-Limited-Reason": reason},
    )


def server_error() -> ApiError:
    return ApiError(500, "An unknown error occurred", type="api_error")
