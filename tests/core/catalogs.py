"""Catalogs for the tests: TOML writers that remember lines, and strategies of valid catalogs and of anything at all."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any, get_args

from hypothesis import strategies as st

from tollkeeper.core.catalog_form import catalog_to_dict
from tollkeeper.core.catalog_keys import MODELS, SECTIONS
from tollkeeper.core.metering import Aggregation, Filter, Meter
from tollkeeper.core.money import EXPONENTS
from tollkeeper.core.plans import Catalog, Discount, Feature, Plan, Price, Product, Quota, RateLimit, Tier

FULL = """\
name = "Weather"
currency = "usd"
shadow = ["pro"]
fallback = "pro"
write_off = "0.5"
automatic_tax = true
tax_ids = true
promotion_codes = true

[products.api]
name = "Weather API"
description = "Forecasts by the hour"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"
group_by = ["region"]
count_on = "attempt"
unit = "call"

[meters.tokens]
event_type = "llm.tokens"
aggregation = "sum"
value_property = "tokens"

[meters.seats]
event_type = "session"
aggregation = "unique"
value_property = "user"
filters = [
  { property = "role", not_equals = "guest" },
  { property = "team", equals = "ops" },
  { property = "status", one_of = ["active", "idle"] },
]

[features.sso]
kind = "boolean"
description = "Single sign-on"
[features.support]
kind = "static"
[features.calls]
kind = "metered"
meter = "api_calls"

[plans.free]
product = "api"
quotas = [{ meter = "api_calls", limit = "1000", kind = "hard" }]

[plans.pro]
weight = 80
trial_days = 14
grace_days = 3
product = "api"
name = "Pro"
limits = [
  { name = "burst", limit = 10, window_seconds = 1 },
  { name = "daily", limit = 100000, window_seconds = 86400, meter = "api_calls", per = "key" },
]
quotas = [{ meter = "tokens", limit = "5000.5", kind = "soft" }]

[plans.pro.features]
sso = true
support = "by e-mail"

