"""Usage that Stripe takes and throws away later, at the sandbox: rejected with the reason, and billed once all the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from sandbox.conftest import Running
from selling.test_with_sandbox import House
from tollkeeper.core.errors import Conflict
from tollkeeper.core.outbox import METER_EVENT, OutboxMessage


class Broken(House):
    """A house whose meter at Stripe was deactivated: its events are answered 200 and thrown away."""

    def begin(self) -> None:
        self.key = self.toll.keys.create(customer="acme", environment="test").key
        self.buy("pro")
        self.poll()  # as the server does from its start on; the first time looks back a day at most
        self.move(120)
        self.meter = self.running.client.v1.billing.meters.list({}).data[0].id
        self.running.client.v1.billing.meters.deactivate(self.meter)

    def mend(self) -> None:
        self.running.client.v1.billing.meters.reactivate(self.meter)

    def use(self, times: int) -> None:
        for _ in range(times):
            assert self.toll.gate.check(self.key, "api_calls").code == "VALID"
        self.settle()

    def hear(self) -> None:
        """The thin event is made five seconds later, and read from the list."""
        self.move(10)
        self.poll()

    def poll(self) -> None:
        assert self.money.meter_error_poll is not None
        self.money.meter_error_poll.run_once()
        self.settle()

    def messages(self, status: str) -> list[OutboxMessage]:
        return [one for one in self.money.outbox.list(None, METER_EVENT) if one.status == status]

    def at_stripe(self) -> Decimal:
        assert self.money.provider is not None
        period = self.periods()[0]
        with self.toll.database.read() as rows:
            customer = rows.provider_objects.get("stripe", "test", "customer", "acme")
        assert customer is not None
        minute = 60_000_000
        start = -(-period.start // minute) * minute
        return self.money.provider.reported(self.meter, customer.id, start, start + 30 * 86_400_000_000)


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    running = Running()
    made = Broken(tmp_path, running)
    made.begin()
    yield made
    made.browser.close()
    made.money.close()
    made.toll.close()
    running.stop()


def test_what_was_thrown_away_is_rejected_with_the_reason_and_sent_once_more_when_mended(broken: Broken) -> None:
    broken.use(3)
    assert [one.quantity for one in broken.messages("sent")] == [3]
    broken.hear()
    (rejected,) = broken.messages("rejected")
    assert rejected.error is not None
    assert rejected.error.startswith("archived_meter: ")
    assert broken.money.drift is not None
    broken.money.drift.check_all()
    (found,) = broken.money.drift.told()
    assert (found.check.state, found.check.difference) == ("refused", 3)
    assert found.alarming
    broken.mend()
    broken.money.outbox.replay(rejected.id)
    broken.settle()
    broken.hear()
    assert broken.at_stripe() == 3
    broken.money.drift.check_all()
    assert broken.money.drift.told() == []
    broken.at(datetime(2027, 2, 28, 15, 38, 20, tzinfo=UTC))
    broken.settle()
    broken.move(2 * 3600)
    broken.settle()
    assert broken.invoices() == [("paid", "30.00"), ("paid", "31.50")]


def test_the_same_event_again_rejects_nothing_that_was_sent_since(broken: Broken) -> None:
    broken.use(2)
    broken.hear()
    broken.mend()
    broken.money.outbox.replay(broken.messages("rejected")[0].id)
    broken.settle()
    (event,) = broken.money.inbox.events(type="v1.billing.meter.error_report_triggered")
    broken.money.inbox.replay(event.id)
    broken.settle()
    assert broken.messages("rejected") == []
    assert broken.at_stripe() == 2


@pytest.mark.parametrize("heard", ["in its period", "after the invoice"])
def test_what_is_never_mended_is_on_the_next_invoice_once(broken: Broken, heard: str) -> None:
    broken.poll()  # the list is read from the server's first start on
    broken.use(3)
    if heard == "in its period":
        broken.hear()
    broken.at(datetime(2027, 2, 28, 15, 38, 20, tzinfo=UTC))
    broken.mend()
    broken.settle()
    broken.move(2 * 3600)
    broken.settle()
    assert broken.invoices() == [("paid", "30.00"), ("paid", "30.00")]
    broken.poll()
    assert [one.quantity for one in broken.messages("carried_forward")] == [3]
    with pytest.raises(Conflict, match="carried_forward"):
        broken.money.outbox.replay(broken.messages("carried_forward")[0].id)
    broken.at(datetime(2027, 3, 31, 15, 38, 20, tzinfo=UTC))
    broken.settle()
    broken.move(2 * 3600)
    broken.settle()
    assert broken.invoices()[2:] == [("paid", "31.50")]
    assert broken.money.drift is not None
    broken.money.drift.check_all()
    assert broken.money.drift.told() == []


def test_more_than_the_event_names_is_known_when_it_was_all_of_them(broken: Broken) -> None:
    for _ in range(7):  # the event names five
        broken.use(1)
    broken.hear()
    assert len(broken.messages("rejected")) == 7


def test_what_cannot_be_told_apart_is_left_and_shows_as_drift(broken: Broken) -> None:
    for _ in range(7):
        broken.use(1)
    broken.mend()
    broken.use(1)
    broken.hear()
    assert (len(broken.messages("rejected")), len(broken.messages("sent"))) == (5, 3)
    assert broken.money.drift is not None
    broken.money.drift.check_all()
    (found,) = broken.money.drift.told()
    assert (found.check.state, found.check.difference) == ("unexplained", 7)


def test_a_customer_that_stripe_no_longer_has_is_told_and_nothing_of_others_is_touched(broken: Broken) -> None:
    broken.mend()
    broken.use(1)
    assert broken.money.provider is not None
    with broken.toll.database.read() as rows:
        customer = rows.provider_objects.get("stripe", "test", "customer", "acme")
    assert customer is not None
    broken.move(30)
    assert broken.toll.gate.check(broken.key, "api_calls").code == "VALID"
    broken.move(30)
    broken.running.client.v1.customers.delete(customer.id)
    for _ in range(2):  # before the end of its contract is heard of
        broken.money.reports.run_once()
        assert broken.money.dispatcher is not None
        broken.money.dispatcher.run_once()
    broken.hear()
    (rejected,) = broken.messages("rejected")
    assert rejected.error is not None
    assert rejected.error.startswith("meter_event_customer_not_found: ")
    assert [one.quantity for one in broken.messages("sent")] == [1]
