"""Prices and allowances in the words of a pricing page. Amounts are shown exactly: nothing is rounded."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import exponent_of
from tollkeeper.core.plans import Plan, Price, Quota, RateLimit

SIGNS: Final = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹"}
WINDOWS: Final = {1: "a second", 60: "a minute", 3600: "an hour", 86_400: "a day"}
EACH: Final = {"month": "a month", "year": "a year", "once": "once"}


def money(amount: Decimal, currency: str) -> str:
    """`$29`, `$0.002`, `29.50 CHF`: the currency's digits or none, and more where the amount has more."""
    text = format_quantity(amount)
    places = len(text.partition(".")[2])
    if 0 < places < exponent_of(currency):
        text = f"{amount:.{exponent_of(currency)}f}"
    whole, point, rest = text.partition(".")
    text = f"{int(whole):,}{point}{rest}"
    return f"{SIGNS[currency]}{text}" if currency in SIGNS else f"{text} {currency.upper()}"


def headline(plan: Plan, currency: str) -> tuple[str, str]:
    """What a plan costs before any usage, and how often: ("$29", "a month")."""
    flat = [p for p in plan.prices if p.currency == currency and p.model == "flat" and p.flat_amount]
    recurring = [p for p in flat if p.interval != "once"] or flat
    if not recurring:
        metered = any(p.currency == currency and p.meter for p in plan.prices)
        return ("Pay as you go", "") if metered else (money(Decimal(0), currency), EACH["month"])
    interval = recurring[0].interval
    same = [p for p in recurring if p.interval == interval]
    return money(sum((p.flat_amount or Decimal(0) for p in same), Decimal(0)), currency), EACH[interval]


def usage_words(price: Price, unit: str) -> str:
    """One metered price: `first 1,000 calls free, then $0.002 per call`."""
    many = _many(unit)
    if price.model == "package":
        assert price.package_size is not None
        size = format_count(price.package_size)
        words = f"{money(price.package_amount or Decimal(0), price.currency)} per {size} {many}"
    elif price.model == "per_unit":
        words = f"{money(price.unit_amount or Decimal(0), price.currency)} per {unit}"
    else:
        words = _tiers(price, unit, many)
    if price.included:
        words = f"{format_count(price.included)} {many} included, then {words[:1].lower()}{words[1:]}"
    if price.minimum:
        words += f", at least {money(price.minimum, price.currency)}"
    if price.maximum is not None:
        words += f", at most {money(price.maximum, price.currency)}"
    return words[:1].upper() + words[1:]


def quota_words(quota: Quota, unit: str) -> str:
    count = f"{format_count(quota.limit)} {_many(unit)} a month"
    return count if quota.kind == "hard" else f"{count} before overage"


def limit_words(limit: RateLimit) -> str:
    span = WINDOWS.get(limit.window_seconds) or f"in {limit.window_seconds} s"
    return f"{limit.limit:,} requests {span}"


def format_count(quantity: Decimal) -> str:
    whole, point, rest = format_quantity(quantity).partition(".")
    return f"{int(whole):,}{point}{rest}"


def _tiers(price: Price, unit: str, many: str) -> str:
    parts = []
    for number, tier in enumerate(price.tiers):
        each = "free" if not tier.unit_amount else f"{money(tier.unit_amount, price.currency)} per {unit}"
        if tier.flat_amount:
            each = (
                f"{money(tier.flat_amount, price.currency)} plus {each}"
                if tier.unit_amount
                else money(tier.flat_amount, price.currency)
            )
        if tier.up_to is None:
            parts.append(f"then {each}" if number else each)
        elif price.model == "volume":
            parts.append(f"up to {format_count(tier.up_to)} {many}: {each}")
        elif number:
            parts.append(f"up to {format_count(tier.up_to)} {each}")
        else:
            parts.append(f"first {format_count(tier.up_to)} {many} {each}")
    return ", ".join(parts)


def _many(unit: str) -> str:
    return unit if unit.endswith("s") else f"{unit}s"
