"""Ledger and provider compared for one customer, meter and period. Pure.

reported = what was put into the outbox, less what was taken back      expected = reported − still on its way − refused or put aside
unreported = ledger − reported − carried                               unexplained = what the provider has − expected

What was used between two contracts, and after the last one, is told by `between`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, Literal

from tollkeeper.core.billing import SECOND_US, UsageReport
from tollkeeper.core.customers import Environment
from tollkeeper.core.metering import format_quantity
from tollkeeper.core.outbox import OPEN, Status

DriftState = Literal["equal", "pending", "refused", "unexplained", "unknown", "uninvoiced", "outside"]
FAILED: Final[tuple[Status, ...]] = ("rejected", "dead")
MOST_SHARE: Final = Decimal("0.05")


@dataclass(frozen=True, slots=True)
class DriftCheck:
    """`difference`: units of the ledger that the provider is short of (below 0: has too many), None where one of both is not known.

    pending: what is missing is on its way; refused: the provider did not take it, or it was put aside; uninvoiced: its contract
    ended without an invoice; outside: used when there was no contract, from `period_start` to `period_end`; unexplained: none of it.
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
        if self.state in ("equal", "pending", "unknown", "outside"):
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
) -> DriftCheck:
    """`states`: how much usage of the period is in which state of the outbox. `faults`: what else is wrong, such as an amount.

    `fresh`: something was delivered so lately that the provider's summary may be without it. `measured`: False for a period that the
    provider cannot tell the usage of, since it is shorter than a minute. `uninvoiced`: its contract has ended, and there is no invoice.
    `until`: the end of the period's usage.
    """
    failed = sum((states.get(status, Decimal(0)) for status in FAILED), Decimal(0))
    on_the_way = sum((states.get(status, Decimal(0)) for status in OPEN), Decimal(0))
    doubtful = states.get("unknown", Decimal(0)) + states.get("sending", Decimal(0))
    should = expected(report, states)
    unreported = ledger - report.reported - report.carried
    parts: list[str] = []
    for name, quantity in (
        ("not reported yet", unreported if report.billed is None else Decimal(0)),
        ("on its way", on_the_way),
        ("rejected by the provider or put aside", failed),
        ("billed by adjustments", report.carried),
    ):
        if quantity:
            parts.append(f"{format_quantity(quantity)} {name}")
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
