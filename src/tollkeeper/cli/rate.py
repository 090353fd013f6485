"""`tollkeeper rate`: what a quantity costs. Needs no server."""

from __future__ import annotations

import json as jsons
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from tollkeeper.cli import terminal
from tollkeeper.cli.lines import add_lines, lines_table, shown_amount
from tollkeeper.cli.options import Json, examples
from tollkeeper.cli.server import load_settings
from tollkeeper.cli.values import grouped

EXAMPLES = examples(
    "tollkeeper rate 12345 --plan pro --price calls",
    "tollkeeper rate 12345 --tier 1000:0 --tier inf:0.002",
    "tollkeeper rate 2500 --package 1000:0.5 --included 100 --minimum 5 --discount 10%",
    "tollkeeper rate 12345 --plan pro --price calls --set model=volume  # what if",
    "tollkeeper rate --unit-amount 0.01 --set negative=allow -- -50",
)


def rate(
    quantity: Annotated[
        str | None, typer.Argument(metavar="[QUANTITY]", help="A decimal; a flat price needs none.", show_default=False)
    ] = None,
    plan: Annotated[str | None, typer.Option(metavar="KEY", help="Take a price of this plan of the catalog.")] = None,
    price: Annotated[str | None, typer.Option(metavar="KEY", help="Which; needed when the plan has several.")] = None,
    catalog: Annotated[Path | None, typer.Option(metavar="FILE", help="TOLLKEEPER_CATALOG otherwise.")] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read a price from JSON or TOML; - is stdin.")
    ] = None,
    currency: Annotated[str | None, typer.Option(metavar="CODE", help="Such as eur; usd otherwise.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="flat, per_unit, graduated, volume, package.")
    ] = None,
    unit_amount: Annotated[str | None, typer.Option(metavar="DECIMAL", help="Amount of one unit.")] = None,
    flat_amount: Annotated[str | None, typer.Option(metavar="DECIMAL", help="Amount of a flat price.")] = None,
    tier: Annotated[
        list[str] | None, typer.Option(metavar="UP_TO:UNIT[:FLAT]", help="A tier; several times, the last up to inf.")
    ] = None,
    package: Annotated[
        str | None, typer.Option(metavar="SIZE:AMOUNT", help="Units of a package, and its amount.")
    ] = None,
    included: Annotated[str | None, typer.Option(metavar="DECIMAL", help="Units that cost nothing.")] = None,
    minimum: Annotated[str | None, typer.Option(metavar="DECIMAL", help="The least amount.")] = None,
    maximum: Annotated[str | None, typer.Option(metavar="DECIMAL", help="The most it can cost.")] = None,
    discount: Annotated[
        list[str] | None, typer.Option(metavar="PERCENT%|AMOUNT", help="Such as 10% or 5; several times, in order.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other key of a price; several times.")
    ] = None,
    json: Json = False,
) -> None:
    """Work out what a quantity costs, line by line; no server is needed.

    The price comes from the catalog file, a file of its own, or the options, which also change what was read.
    """
    from tollkeeper.core.catalog_form import price_to_dict
    from tollkeeper.core.rating import rate as rate_quantity
    from tollkeeper.core.rating_read import read_question

    found = _from_catalog(plan, price, catalog) if plan or price or catalog else _from_file(file) if file else {}
    if file and (plan or price or catalog):
        raise typer.BadParameter("a price comes from the catalog or from a file of its own", param_hint="--file")
    named = {"model": model, "currency": currency, "included": included, "minimum": minimum, "maximum": maximum}
    given = _by_hand(unit_amount, flat_amount, tier, package)
    given |= {name: value for name, value in named.items() if value is not None}
    if discount:
        given["discounts"] = [_discount(text) for text in discount]
    for text in set_ or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
        given[name] = {"true": True, "false": False}.get(value, value)
    asked, used = read_question({"currency": "usd"} | _fitting(found, given.get("model")) | given, quantity)
    answer = rate_quantity(asked, used).as_dict()
    if json:
        terminal.show_json(answer)
        return
    made = lines_table()
    add_lines(made, price_to_dict(asked), answer["lines"])
    terminal.show_table(made)
    said = f"{grouped(quantity)} cost" if asked.model != "flat" else "In all"
    terminal.say(f"{said} {shown_amount(answer)}", "bold")


