"""Ledger, reports, the provider's meter and the invoice compared, told and repaired."""

from __future__ import annotations

from decimal import Decimal

import pytest

from reports.house import DAY, HOUR, MINUTE, House
from tollkeeper.core.billing import Adjustment, UsageReport
from tollkeeper.core.drift import compare
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.invoices import Invoice
from tollkeeper.core.outbox import Status
from tollkeeper.core.provider import ProviderInvoice, ProviderLine
from tollkeeper.services.drift import Drifted

D = Decimal


def looked(house: House) -> Drifted:
    """The last comparison of api_calls, made now."""
    house.drift.check_all()
    return next(one for one in house.drift.told(drifted=False) if one.check.meter == "api_calls")


def report(house: House) -> None:
    house.report()
    house.dispatch()


def invoice(house: House, amount: str) -> ProviderInvoice:
    line = ProviderLine("il_1", "calls", D(amount), None, "price_1", None, house.start, house.end)
    return ProviderInvoice(
        "in_1", "cus_1", "sub_9", None, "open", None, "usd", D(amount), D(0), D(0),
        house.start, house.end, house.now, house.now, None, None, None, (line,),
    )  # fmt: skip


def test_what_arrived_is_equal_and_its_messages_are_confirmed(house: House) -> None:
    house.use(3)
    report(house)
    found = looked(house)
    assert (found.check.state, found.check.difference, found.check.provider) == ("equal", D(0), D(3))
    assert [one.status for one in house.messages()] == ["confirmed"]
    assert not found.alarming


def test_what_is_on_its_way_is_pending_and_no_alarm(house: House) -> None:
    house.use(3)
    house.report()
    house.use(2)
    found = looked(house)
    assert (found.check.state, found.check.difference) == ("pending", D(5))
    assert found.check.explanation == "2 not reported yet; 3 on its way"
    assert not found.alarming


def test_what_the_provider_refused_is_named_and_repaired_by_an_adjustment(house: House) -> None:
    house.use(14)
    house.report()
    house.provider.faults = ["refused"]
    house.dispatch()
    found = looked(house)
    assert (found.check.state, found.check.difference) == ("refused", D(14))
    assert "14 rejected by the provider" in found.check.explanation
    assert [(one.status, one.error) for one in found.messages] == [("rejected", "No such customer.")]
    assert found.alarming
    (made,) = house.drift.repair()
    assert (made.quantity, str(made.amount), made.price) == (D(14), "2.00", "calls")
    assert house.book() == (D(0), D(14))
    assert looked(house).check.state == "equal"
    assert house.drift.repair() == []
    house.use(1)
    report(house)
    assert looked(house).check.state == "equal"
    assert house.provided() == 1


def test_what_vanished_at_the_provider_is_unexplained_and_repaired_to_the_unit(house: House) -> None:
    house.use(20)
    report(house)
    name, customer, at, _ = house.provider.events.pop()
    house.provider.events.append((name, customer, at, D(17)))
    found = looked(house)
    assert (found.check.state, found.check.difference) == ("unexplained", D(3))
    assert "the provider has 17, and 20 was delivered" in found.check.explanation
    assert found.alarming
    (made,) = house.drift.repair()
    assert (made.quantity, str(made.amount)) == (D(3), "1.50")
    assert looked(house).check.state == "equal"


def test_what_the_provider_has_too_much_is_given_back(house: House) -> None:
    house.use(20)
    report(house)
    house.provider.events.append((*house.provider.events[0][:3], D(4)))
    assert looked(house).check.difference == D(-4)
    (made,) = house.drift.repair()
    assert (made.quantity, str(made.amount)) == (D(-4), "-2.00")
    assert looked(house).check.state == "equal"


def test_what_was_sent_just_before_a_cut_is_in_the_comparison(house: House) -> None:
    house.use(3)
    report(house)
    house.go(HOUR + 17 * 1_000_000)
    house.use(2)
    with house.app.database.write() as rows:
        house.reports.flush(rows, "live", house.acme, house.start, cut=True)
    house.dispatch()
    house.go(1_000_000)
    cut = house.now - house.now % 1_000_000
    house.period(end=cut)
    house.period(start=cut, end=house.end)
    house.use(4)
    house.go(2 * MINUTE)
    report(house)
    house.drift.check_all()
    found = [one.check for one in house.drift.told(drifted=False) if one.check.meter == "api_calls"]
    assert [(one.state, one.provider) for one in found] == [("equal", D(5)), ("equal", D(4))]


def test_a_small_share_alarms_only_once_the_period_is_settled(house: House) -> None:
    house.use(100)
    report(house)
    name, customer, at, _ = house.provider.events.pop()
    house.provider.events.append((name, customer, at, D(99)))
    assert not looked(house).alarming
    house.go(33 * DAY)
    assert looked(house).alarming


