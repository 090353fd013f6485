"""Usage to the fraction of a second around the end of a contract: each unit is billed once, by the contract that it belongs to, or told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.conftest import Running
from selling.ends import DAY, HOUR, SECOND, Ends, time_of

AROUND = (-300_000, 0, 300_000, 999_000, 5 * SECOND)
WITHIN = (0, 400_000, 999_999)


@pytest.fixture
def ends(tmp_path: Path, running: Running) -> Iterator[Ends]:
    made = Ends(tmp_path, running)
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()


def second(instant: int) -> int:
    return instant - instant % SECOND


def begun(ends: Ends) -> None:
    """A day on pro with three calls."""
    ends.buy("pro")
    ends.go(ends.instant + DAY)
    ends.use(3)
    ends.settle()


@pytest.mark.parametrize("fraction", WITHIN)
def test_cancelled_now_all_of_the_last_second_is_billed_and_what_comes_later_is_outside(
    ends: Ends, fraction: int
) -> None:
    begun(ends)
    cut = ends.instant + HOUR + fraction
    ends.use_at(cut + AROUND[0])
    ends.go(cut)
    ends.cut("now")
    after = [cut + offset for offset in AROUND[1:]]
    ends.use_at(*after)
    ends.rest()
    late = sum(at >= second(cut) + SECOND for at in after)
    assert ends.billed() == {"pro": 50 * (3 + 5 - late), "max": 0}
    assert ends.outside() == late
    assert ends.waiting() == 0


@pytest.mark.parametrize("fraction", WITHIN)
def test_changed_now_the_second_of_the_change_is_the_new_plans(ends: Ends, fraction: int) -> None:
    begun(ends)
    cut = ends.instant + HOUR + fraction
    ends.use_at(cut + AROUND[0])
    ends.go(cut)
    ends.cut("change")
    ends.use_at(*(cut + offset for offset in AROUND[1:]))
    ends.rest()
    ends.cut("now")
    ends.rest()
    before = 3 + (cut + AROUND[0] < second(cut))
    assert ends.billed() == {"pro": 50 * before, "max": 10 * (8 - before)}
    assert ends.told() == []
    assert ends.waiting() == 0


@pytest.mark.parametrize("learned", [300_000, 2_500_000, 7 * SECOND, 3 * HOUR])
def test_ended_with_its_period_what_was_used_until_the_gate_learned_of_it_is_billed(ends: Ends, learned: int) -> None:
    begun(ends)
    ends.cut("period_end")
    ends.settle()
    (period,) = ends.periods()
    cut = period.end
    told = False
    for offset in AROUND:
        if offset >= learned and not told:
            ends.go(cut + learned)
            ends.settle()
            told = True
        ends.use_at(cut + offset)
    ends.go(max(ends.instant, cut + learned))
    ends.settle()
    ends.rest()
    late = sum(cut + offset >= second(cut + learned) + SECOND for offset in AROUND)
    assert ends.billed() == {"pro": 50 * (3 + 5 - late), "max": 0}
    assert ends.outside() == late
    assert ends.waiting() == 0


@pytest.mark.parametrize("fraction", WITHIN)
@pytest.mark.parametrize("learned", [100_000, 2_500_000, HOUR])
def test_ended_by_hand_at_the_provider_with_an_invoice_it_is_the_same(ends: Ends, fraction: int, learned: int) -> None:
    begun(ends)
    cut = ends.instant + HOUR + fraction
    ends.use_at(cut + AROUND[0])
    ends.go(cut)
    (bought,) = ends.v1.subscriptions.list({}).data
    ends.v1.subscriptions.cancel(bought.id, {"invoice_now": True})
    told = False
    for offset in AROUND[1:]:
        if offset >= learned and not told:
            ends.go(cut + learned)
            ends.settle()
            told = True
        ends.use_at(cut + offset)
        assert ends.money.dispatcher is not None
        while not told and ends.money.reports.run_once():  # reported meanwhile, as of a contract that goes on
            pass
        while not told and ends.money.dispatcher.run_once():
            pass
    ends.go(max(ends.instant, cut + learned))
    ends.settle()
    ends.rest()
    late = sum(cut + offset >= second(cut + learned) + SECOND for offset in AROUND)
    assert ends.billed() == {"pro": 50 * (3 + 5 - late), "max": 0}
    assert ends.outside() == late
    assert ends.waiting() == 0


def test_ended_by_hand_without_an_invoice_its_usage_is_told_and_billed_by_a_repair(ends: Ends) -> None:
    begun(ends)
    cut = ends.instant + HOUR
    ends.use_at(cut + AROUND[0])
    ends.go(cut)
    (bought,) = ends.v1.subscriptions.list({}).data
    ends.v1.subscriptions.cancel(bought.id, {})
    ends.use_at(*(cut + offset for offset in AROUND[1:4]))
    ends.settle()
    ends.use_at(cut + AROUND[4])
    ends.rest()
    drift = ends.money.drift
    assert drift is not None
    assert ends.money.subscriptions is not None
    ends.money.subscriptions.close_ends()
    ends.settle()
    assert [(one.state, one.ledger) for one in ends.told()] == [("uninvoiced", 7), ("outside", 1)]
    assert [one.alarming for one in drift.told()] == [True, False]
    assert ends.billed() == {"pro": 0, "max": 0}
    (made,) = drift.repair()
    assert (str(made.amount), str(made.quantity)) == ("3.50", "7")
    assert drift.repair() == []
    ends.rest()
    ends.use(1, time_of(cut - SECOND))  # later still
    ends.rest()
    assert ends.billed() == {"pro": 400, "max": 0}
    assert ends.outside() == 1
    assert ends.waiting() == 0


@pytest.mark.parametrize("fraction", WITHIN)
def test_bought_and_cancelled_in_one_second_all_of_that_second_is_billed(ends: Ends, fraction: int) -> None:
    start = second(ends.instant) + 10 * SECOND
    ends.go(start)
    ends.use_at(start + fraction // 4)  # before the purchase, in its second
    ends.go(start + fraction // 2)
    ends.buy("pro")
    ends.go(start + fraction)
    ends.cut("now")
    after = [start + fraction + offset for offset in AROUND[1:]]
    ends.use_at(*after)
    ends.rest()
    late = sum(at >= start + SECOND for at in after)
    assert ends.billed() == {"pro": 50 * (5 - late), "max": 0}
    assert ends.outside() == late
    assert ends.waiting() == 0


@pytest.mark.parametrize("fraction", WITHIN)
def test_bought_again_in_the_second_of_an_end_the_new_contract_has_that_second(ends: Ends, fraction: int) -> None:
    begun(ends)
    cut = ends.instant + HOUR + fraction
    ends.use_at(cut + AROUND[0])
    ends.go(cut)
    ends.cut("now")
    ends.buy("max")
    ends.use_at(*(cut + offset for offset in AROUND[1:]))
    ends.rest()
    ends.cut("now")
    ends.rest()
    before = 3 + (cut + AROUND[0] < second(cut))
    billed = ends.billed()
    assert billed == {"pro": 50 * before, "max": 10 * (8 - before)}
    assert ends.told() == []
