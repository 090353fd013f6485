"""The lines of what something costs, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tollkeeper.cli import terminal
from tollkeeper.cli.values import grouped

if TYPE_CHECKING:
    from rich.table import Table


def lines_table(*before: str) -> Table:
    """An empty table for lines; `before`: headings of columns in front."""
    right = ("QUANTITY", "UNIT AMOUNT", "AMOUNT")
    return terminal.table(*before, "LINE", *right, right=right)


def add_lines(to: Table, price: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], *before: str) -> None:
    """`price` and `lines` in the shapes of `POST /v1/rate`; `before` stands on the first line alone."""
    for line in lines:
        cells = [grouped(line["quantity"]), grouped(line["unit_amount"]), grouped(line["amount"])]
        if line["kind"] in ("minimum", "maximum", "discount"):
            cells[:2] = ["", ""]
        terminal.add_row(to, *before, label(price, line), *cells)
        before = ("",) * len(before)


def label(price: Mapping[str, Any], line: Mapping[str, Any]) -> str:
    """What a line is of, in words."""
    match line["kind"], line["tier"]:
        case "tier", None:
            return "past the last tier"
        case "tier", index:
            return span(price, index)
        case "flat", None:
            return "flat amount"
        case "flat", index:
            return f"flat amount, {span(price, index)}"
        case "package", _:
            return f"packages of {grouped(price['package_size'])}"
    return str(line["kind"])


def span(price: Mapping[str, Any], index: int) -> str:
    """Where a tier begins and ends: `up to 1,000`, `above 1,000 up to 5,000`, `above 5,000`."""
    ends = [tier["up_to"] for tier in price["tiers"]]
    if len(ends) < 2:
        return "units"
    last = index == len(ends) - 1
    open_end = ends[index] == "inf" or (last and price["past_last_tier"] == "last")
    begins = [f"above {grouped(ends[index - 1])}"] if index else []
    return " ".join(begins + ([] if open_end else [f"up to {grouped(ends[index])}"]))


def shown_amount(rated: Mapping[str, Any]) -> str:
    """`22.69 usd`, and what it is before rounding where that differs."""
    from decimal import Decimal

    differs = Decimal(rated["amount"]) != Decimal(rated["exact_amount"])
    exact = f" ({grouped(rated['exact_amount'])} before rounding)" if differs else ""
    return f"{grouped(rated['amount'])} {rated['currency']}{exact}"
