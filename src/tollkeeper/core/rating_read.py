"""A question of rating as it is sent: a price in the shape of `POST /v1/rate`, and a quantity. The catalog's own table of keys judges it.

A stored price, as `GET /v1/catalog` shows it, is taken as it is: what is null, and what the model does not take and stands at its
default, counts as left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from tollkeeper.core import catalog_keys as keys
from tollkeeper.core.catalog import build_price
from tollkeeper.core.catalog_faults import Float
from tollkeeper.core.catalog_form import to_plain
from tollkeeper.core.catalog_read import Reader
from tollkeeper.core.catalog_rules import check_price
from tollkeeper.core.catalog_source import Source
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.metering import QuantityInvalid
from tollkeeper.core.plans import Price
from tollkeeper.core.rating import QUANTITY, read_quantity

PLACE: Final = "price"
_SECTION: Final = "plans.KEY.prices"
_UNNAMED: Final = {"key": "price", "meter": "usage"}


def read_question(price: Mapping[str, Any], quantity: Any) -> tuple[Price, Decimal]:
    """The price and the quantity: a decimal string, a whole number, or None, which only the model flat takes.

    Raises InvalidRequest with every fault by field (`extra["errors"]`), QuantityInvalid when the quantity alone is at fault.
    """
    found, errors = _read(price)
    if quantity is None:
        if found is None or found.model != "flat":
            errors.append({"field": "quantity", "message": f"expected {QUANTITY}, found nothing"})
        used = Decimal(0)
    else:
        try:
            used = read_quantity(quantity if type(quantity) in (str, int) else None)
        except QuantityInvalid as fault:
            if not errors:
                raise
            errors.append({"field": "quantity", "message": fault.detail.removeprefix("quantity: ").rstrip(".")})
    if found is None or errors:
        raise InvalidRequest("\n".join(f"{one['field']}: {one['message']}" for one in errors), errors=errors)
    return found, used


def read_price(price: Mapping[str, Any]) -> Price:
    """The price alone. Raises InvalidRequest with every fault by field."""
    return read_question(price, "0")[0]


def _read(sent: Mapping[str, Any]) -> tuple[Price | None, list[dict[str, str]]]:
    given = _given(sent)
    reader = Reader(Source(PLACE))
    needed = keys.MODELS[given["model"]][0] if _model(given) else ()
    unnamed = {"key": _UNNAMED["key"]} | ({"meter": _UNNAMED["meter"]} if "meter" in needed else {})
    values = reader.section({**unnamed, **given}, (PLACE,), _SECTION)
    reader.price(values, (PLACE,))
    check_price(reader, values, (PLACE,), {})
    if "currency" not in given:
        expected = next(key.kind.expected for key in keys.SECTIONS[_SECTION] if key.name == "currency")
        reader.fault((PLACE, "currency"), expected, "nothing")
    if reader.faults:
        return None, [{"field": fault.key_path, "message": fault.told()} for fault in reader.faults]
    price = build_price(values)
    return (price if "meter" in given else replace(price, meter=None)), []


def _given(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What counts as given, with numbers that are no integers as the reader knows them."""
    given = {name: _plain(value) for name, value in sent.items() if value is not None}
    if not _model(given):
        return given
    taken = keys.MODELS[given["model"]][1]
    defaults = {key.name: to_plain(key.default) for key in keys.SECTIONS[_SECTION] if key.name not in taken}
    return {
        name: value
        for name, value in given.items()
        if name not in defaults or type(value) is not type(defaults[name]) or value != defaults[name]
    }


def _model(given: Mapping[str, Any]) -> bool:
    model = given.get("model")
    return isinstance(model, str) and model in keys.MODELS


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal | float):
        return Float(str(value))
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items() if item is not None}
    return value
