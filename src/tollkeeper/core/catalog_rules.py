"""What holds between places of a catalog: references, names once, ascending tiers; and what is valid but probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from tollkeeper.core import catalog_keys as keys
from tollkeeper.core.catalog_faults import CatalogWarning, Path, found_text, path_text
from tollkeeper.core.catalog_kinds import did_you_mean
from tollkeeper.core.catalog_read import Reader, Values
from tollkeeper.core.catalog_source import Source
from tollkeeper.core.limits import MAX_LIMIT_PER_SECOND
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.money import EXPONENTS
from tollkeeper.core.plans import Catalog, Plan, Price, Quota
from tollkeeper.core.shadow import ALL

_OPERATORS: Final = ("equals", "one_of", "not_equals")


def check_rules(reader: Reader, top: Values) -> None:
    """Add the faults between places. Fills in each plan's product and each price's currency."""
    for key, meter in top["meters"].items():
        _meter(reader, meter, ("meters", key))
    declared = top["written"].get("meters", {})
    for key, feature in top["features"].items():
        _feature(reader, feature, ("features", key), declared)
        _checked(reader, feature, ("features", key), top)
    _shadow(reader, top)
    _fallback(reader, top)
    _products(reader, top)
    for key, plan in top["plans"].items():
        _plan(reader, plan, ("plans", key), top, declared)


def _meter(reader: Reader, meter: Values, path: Path) -> None:
    _filters(reader, meter, path)
    aggregation = meter.get("aggregation")
    if aggregation is None:
        return
    at = (*path, "value_property")
    written = meter["written"].get("value_property")
    if aggregation == "count" and written is not None:
        reader.fault(at, "no value_property with the aggregation count", found_text(written))
    if aggregation != "count" and written is None:
        reader.fault(at, f"the property of data whose {aggregation} is taken", "nothing")


def _filters(reader: Reader, meter: Values, path: Path) -> None:
    for i, one in meter["filters"]:
        given = [name for name in _OPERATORS if name in one["written"]]
        if len(given) != 1:
            reader.fault(
                (*path, "filters", i), f"one of {', '.join(_OPERATORS)}", " and ".join(given) or "none of them"
            )


def _checked(reader: Reader, item: Values, path: Path, top: Values) -> None:
    """A limit, a quota or a feature that is one is judged when a check comes, and a check brings a quantity and no other data."""
    meter = top["meters"].get(item.get("meter", ""))
    if meter is None:
        return
    what = f"its aggregation is {meter.get('aggregation')}"
    if meter.get("aggregation", "count") in ("count", "sum"):
        if not meter["filters"]:
            return
        what = "it has filters"
    hint = f"{what}, and a check brings nothing but a quantity; price it, or watch it with /v1/usage"
    reader.fault((*path, "meter"), "a meter that counts or sums, without filters", found_text(item["meter"]), hint)


def _feature(reader: Reader, feature: Values, path: Path, meters: Any) -> None:
    kind, written = feature.get("kind"), feature["written"].get("meter")
    if kind == "metered" and written is None:
        reader.fault((*path, "meter"), "the key of the meter", "nothing", "the kind metered needs it")
    if kind in ("boolean", "static") and written is not None:
        reader.fault((*path, "meter"), f"no meter with the kind {kind}", found_text(written))
    _reference(reader, feature, "meter", path, meters)


def _shadow(reader: Reader, top: Values) -> None:
    for i, plan in enumerate(top.get("shadow", ())):
        if plan not in top["plans"] and plan != ALL:
            reader.fault(("shadow", i), 'the key of a plan, or "*"', found_text(plan), did_you_mean(plan, top["plans"]))


def _fallback(reader: Reader, top: Values) -> None:
    plan = top.get("fallback")
    declared = top["written"].get("plans")
    if plan is not None and isinstance(declared, dict) and plan not in declared:
        near = did_you_mean(plan, declared)
        reader.fault(("fallback",), "the key of a plan of the catalog", found_text(plan), near)


def _products(reader: Reader, top: Values) -> None:
    """Without `[products]` there is one product: the one the plans name, or `default`."""
    products, plans = top["products"], top["plans"]
    declared = top["written"].get("products")
    if not declared:
        named = [plan["product"] for plan in plans.values() if "product" in plan]
        only = named[0] if named else "default"
        if name := top.get("name"):
            products[only] = {"name": name, "description": ""}
    else:
        only = next(iter(declared)) if isinstance(declared, dict) and len(declared) == 1 else None
    for key, plan in plans.items():
        path = ("plans", key, "product")
        if "product" not in plan["written"]:
            if only is not None:
                plan["product"] = only
            elif isinstance(declared, dict):
                reader.fault(path, "the key of one of the products", "nothing", "there are several")
        elif not declared and plan.get("product", only) != only:
            reader.fault(path, f'"{only}"', found_text(plan["product"]), "declare several products as [products.KEY]")
        elif declared:
            _reference(reader, plan, "product", path[:-1], declared)


def _plan(reader: Reader, plan: Values, path: Path, top: Values, meters: Any) -> None:
    for name, once in (("limits", "name"), ("quotas", "meter"), ("prices", "key")):
        seen: dict[str, int] = {}
        for i, item in plan[name]:
            at = (*path, name, i)
            _reference(reader, item, "meter", at, meters)
            if name != "prices":
                _checked(reader, item, at, top)
            if once in item and item[once] in seen:
                expected = f"each {once} once among the {name} of a plan"
                reader.fault((*at, once), expected, found_text(item[once]), f"{name}[{seen[item[once]]}] has it")
            elif once in item:
                seen[item[once]] = i
    for i, limit in plan["limits"]:
        if "limit" in limit and limit["limit"] > limit.get("window_seconds", keys.MAX_LIMIT) * MAX_LIMIT_PER_SECOND:
            most = limit["window_seconds"] * MAX_LIMIT_PER_SECOND
            reader.fault((*path, "limits", i, "limit"), f"at most {most} in this window", str(limit["limit"]))
    for i, price in plan["prices"]:
        check_price(reader, price, (*path, "prices", i), top)
    _granted(reader, plan, (*path, "features"), top)


def check_price(reader: Reader, price: Values, path: Path, top: Values) -> None:
    """The rules within one price."""
    if "currency" not in price and "currency" in top and "currency" not in price["written"]:
        price["currency"] = top["currency"]
    places = EXPONENTS.get(price.get("currency", ""))
    for name in ("flat_amount", "minimum", "maximum"):
        _smallest_unit(reader, price, name, path, places)
    if price.get("interval") == "once" and price.get("model", "flat") != "flat":
        reader.fault((*path, "interval"), '"month" or "year" with a meter', '"once"')
    least, most = price.get("minimum"), price.get("maximum")
    if least is not None and most is not None and least > most:
        at_least = f"at least the minimum, {format_quantity(least)}"
        reader.fault((*path, "maximum"), at_least, found_text(format_quantity(most)))
    _discounts(reader, price, path, places)
    tiers = price["tiers"]
    if price["written"].get("tiers") == []:
        reader.fault((*path, "tiers"), "at least one tier", "none")
    below = Decimal(0)
    for at, (i, tier) in enumerate(tiers):
        where = (*path, "tiers", i)
        _smallest_unit(reader, tier, "flat_amount", where, places)
        if "up_to" not in tier:
            continue
        up_to, last = tier["up_to"], at == len(tiers) - 1
        if last and up_to is not None and price.get("past_last_tier") == "refuse":
            hint = 'usage beyond the last tier would have no price; past_last_tier "last" or "free" gives it one'
            reader.fault((*where, "up_to"), '"inf" in the last tier', found_text(format_quantity(up_to)), hint)
        elif not last and up_to is None:
            reader.fault((*where, "up_to"), "a quantity in every tier but the last", '"inf"')
        elif up_to is not None:
            if up_to <= below:
                above = f"more than the tier before, {format_quantity(below)}"
                reader.fault((*where, "up_to"), above, found_text(format_quantity(up_to)))
            below = max(below, up_to)


def _discounts(reader: Reader, price: Values, path: Path, places: int | None) -> None:
    for i, discount in price["discounts"]:
        where = (*path, "discounts", i)
        _smallest_unit(reader, discount, "amount_off", where, places)
        if len(discount["written"].keys() & {"percent_off", "amount_off"}) != 1:
            found = "both" if "percent_off" in discount["written"] else "neither"
            reader.fault(where, "one of percent_off and amount_off", found)


def _smallest_unit(reader: Reader, item: Values, name: str, path: Path, places: int | None) -> None:
    amount: Decimal | None = item.get(name)
    if amount is None or places is None:
        return
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > places:
        what = (
            f"at most {places} digits after the point, as the currency has"
            if places
            else "a whole amount, as the currency has"
        )
        reader.fault((*path, name), what, found_text(format_quantity(amount)))


def _granted(reader: Reader, plan: Values, path: Path, top: Values) -> None:
    features = top["features"]
    declared = top["written"].get("features")
    for key, value in list(plan["features"].items()):
        at = (*path, key)
        if key not in features:
            if not isinstance(declared, dict) or key not in declared:
                hint = did_you_mean(key, features) or "declare it as [features.KEY]"
                reader.fault(at, "the key of a feature", "one that is not declared", hint)
            continue
        kind = features[key].get("kind")
        if kind == "metered":
            meter = features[key].get("meter") or "its meter"
            reader.fault(at, "no value for a metered feature", found_text(value), f"give the plan a quota of {meter}")
        elif kind is not None:
            reader.value(value, at, keys.FLAG if kind == "boolean" else keys.STATIC, plan["features"])


def _reference(reader: Reader, item: Values, name: str, path: Path, known: Any) -> None:
    """A name that is declared, though with faults of its own, is no fault here."""
    key = item.get(name)
    if key is not None and isinstance(known, dict) and key not in known:
        near = did_you_mean(key, known) or ("" if known else f"no {name} is declared")
        reader.fault((*path, name), f"the key of a {name} of the catalog", found_text(key), near)


def find_warnings(catalog: Catalog, source: Source) -> Iterator[CatalogWarning]:
    """Of a catalog without faults."""

    def warn(path: Path, message: str) -> CatalogWarning:
        return CatalogWarning(source.file, source.line(path), path_text(path), message)

    if not catalog.plans:
        yield warn(("plans",), "there is no plan, so no customer can be given anything")
    used = {meter for plan in catalog.plans.values() for meter in plan.meters}
    for key in catalog.meters:
        if catalog.plans and key not in used:
            yield warn(("meters", key), "no plan limits, allows or bills this meter")
    for plan in catalog.plans.values():
        for path, message in _plan_warnings(plan):
            yield warn(("plans", plan.key, *path), message)


def _plan_warnings(plan: Plan) -> Iterator[tuple[Path, str]]:
    first: dict[tuple[str, str], str] = {}
    for i, price in enumerate(plan.prices):
        if price.meter is None:
            continue
        other = first.setdefault((price.meter, price.currency), price.key)
        if other != price.key:
            yield ("prices", i), f"{other} bills {price.meter} too: each unit is charged by both"
        quota = plan.quota(price.meter)
        if quota is not None and quota.kind == "hard" and (reach := _unreached(price, quota)):
            yield ("prices", i), reach
    for i, quota in enumerate(plan.quotas):
        if quota.kind == "soft" and not any(price.meter == quota.meter for price in plan.prices):
            yield ("quotas", i), f"no price bills {quota.meter}: usage beyond the limit is neither refused nor charged"


def _unreached(price: Price, quota: Quota) -> str:
    """What of a price a hard quota keeps from ever being charged; "" when nothing."""
    limit = quota.limit
    stops = f"the hard quota of {price.meter} stops at {format_quantity(limit)}"
    if limit <= price.included and limit > 0:
        return f"{stops}, within what is included: nothing is ever charged"
    below = Decimal(0)
    for i, tier in enumerate(price.tiers):
        if i and below + price.included >= limit:
            return f"{stops}: tiers[{i}] is never reached"
        below = tier.up_to if tier.up_to is not None else below
    return ""
