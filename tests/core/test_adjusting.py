"""Whatever happens to the usage and the invoices of a period: nothing is lost, billed twice, or given back that was not charged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from core.ratings import tiered
from tollkeeper.core.adjusting import Account, Change, account_of, change, credited, together, writes_off
from tollkeeper.core.billing import Adjustment, AdjustmentState
from tollkeeper.core.plans import Price, Tier
from tollkeeper.core.rating import rate

ZERO = Decimal(0)
FREE_THEN_HALF = Price(
    "p", "graduated", "usd", meter="m", tiers=(Tier(Decimal(3), ZERO), Tier(None, Decimal("0.5"), Decimal(1)))
)


@dataclass
class Period:
    """A period whose invoice has `provided` units, None where the price is rated here. The steps are those of services/adjustments."""

    price: Price
    provided: Decimal | None
    least: Decimal | None
    total: Decimal = ZERO
    void: bool = False
    rows: list[Adjustment] = field(default_factory=list)

    def account(self) -> Account:
        return account_of(self.price, self.provided, self.rows, void=self.void)

    def add(self, quantity: Decimal, amount: Decimal, state: AdjustmentState, invoice: str | None = None) -> None:
        made = Adjustment(
            "live", str(len(self.rows)), "c", amount, "usd", "", 0, state, "m", 0, self.price.key, quantity
        )
        self.rows.append(replace(made, invoice=invoice))

    def come_to(self, total: Decimal) -> Decimal:
        """The amount that is charged for it."""
        self.total = total
        return self.write(change(self.account(), total), self.least)

    def write(self, made: Change, least: Decimal | None) -> Decimal:
        for state, more in made.given.items():
            self.add(more.units, more.amount, state)
        if not made.quantity and not made.amount:
            return ZERO
        if writes_off(least, made.amount, self.rows):
            self.add(made.quantity, made.amount, "written_off")
            return ZERO
        self.add(made.quantity, made.amount, "sent", f"in_{len(self.rows)}")
        return made.amount

    def void_invoice(self) -> None:
        if self.provided and not self.void:
            self.add(self.provided, rate(self.price, self.provided).amount, "voided", "in")
            self.provided = ZERO
        self.void = True
        self.write(credited(self.account()), None)

    def void_line(self, number: int) -> None:
        sent = [n for n, one in enumerate(self.rows) if one.state == "sent" and one.amount > 0]
        if sent:
            at = sent[number % len(sent)]
            self.rows[at] = replace(self.rows[at], state="voided")
            self.write(credited(self.account()), None)

    def bill(self) -> None:
        picked = [one for one in self.rows if one.state == "voided"]
        self.rows = [replace(one, state="carried_forward") if one.state == "voided" else one for one in self.rows]
        if picked:
            self.add(together(picked).units, together(picked).amount, "sent", "in_again")

    def written_off(self) -> Decimal:
        return sum((one.quantity or ZERO for one in self.rows if one.state == "written_off"), ZERO)


units = st.integers(0, 40).map(lambda n: Decimal(n) / 4)
some = st.integers(1, 40).map(lambda n: Decimal(n) / 4)
least = st.none() | st.integers(0, 500).map(lambda n: Decimal(n) / 100)
totals = st.tuples(st.just("total"), units)
bills = st.tuples(st.just("bill"), st.just(ZERO))
voids = st.tuples(st.just("invoice"), st.just(ZERO))
lines = st.tuples(st.just("line"), units)


def take(period: Period, step: tuple[str, Decimal]) -> Decimal:
    """The amount that is charged by itself, without anybody's asking."""
    what, value = step
    if what == "total":
        return period.come_to(value)
    if what == "bill":
        period.bill()
    elif what == "invoice":
        period.void_invoice()
    else:
        period.void_line(int(value))
    return ZERO


