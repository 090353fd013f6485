"""How much of a period's usage its finalised invoice has. Pure.

The provider finalises in whole seconds of its own clock, and a report may have been delivered in that very second, before or after. The
invoice says which: its lines of the period's price are worth what the reports up to then cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from tollkeeper.core.billing import MINUTE_US, SECOND_US, BillingPeriod
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.plans import Price
from tollkeeper.core.rating import rate

NEAR_US: Final = MINUTE_US
"""How far the clocks may be apart."""


def billed_by(
    period: BillingPeriod, delivered: Sequence[tuple[int, Decimal]], invoice: Invoice | None, prices: Sequence[Price]
) -> Decimal | None:
    """The quantity that an invoiced period's invoice has; None where the provider had usage, and its contract ended without an invoice.

    `delivered`: when each report was known to be there, and how much it was, in that order; `prices`: those that bill it; `invoice` as far
    as it was read. Where it does not tell, what was there at the end of the second of its finalisation.
    """
    assert period.finalized_at is not None
    likely, certain = Decimal(0), Decimal(0)
    found = [certain]
    for at, quantity in delivered:
        if at < period.finalized_at - NEAR_US:
            certain += quantity
            found = [certain]
        elif at <= period.finalized_at + NEAR_US:
            found.append(found[-1] + quantity)
        if at < period.finalized_at + SECOND_US:
            likely = found[-1]
    if period.invoice is None:
        return None if likely else likely
    for price in prices if invoice is not None else ():
        if (lines := _lines(invoice, period, price)) and len(found) > 1:
            amount = sum((Decimal(line["amount"]) for line in lines), Decimal(0))
            said = sum((Decimal(line["quantity"] or 0) for line in lines), Decimal(0))
            fitting = [one for one in found if rate(price, one).amount == amount]
            for chosen in ([one for one in fitting if one == said], fitting, [one for one in found if one == said]):
                if chosen:
                    return likely if likely in chosen else chosen[-1]
    return likely


def _lines(invoice: Invoice | None, period: BillingPeriod, price: Price) -> list[Mapping[str, Any]]:
    """Of a price, for usage of the period."""
    wanted = (period.plan, period.plan_version, price.key)
    return [
        line
        for line in (invoice.document.get("lines", ()) if invoice is not None else ())
        if (line["plan"], line["version"], line["key"]) == wanted
        and line["period_start"] < period.until
        and period.start < line["period_end"]
    ]
