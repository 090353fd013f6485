"""Sums as they stand in a page: `9,000 × 0.002 = 18`, or `2.3455 → 2.35` behind it for what is rounded to cents."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

from tollkeeper.core.money import round_money

NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
SUM = re.compile(r"`([^`\n]*[0-9⌉⌋)]) = ([^`\n→]*[0-9])(?: → ([^`\n]*[0-9]))?`")
_WORDS = {"×": "*", "÷": "/", "−": "-", "⌈": "ceil(", "⌉": ")", "⌊": "floor(", "⌋": ")"}


def value(text: str) -> Fraction:
    """Numbers with × ÷ + −, brackets, ⌈up⌉ and ⌊down⌋."""
    assert re.fullmatch(r"[0-9.,()+×÷−⌈⌉⌊⌋ ]+", text), text
    code = NUMBER.sub(lambda found: f"Fraction('{found[0].replace(',', '')}')", text)
    for sign, word in _WORDS.items():
        code = code.replace(sign, word)
    return Fraction(eval(code, {"Fraction": Fraction, "ceil": math.ceil, "floor": math.floor}))


def holds(left: str, right: str, rounded: str) -> bool:
    exact = value(right)
    if rounded:
        cents = round_money(Decimal(exact.numerator) / Decimal(exact.denominator), "usd")
        if str(cents) != rounded.replace(",", ""):
            return False
    return value(left) == exact