def start(price: Price, provided: Decimal, limit: Decimal | None, own: bool) -> Period:
    period = Period(price, provided if own else None, limit, provided if own else ZERO)
    period.come_to(provided)
    return period


def holds(period: Period) -> None:
    """Every unit is billed or given away, and so is all that they cost."""
    account = period.account()
    assert account.total == period.total
    assert account.worth == account.cost(period.total)


@given(tiered(), some, least, st.booleans(), st.lists(totals | voids | bills, max_size=12))
@example(FREE_THEN_HALF, Decimal(5), None, True, [("invoice", ZERO), ("total", Decimal(2)), ("total", Decimal(6))])
def test_every_unit_is_billed_or_stands_as_voided_or_written_off_and_so_does_what_it_costs(
    price: Price, provided: Decimal, limit: Decimal | None, own: bool, steps: list[tuple[str, Decimal]]
) -> None:
    period = start(price, provided, limit, own)
    for step in steps:
        before = period.account().charged
        charged = take(period, step)
        holds(period)
        assert charged >= -before  # nothing is given back that was not charged
        assert period.account().charged >= 0
        gone = {state: one.amount for state, one in period.account().given.items()}
        assert all(amount >= 0 for amount in gone.values())
        assert not gone.get("written_off") or (limit is not None and gone["written_off"] < limit)
    off = period.account().given.get("written_off")
    period.bill()
    account = period.account()
    assert account.billed == period.total - (off.units if off else 0)
    assert account.charged == account.cost(period.total) - (off.amount if off else 0)


@given(tiered(), some, st.booleans(), st.lists(totals | voids | bills | lines, max_size=12))
def test_with_lines_voided_one_by_one_too_billing_what_is_voided_leaves_exactly_what_the_total_costs(
    price: Price, provided: Decimal, own: bool, steps: list[tuple[str, Decimal]]
) -> None:
    period = start(price, provided, None, own)
    for step in steps:
        take(period, step)
        holds(period)
        assert period.account().charged >= 0
    period.bill()
    assert (period.account().billed, period.account().charged) == (period.total, period.account().worth)


@given(tiered(), units, st.lists(units, min_size=1, max_size=8))
def test_without_a_void_what_is_charged_is_what_the_total_costs(
    price: Price, provided: Decimal, later: list[Decimal]
) -> None:
    period = start(price, provided, None, True)
    for total in later:
        period.come_to(total)
    assert period.account().charged == rate(price, later[-1]).amount


def test_usage_that_comes_after_a_void_costs_what_it_adds_to_the_total() -> None:
    period = start(FREE_THEN_HALF, Decimal(5), None, True)
    period.void_invoice()
    assert period.come_to(Decimal(6)) == Decimal("0.50")
    assert period.come_to(Decimal(3)) == Decimal("-0.50")  # 3 are free
    period.bill()
    assert period.account().charged == 0


def test_a_minimum_that_was_voided_is_not_asked_for_again_and_can_be_billed() -> None:
    price = replace(FREE_THEN_HALF, minimum=Decimal(4))
    period = Period(price, None, None)
    assert period.come_to(ZERO) == 4
    period.void_line(0)
    assert period.come_to(ZERO) == 0
    period.bill()
    assert period.account().charged == 4


def test_a_flat_amount_without_usage_that_was_voided_is_owed_with_the_first_usage() -> None:
    price = Price("p", "graduated", "usd", meter="m", tiers=(Tier(None, Decimal(1), Decimal(2)),))
    period = start(price, ZERO, None, True)
    period.void_invoice()
    assert period.come_to(ZERO) == 0
    assert period.come_to(Decimal(1)) == 3


def test_nothing_is_asked_for_by_itself_where_the_invoice_is_void_and_nothing_was_used() -> None:
    period = Period(replace(FREE_THEN_HALF, minimum=Decimal(4)), None, None, void=True)
    assert period.come_to(ZERO) == 0
    assert period.come_to(Decimal(1)) == 4