def _from_catalog(plan: str | None, price: str | None, catalog: Path | None) -> dict[str, Any]:
    """A stored price of the catalog file. Raises CatalogInvalid when the file has faults."""
    from tollkeeper.core.catalog import parse_catalog
    from tollkeeper.core.catalog_form import price_to_dict

    path = catalog or load_settings().catalog_path
    plans = parse_catalog(_read(path), file=str(path)).plans
    if plan is None or plan not in plans:
        raise typer.BadParameter(_choose(plan, plans, f"{path} has"), param_hint="--plan")
    prices = {found.key: found for found in plans[plan].prices}
    if price is None and len(prices) == 1:
        (price,) = prices
    if price is None or price not in prices:
        raise typer.BadParameter(_choose(price, prices, f"plan {plan} has"), param_hint="--price")
    return price_to_dict(prices[price])


def _choose(given: str | None, known: Any, whose: str) -> str:
    there = f"{whose} {', '.join(known) or 'none'}"
    return f"name one; {there}" if given is None else f"there is no {given!r}; {there}"


def _from_file(path: Path) -> dict[str, Any]:
    from tollkeeper.core.catalog_faults import Float

    raw = sys.stdin.buffer.read() if str(path) == "-" else _read(path)
    try:
        text = raw.decode()
        is_json = text.lstrip()[:1] == "{"
        found = jsons.loads(text, parse_float=Float) if is_json else tomllib.loads(text, parse_float=Float)
    except (ValueError, RecursionError) as fault:
        raise terminal.Stop(f"{path} is neither JSON nor TOML: {fault}", exit_code=2) from None
    price: dict[str, Any] = found
    return price


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise terminal.Stop(f"{path} cannot be read: {fault.strerror}", exit_code=2) from None


def _by_hand(
    unit_amount: str | None, flat_amount: str | None, tiers: list[str] | None, package: str | None
) -> dict[str, Any]:
    """What the options say of the model; each of them names one."""
    found: dict[str, Any] = {}
    if flat_amount is not None:
        found |= {"model": "flat", "flat_amount": flat_amount}
    if unit_amount is not None:
        found |= {"model": "per_unit", "unit_amount": unit_amount}
    if package is not None:
        size, amount = _split("--package", package, "SIZE:AMOUNT", 2, 2)
        found |= {"model": "package", "package_size": size, "package_amount": amount}
    if tiers:
        names = ("up_to", "unit_amount", "flat_amount")
        parts = [_split("--tier", text, "UP_TO:UNIT[:FLAT]", 2, 3) for text in tiers]
        found |= {"model": "graduated", "tiers": [dict(zip(names, part, strict=False)) for part in parts]}
    return found


def _fitting(price: dict[str, Any], model: Any) -> dict[str, Any]:
    """What was read, without the keys that the model which the options name does not take."""
    from tollkeeper.core.catalog_keys import MODELS

    if model not in MODELS:
        return price
    other = frozenset().union(*(taken for _, taken in MODELS.values())) - MODELS[model][1]
    return {name: value for name, value in price.items() if name not in other}


def _split(option: str, text: str, form: str, least: int, most: int) -> list[str]:
    parts = text.split(":")
    if not least <= len(parts) <= most:
        raise typer.BadParameter(f"{text!r} is not {form}", param_hint=option)
    return parts


def _discount(text: str) -> dict[str, str]:
    return {"percent_off": text[:-1]} if text.endswith("%") else {"amount_off": text}
