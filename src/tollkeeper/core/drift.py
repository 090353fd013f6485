"""Ledger and provider compared for one customer, meter and period. Pure.

reported = what was put into the outbox, less what was taken back      expected = reported − still on its way − refused or put aside
unreported = ledger − reported − carried                               unexplained = what the provider has − expected

What was used between two contracts, and after the last one, is told by `between`.
What was given away (on invoices that were voided, or written off) is part of carried, and part of what the provider is short of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

from tollkeeper.core.adjusting import GIVEN
from tollkeeper.core.billing import SECOND_US, Adjustment, AdjustmentState, UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import OPEN, Status

DriftState = Literal[
    "equal", "pending", "refused", "unexplained", "unknown", "uninvoiced", "outside", "voided", "written_off"
]
EXPLAINED: Final[tuple[DriftState, ...]] = ("equal", "voided", "written_off")
"""Nothing of it is left to be done, unless the seller wants to."""
FAILED: Final[tuple[Status, ...]] = ("rejected", "dead")
MOST_SHARE: Final = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class DriftCheck:
    """`difference`: units of the ledger that the provider is short of (below 0: has too many), None where one of both is not known.

    pending: what is missing is on its way; refused: the provider did not take it, or it was put aside; uninvoiced: its contract
    ended without an invoice; outside: used when there was no contract, from `period_start` to `period_end`; voided: it
    stood on an invoice that was voided; written_off: it was too little to be billed; unexplained: none of it.
    `invoiced`: the quantity that the finalised invoice has.
    """

    environment: Environment
    customer: str
    meter: str
    period_start: int
    ledger: Decimal
    reported: Decimal
    provider: Decimal | None
    invoiced: Decimal | None
    difference: Decimal | None
    state: DriftState
    explanation: str
    period_end: int
    checked_at: int

    @property
    def share(self) -> Decimal:
        """Of the ledger, 0 to 1 and above."""
        if not self.difference:
            return Decimal(0)
        return abs(self.difference) / max(abs(self.ledger), Decimal(1))

    def alarming(self, settled: bool) -> bool:
        """Above 5 %, or anything unexplained once the period is settled; what is on its way is not, nor what lies outside every contract.

        An invoice may still come until the period is settled.
        """
        if self.state in (*EXPLAINED, "pending", "unknown", "outside"):
            return False
        if self.state == "uninvoiced":
            return settled
        return self.share > MOST_SHARE or (settled and self.state == "unexplained")


@dataclass(frozen=True, slots=True)
class DriftSum:
    """Comparisons of one meter in one state. `units`: what they differ by, added up without signs; None where any is not known."""

    comparisons: int
    units: Decimal | None


def expected(report: UsageReport, states: Mapping[Status, Decimal]) -> Decimal:
    """What the provider should have."""
    on_the_way = sum((states.get(status, Decimal(0)) for status in OPEN), Decimal(0))
    failed = sum((states.get(status, Decimal(0)) for status in FAILED), Decimal(0))
    return report.reported - on_the_way - failed


def given_away(written: Iterable[Adjustment]) -> dict[AdjustmentState, Decimal]:
    """Units of a meter that were given away, by state. Of several prices of the meter the one with most of them counts."""
    units: dict[AdjustmentState, dict[str | None, Decimal]] = {}
    for one in written:
        if one.state in GIVEN:
            of = units.setdefault(one.state, {})
            of[one.price] = of.get(one.price, Decimal(0)) + (one.quantity or Decimal(0))
    return {state: max(of.values(), key=abs) for state, of in units.items()}


def explain(written: Iterable[Adjustment]) -> list[str]:
    """What was given away, in words."""
    sums: dict[tuple[str, str | None, str, str], tuple[Decimal, Decimal]] = {}
    for one in written:
        if one.state in GIVEN:
            key = (one.state, one.invoice, one.price or "", one.currency)
            units, amount = sums.get(key, (Decimal(0), Decimal(0)))
            sums[key] = (units + (one.quantity or Decimal(0)), amount + one.amount)
    said = []
    for (state, invoice, price, currency), (units, amount) in sums.items():
        how = f"voided with invoice {invoice}" if invoice else "since"
        how = "written off" if state == "written_off" else how
        said.append(f"{format_quantity(units)} {how} ({price}, {amount} {currency})")
    return said


def given_check(
    report: UsageReport, ledger: Decimal, written: Sequence[Adjustment], until: int, now: int
) -> DriftCheck:
    """What was given away of a meter whose prices are rated here: the provider's meter knows nothing of it."""
    given = given_away(written)
    return DriftCheck(
        report.environment,
        report.customer,
        report.meter,
        report.period_start,
        ledger,
        Decimal(0),
        None,
        None,
        sum(given.values(), Decimal(0)),
        _explained(given),
        "; ".join(explain(written)),
        until,
        now,
    )