def test_nothing_is_repaired_while_something_is_on_its_way(house: House) -> None:
    house.use(20)
    report(house)
    house.provider.events.clear()
    house.drift.check_all()
    house.use(1)
    house.report()
    assert house.drift.repair() == []


def test_after_finalisation_the_invoices_amount_is_compared_with_what_was_billed(house: House) -> None:
    house.use(14)
    house.go(30 * DAY + HOUR)
    with house.app.database.write() as rows:
        house.reports.close(rows, "live", house.acme, house.start, "in_1")
    house.dispatch()
    with house.app.database.write() as rows:
        house.reports.finalised(rows, "live", house.acme, house.start, "in_1", house.now)
    house.map("price", "pro@1/calls", "price_1")
    house.provider.invoices["in_1"] = invoice(house, "2.00")
    house.use(1, at=house.start + HOUR)
    house.go(MINUTE)
    report(house)
    found = looked(house)
    assert (found.check.state, found.check.invoiced, found.check.difference) == ("equal", D(14), D(0))
    assert found.check.explanation == "1 billed by adjustments"
    house.provider.invoices["in_1"] = invoice(house, "2.50")
    found = looked(house)
    assert found.check.state == "unexplained"
    assert "invoice in_1 charges 2.50 usd for calls, and 14 api_calls cost 2.00" in found.check.explanation


def test_a_line_of_a_deleted_draft_that_the_provider_still_has_is_not_billed_again(house: House) -> None:
    house.use(3)
    house.period(state="invoiced", invoice="in_1", finalized_at=house.end)
    house.provider.invoices["in_1"] = invoice(house, "0")
    made = Adjustment(
        "live", "adj_1", house.acme, D("1.50"), "usd", "late", house.now, "voided", "api_calls", house.start, "calls", D(3), "out_1", "in_2"
    )  # fmt: skip
    deleted = Invoice(
        "live", "in_2", "stripe", house.acme, None, None, "void", "usd", D(0), D(0), None, None, house.now, document={"deleted": True}
    )  # fmt: skip
    with house.app.database.write() as rows:
        rows.reports.put(
            UsageReport("live", house.acme, "api_calls", house.start, carried=D(3), billed=D(0)), house.now
        )
        rows.adjustments.add(made)
        rows.invoices.put(deleted)
    assert (looked(house).check.state, looked(house).check.difference) == ("voided", D(3))
    house.provider.add_line("cus_1", D("1.50"), "usd", "late", "k", metadata={"tollkeeper_message": "out_1"})
    assert house.drift.repair(voided=True) == []
    assert [(one.state, one.invoice) for one in house.adjustments()] == [("sent", None)]
    assert looked(house).check.state == "equal"


def test_a_provider_that_does_not_answer_is_unknown_not_zero(house: House) -> None:
    house.use(3)
    report(house)
    house.unmap("meter", "api_calls")
    found = looked(house)
    assert (found.check.state, found.check.provider, found.check.difference) == ("unknown", None, None)


@pytest.mark.parametrize("rejected", [True, False])
def test_a_period_too_short_to_be_told_waits_for_its_invoice_and_is_no_silence_of_the_provider(
    rejected: bool,
) -> None:
    states: dict[Status, Decimal] = {"rejected": D(2)} if rejected else {}
    report = UsageReport("live", "acme", "api_calls", 0, reported=D(5))
    check = compare(report, D(5), None, states, "", 40_000_000, 50_000_000, measured=False)
    assert (check.state, check.provider, check.difference) == ("pending", None, None)
    assert "its invoice will tell" in check.explanation
    assert ("rejected" in check.explanation) is bool(states)
    assert compare(report, D(5), None, states, "", 40_000_000, 50_000_000).state == "unknown"


def test_a_rejected_message_is_sent_again_as_a_new_one_under_a_new_identifier(house: House) -> None:
    house.use(3)
    house.report()
    house.provider.faults = ["refused"]
    house.dispatch()
    (rejected,) = house.outbox.list("rejected")
    again = house.outbox.replay(rejected.id)
    assert (again.quantity, again.payload["replaces"]) == (D(3), rejected.id)
    assert again.identifier != rejected.identifier
    house.dispatch()
    assert house.provided() == 3
    assert looked(house).check.state == "equal"
    assert house.outbox.get(rejected.id).error == f"sent again as {again.id}"
    with pytest.raises(Conflict, match="only dead and rejected"):
        house.outbox.replay(rejected.id)
    with pytest.raises(Conflict, match="was delivered"):
        house.outbox.replay(again.id)
    with pytest.raises(NotFound):
        house.outbox.replay("out_nothing")


def test_a_message_says_which_events_it_is_for(house: House) -> None:
    house.use(3)
    house.report()
    house.use(2)
    house.report()
    assert [(one.payload["after_seq"], one.payload["upto_seq"]) for one in house.messages()] == [(0, 3), (3, 5)]