[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "9.99"
interval = "year"

[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "graduated"
zero_usage_flat_fee = false
past_last_tier = "refuse"
tiers = [
  { up_to = "1000", unit_amount = "0" },
  { up_to = "10000", unit_amount = "0.002", flat_amount = "5" },
  { up_to = "inf", unit_amount = "0.001" },
]

[[plans.pro.prices]]
key = "tokens"
meter = "tokens"
model = "package"
package_size = 1000
package_amount = "0.015"
package_round = "down"
included = "5000.5"
minimum = "1"
maximum = "100"
negative = "allow"
quantity_round = "up"
discount_order = "first"
currency = "eur"
discounts = [{ percent_off = "12.5" }, { amount_off = "2" }]

[[plans.pro.prices]]
key = "seats"
meter = "seats"
model = "per_unit"
unit_amount = "4"
"""


def word(first: str, others: str, longest: int) -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(first), st.text(others, max_size=longest - 1))


keys = word("abz", "az09_", 63) | st.sampled_from(["a", "api_calls", "pro", "sso"])
names = st.text("aZ9 .\"'\\[]{}#é漢😀", min_size=1, max_size=30).map(str.strip).filter(bool)
lines = st.just("") | names
properties = word("AZaz_", "AZaz09_-", 63)


def decimals(places: int, least: int = 0) -> st.SearchStrategy[Decimal]:
    return st.integers(least, 10 ** (15 + places) - 1).map(lambda n: plain(Decimal(f"{n}e-{places}")))


def plain(value: Decimal) -> Decimal:
    """Without trailing zeros, without an exponent: equal values then are equal in every respect."""
    text = format(value, "f")
    return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)


quantities = decimals(9)
amounts = decimals(12) | decimals(3) | st.just(Decimal(0))


filters = st.builds(
    Filter, properties, st.lists(names, min_size=1, max_size=3, unique=True).map(tuple), st.just(False)
) | st.builds(Filter, properties, st.tuples(names), st.just(True))


@st.composite
def meters(draw: st.DrawFn, key: str) -> Meter:
    aggregation = draw(st.sampled_from(get_args(Aggregation)))
    return Meter(
        key,
        draw(word("AZaz09", "AZaz09._:/-", 128)),
        aggregation,
        None if aggregation == "count" else draw(properties),
        tuple(draw(st.lists(properties, max_size=3, unique=True))),
        draw(st.sampled_from(["attempt", "success"])),
        draw(lines),
        tuple(draw(st.lists(filters, max_size=3))),
    )


@st.composite
def discounts(draw: st.DrawFn, whole: st.SearchStrategy[Decimal]) -> tuple[Discount, ...]:
    percent = st.integers(1, 10**6).map(lambda n: plain(Decimal(f"{n}e-4")))
    either = st.builds(Discount, percent_off=percent) | st.builds(Discount, amount_off=whole)
    return tuple(draw(st.lists(either, max_size=3)))


@st.composite
def prices(draw: st.DrawFn, key: str, meter_keys: list[str]) -> Price:
    currency = draw(st.sampled_from(sorted(EXPONENTS)))
    whole = decimals(EXPONENTS[currency])
    model = draw(st.sampled_from(["flat", "per_unit", "graduated", "volume", "package"] if meter_keys else ["flat"]))
    interval = draw(st.sampled_from(["month", "year", "once"] if model == "flat" else ["month", "year"]))
    if model == "flat":
        amount, off = draw(whole), draw(discounts(whole))
        return Price(key, "flat", currency, interval=interval, flat_amount=amount, discounts=off)
    bounds = sorted(draw(st.tuples(st.none() | whole, st.none() | whole)), key=lambda b: b or 0)
    common: dict[str, Any] = {
        "meter": draw(st.sampled_from(meter_keys)),
        "interval": interval,
        "included": draw(quantities),
        "minimum": bounds[0],
        "maximum": bounds[1],
        "negative": draw(st.sampled_from(["clamp", "allow"])),
        "quantity_round": draw(st.sampled_from(["exact", "up", "down"])),
        "discounts": draw(discounts(whole)),
        "discount_order": draw(st.sampled_from(["last", "first"])),
    }
    if model == "per_unit":
        return Price(key, "per_unit", currency, unit_amount=draw(amounts), **common)
    if model == "package":
        size, rounding = draw(decimals(9, least=1)), draw(st.sampled_from(["up", "down"]))
        return Price(
            key, "package", currency, package_size=size, package_amount=draw(amounts), package_round=rounding, **common
        )
    past = draw(st.sampled_from(["refuse", "last", "free"]))
    ends: list[Decimal | None] = [*sorted(draw(st.sets(decimals(9, least=1), max_size=4)))]
    if past == "refuse" or not ends or draw(st.booleans()):
        ends.append(None)
    tiers = tuple(Tier(end, draw(amounts), draw(whole)) for end in ends)
    fee = draw(st.booleans())
    return Price(key, model, currency, tiers=tiers, zero_usage_flat_fee=fee, past_last_tier=past, **common)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Any valid catalog."""

    def some(most: int) -> list[str]:
        return draw(st.lists(keys, max_size=most, unique=True))

    meter_keys, product_keys, feature_keys = some(4), draw(st.lists(keys, min_size=1, max_size=3, unique=True)), some(4)
    declared = {key: draw(meters(key)) for key in meter_keys}
    checkable = [key for key, meter in declared.items() if meter.checkable]
    kinds = st.sampled_from(["boolean", "static", "metered"] if checkable else ["boolean", "static"])
    features = {}
    for key in feature_keys:
        kind = draw(kinds)
        features[key] = Feature(key, kind, draw(st.sampled_from(checkable)) if kind == "metered" else None, draw(lines))
    plans = {}
    for key in some(3):
        granted: dict[str, bool | int | str] = {}
        for feature in features.values():
            if feature.kind != "metered" and draw(st.booleans()):
                granted[feature.key] = draw(
                    st.booleans() if feature.kind == "boolean" else names | st.integers(-9, 10**15)
                )
        limits = tuple(
            RateLimit(
                name,
                draw(st.integers(1, 10**6)),
                draw(st.integers(1, 31_536_000)),
                draw(st.none() | st.sampled_from(checkable)) if checkable else None,
                draw(st.sampled_from(["key", "customer"])),
            )
            for name in some(3)
        )
        allowed = draw(st.lists(st.sampled_from(checkable), unique=True)) if checkable else []
        quotas = tuple(Quota(meter, draw(quantities), draw(st.sampled_from(["hard", "soft"]))) for meter in allowed)
        plans[key] = Plan(
            key,
            draw(st.sampled_from(product_keys)),
            draw(names),
            limits=limits,
            quotas=quotas,
            prices=tuple(draw(prices(name, meter_keys)) for name in some(3)),
            features=granted,
            trial_days=draw(st.integers(0, 730)),
            grace_days=draw(st.integers(0, 365)),
        )
    return Catalog(
        draw(st.sampled_from(sorted(EXPONENTS))),
        {key: Product(key, draw(names), draw(lines)) for key in product_keys},
        declared,
        features,
        plans,
        draw(names),
        fallback=draw(st.none() | st.sampled_from(sorted(plans))) if plans else None,
        write_off=draw(st.none() | amounts),
        automatic_tax=draw(st.booleans()),
        tax_ids=draw(st.booleans()),
        promotion_codes=draw(st.booleans()),
    )


def as_toml_data(catalog: Catalog) -> dict[str, Any]:
    """What a person would have written for this catalog, every default spelled out."""

    def without(item: dict[str, Any], *left_out: str) -> dict[str, Any]:
        return {k: v for k, v in item.items() if k not in left_out and v is not None}

    data = without(catalog_to_dict(catalog))
    for meter in data["meters"].values():
        meter["filters"] = [_filter(one) for one in meter["filters"]]
    for section in ("products", "meters", "features"):
        data[section] = {key: without(item, "key") for key, item in data[section].items()}
    for plan in data["plans"].values():
        plan["limits"] = [without(item) for item in plan["limits"]]
        plan["prices"] = [
            as_written({**without(item), "discounts": [without(one) for one in item["discounts"]]})
            for item in plan["prices"]
        ]
    data["plans"] = {key: without(item, "key", "version") for key, item in data["plans"].items()}
    return data


def _filter(one: dict[str, Any]) -> dict[str, Any]:
    if one["negated"]:
        return {"property": one["property"], "not_equals": one["values"][0]}
    if len(one["values"]) == 1:
        return {"property": one["property"], "equals": one["values"][0]}
    return {"property": one["property"], "one_of": one["values"]}


def as_written(price: dict[str, Any]) -> dict[str, Any]:
    """A stored price without what its model does not take."""
    return {key: value for key, value in price.items() if key in MODELS[price["model"]][1]}


def inline(value: Any) -> str:
    """A TOML value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(v) for v in value) + "]"
    if isinstance(value, date):
        return value.isoformat()
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def to_toml(data: dict[str, Any]) -> str:
    return "".join(f"{quoted(key)} = {inline(value)}\n" for key, value in data.items())


KNOWN = sorted({key.name for section in SECTIONS.values() for key in section})
scalars = (
    st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.dates()
    | st.sampled_from(
        ["usd", "1000", "inf", "count", "sum", "graduated", "flat", "api_calls", "hard", "a", "\0", "-1", "1e3"]
    )
)
any_keys = st.sampled_from(KNOWN) | keys | st.text(st.characters(codec="utf-8"), max_size=10)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_keys, inner, max_size=6), max_leaves=30
)
any_tables = st.dictionaries(any_keys, anything, max_size=8)
