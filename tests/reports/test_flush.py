"""The last usage of a period before its invoice is final, and what comes after."""

from __future__ import annotations

from decimal import Decimal

from reports.house import DAY, HOUR, MINUTE, House
from tollkeeper.core.outbox import FIRST, Settlement


def flush(house: House) -> int:
    with house.app.database.write() as rows:
        return house.reports.flush(rows, "live", house.acme, house.start)


def close(house: House) -> int:
    with house.app.database.write() as rows:
        return house.reports.close(rows, "live", house.acme, house.start, "in_1")


def finalise(house: House) -> None:
    with house.app.database.write() as rows:
        house.reports.finalised(rows, "live", house.acme, house.start, "in_1", house.now)


def deliver(house: House) -> None:
    """As the dispatcher would, all at once."""
    with house.app.database.write() as rows:
        while claimed := rows.outbox.claim("live", house.now, house.now + MINUTE, 100):
            rows.outbox.settle([Settlement(one, "sent", house.now) for one in claimed], house.now)


def test_a_flush_puts_exactly_what_is_missing_in_front_and_nothing_twice(house: House) -> None:
    house.use(3)
    assert flush(house) == 1
    assert flush(house) == 0
    house.use(2)
    assert flush(house) == 1
    assert house.owed() == ["3", "2"]
    assert {one.priority for one in house.messages()} == {FIRST}
    assert house.book() == (Decimal(5), Decimal(0))


def test_a_flush_of_an_ended_period_is_dated_inside_it_in_its_last_whole_minute(house: House) -> None:
    house.use(1)
    house.go(30 * DAY + HOUR)
    flush(house)
    (message,) = house.messages()
    assert house.end - 2 * MINUTE < message.payload["at"] < house.end - house.end % MINUTE <= house.end


def test_a_period_nobody_bills_by_the_provider_is_not_flushed(house: House) -> None:
    house.use(1)
    house.period(provider=None)
    assert flush(house) == 0
    assert house.messages() == []


def test_a_price_that_is_rated_here_goes_on_the_draft_and_what_it_lacks_later_too(house: House) -> None:
    house.use(1, type="llm.completion", tokens=300)
    close(house)
    house.use(1, type="llm.completion", tokens=50)
    close(house)
    first, second = house.adjustments()
    assert (first.price, first.quantity, str(first.amount)) == ("tokens", Decimal(300), "3.00")
    assert (second.quantity, str(second.amount)) == (Decimal(50), "0.50")
    assert [one.payload["invoice"] for one in house.messages("invoice_line")] == ["in_1", "in_1"]
    assert "300 of it billed before" in second.reason


def test_a_minimum_is_owed_without_usage_and_taken_into_account_with_it(house: House) -> None:
    close(house)
    house.use(1, type="llm.completion", tokens=250)
    close(house)
    assert [str(one.amount) for one in house.adjustments()] == ["2.00", "0.50"]


def test_usage_after_finalisation_is_one_signed_adjustment_worth_the_difference(house: House) -> None:
    house.use(12)
    house.go(30 * DAY)
    close(house)
    deliver(house)
    finalise(house)
    house.use(3, at=house.start + HOUR)
    flush(house)
    calls = [one for one in house.adjustments() if one.price == "calls"]
    assert [(one.quantity, str(one.amount)) for one in calls] == [(Decimal(3), "1.50")]
    assert house.owed() == ["12"]
    assert house.book() == (Decimal(12), Decimal(3))
    flush(house)
    assert len([one for one in house.adjustments() if one.price == "calls"]) == 1


def test_what_was_not_sent_before_finalisation_is_carried_forward_and_never_sent(house: House) -> None:
    house.use(12)
    close(house)
    deliver(house)
    house.use(4)
    close(house)
    finalise(house)
    flush(house)
    assert [(one.status, str(one.quantity)) for one in house.messages()] == [("sent", "12"), ("carried_forward", "4")]
    calls = [one for one in house.adjustments() if one.price == "calls"]
    assert [(one.quantity, str(one.amount)) for one in calls] == [(Decimal(4), "2.00")]
    assert house.book() == (Decimal(12), Decimal(4))


def test_late_usage_within_the_free_tier_is_written_down_and_comes_to_nothing(house: House) -> None:
    house.use(2)
    house.go(30 * DAY)
    close(house)
    deliver(house)
    finalise(house)
    house.use(3, at=house.start + HOUR)
    flush(house)
    (calls,) = [one for one in house.adjustments() if one.price == "calls"]
    assert (calls.quantity, calls.state, str(calls.amount), calls.outbox) == (Decimal(3), "nothing", "0.00", None)
    assert house.book() == (Decimal(2), Decimal(3))


def test_a_period_that_is_too_old_to_report_is_billed_by_adjustment(house: House) -> None:
    house.use(14)
    house.go(34 * DAY)
    flush(house)
    house.use(3, at=house.start + 29 * DAY)
    house.go(40 * DAY)
    flush(house)
    assert house.book() == (Decimal(0), Decimal(17))
    assert [one.status for one in house.messages()] == ["carried_forward"]
    assert [(one.quantity, str(one.amount)) for one in house.adjustments()] == [(Decimal(17), "3.50")]
