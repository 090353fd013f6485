"""Every key of `tollkeeper.toml`: what it takes, its bounds, its default, its meaning. The reader and docs/catalog.md go by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, get_args

from tollkeeper.core.catalog_kinds import (
    Kind,
    currency,
    decimal,
    dimensions,
    flag,
    nested,
    one_of,
    pattern,
    percentage,
    plan_keys,
    static,
    text,
    up_to,
    values,
    whole,
)
from tollkeeper.core.metering import MAX_VALUE, Aggregation
from tollkeeper.core.plans import DEFAULT_GRACE_DAYS, DEFAULT_WEIGHT

REQUIRED: Final = object()
DEPENDS: Final = object()  # the default depends on other keys; `meaning` says how

MAX_PRODUCTS: Final = 50
MAX_FILTERS: Final = 10
MAX_FILTER_VALUES: Final = 50
MAX_METERS: Final = 100
MAX_FEATURES: Final = 200
MAX_PLANS: Final = 100
MAX_LIMITS: Final = 20
MAX_QUOTAS: Final = 100
MAX_PRICES: Final = 50
MAX_TIERS: Final = 100
MAX_DISCOUNTS: Final = 10
MAX_WINDOW_SECONDS: Final = 31_536_000
MAX_LIMIT: Final = 1_000_000_000

KEY_EXPECTED: Final = "a key of a-z, 0-9 and _ that begins with a letter, of at most 63 characters"
KEY_PATTERN: Final = "[a-z][a-z0-9_]{0,62}"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` is what the reader fills in; REQUIRED has none."""

    name: str
    kind: Kind
    default: Any
    meaning: str


TABLE: Final = nested()
FLAG: Final = flag()
STATIC: Final = static()
SHADOW: Final = plan_keys()
AMOUNT: Final = decimal("an amount of money", 12)
QUANTITY: Final = decimal("a quantity", 9)
_POSITIVE: Final = decimal("a quantity", 9, least="0.000000001")
_PERCENT: Final = percentage()
_REFERENCE: Final = pattern(KEY_EXPECTED, KEY_PATTERN)
_CURRENCY: Final = currency()
_PROPERTY: Final = pattern(
    "a property name of letters, digits, _ and -, at most 63 characters", r"[A-Za-z_][A-Za-z0-9_-]{0,62}"
)
_VALUE: Final = text(MAX_VALUE)
_EVENT_TYPE: Final = pattern(
    'an event type such as "api.call": letters, digits and . _ : / -, at most 128 characters',
    r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}",
)

