"""Reports: what the log has beyond what was reported, by sequence, with a watermark."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import text

from reports.house import DAY, HOUR, MINUTE, SECOND, House
from tollkeeper.services.reports import LogBehind


def mark(house: House) -> int | None:
    with house.app.database.read() as rows:
        return rows.watermarks.get("reports/live")


def last_seq(house: House) -> int:
    return house.app.usage_file.reader.last_seq()


def test_usage_before_the_first_turn_is_reported_too(house: House) -> None:
    house.use(3)
    house.report()
    house.use(2)
    house.report()
    assert house.owed() == ["3", "2"]
    assert mark(house) == last_seq(house) == 5
    assert house.book() == (Decimal(5), Decimal(0))


def test_nothing_new_makes_no_message(house: House) -> None:
    house.use(3)
    house.report()
    house.report()
    house.open()
    house.report()
    assert house.owed() == ["3"]


def test_each_aggregation_is_reported_as_the_difference_of_its_total(house: House) -> None:
    for seats in (4, 2, 9):
        house.use(1, type="seat", seats=seats)
        house.report()
    assert house.owed("seats") == ["4", "5"]
    assert house.owed("tokens") == []


def test_usage_that_comes_late_belongs_to_the_period_of_its_time(house: House) -> None:
    following = house.period(start=house.end, end=house.end + 30 * DAY)
    house.go(31 * DAY)
    house.use(5)
    house.use(2, at=house.start + DAY)
    house.report()
    assert [(one.period_start, str(one.quantity)) for one in house.messages()] in (
        [(house.start, "2"), (following.start, "5")],
        [(following.start, "5"), (house.start, "2")],
    )
    for one in house.messages():
        assert one.period_start is not None
        assert one.period_start <= one.payload["at"] < one.period_start + 30 * DAY


def test_the_period_of_a_subscription_that_became_known_late_is_reported_from_its_start(house: House) -> None:
    other = house.customer("pro")
    house.map("customer", other, "cus_2")
    house.use(4, customer=other)
    house.report()
    assert house.owed() == []
    house.period(customer=other)
    house.report()
    assert house.owed() == ["4"]


def test_a_period_that_is_cut_short_gives_its_later_usage_to_the_next_one(house: House) -> None:
    house.use(3)
    house.go(2 * DAY)
    house.use(4)
    house.report()
    middle = house.start + DAY
    house.period(end=middle)
    house.period(start=middle, end=house.end)
    house.report()
    totals: dict[int | None, Decimal] = {}
    for one in house.messages():
        totals[one.period_start] = totals.get(one.period_start, Decimal(0)) + (one.quantity or 0)
    assert totals == {house.start: Decimal(3), middle: Decimal(4)}
    assert sorted(house.owed()) == ["-4", "4", "7"]


def test_another_environments_usage_is_not_reported(house: House) -> None:
    house.period(environment="test")
    house.use(2, environment="test")
    house.report()
    assert house.messages() == []


def test_a_customer_without_a_period_is_not_reported_and_does_not_hold_up_others(house: House) -> None:
    other = house.customer("pro")
    house.use(2, customer=other)
    house.use(1)
    house.report()
    assert house.owed() == ["1"]
    assert mark(house) == last_seq(house)


def test_message_book_and_watermark_are_one_transaction(house: House) -> None:
    house.report()
    house.use(3)
    with house.app.database.engine.connect() as connection:
        connection.execute(
            text("CREATE TRIGGER fails BEFORE UPDATE ON watermarks BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        )
        connection.commit()
    with pytest.raises(Exception, match="disk full"):
        house.reports.run_once()
    assert house.messages() == []
    assert mark(house) == 0
    with house.app.database.engine.connect() as connection:
        connection.execute(text("DROP TRIGGER fails"))
        connection.commit()
    house.report()
    assert house.owed() == ["3"]


def test_a_total_that_a_flush_overtook_is_not_reported_twice(house: House) -> None:
    house.report()
    house.use(3)
    taken = house.reports._total

    def overtaken(period: object, meter: str) -> Decimal | None:
        found = taken(period, meter)  # type: ignore[arg-type]
        house.reports._total = taken  # type: ignore[method-assign]
        house.use(2)
        with house.app.database.write() as rows:
            house.reports.flush(rows, "live", house.acme, house.start)
        return found

    house.reports._total = overtaken  # type: ignore[method-assign]
    house.report()
    assert sum(map(Decimal, house.owed())) == 5
    assert house.book() == (Decimal(5), Decimal(0))


def test_identifiers_never_repeat_though_a_total_goes_back_and_forth(house: House) -> None:
    house.use(3)
    house.report()
    for end in (house.start + SECOND, house.end) * 3:
        house.period(end=end - end % SECOND)
        house.report()
    messages = house.messages()
    assert len({one.identifier for one in messages}) == len(messages)
    assert sum(one.quantity or 0 for one in messages) == 3


def test_a_log_that_is_older_than_what_was_reported_stops_reports_until_somebody_says_go_on(house: House) -> None:
    house.use(3)
    house.report()
    with house.app.database.write() as rows:
        rows.watermarks.set("reports/live", 1000, house.now)
    house.use(1)
    with pytest.raises(LogBehind, match="ends at 4, but was reported up to 1000"):
        house.reports.run_once()
    assert house.reports.behind
    assert house.owed() == ["3"]
    assert house.reports.resume() == 4
    house.report()
    assert not house.reports.behind
    assert house.owed() == ["3", "1"]


def test_in_the_first_minute_of_a_period_nothing_is_reported_and_then_all_of_it(house: House) -> None:
    customer = house.customer("pro")
    house.period(customer=customer, start=house.now, end=house.now + 30 * DAY)
    house.use(2, customer=customer)
    house.go(59 * SECOND)
    house.report()
    assert house.owed() == []
    house.go(SECOND)
    house.report()
    assert house.owed() == ["2"]


def test_a_flush_before_a_cut_is_dated_before_its_second(house: House) -> None:
    house.use(2)
    with house.app.database.write() as rows:
        assert house.reports.flush(rows, "live", house.acme, house.start, cut=True) == 1
    (message,) = house.messages()
    assert house.start <= message.payload["at"] < house.now - house.now % SECOND


def test_a_flush_before_a_cut_in_the_first_second_of_a_period_dates_nothing_outside_it(house: House) -> None:
    house.use(2)
    period = house.period(start=house.now - house.now % SECOND)
    with house.app.database.write() as rows:
        assert house.reports.flush(rows, "live", house.acme, period.start, cut=True) == 0


def test_a_flush_before_a_change_leaves_the_second_of_the_change_to_what_follows(house: House) -> None:
    house.use(2, at=house.now - house.now % SECOND - 1)
    house.use(3, at=house.now)
    with house.app.database.write() as rows:
        assert house.reports.flush(rows, "live", house.acme, house.start, cut=True, followed=True) == 1
    assert house.owed() == ["2"]


def test_reports_are_dated_in_whole_minutes_of_their_period(house: House) -> None:
    house.use(1)
    house.report()
    (message,) = house.messages()
    assert house.start <= message.payload["at"] < house.start + 2 * MINUTE
    house.go(HOUR)
    house.use(1)
    house.report()
    assert house.messages()[1].payload["at"] == house.now - house.now % SECOND - 5 * MINUTE


def test_thousands_of_events_of_many_customers_come_to_one_message_each(house: House) -> None:
    others = [house.customer("pro") for _ in range(20)]
    for customer in others:
        house.period(customer=customer)
    house.report()
    for _ in range(5):
        for customer in others:
            house.use(3, customer=customer)
    house.report()
    assert house.owed() == ["15"] * 20
