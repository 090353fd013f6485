"""Messages of the outbox sent to a provider that is slow, busy, silent or wrong."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reports.house import DAY, HOUR, MINUTE, SECOND, House
from tollkeeper.core.billing import OLDEST_US
from tollkeeper.core.outbox import Settlement


def flush(house: House) -> None:
    with house.app.database.write() as rows:
        house.reports.flush(rows, "live", house.acme, house.start)


def close(house: House) -> None:
    with house.app.database.write() as rows:
        house.reports.close(rows, "live", house.acme, house.start, "in_1")


def states(house: House, topic: str = "meter_event") -> list[str]:
    return [one.status for one in house.messages(topic)]


def test_usage_arrives_once_dated_in_its_period_under_a_fixed_identifier(house: House) -> None:
    house.use(3)
    flush(house)
    (message,) = house.messages()
    house.dispatch()
    (call,) = house.provider.calls
    assert (call.identifier, call.value, call.customer) == (message.identifier, Decimal(3), "cus_1")
    assert call.event_name.endswith("_api_calls")
    assert house.start <= call.at < house.end
    assert states(house) == ["sent"]
    house.dispatch()
    assert len(house.provider.calls) == 1


def test_a_repeat_that_the_provider_knows_is_delivered(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.identifiers[house.messages()[0].identifier] = house.now
    house.dispatch()
    assert states(house) == ["sent"]
    assert house.meter_events.duplicates == 1


@pytest.mark.parametrize("fault", ["before", "after"])
def test_an_unanswered_report_is_sent_again_under_its_identifier_and_counts_once(house: House, fault: str) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = [fault]
    house.dispatch()
    assert states(house) == ["unknown"]
    house.go(MINUTE)
    house.dispatch()
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)
    assert len({call.identifier for call in house.provider.calls}) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
def test_once_the_summary_is_complete_it_is_asked_before_anything_is_sent_again(house: House, fault: str) -> None:
    house.use(3)
    flush(house)
    house.dispatch()
    house.use(4)
    flush(house)
    house.provider.faults = [fault]
    house.dispatch()
    house.go(25 * HOUR)  # the provider has forgotten the identifier
    house.dispatch()
    assert house.provider.looked == 1
    assert states(house) == ["sent", "sent"]
    assert house.provided() == Decimal(7)
    assert len(house.provider.calls) == (3 if fault == "before" else 2)


def test_an_old_doubt_that_the_summary_does_not_settle_stays_unknown_and_holds_its_lane(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = ["before"]
    house.dispatch()
    house.go(25 * HOUR)
    house.provider.events.append(("by another hand_api_calls", "cus_1", house.start + HOUR, Decimal(100)))
    house.use(1)
    flush(house)
    house.dispatch()
    assert states(house) == ["unknown", "queued"]
    error = house.messages()[0].error
    assert error is not None
    assert "has 100; 0 was expected without this message, 3 with it" in error
    assert len(house.provider.calls) == 1


def test_a_busy_provider_is_left_alone_for_as_long_as_it_asks_and_nothing_is_in_doubt(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = ["busy"]
    house.dispatch()
    (message,) = house.messages()
    assert (message.status, message.doubt_since, message.error) == ("pending", None, "Slow down.")
    house.go(6 * SECOND)
    house.dispatch()
    assert len(house.provider.calls) == 1
    house.go(2 * SECOND)
    house.dispatch()
    assert states(house) == ["sent"]


def test_busy_after_silence_leaves_the_older_doubt(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = ["after", "busy"]
    for _ in range(4):
        house.dispatch()
        house.go(MINUTE)
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)
    assert house.meter_events.duplicates == 1


def test_what_is_refused_is_rejected_shown_and_does_not_hold_up_the_lane(house: House) -> None:
    house.use(3)
    flush(house)
    house.use(1)
    flush(house)
    house.provider.faults = ["refused"]
    house.dispatch()
    assert states(house) == ["rejected", "sent"]
    assert house.messages()[0].error == "No such customer."


def test_what_is_refused_after_silence_is_in_doubt_until_the_summary_tells(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = ["after", "refused"]
    house.dispatch()
    house.go(MINUTE)
    house.dispatch()
    assert states(house) == ["unknown"]
    house.go(2 * HOUR)
    house.dispatch()
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)


def test_a_fault_of_ours_is_in_doubt_and_told_after_many_attempts_it_is_put_aside(house: House) -> None:
    house.use(3)
    flush(house)
    house.provider.faults = ["bug"] * 40
    for _ in range(100):
        house.dispatch()
        house.go(HOUR)
    (message,) = house.messages()
    assert message.status == "dead"
    assert message.error is not None
    assert "ZeroDivisionError" in message.error
    assert message.attempts == 40


def test_a_report_that_became_too_old_to_send_goes_back_and_is_reported_anew_while_its_period_can_be(
    house: House,
) -> None:
    house.use(14)
    flush(house)
    house.go(OLDEST_US + HOUR)
    house.dispatch()
    assert states(house) == ["too_old"]
    assert house.provider.calls == []
    house.report()
    house.dispatch()
    assert states(house) == ["too_old", "sent"]
    assert house.provided() == Decimal(14)
    assert house.book() == (Decimal(14), Decimal(0))


def test_usage_of_a_period_that_became_too_old_is_carried_forward(house: House) -> None:
    house.use(14)
    flush(house)
    house.go(OLDEST_US + 31 * DAY)
    house.dispatch()
    house.report()
    house.dispatch()
    assert states(house) == ["carried_forward"]
    assert house.provider.calls == []
    assert house.book() == (Decimal(0), Decimal(14))
    assert [(one.quantity, str(one.amount), one.state) for one in house.adjustments()] == [
        (Decimal(14), "2.00", "sent")
    ]


def test_what_is_not_known_at_the_provider_yet_waits(house: House) -> None:
    house.use(1, type="seat", seats=4)
    house.use(2)
    with house.app.database.write() as rows:
        rows.provider_objects.put(house.object("meter", "other", "mtr_other"))
    house.unmap("customer", house.acme)
    flush(house)
    house.dispatch()
    assert states(house) == ["pending", "pending"]
    house.map("customer", house.acme, "cus_1")
    house.go(MINUTE)
    house.dispatch()
    assert states(house) == ["sent", "sent"]


def test_a_dead_sender_leaves_doubt_and_nothing_is_counted_twice(house: House) -> None:
    house.use(3)
    flush(house)
    with house.app.database.write() as rows:
        (claimed,) = rows.outbox.claim("live", house.now, house.now + MINUTE, 10)
    assert house.meter_events.send(claimed, house.now) == "sent"  # it died before it could write that down
    house.dispatch()
    assert states(house) == ["sending"]
    house.go(MINUTE)
    house.dispatch()
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)


def test_what_a_killed_sender_left_is_taken_up_by_the_next_start_without_waiting_for_its_lease(house: House) -> None:
    house.use(3)
    flush(house)
    with house.app.database.write() as rows:
        (claimed,) = rows.outbox.claim("live", house.now, house.now + HOUR, 10)
    assert house.meter_events.send(claimed, house.now) == "sent"  # it died before it could write that down
    started = house.dispatcher_at(sole=True)

    while started.run_once():
        pass
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)


def test_the_next_start_looks_at_once_into_what_was_being_looked_into(house: House) -> None:
    house.use(3)
    flush(house)
    with house.app.database.write() as rows:
        (claimed,) = rows.outbox.claim("live", house.now, house.now + HOUR, 10)
        rows.outbox.settle([Settlement(claimed, "unknown", house.now)], house.now)
        assert rows.outbox.doubtful("live", house.now, house.now + HOUR, 10)
    started = house.dispatcher_at(sole=True)
    while started.run_once():
        pass
    assert states(house) == ["sent"]
    assert house.provided() == Decimal(3)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_line_without_an_answer_is_looked_for_before_it_is_added_again(house: House, fault: str) -> None:
    house.use(1, type="llm.completion", tokens=300)
    house.provider.faults = [fault]
    close(house)
    house.dispatch()
    assert states(house, "invoice_line") == ["unknown"]
    house.go(30 * HOUR)
    house.provider.keys.clear()  # forgotten
    house.dispatch()
    assert states(house, "invoice_line") == ["sent"]
    (line,) = house.provider.lines
    assert (line["amount"], line["invoice"], line["customer"]) == (Decimal("3.00"), "in_1", "cus_1")
    (adjustment,) = house.adjustments()
    assert (adjustment.state, adjustment.invoice) == ("sent", "in_1")


def test_a_line_that_its_draft_no_longer_takes_goes_on_the_next_invoice(house: House) -> None:
    house.use(1, type="llm.completion", tokens=300)
    close(house)
    house.provider.faults = ["refused"]
    house.dispatch()
    assert states(house, "invoice_line") == ["rejected", "sent"]
    assert [line["invoice"] for line in house.provider.lines] == [None]
    assert [one.state for one in house.adjustments()] == ["sent"]


def test_no_more_is_sent_in_a_second_than_the_provider_takes(house: House) -> None:
    many = [house.customer("pro") for _ in range(30)]
    for n, customer in enumerate(many):
        house.map("customer", customer, f"cus_many_{n}")
        house.period(customer=customer)
        house.use(1, customer=customer)
    for customer in many:
        with house.app.database.write() as rows:
            house.reports.flush(rows, "live", customer, house.start)
    slow = house.dispatcher_at(rate=10.0)
    sent: list[int] = []
    for _ in range(3):
        while slow.run_once():
            pass
        sent.append(len(house.provider.calls))
        house.go(SECOND)
    assert sent == [10, 20, 30]


def test_an_outage_is_met_by_one_message_at_a_time(house: House) -> None:
    many = [house.customer("pro") for _ in range(30)]
    for n, customer in enumerate(many):
        house.map("customer", customer, f"cus_many_{n}")
        house.period(customer=customer)
        house.use(1, customer=customer)
        with house.app.database.write() as rows:
            house.reports.flush(rows, "live", customer, house.start)
    dispatcher = house.dispatcher_at(batch=5)
    house.provider.faults = ["before"] * 1000
    dispatcher.run_once()
    assert len(house.provider.calls) == 5
    for _ in range(3):
        house.go(2 * MINUTE)
        dispatcher.run_once()
    assert len(house.provider.calls) <= 8
    house.provider.faults = []
    for _ in range(20):
        house.go(2 * MINUTE)
        while dispatcher.run_once():
            pass
    assert house.provided() == Decimal(0)
    assert {one.status for one in house.messages()} == {"sent"}
    assert sum(value for *_, value in house.provider.events) == 30
