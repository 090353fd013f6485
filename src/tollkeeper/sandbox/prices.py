"""Prices (https://docs.stripe.com/api/prices): what they cost never changes once they are made."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tollkeeper.sandbox.errors import invalid, missing_parameter
from tollkeeper.sandbox.lists import page
from tollkeeper.sandbox.metadata import merged
from tollkeeper.sandbox.operations import Call, operation
from tollkeeper.sandbox.render import hide
from tollkeeper.sandbox.store import Object
from tollkeeper.sandbox.support import chargeable

KIND = "price"
hide(KIND, "tiers", "currency_options")
_MOST_DIGITS = 12
_CURRENCIES = frozenset(
    """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf chf clp cny cop crc cve
    czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf
    krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk
    php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu
    uzs vnd vuv wst xaf xcd xof xpf yer zar zmw
    """.split()  # noqa: SIM905 - a list of 140 words is no easier to read
)


def currency_of(text: str, param: str = "currency") -> str:
    """The currency in lower case. Raises ApiError 400 for one that Stripe does not have."""
    if text.lower() not in _CURRENCIES:
        raise invalid(
            f"Invalid currency: {text}. Stripe currently supports these currencies: {', '.join(sorted(_CURRENCIES))}",
            param,
        )
    return text.lower()


def amounts(given: dict[str, Any], name: str, path: str) -> tuple[int | None, str | None]:
    """`unit_amount` and `unit_amount_decimal` (or those of `name`) from whichever was given; both None without any.

    Stripe shows the integer only where the decimal is one. Raises ApiError 400 for both, negative amounts, or more than 12 decimal places.
    """
    whole, decimal = given.get(name), given.get(f"{name}_decimal")
    if whole is not None and decimal is not None:
        raise invalid(
            f"You may only specify one of these parameters: {path}{name}, {path}{name}_decimal.",
            f"{path}{name}",
            "parameters_exclusive",
        )
    if whole is None and decimal is None:
        return None, None
    value = Decimal(whole if whole is not None else str(decimal))
    exponent = value.normalize().as_tuple().exponent
    if value < 0:
        raise invalid("This value must be greater than or equal to 0.", f"{path}{name}", "parameter_invalid_integer")
    if isinstance(exponent, int) and -exponent > _MOST_DIGITS:
        raise invalid(f"Invalid decimal: at most {_MOST_DIGITS} decimal places.", f"{path}{name}_decimal")
    text = format(value.normalize() if value else Decimal(0), "f")
    return (int(value) if value == value.to_integral_value() else None), text


def _tiers(given: list[dict[str, Any]], path: str = "") -> list[Object]:
    tiers: list[Object] = []
    before = 0
    for number, tier in enumerate(given):
        here = f"{path}tiers[{number}]"
        last = number == len(given) - 1
        if (tier["up_to"] == "inf") != last:
            raise invalid("The last tier, and only the last, must have up_to set to inf.", f"{here}[up_to]")
        if not last and tier["up_to"] <= before:
            raise invalid("Each tier's up_to must be above the one before.", f"{here}[up_to]")
        before = 0 if last else tier["up_to"]
        unit, unit_decimal = amounts(tier, "unit_amount", here)
        flat, flat_decimal = amounts(tier, "flat_amount", here)
        if unit_decimal is None and flat_decimal is None:
            raise invalid(
                "A tier needs one of unit_amount, unit_amount_decimal, flat_amount or flat_amount_decimal.", here
            )
        tiers.append(
            {
                "flat_amount": flat,
                "flat_amount_decimal": flat_decimal,
                "unit_amount": unit,
                "unit_amount_decimal": unit_decimal,
                "up_to": None if last else tier["up_to"],
            }
        )
    return tiers


def _recurring(call: Call, given: dict[str, Any] | None, path: str) -> Object | None:
    if given is None:
        return None
    usage = given.get("usage_type", "licensed")
    count = given.get("interval_count", 1)
    most = {"day": 1_095, "week": 156, "month": 36, "year": 3}[given["interval"]]
    if not 1 <= count <= most:
        raise invalid(
            f"Invalid interval_count: must be between 1 and {most} for the interval {given['interval']}.",
            f"{path}recurring[interval_count]",
        )
    meter = given.get("meter")
    if usage == "metered" and meter is None:
        raise invalid(
            "You must provide a meter for metered prices: recurring[meter] is required when recurring[usage_type] is metered.",
            f"{path}recurring[meter]",
            "parameter_missing",
        )
    if meter is not None:
        if usage != "metered":
            raise invalid(
                "recurring[meter] can only be set when recurring[usage_type] is metered.", f"{path}recurring[meter]"
            )
        if call.world.require("billing.meter", meter, f"{path}recurring[meter]")["status"] != "active":
            raise invalid("The meter is inactive.", f"{path}recurring[meter]", "archived_meter")
    return {
        "interval": given["interval"],
        "interval_count": count,
        "meter": meter,
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": usage,
    }


@operation("POST", "/v1/prices")
def create(call: Call) -> Object:
    return make(call, call.params)


def make(call: Call, params: dict[str, Any], param: str = "") -> Object:
    """A new price from the parameters of POST /v1/prices, `price_data` or `default_price_data`.

    Args:
        param: the parameter that `params` is the value of, for messages; "" for the call's own.
    """
    world = call.world

    def at(name: str) -> str:
        return f"{param}[{name}]" if param else name

    currency = currency_of(params["currency"], at("currency"))
    if ("product" in params) == ("product_data" in params):
        if "product" in params:
            raise invalid(
                "You may only specify one of these parameters: product, product_data.",
                at("product"),
                "parameters_exclusive",
            )
        raise missing_parameter(at("product"))
    if "product" in params:
        world.require("product", params["product"], at("product"))
    scheme = params.get("billing_scheme", "per_unit")
    recurring = _recurring(call, params.get("recurring"), f"{param}." if param else "")
    unit, unit_decimal = amounts(params, "unit_amount", "")
    _check_scheme(params, scheme, recurring, unit_decimal, at)
    if unit_decimal is not None and (recurring or {}).get("usage_type") != "metered":
        chargeable(Decimal(unit_decimal), currency, at("unit_amount"))
    tiers = _tiers(params["tiers"]) if scheme == "tiered" else None
    lookup = params.get("lookup_key")
    product = params.get("product") or _product(call, params["product_data"])
    if lookup is not None:
        _take_lookup_key(call, lookup, params.get("transfer_lookup_key", False))
    price: Object = {
        "id": world.ids.new("price_1", 23),
        "object": KIND,
        "active": params.get("active", True),
        "billing_scheme": scheme,
        "created": world.now(),
        "currency": currency,
        "currency_options": _currency_options(params, currency, unit, unit_decimal, tiers),
        "custom_unit_amount": _custom(params.get("custom_unit_amount")),
        "livemode": False,
        "lookup_key": lookup,
        "metadata": merged(params.get("metadata")),
        "nickname": params.get("nickname"),
        "product": product,
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers": tiers,
        "tiers_mode": params.get("tiers_mode"),
        "transform_quantity": params.get("transform_quantity"),
        "type": "recurring" if recurring else "one_time",
        "unit_amount": unit,
        "unit_amount_decimal": unit_decimal,
    }
    world.store.save(price)
    world.emit("price.created", price)
    return price


def _check_scheme(
    params: dict[str, Any], scheme: str, recurring: Object | None, unit_decimal: str | None, at: Any
) -> None:
    """Which of amounts, tiers and package go together."""
    custom = params.get("custom_unit_amount", {}).get("enabled")
    if scheme == "tiered":
        for name in ("tiers", "tiers_mode"):
            if name not in params:
                raise invalid(f"billing_scheme=tiered requires {name}.", at(name), "parameter_missing")
        if unit_decimal is not None:
            raise invalid("unit_amount can only be set with billing_scheme=per_unit.", at("unit_amount"))
        if "transform_quantity" in params:
            raise invalid("transform_quantity cannot be combined with tiers.", at("transform_quantity"))
        if recurring is None:
            raise invalid("Tiered prices must be recurring.", at("recurring"))
        return
    for name in ("tiers", "tiers_mode"):
        if name in params:
            raise invalid(f"{name} can only be set with billing_scheme=tiered.", at(name))
    if unit_decimal is None and not custom:
        raise missing_parameter(at("unit_amount"))
    if unit_decimal is not None and custom:
        raise invalid("unit_amount cannot be combined with custom_unit_amount.", at("unit_amount"))
    transform = params.get("transform_quantity")
    if transform is not None and transform["divide_by"] < 1:
        raise invalid("This value must be greater than or equal to 1.", at("transform_quantity[divide_by]"))


def _product(call: Call, given: dict[str, Any]) -> str:
    from tollkeeper.sandbox.products import make as make_product

    return str(make_product(call, given)["id"])


def _custom(given: dict[str, Any] | None) -> Object | None:
    if not given or not given["enabled"]:
        return None
    return {name: given.get(name) for name in ("maximum", "minimum", "preset")}


def _currency_options(
    params: dict[str, Any], currency: str, unit: int | None, unit_decimal: str | None, tiers: list[Object] | None
) -> Object:
    def option(given: dict[str, Any], unit: int | None, decimal: str | None, tiers: list[Object] | None) -> Object:
        return {
            "custom_unit_amount": _custom(given.get("custom_unit_amount")),
            "tax_behavior": given.get("tax_behavior", "unspecified"),
            **({"tiers": tiers} if tiers is not None else {}),
            "unit_amount": unit,
            "unit_amount_decimal": decimal,
        }

    options = {currency: option(params, unit, unit_decimal, tiers)}
    for name, given in params.get("currency_options", {}).items():
        path = f"currency_options[{name}]"
        inner = _tiers(given["tiers"], path) if "tiers" in given else None
        options[currency_of(name, path)] = option(given, *amounts(given, "unit_amount", path), inner)
    return options


def _take_lookup_key(call: Call, lookup: str, transfer: bool) -> None:
    """A lookup key names one price: `transfer_lookup_key` takes it from the price that has it."""
    for other in call.world.store.table(KIND):
        if other["lookup_key"] == lookup:
            if not transfer:
                raise invalid(
                    f"A price (`{other['id']}`) already uses that lookup key. Use transfer_lookup_key=true to move it.",
                    "lookup_key",
                    "resource_already_exists",
                )
            call.world.update(other, {"lookup_key": None}, "price.updated")


@operation("GET", "/v1/prices/{price}")
def retrieve(call: Call, id: str) -> Object:
    return call.world.require(KIND, id)


@operation("POST", "/v1/prices/{price}")
def update(call: Call, id: str) -> Object:
    world, params = call.world, call.params
    price = world.require(KIND, id)
    changes: dict[str, Any] = {}
    if "active" in params:
        product = world.store.get("product", price["product"])
        if not params["active"] and product is not None and product["default_price"] == id:
            raise invalid("This price cannot be archived because it is the default price of its product.", "active")
        changes["active"] = params["active"]
    if "nickname" in params:
        changes["nickname"] = params["nickname"] or None
    if "tax_behavior" in params and params["tax_behavior"] != price["tax_behavior"]:
        if price["tax_behavior"] != "unspecified":
            raise invalid("tax_behavior cannot be changed once it is set to inclusive or exclusive.", "tax_behavior")
        changes["tax_behavior"] = params["tax_behavior"]
    if "metadata" in params:
        changes["metadata"] = merged(params["metadata"], price["metadata"])
    if "lookup_key" in params and (params["lookup_key"] or None) != price["lookup_key"]:
        if params["lookup_key"]:
            _take_lookup_key(call, params["lookup_key"], params.get("transfer_lookup_key", False))
        changes["lookup_key"] = params["lookup_key"] or None
    if "currency_options" in params:
        changes["currency_options"] = _more_currencies(price, params["currency_options"])
    world.update(price, changes, "price.updated")
    return price


def _more_currencies(price: Object, given: Any) -> Object:
    """Options for other currencies may be added, changed and, with "", removed; the price's own stays."""
    kept = dict(price["currency_options"])
    if given == "":
        return {price["currency"]: kept[price["currency"]]}
    if price["currency"] in given:
        raise invalid("The price's own currency cannot be changed.", f"currency_options[{price['currency']}]")
    made = _currency_options({"currency_options": given}, price["currency"], None, None, None)
    del made[price["currency"]]
    return {**kept, **made}


@operation("GET", "/v1/prices")
def list_prices(call: Call) -> Object:
    lookups, recurring = call.params.get("lookup_keys"), call.params.get("recurring", {})

    def fits(price: Object) -> bool:
        if lookups is not None and price["lookup_key"] not in lookups:
            return False
        held = price["recurring"] or {}
        return all(held.get(name) == value for name, value in recurring.items())

    return page(call, KIND, equal=("active", "currency", "product", "type"), where=fits)
