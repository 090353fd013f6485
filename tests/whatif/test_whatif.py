"""What plans would have earned and refused: by hand on small logs, and as `core.rating` says on any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.core.catalog import example_catalog, parse_catalog
from tollkeeper.core.plans import Catalog
from tollkeeper.core.rating import rate
from tollkeeper.services.whatif import Question, WhatIf
from tollkeeper.services.whatif_report import PlanTotal, Report, report

from .logs import caddy, combined, parse, when

LATEST = 1_900_000_000_000_000
START = when("2026-11-05T00:00:00")
METER = '[meters.calls]\nevent_type = "api.call"\naggregation = "count"\n'


def catalog(plans: str, more: str = "") -> Catalog:
    return parse_catalog(f'currency = "usd"\n{METER}{more}{plans}')


def read(offers: Catalog, lines: Iterable[str], *, meter: str = "calls", **asked: Any) -> WhatIf:
    asked = {"zone": "UTC", "by": "user", **asked}
    found = WhatIf(
        Question(tuple(offers.plans.values()), offers.meters[meter], latest_us=LATEST, salt=b"s", **asked), parse()
    )
    found.feed("access.log", 1, list(lines))
    found.finish()
    return found


def told(offers: Catalog, lines: Iterable[str], **asked: Any) -> Report:
    return report(read(offers, lines, **asked), offers.currency, 0)


def only(offers: Catalog, lines: Iterable[str], **asked: Any) -> PlanTotal:
    [plan] = told(offers, lines, **asked).plans
    return plan


def ann(*seconds: float, status: int = 200, user: str = "ann") -> list[str]:
    return [combined(START + timedelta(seconds=s), user=user, status=status) for s in seconds]


def test_free_calls_and_a_price_earn_what_they_do_by_hand() -> None:
    """Two free calls, then 0.10: Ann makes 5 in November and 3 in December, Bob 2, and Cy only mistakes."""
    offers = parse_catalog(example_catalog(free="2", price="0.10"))
    lines = ann(1, 100, 200, 300, 400) + ann(5, 6, user="bob") + ann(1, 2, 3, status=404, user="cy")
    lines += [combined(START + timedelta(days=30, minutes=m), user="ann") for m in range(3)]
    found = told(offers, lines, meter="api_calls")
    free, pro = found.plans
    assert (free.earned, free.payers, free.used, free.by_quota, free.hit_quota) == (Decimal("0.00"), 0, 6, 4, 1)
    assert (pro.earned, pro.payers, pro.used, pro.by_quota) == (Decimal("0.40"), 1, 10, 0)
    assert pro.months == {"2026-11": Decimal("0.30"), "2026-12": Decimal("0.10")}
    assert (found.callers, found.billed, found.best, free.picked, pro.picked) == (3, 2, Decimal("0.40"), 1, 1)
    assert [one.label for one in found.top] == ["ann", "bob", "cy"]
    assert [(one.label, one.plans[0].by_quota) for one in found.refused] == [("ann", 4)]


MODELS = """
[plans.all]
prices = [
  {key = "fee", model = "flat", flat_amount = "9"},
  {key = "each", model = "per_unit", meter = "calls", unit_amount = "0.0005", minimum = "0.01", included = "1"},
  {key = "steps", model = "graduated", meter = "calls", tiers = [
    {up_to = "3", unit_amount = "0.3", flat_amount = "1"}, {up_to = "inf", unit_amount = "0.1"}]},
  {key = "bulk", model = "volume", meter = "calls", tiers = [{up_to = "4", unit_amount = "0.2"}, {up_to = "inf", unit_amount = "0.004"}]},
  {key = "packs", model = "package", meter = "calls", package_size = "2", package_amount = "0.77", discounts = [{percent_off = "12.5"}]},
]
"""


calls = st.tuples(
    st.sampled_from(["ann", "bob", "cy"]), st.integers(0, 100 * 86_400), st.sampled_from([200, 204, 299, 300, 404, 500])
)


@given(st.lists(calls, max_size=40), st.sampled_from(["success", "attempt"]), st.randoms())
def test_the_amounts_are_those_of_rating_whatever_the_order(
    made: list[tuple[str, int, int]], count_on: str, chance: Any
) -> None:
    offers = catalog(MODELS)
    lines = [combined(START + timedelta(seconds=at), user=user, status=status) for user, at, status in made]
    chance.shuffle(lines)
    used: Counter[tuple[str, str]] = Counter()
    for user, at, status in made:
        if count_on == "attempt" or status // 100 == 2:
            used[user, f"{START + timedelta(seconds=at):%Y-%m}"] += 1
    prices = offers.plans["all"].prices
    owed = {who: sum(rate(price, quantity).amount for price in prices) for who, quantity in used.items()}
    plan = only(offers, lines, count_on=count_on)
    assert plan.earned == sum(owed.values())
    assert plan.months == {
        month: sum(amount for (_, at), amount in owed.items() if at == month) for month in {at for _, at in owed}
    }
    assert plan.amounts == sorted(plan.amounts, reverse=True)
    assert (sum(plan.amounts), len(plan.amounts)) == (plan.earned, plan.payers)


def test_limits_are_gcra_at_the_times_of_the_log() -> None:
    """2 in 10 s: one each 5 s, two at once. At 2 s the third comes too early, at 5 s there is room, at 6 s there is none."""
    offers = catalog('[plans.p]\nlimits = [{name = "slow", limit = 2, window_seconds = 10}]\n')
    plan = only(offers, ann(0, 1, 2, 5, 6) + ann(2, user="bob"))
    assert (plan.used, plan.by_limit, plan.hit_limit) == (4, 2, 1)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=40).map(
        lambda made: sorted(made, key=lambda one: one[1])
    ),
    st.sampled_from([1, 2, 4, 5]),
    st.integers(0, 6),
)
def test_limit_and_quota_judge_each_caller_apart(made: list[tuple[str, int]], limit: int, quota: int) -> None:
    """The same by a bucket that leaks: `limit` calls fit, and one leaks out each 10 / `limit` seconds."""
    offers = catalog(
        f'[plans.p]\nlimits = [{{name = "l", limit = {limit}, window_seconds = 10}}]\n'
        f'quotas = [{{meter = "calls", limit = "{quota}", kind = "hard"}}]\n'
    )
    used, by_limit, by_quota = 0, 0, 0
    for user in "ab":
        level, before, taken = Fraction(0), 0, 0
        for at in (at for who, at in made if who == user):
            level, before = max(Fraction(0), level - Fraction((at - before) * limit, 10)), at
            if level + 1 > limit:
                by_limit += 1
            elif taken == quota:
                by_quota += 1
            else:
                level, taken = level + 1, taken + 1
        used += taken
    plan = only(offers, [line for user, at in made for line in ann(at, user=user)])
    assert (plan.used, plan.by_limit, plan.by_quota) == (used, by_limit, by_quota)


def test_calls_that_fail_take_from_a_limit_and_not_from_a_quota() -> None:
    limit = '[plans.p]\nlimits = [{name = "slow", limit = 2, window_seconds = 10}]\n'
    assert only(catalog(limit), ann(0, 1, status=500) + ann(2)).by_limit == 1
    quota = '[plans.p]\nquotas = [{meter = "calls", limit = "2", kind = "hard"}]\n'
    plan = only(catalog(quota), ann(0, 1, status=500) + ann(2, 3, 4, 5))
    assert (plan.used, plan.by_quota) == (2, 2)
    assert only(catalog(quota), ann(0, 1, status=500) + ann(2, 3, 4, 5), count_on="attempt").by_quota == 4


def test_a_soft_quota_refuses_nothing_and_tells_who_goes_past_it() -> None:
    quota = '[plans.p]\nquotas = [{meter = "calls", limit = "2", kind = "soft"}]\n'
    found = told(catalog(quota), ann(0, 1, 2) + ann(0, 1, user="bob"))
    [plan] = found.plans
    assert (plan.used, plan.by_quota, plan.over_quota) == (5, 0, 1)
    assert [(one.label, one.plans[0].over) for one in found.refused] == [("ann", 1)]


@pytest.mark.parametrize(
    ("zone", "first_of_november"),
    [
        ("UTC", "2026-11-01T00:00:00"),
        ("Asia/Kathmandu", "2026-10-31T18:15:00"),
        ("America/New_York", "2026-11-01T04:00:00"),
    ],
)
def test_a_quota_begins_anew_with_the_month_of_the_zone(zone: str, first_of_november: str) -> None:
    offers = catalog('[plans.p]\nquotas = [{meter = "calls", limit = "1", kind = "hard"}]\n')
    at = when(first_of_november)
    lines = [combined(at + timedelta(seconds=s), user="ann") for s in (-2, -1, 0, 1)]
    plan = only(offers, lines, zone=zone)
    assert (plan.used, plan.by_quota, sorted(plan.months)) == (2, 2, ["2026-10", "2026-11"])


@pytest.mark.parametrize(
    ("first", "last", "partly"),
    [
        ("2026-10-01T20:00:00", "2026-11-30T05:00:00", [False, False]),
        ("2026-10-02T00:00:01", "2026-11-30T05:00:00", [True, False]),
        ("2026-10-01T20:00:00", "2026-11-29T23:59:59", [False, True]),
    ],
)
def test_a_month_that_the_log_has_in_part_is_told(first: str, last: str, partly: list[bool]) -> None:
    found = told(catalog(MODELS), [combined(when(first), user="ann"), combined(when(last), user="ann")])
    assert [month.partly for month in found.months] == partly


def test_prices_by_the_year_and_once_are_charged_so() -> None:
    offers = catalog(
        '[plans.p]\nprices = [{key = "a", model = "flat", flat_amount = "100", interval = "year"},'
        '{key = "b", model = "flat", flat_amount = "7", interval = "once"},'
        '{key = "c", model = "graduated", meter = "calls", interval = "year", '
        'tiers = [{up_to = "2", unit_amount = "0"}, {up_to = "inf", unit_amount = "1"}]}]'
    )
    days = (0, 20, 40, 60)  # 5 and 25 November, 15 December, 4 January
    plan = only(offers, [combined(START + timedelta(days=d), user="ann") for d in days])
    assert plan.months == {"2026-11": Decimal("108.00"), "2026-12": Decimal("0.00"), "2027-01": Decimal("100.00")}


def test_prices_that_a_log_cannot_tell_are_left_out_and_named() -> None:
    offers = catalog(
        '[plans.p]\nprices = [{key = "t", model = "per_unit", meter = "tokens", unit_amount = "1"},'
        '{key = "e", model = "flat", flat_amount = "5", currency = "eur"}, {key = "f", model = "flat", flat_amount = "3"}]',
        '[meters.tokens]\nevent_type = "llm"\naggregation = "sum"\nvalue_property = "n"\n',
    )
    found = told(offers, ann(1))
    assert (found.best, found.currency) == (Decimal("3.00"), "usd")
    assert found.left_out == ("p.t: it is for the meter tokens", "p.e: it is in eur, the catalog in usd")


def test_small_disorder_is_taken_for_the_same_moment_and_a_jump_back_begins_limits_anew() -> None:
    offers = catalog('[plans.p]\nlimits = [{name = "slow", limit = 1, window_seconds = 100}]\n')
    found = read(offers, ann(1000, 990))
    assert (report(found, "usd", 0).plans[0].by_limit, found.late) == (1, 0)
    assert (found.first, found.last) == (
        round(START.timestamp() + 990) * 1_000_000,
        round(START.timestamp() + 1000) * 1_000_000,
    )
    found = read(offers, ann(1000, 699, 698))
    assert (report(found, "usd", 0).plans[0].by_limit, found.late) == (1, 1)


@given(st.lists(calls, max_size=40), st.integers(1, 6))
def test_beyond_its_memory_it_counts_calls_and_rates_none_of_them(made: list[tuple[str, int, int]], most: int) -> None:
    offers = catalog('[plans.p]\nprices = [{key = "c", model = "per_unit", meter = "calls", unit_amount = "1"}]\n')
    lines = [combined(START + timedelta(seconds=at), user=user, status=status) for user, at, status in made]
    found = read(offers, lines, most_cells=most)
    assert sum(len(caller.cells) for caller in found.callers.values()) == found.cells <= most
    assert report(found, "usd", 0).plans[0].earned + found.others.countable == found.countable
    kept = sum(cell[0] for caller in found.callers.values() for cell in caller.cells.values())
    assert kept + found.others.calls == found.calls == len(made)


def test_lines_that_are_no_calls_are_counted_with_their_places() -> None:
    offers = parse_catalog(example_catalog())
    lines: list[str | None] = [
        "x",
        *ann(1),
        "",
        None,
        "y",
        "z",
        "w",
        combined(when("1994-12-31T23:59:59")),
        combined(when("2099-01-01T00:00:00")),
    ]
    found = WhatIf(Question(tuple(offers.plans.values()), offers.meters["api_calls"], "UTC", LATEST, b"s"), parse())
    found.feed("a.log", 100, lines)
    found.finish()
    assert {reason: (one.count, one.examples) for reason, one in found.skipped.items()} == {
        "no format that is known": (4, [("a.log", 100), ("a.log", 104), ("a.log", 105)]),
        "longer than a line may be": (1, [("a.log", 103)]),
        "a time before 1995, or in the future": (2, [("a.log", 107), ("a.log", 108)]),
    }
    assert (found.lines, found.calls) == (9, 1)


@pytest.mark.parametrize(
    ("lines", "by"),
    [
        ([caddy(START, "Bearer a"), caddy(START)], "key"),
        ([caddy(START, "REDACTED"), caddy(START)], "network"),
        ([combined(START, path="/x?api_key=1"), combined(START, user="ann")], "key"),
        ([combined(START), combined(START, user="ann")], "user"),
        ([combined(START), combined(START), combined(START, user="ann")], "network"),
        ([], "network"),
    ],
)
def test_callers_are_told_apart_by_what_half_of_the_first_calls_carry(lines: list[str], by: str) -> None:
    found = read(parse_catalog(example_catalog()), lines, meter="api_calls", by=None)
    assert (found.by, found.calls) == (by, len(lines))


def test_calls_of_nobody_are_counted_and_in_no_amount() -> None:
    found = read(catalog(MODELS), [caddy(START, "Bearer a"), caddy(START), caddy(START, "REDACTED")], by="key")
    assert (found.calls, found.nobody, found.hidden, len(found.callers)) == (3, 2, 1, 1)
    assert report(found, "usd", 0).plans[0].used == 1


def test_one_key_is_one_caller_wherever_it_stands() -> None:
    lines = [caddy(START, "Bearer abc"), caddy(START, uri="/x?api_key=abc"), combined(START, path="/x?api_key=abc")]
    found = read(catalog(MODELS), lines, by="key")
    assert len(found.callers) == 1
    assert b"abc" not in next(iter(found.callers))  # type: ignore[operator]


def test_paths_choose_the_calls() -> None:
    paths = ["/v1", "/v1/x", "/v1?q", "/v10", "/health", "/v1/health/z", "/"]
    lines = [combined(START, path=path, user="ann") for path in paths]
    found = read(catalog(MODELS), lines, paths=("/v1",), free_paths=("/v1/health",))
    assert (found.calls, found.filtered) == (3, 4)
    assert read(catalog(MODELS), lines, paths=("/",)).calls == 7