SECTIONS: Final[Mapping[str, tuple[Key, ...]]] = {
    "": (
        Key("name", text(200), "API", "What is sold, as people read it."),
        Key(
            "currency", _CURRENCY, REQUIRED, "Currency of every price that names no other. Cannot change once applied."
        ),
        Key(
            "shadow",
            SHADOW,
            (),
            'Plans whose limits and quotas refuse nothing, and are reported; `["*"]`: nobody is refused anything.',
        ),
        Key(
            "fallback",
            _REFERENCE,
            None,
            "The plan a customer is on once what was bought has ended. Without it, calls are then refused (PAYMENT_REQUIRED).",
        ),
        Key(
            "write_off",
            AMOUNT,
            None,
            "Usage that comes after its invoice is written off when it is worth less than this amount of `currency`, all that was written "
            "off of its period included. Without it, all of it is billed. What is owed to a customer always goes back.",
        ),
        Key("automatic_tax", FLAG, False, "Checkout: the provider works out the tax of each invoice."),
        Key("tax_ids", FLAG, False, "Checkout: businesses can give their tax id."),
        Key("promotion_codes", FLAG, False, "Checkout: there is a field for promotion codes."),
        Key(
            "products",
            TABLE,
            {},
            f"Products by key; at most {MAX_PRODUCTS}. Without it there is one, named after the catalog.",
        ),
        Key("meters", TABLE, {}, f"Meters by key; at most {MAX_METERS}."),
        Key("features", TABLE, {}, f"Features by key; at most {MAX_FEATURES}."),
        Key("plans", TABLE, {}, f"Plans by key; at most {MAX_PLANS}."),
    ),
    "products.KEY": (
        Key("name", text(200), REQUIRED, "As it stands on an invoice."),
        Key("description", text(500, 0), "", "One line for the pricing page."),
    ),
    "meters.KEY": (
        Key("event_type", _EVENT_TYPE, REQUIRED, "Events of this `type` are counted. Cannot change once applied."),
        Key(
            "aggregation",
            one_of(*get_args(Aggregation)),
            REQUIRED,
            "How the events of a window become a number; latest is the value of the latest event, unique how many different "
            "values there were. Cannot change once applied.",
        ),
        Key(
            "value_property",
            _PROPERTY,
            None,
            'The property of `data` that is summed, averaged and so on; required unless the aggregation is "count", which takes '
            "none. Cannot change once applied.",
        ),
        Key(
            "group_by", dimensions(), (), "Properties of `data` that usage is also kept by. Cannot change once applied."
        ),
        Key(
            "filters",
            TABLE,
            (),
            f"Filters, an array of tables; at most {MAX_FILTERS}. Only events that pass all of them are counted. "
            "Cannot change once applied.",
        ),
        Key("count_on", one_of("attempt", "success"), "success", "Whether a call that failed is counted too."),
        Key("unit", text(32, 0), "", "What one of it is called, such as call or token."),
    ),
    "meters.KEY.filters": (
        Key("property", _PROPERTY, REQUIRED, "The property of `data` that is looked at."),
        Key("equals", _VALUE, None, "Passes when the property has this value."),
        Key("one_of", values(MAX_FILTER_VALUES, _VALUE), None, "Passes when it has one of these."),
        Key(
            "not_equals",
            _VALUE,
            None,
            "Passes when it has another value or is missing. Each filter has one of the three.",
        ),
    ),
    "features.KEY": (
        Key(
            "kind",
            one_of("boolean", "static", "metered"),
            REQUIRED,
            "boolean: a plan has it or not; static: a plan gives it a value; metered: a plan's quota of its meter. "
            "Cannot change once applied.",
        ),
        Key("meter", _REFERENCE, None, "The meter of a metered feature; required for it, and only for it."),
        Key("description", text(500, 0), "", "One line for the pricing page."),
    ),
    "plans.KEY": (
        Key("product", _REFERENCE, DEPENDS, "What the plan sells. Required when there are several products."),
        Key("name", text(200), DEPENDS, "As people read it. Without it, the plan's key."),
        Key(
            "weight",
            whole("a whole number", 1, 100),
            DEFAULT_WEIGHT,
            "When the upstream of `tollkeeper proxy --adaptive` is overloaded, callers of light plans are shed first.",
        ),
        Key(
            "trial_days",
            whole("a whole number of days", 0, 730),
            0,
            "Days that cost nothing when the plan is bought for the first time by a customer who bought nothing before.",
        ),
        Key(
            "grace_days",
            whole("a whole number of days", 0, 365),
            DEFAULT_GRACE_DAYS,
            "How long a customer whose payment failed may go on, from the day the invoice was due.",
        ),
        Key("limits", TABLE, (), f"Rate limits, an array of tables; at most {MAX_LIMITS}. All of them hold."),
        Key("quotas", TABLE, (), f"Quotas, an array of tables; at most {MAX_QUOTAS}, one a meter."),
        Key(
            "prices",
            TABLE,
            (),
            f"Prices, an array of tables; at most {MAX_PRICES}. All that are in the customer's currency are charged.",
        ),
        Key("features", TABLE, {}, "Values of boolean and static features, by key."),
    ),
    "plans.KEY.limits": (
        Key("name", _REFERENCE, REQUIRED, "Names the policy in `RateLimit` headers; once in a plan."),
        Key(
            "limit",
            whole("a whole number of requests", 1, MAX_LIMIT),
            REQUIRED,
            "Requests in a window, at most 1000000 a second. As many may come at once.",
        ),
        Key("window_seconds", whole("a whole number of seconds", 1, MAX_WINDOW_SECONDS), REQUIRED, "The window."),
        Key(
            "meter",
            _REFERENCE,
            None,
            "Judges only checks of this meter, and counts their cost, rounded up. Without it every check counts 1.",
        ),
        Key(
            "per",
            one_of("key", "customer"),
            "customer",
            "Whether each key has the limit, or all keys of a customer share it.",
        ),
    ),
    "plans.KEY.quotas": (
        Key("meter", _REFERENCE, REQUIRED, "The meter it allows; once in a plan."),
        Key("limit", QUANTITY, REQUIRED, "The allowance of each period: a month from the instant of purchase."),
        Key(
            "kind",
            one_of("hard", "soft"),
            REQUIRED,
            "hard: refused beyond the limit; soft: goes on, and the overage is billed.",
        ),
    ),
    "plans.KEY.prices": (
        Key("key", _REFERENCE, REQUIRED, "Names the price; once in a plan."),
        Key(
            "model",
            one_of("flat", "per_unit", "graduated", "volume", "package"),
            REQUIRED,
            "How a quantity becomes an amount.",
        ),
        Key("currency", _CURRENCY, DEPENDS, "Without it, the catalog's."),
        Key("meter", _REFERENCE, None, "The usage that is billed. Every model needs it but flat, which takes none."),
        Key("interval", one_of("month", "year", "once"), "month", "How often it is charged; once is for flat alone."),
        Key("unit_amount", AMOUNT, None, "per_unit: the amount of one unit."),
        Key("flat_amount", AMOUNT, None, "flat: the amount of an interval."),
        Key(
            "tiers",
            TABLE,
            (),
            f'graduated, volume: an array of tables, ascending, the last up to "inf" (or see past_last_tier); at most {MAX_TIERS}.',
        ),
        Key("package_size", _POSITIVE, None, "package: units in a package."),
        Key("package_amount", AMOUNT, None, "package: the amount of one package."),
        Key("package_round", one_of("up", "down"), "up", "package: whether a package that is begun is charged."),
        Key(
            "included",
            QUANTITY,
            Decimal(0),
            "Units of an interval that cost nothing; taken off before the model. Not for flat.",
        ),
        Key("minimum", AMOUNT, None, "The least amount of an interval. Not for flat."),
        Key("maximum", AMOUNT, None, "The most an interval can cost. Not for flat."),
        Key(
            "zero_usage_flat_fee",
            FLAG,
            True,
            "graduated, volume: whether the first tier's flat amount is charged without usage.",
        ),
        Key(
            "negative", one_of("clamp", "allow"), "clamp", "Whether usage below 0 bills 0 or is credited. Not for flat."
        ),
        Key(
            "past_last_tier",
            one_of("refuse", "last", "free"),
            "refuse",
            'graduated, volume: what units past a last tier that is not "inf" cost: no such tier is taken, the price of the last '
            "tier, or nothing.",
        ),
        Key(
            "quantity_round",
            one_of("exact", "up", "down"),
            "exact",
            "What becomes of a fraction of a unit before anything else. Not for flat.",
        ),
        Key("discounts", TABLE, (), f"Discounts, an array of tables, taken in this order; at most {MAX_DISCOUNTS}."),
        Key(
            "discount_order",
            one_of("last", "first"),
            "last",
            "Whether discounts are taken off after minimum and maximum, or before. Not for flat.",
        ),
    ),
    "plans.KEY.prices.tiers": (
        Key("up_to", up_to(), REQUIRED, "Last unit of the tier; 100.5 of a tier up to 100 belongs to the next."),
        Key("unit_amount", AMOUNT, REQUIRED, "The amount of one unit of this tier."),
        Key("flat_amount", AMOUNT, Decimal(0), "Charged once when the tier is reached."),
    ),
    "plans.KEY.prices.discounts": (
        Key("percent_off", _PERCENT, None, "Percent of what the discounts before it left."),
        Key("amount_off", AMOUNT, None, "An amount, as far as so much is left. Each discount has one of both."),
    ),
}

_METERED: Final = frozenset(
    {"key", "model", "currency", "meter", "interval", "included", "minimum", "maximum", "negative", "quantity_round"}
    | {"discounts", "discount_order"}
)
_TIERED: Final = _METERED | {"tiers", "zero_usage_flat_fee", "past_last_tier"}
# model -> (keys it needs beside key and model, every key it takes)
MODELS: Final[Mapping[str, tuple[tuple[str, ...], frozenset[str]]]] = {
    "flat": (("flat_amount",), frozenset({"key", "model", "currency", "interval", "flat_amount", "discounts"})),
    "per_unit": (("meter", "unit_amount"), _METERED | {"unit_amount"}),
    "graduated": (("meter", "tiers"), _TIERED),
    "volume": (("meter", "tiers"), _TIERED),
    "package": (
        ("meter", "package_size", "package_amount"),
        _METERED | {"package_size", "package_amount", "package_round"},
    ),
}
