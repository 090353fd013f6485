"""A decision of another process's gate, made again of what `POST /v1/check` told."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tollkeeper.core.gate import Decision, QuotaState, RateLimitState, Who
from tollkeeper.core.ids import ulid_value
from tollkeeper.core.metering import format_quantity, join_quantity


class Told(Decision):
    """A decision as `POST /v1/check` told it. `cost`: what it took; `amount` is 0 once that was released."""

    __slots__ = ("_told", "cost")

    def __init__(self, told: Mapping[str, Any], amount: int) -> None:
        id = ulid_value(str(told["request_id"]).partition("_")[2])
        who = Who(told["customer"], told["key_id"], told["environment"], told["plan"])
        super().__init__(told["code"], id or 0, who)
        self.reservation = told["reservation"]
        self.cost = format_quantity(join_quantity(0, amount))
        self.amount = amount if self.reservation is not None or told["event_id"] is not None else 0
        self._told = told

    @property
    def request_id(self) -> str:
        return str(self._told["request_id"])

    @property
    def event_id(self) -> str | None:
        event_id: str | None = self._told["event_id"]
        return event_id

    @property
    def rate_limits(self) -> tuple[RateLimitState, ...]:
        """The windows are not told (`window_seconds` 0)."""
        return tuple(RateLimitState(**state, window_seconds=0) for state in self._told["rate_limits"])

    @property
    def quota(self) -> QuotaState | None:
        told = self._told["quota"]
        if told is None:
            return None
        if self.reservation is not None and not self.amount:
            used = Decimal(told["used"]) - Decimal(self.cost)
            left = max(Decimal(0), Decimal(told["limit"]) - used)
            told = {**told, "used": format(used, "f"), "remaining": format(left, "f")}
        return QuotaState(**told)

    def retry_after(self, cost: int = 1) -> int | None:
        problem = self._told["problem"]
        seconds: int | None = problem and problem.get("retry_after")
        return seconds

    def explain(self) -> str:
        problem = self._told["problem"]
        return str(problem["detail"]) if problem else super().explain()

    def problem(self, docs: str = "") -> dict[str, Any] | None:
        """The server's own, with links to the server's pages."""
        told: dict[str, Any] | None = self._told["problem"]
        return told

    def as_dict(self, docs: str = "") -> dict[str, Any]:
        return dict(self._told)
