from __future__ import annotations

from decimal import Decimal

import pytest

from tollkeeper.core.plans import Plan, Price, Quota, RateLimit, Tier
from tollkeeper.core.price_words import headline, limit_words, money, quota_words, usage_words


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("29", "usd", "$29"),
        ("29.5", "usd", "$29.50"),
        ("1234567.89", "eur", "€1,234,567.89"),
        ("0.0005", "usd", "$0.0005"),
        ("500", "jpy", "¥500"),
        ("2.5", "kwd", "2.500 KWD"),
        ("12", "chf", "12 CHF"),
    ],
)
def test_an_amount_is_shown_with_all_its_digits(amount: str, currency: str, shown: str) -> None:
    assert money(Decimal(amount), currency) == shown


def flat(key: str, amount: str, interval: str = "month") -> Price:
    return Price(key, "flat", "usd", interval=interval, flat_amount=Decimal(amount))  # type: ignore[arg-type]


def metered(**fields: object) -> Price:
    return Price("calls", fields.pop("model"), "usd", meter="calls", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prices", "shown"),
    [
        ((), ("$0", "a month")),
        ((flat("fee", "29"), flat("seat", "10.50"), flat("setup", "100", "once")), ("$39.50", "a month")),
        ((flat("fee", "290", "year"),), ("$290", "a year")),
        ((flat("fee", "99", "once"),), ("$99", "once")),
        ((metered(model="per_unit", unit_amount=Decimal("0.01")),), ("Pay as you go", "")),
    ],
)
def test_the_headline_is_what_a_plan_costs_before_usage(prices: tuple[Price, ...], shown: tuple[str, str]) -> None:
    assert headline(Plan("p", "api", "P", prices=prices), "usd") == shown


TIERS = (
    Tier(Decimal(1000), Decimal(0)),
    Tier(Decimal(10000), Decimal("0.002")),
    Tier(None, Decimal("0.001"), Decimal(5)),
)


@pytest.mark.parametrize(
    ("price", "shown"),
    [
        (metered(model="per_unit", unit_amount=Decimal("0.002")), "$0.002 per call"),
        (
            metered(model="per_unit", unit_amount=Decimal("0.002"), included=Decimal(500), maximum=Decimal(50)),
            "500 calls included, then $0.002 per call, at most $50",
        ),
        (metered(model="package", package_size=Decimal(1000), package_amount=Decimal(5)), "$5 per 1,000 calls"),
        (
            metered(model="graduated", tiers=TIERS),
            "First 1,000 calls free, up to 10,000 $0.002 per call, then $5 plus $0.001 per call",
        ),
        (metered(model="volume", tiers=TIERS[:1]), "Up to 1,000 calls: free"),
    ],
)
def test_a_usage_price_is_a_phrase(price: Price, shown: str) -> None:
    assert usage_words(price, "call") == shown


def test_allowances_and_limits_are_phrases() -> None:
    assert quota_words(Quota("calls", Decimal(1000), "hard"), "call") == "1,000 calls a month"
    assert quota_words(Quota("calls", Decimal(1000), "soft"), "call") == "1,000 calls a month before overage"
    assert limit_words(RateLimit("burst", 1000, 60)) == "1,000 requests a minute"
    assert limit_words(RateLimit("burst", 10, 7)) == "10 requests in 7 s"
