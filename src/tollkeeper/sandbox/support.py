"""What the sandbox does of Stripe's parameters, and says when it does not: a parameter that would change a sum is never ignored."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from tollkeeper.sandbox.arithmetic import step
from tollkeeper.sandbox.errors import ApiError
from tollkeeper.sandbox.store import Object


def only(params: dict[str, Any], served: Iterable[str], path: str = "") -> None:
    """Raises ApiError 400 for a parameter that Stripe takes and the sandbox does nothing with. `path`: of what `params` is inside."""
    unserved = [f"{path}[{name}]" if path else name for name in sorted(set(params) - set(served))]
    if unserved:
        raise ApiError(
            400,
            f"The sandbox does not do anything with this parameter of Stripe's: {', '.join(unserved)}",
            code="sandbox_unsupported",
            param=unserved[0],
        )


def chargeable(amount: Decimal | int, currency: str, param: str = "amount") -> None:
    """Raises ApiError 400 for a given amount that is not charged: 5.124 kwd, or half a krona."""
    by = step(currency)
    if by > 1 and amount % by:
        raise ApiError(
            400,
            f"Invalid amount. Charged amounts in {currency.upper()} must be evenly divisible by {by}. "
            "See https://docs.stripe.com/currencies#special-cases for more information.",
            code="invalid_charge_amount_no_decimal_compatible" if by == 100 else None,
            param=param,
        )


def listed(url: str, data: list[Any], shown: int | None = None) -> Object:
    """A list that stands inside an object, cut after `shown`."""
    more = shown is not None and len(data) > shown
    return {"object": "list", "data": data[:shown] if more else data, "has_more": more, "url": url}


def unset(value: Any) -> Any:
    """ "" of a parameter unsets the field."""
    return None if value == "" else value
