"""Money: `Decimal` in major units, a currency's exponent, and one rounding rule. Never a float, never a sum across currencies.

Exponents: ISO 4217, list one (https://www.six-group.com/en/products-services/financial-information/data-standards.html). Codes are
lower case, as Stripe writes them. Funds, metals, accounting units and test codes are left out: nobody is billed in them.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from tollkeeper.core.errors import InvalidRequest

_TWO: Final = (
    "aed afn all amd aoa ars aud awg azn bam bbd bdt bmd bnd bob brl bsd btn bwp byn bzd cad cdf chf cny cop crc cup cve czk dkk"
    " dop dzd egp ern etb eur fjd fkp gbp gel ghs gip gmd gtq gyd hkd hnl htg huf idr ils inr irr jmd kes kgs khr kpw kyd kzt lak"
    " lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mru mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar"
    " ron rsd rub sar sbd scr sdg sek sgd shp sle sos srd ssp stn svc syp szl thb tjs tmt top try ttd twd tzs uah usd uyu uzs ved"
    " ves wst xcd xcg yer zar zmw zwg"
)
_ZERO: Final = "bif clp djf gnf isk jpy kmf krw pyg rwf ugx vnd vuv xaf xof xpf"
_THREE: Final = "bhd iqd jod kwd lyd omr tnd"

EXPONENTS: Final[dict[str, int]] = {
    code: exponent for exponent, codes in ((0, _ZERO), (2, _TWO), (3, _THREE)) for code in codes.split()
}
_WIDE: Final = Context(prec=60, rounding=ROUND_HALF_UP)


class CurrencyInvalid(InvalidRequest):
    """A currency is a lower-case ISO 4217 code such as usd, eur or jpy."""

    code = "currency_invalid"


def exponent_of(currency: str) -> int:
    """Digits after the point of the smallest unit: 2 for usd, 0 for jpy, 3 for kwd. Raises CurrencyInvalid."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise CurrencyInvalid from None


def round_money(amount: Decimal, currency: str) -> Decimal:
    """`amount` in the currency's smallest unit, half away from zero: 0.125 usd is 0.13. The decimal context does not matter."""
    return _WIDE.plus(amount.quantize(Decimal(1).scaleb(-exponent_of(currency)), context=_WIDE))  # plus: no -0.00
