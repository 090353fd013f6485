"""Prices and quantities for the tests of rating, and its oracle: the same words once more, in fractions and without a loop over tiers."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from tollkeeper.core.plans import Price, Tier

from .catalogs import plain, prices

any_price = prices("k", ["m"])
quantities = (
    st.integers(-(10**6), 10**6).map(Decimal)
    | st.integers(-(10**9), 10**9).map(lambda n: plain(Decimal(f"{n}e-3")))
    | st.integers(-(10**33) + 1, 10**33 - 1).map(lambda n: plain(Decimal(f"{n}e-9")))
)
used = quantities.map(Decimal.copy_abs)
small_amounts = st.integers(0, 10**6).map(lambda n: plain(Decimal(f"{n}e-4")))
cents = st.integers(0, 10**5).map(lambda n: plain(Decimal(f"{n}e-2")))


@st.composite
def tiered(draw: st.DrawFn, model: Any = None, **fields: Any) -> Price:
    """A price with small tiers, so that quantities fall into each of them."""
    ends = sorted(draw(st.sets(st.integers(1, 400).map(lambda n: Decimal(n) / 4), max_size=4)))
    tiers = tuple(Tier(end, draw(small_amounts), draw(cents)) for end in [*ends, None])
    return Price("k", model or draw(st.sampled_from(["graduated", "volume"])), "usd", tiers=tiers, **fields)


near = st.integers(0, 600).map(lambda n: Decimal(n) / 4)


def unit_price(price: Price, at: Fraction) -> Fraction:
    """What the unit at this place costs: that of the first tier which does not end before it."""
    return next(Fraction(t.unit_amount) for t in price.tiers if t.up_to is None or at <= Fraction(t.up_to))


def integral(price: Price, size: Fraction) -> Fraction:
    """The unit price integrated from 0 to `size`, by the places where it may change."""
    places = sorted(
        {Fraction(0), size} | {Fraction(t.up_to) for t in price.tiers if t.up_to and Fraction(t.up_to) < size}
    )
    return sum(((end - start) * unit_price(price, end) for start, end in pairwise(places)), Fraction(0))
