"""Messages are removed long after their invoice, and never while they explain something."""

from __future__ import annotations

from decimal import Decimal

from reports.house import House
from tollkeeper.core.drift import DriftCheck, DriftState
from tollkeeper.services.outbox import KEPT_US

DAY = 86_400_000_000


def invoiced(house: House) -> None:
    """A month of which something was reported, and its invoice."""
    house.use(3)
    house.report()
    house.dispatch()
    house.go(house.end - house.now + DAY)
    with house.app.database.write() as rows:
        rows.periods.move("live", house.acme, house.start, "closing", "in_1")
        house.reports.finalised(rows, "live", house.acme, house.start, "in_1", house.now)
    house.report()
    house.dispatch()  # the line of a price with a minimum


def compared(house: House, state: DriftState, meter: str = "api_calls") -> None:
    zero = Decimal(0)
    with house.app.database.write() as rows:
        rows.drift.put(
            DriftCheck(
                "live", house.acme, meter, house.start, zero, zero, zero, zero, zero, state, "", house.end, house.now
            )
        )


def forget(house: House) -> int:
    before = house.outbox.removed
    while house.outbox.forget():
        pass
    return house.outbox.removed - before


def test_what_is_equal_goes_forty_days_after_the_invoice_and_the_books_stay(house: House) -> None:
    invoiced(house)
    compared(house, "equal")
    book = house.book()
    assert [one.status for one in house.messages()] == ["sent"]
    house.go(KEPT_US - 1)
    assert forget(house) == 0
    house.go(2)
    assert forget(house) == 2
    assert house.messages() == []
    assert house.book() == book == (3, 0)
    house.report()
    house.dispatch()
    assert house.provided() == 3


def test_what_was_never_compared_or_differs_is_kept(house: House) -> None:
    invoiced(house)
    house.go(2 * KEPT_US)
    assert forget(house) == 0
    for state in ("unexplained", "refused", "pending", "unknown"):
        compared(house, state)  # type: ignore[arg-type]
        assert forget(house) == 0
    compared(house, "equal")
    compared(house, "unexplained", "seats")
    assert forget(house) == 0
    compared(house, "equal", "seats")
    assert forget(house) == 2


def test_nothing_of_a_running_month_is_removed(house: House) -> None:
    house.use(3)
    house.report()
    house.dispatch()
    compared(house, "equal")
    house.go(2 * KEPT_US)
    assert forget(house) == 0


def test_a_message_whose_fate_is_open_keeps_the_others_of_its_period(house: House) -> None:
    invoiced(house)
    compared(house, "equal")
    house.use(20, house.start + DAY)  # comes late, and nobody takes its line
    house.provider.faults = ["busy"] * 50
    house.report()
    house.dispatch()
    house.go(2 * KEPT_US)
    assert forget(house) == 0
    house.provider.faults = []
    house.dispatcher._rest_until = 0
    house.dispatch()
    house.go(2 * KEPT_US)
    assert forget(house) == 3