def _explained(given: Mapping[AdjustmentState, Decimal]) -> DriftState:
    return "voided" if given.get("voided") else "written_off" if given.get("written_off") else "equal"


def compare(
    report: UsageReport,
    ledger: Decimal,
    provider: Decimal | None,
    states: Mapping[Status, Decimal],
    faults: str,
    until: int,
    now: int,
    *,
    fresh: bool = False,
    measured: bool = True,
    uninvoiced: bool = False,
    written: Sequence[Adjustment] = (),
) -> DriftCheck:
    """`written`: the adjustments of the meter.

    `states`: how much usage of the period is in which state of the outbox. `faults`: what else is wrong, such as an amount.

    `fresh`: something was delivered so lately that the provider's summary may be without it. `measured`: False for a period that the
    provider cannot tell the usage of, since it is shorter than a minute. `uninvoiced`: its contract has ended, and there is no invoice.
    `until`: the end of the period's usage.
    """
    failed = sum((states.get(status, Decimal(0)) for status in FAILED), Decimal(0))
    on_the_way = sum((states.get(status, Decimal(0)) for status in OPEN), Decimal(0))
    doubtful = states.get("unknown", Decimal(0)) + states.get("sending", Decimal(0))
    should = expected(report, states)
    unreported = ledger - report.reported - report.carried
    given = given_away(written)
    given_units = sum(given.values(), Decimal(0))
    parts: list[str] = []
    for name, quantity in (
        ("not reported yet", unreported if report.billed is None else Decimal(0)),
        ("on its way", on_the_way),
        ("rejected by the provider or put aside", failed),
        ("billed by adjustments", report.carried - given_units),
    ):
        if quantity:
            parts.append(f"{format_quantity(quantity)} {name}")
    parts += explain(written)
    state: DriftState = "equal"
    difference: Decimal | None = None
    if uninvoiced:
        difference = ledger - report.carried
        if difference:
            state = "uninvoiced"
            parts.append("its contract ended without an invoice")
    elif provider is None and report.billed is not None and not measured:
        difference = ledger - report.billed - report.carried
        state = "pending" if difference else "equal"
    elif provider is None and not measured:
        state = "pending"
        parts.append("a period without a whole minute, of which the provider gives no sum; its invoice will tell")
    elif provider is None:
        state = "unknown"
        parts.append("the provider did not say what it has")
    else:
        surplus = provider - should
        difference = ledger - provider - report.carried
        if report.billed is not None:
            difference = ledger - report.billed - report.carried
        if surplus and fresh:
            state = "pending"
            parts.append(f"the provider's summary has {format_quantity(provider)} so far")
        elif surplus and surplus != doubtful:
            state = "unexplained"
            parts.append(f"the provider has {format_quantity(provider)}, and {format_quantity(should)} was delivered")
        elif failed and difference:
            state = "refused"
        elif difference:
            state = "pending"
    if difference is not None:
        difference += given_units
    if state == "equal":
        state = _explained(given)
    if faults:
        state = "unexplained"
        parts.append(faults)
    return DriftCheck(
        report.environment,
        report.customer,
        report.meter,
        report.period_start,
        ledger,
        report.reported,
        provider,
        report.billed,
        difference,
        state,
        "; ".join(parts),
        until,
        now,
    )


def between(
    environment: Environment,
    customer: str,
    meter: str,
    start: int,
    end: int,
    used: Decimal,
    plans: Sequence[str],
    charging: Sequence[str],
    awaited: str | None,
    overdue: bool,
    now: int,
) -> DriftCheck:
    """Usage of [start, end), when the customer had no contract at the provider.

    `plans`: what was held then, `charging`: those of them that have a price for the meter, which nobody was billed by. `awaited`: a
    subscription that goes on, whose next period is not known yet; `overdue`: it should be.
    """
    said = f"{format_quantity(used)} used from {_shown(start)} to {_shown(end)}"
    state: DriftState
    if awaited is not None:
        state = "unexplained" if overdue else "pending"
        said += f", of which no billing period of {awaited} is known"
    elif charging:
        state = "unexplained"
        said += f" on plan {', '.join(charging)}, which has a price for it, without a contract at the provider"
    else:
        state = "outside"
        said += f" outside every contract, on {'plan ' + ', '.join(plans) if plans else 'no plan'}"
    return DriftCheck(
        environment,
        customer,
        meter,
        start,
        used,
        Decimal(0),
        Decimal(0),
        None,
        used,
        state,
        said,
        end,
        now,
    )


def _shown(instant: int) -> str:
    return datetime.fromtimestamp(instant // SECOND_US, UTC).isoformat().replace("+00:00", "Z")
