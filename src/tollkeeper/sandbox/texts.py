"""What people read on lines and pages: amounts, quantities, dates."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from tollkeeper.sandbox.arithmetic import Piece
from tollkeeper.sandbox.store import Object

if TYPE_CHECKING:
    from tollkeeper.sandbox.world import World

_SIGNS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "aud": "A$", "cad": "CA$", "nzd": "NZ$"}
_ZERO = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
_THREE = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])


def digits(currency: str) -> int:
    """Digits after the point as Stripe writes them: https://docs.stripe.com/currencies#zero-decimal and, of isk and ugx, #special-cases."""
    return 0 if currency in _ZERO else 3 if currency in _THREE else 2


def exact(number: Decimal) -> str:
    """A decimal without exponent and without zeros at its end."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_text(number: str) -> str:
    """A decimal as text, with commas between thousands."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}"


def money(amount: int | Decimal, currency: str) -> str:
    """An amount of the smallest unit as people write it: 1234567 usd is $12,345.67; fractions of a cent are kept."""
    places = digits(currency)
    major = Decimal(amount).scaleb(-places)
    sign = "-" if major < 0 else ""
    major = abs(major)
    shown = max(places, -int(major.normalize().as_tuple().exponent)) if major else places
    text = f"{major:,.{shown}f}"
    mark = _SIGNS.get(currency)
    return f"{sign}{mark}{text}" if mark else f"{sign}{currency.upper()} {text}"


def every(price: Object) -> str:
    """ "month", "3 months", or nothing for a price paid once."""
    recurring = price.get("recurring")
    if not recurring:
        return ""
    count = recurring["interval_count"]
    return str(recurring["interval"]) if count == 1 else f"{count} {recurring['interval']}s"


def product_name(world: World, price: Object) -> str:
    product = world.store.get("product", price["product"])
    return str(product["name"]) if product else str(price["id"])


def piece_text(world: World, price: Object, piece: Piece, *, trial: bool = False) -> str:
    """The description of a line, in Stripe's words."""
    name = product_name(world, price)
    if trial:
        return f"Trial period for {name}"
    amount = (
        f"at {money(piece.unit_amount, price['currency'])} / {every(price)}"
        if every(price)
        else f"at {money(piece.unit_amount, price['currency'])}"
    )
    if piece.flat:
        return f"{name} (Tier {(piece.tier or 0) + 1} {amount})"
    quantity = exact(piece.quantity)
    if piece.tier is not None:
        return f"{quantity} × {name} (Tier {piece.tier + 1} {amount})"
    packs = price.get("transform_quantity")
    unit = f" per {packs['divide_by']}" if packs else ""
    return f"{quantity} × {name} ({amount.replace(' /', unit + ' /', 1) if every(price) else amount + unit})"


def _tiers_text(price: Object) -> str:
    """ "1,000 free, then from $0.002 per unit", by the first tier that costs something."""
    tiers, currency = price["tiers"], price["currency"]
    below = 0
    for tier in tiers:
        unit = Decimal(str(tier["unit_amount_decimal"] or 0))
        if unit or tier["flat_amount_decimal"]:
            flat = Decimal(str(tier["flat_amount_decimal"] or 0))
            words = f"{money(unit, currency)} per unit" + (f" + {money(flat, currency)}" if flat else "")
            last = tier is tiers[-1]
            return (f"{below:,} free, then " if below else "") + ("" if last else "from ") + words
        below = tier["up_to"] or below
    return "free"


def price_text(price: Object) -> str:
    """A price in one short phrase: "$20.00 / month"."""
    per = f" / {every(price)}" if every(price) else ""
    if price["billing_scheme"] == "tiered":
        return _tiers_text(price) + per
    amount = Decimal(str(price.get("unit_amount_decimal") or price.get("unit_amount") or 0))
    metered = (price.get("recurring") or {}).get("usage_type") == "metered"
    packs = price.get("transform_quantity")
    unit = f" per {packs['divide_by']:,}" if packs else " per unit" if metered else ""
    return f"{money(amount, price['currency'])}{unit}{per}"


def day(instant: int) -> str:
    """1 Jan 2027."""
    return datetime.fromtimestamp(instant, UTC).strftime("%-d %b %Y")


def moment(instant: int) -> str:
    """1 Jan 2027, 15:37:12 UTC."""
    return datetime.fromtimestamp(instant, UTC).strftime("%-d %b %Y, %H:%M:%S UTC")
