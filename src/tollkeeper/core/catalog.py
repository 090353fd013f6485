"""`tollkeeper.toml`: products, meters, features, plans, prices, limits and quotas as data. Every key stands in docs/catalog.md.

The way in: `catalog_source` (TOML and its lines) → `catalog_read` (each value by itself, by the table in `catalog_keys`) →
`catalog_rules` (what holds between places) → a Catalog. Beside it: `catalog_form` (as stored), `catalog_diff`, `catalog_examples`.
"""

from __future__ import annotations

from typing import Any

from tollkeeper.core.catalog_diff import CatalogDiff, Change, diff_catalogs
from tollkeeper.core.catalog_examples import example_catalog
from tollkeeper.core.catalog_faults import CatalogWarning, Fault
from tollkeeper.core.catalog_form import catalog_from_dict, catalog_to_dict, fingerprint, plan_from_dict, plan_to_dict
from tollkeeper.core.catalog_read import MAX_FAULTS, Reader, Values
from tollkeeper.core.catalog_rules import check_rules, find_warnings
from tollkeeper.core.catalog_source import read_toml
from tollkeeper.core.errors import CatalogInvalid
from tollkeeper.core.metering import Filter, Meter
from tollkeeper.core.plans import (
    DEFAULT_GRACE_DAYS,
    DEFAULT_WEIGHT,
    Catalog,
    Discount,
    Feature,
    Plan,
    Price,
    Product,
    Quota,
    RateLimit,
    Tier,
)

__all__ = [
    "CatalogDiff",
    "CatalogWarning",
    "Change",
    "Fault",
    "catalog_from_dict",
    "catalog_to_dict",
    "check_catalog",
    "diff_catalogs",
    "example_catalog",
    "fingerprint",
    "parse_catalog",
    "plan_from_dict",
    "plan_to_dict",
]

FILE = "tollkeeper.toml"


def parse_catalog(text: str | bytes, *, file: str = FILE) -> Catalog:
    """The catalog, every plan at version 0. Raises CatalogInvalid with all faults. `file` is how faults name it."""
    catalog, faults, _ = check_catalog(text, file=file)
    if catalog is None:
        raise CatalogInvalid(faults=faults)
    return catalog


def check_catalog(
    text: str | bytes, *, file: str = FILE
) -> tuple[Catalog | None, tuple[Fault, ...], tuple[CatalogWarning, ...]]:
    """(catalog, faults, warnings), faults in the order of the file. The catalog is None when there are faults; warnings need it."""
    try:
        data, source = read_toml(text, file)
    except CatalogInvalid as broken:
        return None, broken.faults, ()
    reader = Reader(source)
    top = reader.catalog(data)
    check_rules(reader, top)
    if reader.faults:
        faults = sorted(reader.faults, key=lambda fault: fault.line or 0)
        if reader.left_out:
            faults.append(Fault(file, None, "", f"at most {MAX_FAULTS} faults", f"{reader.left_out} more"))
        return None, tuple(faults), ()
    catalog = _build(top)
    return catalog, (), tuple(find_warnings(catalog, source))


def _build(top: Values) -> Catalog:
    return Catalog(
        currency=top["currency"],
        products={key: Product(key, item["name"], item["description"]) for key, item in top["products"].items()},
        meters={key: _build_meter(key, item) for key, item in top["meters"].items()},
        features={key: Feature(key, **_fields(item)) for key, item in top["features"].items()},
        plans={key: _build_plan(key, item) for key, item in top["plans"].items()},
        name=top["name"],
        shadow=top["shadow"],
        **{name: top[name] for name in ("fallback", "write_off", "automatic_tax", "tax_ids", "promotion_codes")},
    )


def _build_meter(key: str, meter: Values) -> Meter:
    return Meter(key, **{**_fields(meter), "filters": tuple(_build_filter(item) for _, item in meter["filters"])})


def _build_filter(item: Values) -> Filter:
    if (values := item["one_of"]) is not None:
        return Filter(item["property"], values)
    if (value := item["equals"]) is not None:
        return Filter(item["property"], (value,))
    return Filter(item["property"], (item["not_equals"],), negated=True)


def _build_plan(key: str, plan: Values) -> Plan:
    return Plan(
        key=key,
        product=plan["product"],
        name=plan.get("name", key),
        limits=tuple(RateLimit(**_fields(item)) for _, item in plan["limits"]),
        quotas=tuple(Quota(**_fields(item)) for _, item in plan["quotas"]),
        prices=tuple(build_price(item) for _, item in plan["prices"]),
        features=plan["features"],
        weight=plan.get("weight", DEFAULT_WEIGHT),
        trial_days=plan.get("trial_days", 0),
        grace_days=plan.get("grace_days", DEFAULT_GRACE_DAYS),
    )


def build_price(price: Values) -> Price:
    """Of the values of one table without faults."""
    parts = {
        "tiers": tuple(Tier(**_fields(item)) for _, item in price["tiers"]),
        "discounts": tuple(Discount(**_fields(item)) for _, item in price["discounts"]),
    }
    return Price(**{**_fields(price), **parts})


def _fields(item: Values) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name != "written"}
