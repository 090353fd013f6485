"""Tails of contracts and the gaps between them; when a report is dated before a cut; what an invoice has."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.billed import billed_by
from tollkeeper.core.billing import MINUTE_US, SECOND_US, BillingPeriod, cut_time
from tollkeeper.core.ends import gap_after, last_usage, with_tails
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.plans import Price

START = 1_790_000_000 * SECOND_US
INSTANTS = st.integers(START, START + 100 * SECOND_US)
SECONDS = st.integers(0, 100).map(lambda second: START + second * SECOND_US)


@given(SECONDS, SECONDS, st.none() | INSTANTS, st.none() | SECONDS)
def test_a_contract_has_its_own_seconds_and_those_in_which_the_gate_went_by_it_and_none_of_the_next(
    one: int, two: int, held: int | None, following: int | None
) -> None:
    start, end = sorted((one, two))
    if following is not None:
        following = max(following, end)
    until = last_usage(start, end, held, following)
    assert until >= end
    assert until % SECOND_US == 0
    if following is not None:
        assert until <= following
    elif held is not None and held >= end:
        assert held < until <= max(held, end) + SECOND_US
    elif held is None:
        assert until == (end if start < end else end + SECOND_US)


@given(st.lists(st.tuples(SECONDS, st.integers(0, 20), st.none() | st.integers(0, 30_000_000)), min_size=1, max_size=6))
def test_periods_and_the_gaps_between_them_hold_each_instant_once(lengths: list[tuple[int, int, int | None]]) -> None:
    ordered: list[BillingPeriod] = []
    ends, held = {}, {}
    for number, (start, seconds, learned) in enumerate(sorted(lengths, key=lambda one: one[0])):
        if ordered and start <= ordered[-1].start:
            continue
        if ordered:
            ordered[-1] = replace(ordered[-1], end=min(ordered[-1].end, start))
            ends[ordered[-1].subscription] = ordered[-1].end
        name = f"sub_{number}"
        end = start + seconds * SECOND_US
        ordered.append(BillingPeriod("live", "acme", start, end, "stripe", name, "pro", 1))
        ends[name] = end
        if learned is not None:
            held[name] = end + learned
    periods = with_tails(ordered, ends, held)
    edges = []
    for period in periods:
        edges.append((period.start, period.until))
        if (gap := gap_after(period, periods)) is not None:
            edges.append((gap.start, gap.end if gap.end is not None else gap.start + 1))
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    assert all(start < end for start, end in edges)


@given(SECONDS, st.integers(0, 40 * 86_400), INSTANTS)
def test_usage_told_before_a_cut_is_dated_in_the_period_and_before_the_second_of_the_cut(
    start: int, seconds: int, now: int
) -> None:
    at = cut_time(start, start + seconds * SECOND_US, now)
    if at is None:
        assert now - now % SECOND_US <= start
    else:
        assert start <= at <= now - now % SECOND_US - SECOND_US
        assert at % SECOND_US == 0


PRICE = Price("calls", model="per_unit", currency="usd", meter="api_calls", unit_amount=Decimal("0.5"))


def invoice(quantity: int, amount: str) -> Invoice:
    line = {
        "plan": "pro",
        "version": 1,
        "key": "calls",
        "quantity": str(quantity),
        "amount": amount,
        "period_start": START,
        "period_end": START + 60 * MINUTE_US,
    }
    total = Decimal(amount)
    return Invoice(
        "live",
        "in_1",
        "stripe",
        "acme",
        "sub_1",
        None,
        "paid",
        "usd",
        total,
        total,
        None,
        None,
        START,
        document={"lines": [line]},
    )


@given(st.lists(st.tuples(st.integers(-90 * SECOND_US, 90 * SECOND_US), st.integers(1, 9)), max_size=6), st.data())
def test_what_an_invoice_has_is_what_it_says_whatever_the_clocks(
    reports: list[tuple[int, int]], data: st.DataObject
) -> None:
    finalised = START + 60 * MINUTE_US
    delivered = [(finalised + at, Decimal(quantity)) for at, quantity in sorted(reports)]
    period = BillingPeriod(
        "live", "acme", START, finalised, "stripe", "sub_1", "pro", 1, "invoiced", "in_1", finalized_at=finalised
    )
    early = [quantity for at, quantity in delivered if at < finalised - MINUTE_US]
    near = [quantity for at, quantity in delivered if abs(at - finalised) <= MINUTE_US]
    has = sum(early) + sum(near[: data.draw(st.integers(0, len(near)))])
    told = invoice(int(has), str(has * Decimal("0.5")))
    assert billed_by(period, delivered, told, [PRICE]) == has
    by_the_clock = sum(quantity for at, quantity in delivered if at < finalised + SECOND_US)
    assert billed_by(period, delivered, None, [PRICE]) == by_the_clock
