"""Usage to the payment provider: what each period comes to so far, less what was put into the outbox of it, put into the outbox.

The usage log is read by sequence, so new events, late ones and corrections come the same way. Message, book and watermark are one
transaction of the main file; the identifier is fixed there, before anything is sent. Every aggregation is told as the signed difference
of the period's total, so the provider has to know sums alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from tollkeeper.core.billing import (
    MINUTE_US,
    SECOND_US,
    BillingPeriod,
    UsageReport,
    closes_late,
    cut_time,
    ready_at,
    report_time,
)
from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict
from tollkeeper.core.ids import new_id
from tollkeeper.core.outbox import FIRST, METER_EVENT, NORMAL, OutboxMessage, identify, usage_lane
from tollkeeper.core.plans import Price
from tollkeeper.core.ports import Database, Repositories
from tollkeeper.core.provider import OwedLine
from tollkeeper.core.provider_prices import rated_here
from tollkeeper.services.adjustments import Adjustments
from tollkeeper.services.clock import Clock

logger = logging.getLogger("tollkeeper.reports")

ROWS = 20_000
"""Of the log, looked at together."""
AHEAD_US = 300_000_000
"""By how much an event's time may lie ahead."""
GROUPS = 1_000
"""Customers' meters whose totals are taken in one turn."""


class LogBehind(Conflict):
    """The usage log ends before what was reported of it: an older copy was put in its place. Nothing is reported until that is settled."""


class Totals(Protocol):
    """`services.usage.Usage` as far as it is needed here."""

    def period_total(
        self, meter: str, environment: Environment, customer: str, start: int, end: int
    ) -> Decimal | None: ...


class Touch(Protocol):
    """Usage of a meter that rows of the log may have changed, by events within [first, last] (µs)."""

    @property
    def environment(self) -> str: ...
    @property
    def customer(self) -> str: ...
    @property
    def meter(self) -> str: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...


class Log(Protocol):
    def last_seq(self) -> int: ...

    def touched(self, after_seq: int, most: int) -> tuple[Sequence[Touch], int]: ...


class Edges(Protocol):
    def cut(self, environment: str, customer: str, instant: int) -> bool:
        """Divide a customer's usage at an instant; false where that can no longer be done."""
        ...


@dataclass(frozen=True, slots=True)
class _Total:
    """A meter's total of a period, and the revision of its book when it was taken."""

    period: BillingPeriod
    meter: str
    total: Decimal
    revision: int


class Reports:
    """A step of the runner. `account`: name and environment of the provider that is billed with; None: nothing is reported."""

    def __init__(
        self,
        database: Database,
        usage: Totals,
        log: Log,
        edges: Edges,
        clock: Clock,
        account: tuple[str, Environment] | None,
    ) -> None:
        self._database = database
        self._usage = usage
        self._log = log
        self._edges = edges
        self._clock = clock
        self._account = account
        self._adjustments = Adjustments(clock)
        self._mark = f"reports/{account[1]}" if account else ""
        self.made = 0
        self.unknown = 0
        self.undivided = 0
        self.behind = False

    # the step

    def run_once(self) -> bool:
        """Put what is new into the outbox; true while there is more. Raises LogBehind."""
        if self._account is None:
            return False
        environment = self._account[1]
        with self._database.read() as rows:
            mark = rows.watermarks.get(self._mark)
            stale = rows.periods.stale(environment, self._clock.now_us(), GROUPS)
        last = self._log.last_seq()
        self.behind = mark is not None and last < mark
        if self.behind:
            raise LogBehind(
                f"The usage log ends at {last}, but was reported up to {mark}: it is an older copy. "
                "`tollkeeper drift --resume` goes on from where it ends."
            )
        if mark is None:
            with self._database.write() as rows:
                rows.watermarks.set(self._mark, last, self._clock.now_us())
        if stale:
            self._report([(period, None) for period in stale], None)
            return True
        if mark is None or last == mark:
            return False
        touched, until = self._touched(mark)
        self._report(touched, until)
        return until < last

    def resume(self) -> int:
        """Go on from where the log ends, though it ends before the watermark; every open period is looked at anew. The watermark."""
        last = self._log.last_seq()
        if self._account is None:
            return last
        now = self._clock.now_us()
        with self._database.write() as rows:
            rows.watermarks.set(self._mark, last, now)
            after: tuple[str, str, int] | None = None
            while found := rows.periods.unsettled(after, GROUPS):
                for period in found:
                    rows.periods.doubt(period.environment, period.customer, period.start)
                after = (found[-1].environment, found[-1].customer, found[-1].start)
        return last

    def _touched(self, mark: int) -> tuple[list[tuple[BillingPeriod, str | None]], int]:
        """Periods and meters that the log changed after `mark`, and up to where it was read."""
        assert self._account is not None
        environment = self._account[1]
        spans: dict[tuple[str, str], tuple[int, int]] = {}
        until = mark
        while len(spans) < GROUPS:
            found, to = self._log.touched(until, ROWS)
            for one in found:
                if one.environment == environment:
                    first, last = spans.get((one.customer, one.meter), (one.first, one.last))
                    spans[one.customer, one.meter] = (min(first, one.first), max(last, one.last))
            if to == until:
                break
            until = to
        with self._database.read() as rows:
            groups = dict.fromkeys(
                (period, meter if period.state == "open" else None)  # a closed one has prices that are rated here, too
                for (customer, meter), (first, last) in spans.items()
                for period in rows.periods.overlapping(environment, [customer], first, last + 1)
                if period.provider == self._account[0]
            )
        return list(groups), until

    def _report(self, groups: Sequence[tuple[BillingPeriod, str | None]], until: int | None) -> None:
        """Take the totals, then write what follows from them. Meter None: every one of the period, which is no longer stale then."""
        with self._database.read() as rows:
            wanted = [
                (period, meter, revision)
                for period, only in groups
                if ready_at(period) <= self._clock.now_us()
                for meter, revision in self._meters(rows, period, only)
            ]
        seq = self._log.last_seq()
        self._divide(period for period, _ in groups)
        totals = [
            _Total(period, meter, total, revision)
            for period, meter, revision in wanted
            if (total := self._total(period, meter)) is not None
        ]
        now = self._clock.now_us()
        with self._database.write() as rows:
            for one in totals:
                report = self._book(rows, one.period, one.meter)
                if report.revision != one.revision:  # flushed meanwhile, from a newer total
                    rows.periods.doubt(one.period.environment, one.period.customer, one.period.start)
                    continue
                current = rows.periods.get(one.period.environment, one.period.customer, one.period.start)
                if current is not None and (current.end, current.tail) == (one.period.end, one.period.tail):
                    self._write(rows, current, one.meter, one.total, report, seq, now, NORMAL)
            for period, only in groups:
                if ready_at(period) > now:
                    rows.periods.doubt(period.environment, period.customer, period.start)
                elif only is None and rows.periods.looked_at(period):
                    self._adjustments.rated_here(rows, period, self._total, now)
            if until is not None:
                rows.watermarks.set(self._mark, until, now)

    # one period

    def flush(
        self,
        rows: Repositories,
        environment: Environment,
        customer: str,
        start: int,
        *,
        cut: bool = False,
        followed: bool = False,
    ) -> int:
        """Put what a period still lacks into the outbox, within the caller's transaction, and everything owed for the customer in
        front. How many messages were made.

        `cut`: the period is about to be ended at once; `followed`: by another, which has all of the second in which that happens.
        """
        period = rows.periods.get(environment, customer, start)
        if period is None or period.provider is None:
            return 0
        seq, now = self._log.last_seq(), self._clock.now_us()
        used = replace(period, end=now - now % SECOND_US, tail=0) if followed else period
        self._divide([used])
        made = 0
        for meter, _ in list(self._meters(rows, period, None)):
            total = self._total(used, meter)
            if total is not None:
                made += self._write(
                    rows, period, meter, total, self._book(rows, period, meter), seq, now, FIRST, cut=cut
                )
        self._adjustments.rated_here(rows, period, self._total, now)
        rows.outbox.hurry(environment, customer, now)
        return made

    def rated_so_far(self, rows: Repositories, environment: Environment, customer: str) -> Sequence[OwedLine]:
        """What prices that are rated here come to so far: lines that the next invoice will have.

        Of the running period, and of one before it for which the provider had nothing to invoice.
        """
        now = self._clock.now_us()
        return [
            OwedLine(owed.change.amount, owed.account.price.currency, owed.reason, period.start, period.end)
            for period in rows.periods.of(environment, customer)
            if period.provider is not None and period.state == "open" and period.start <= now
            for owed in self._adjustments.lacking(rows, period, self._total)
            if owed.change.amount
        ]

    def close(self, rows: Repositories, environment: Environment, customer: str, start: int, invoice: str) -> int:
        """The period's invoice is there as a draft: flush, and put what is rated here on it. How many messages were made."""
        period = rows.periods.get(environment, customer, start)
        if period is None or period.state == "invoiced":
            return 0
        if (period.state, period.invoice) != ("closing", invoice):
            rows.periods.move(environment, customer, start, "closing", invoice)
        return self.flush(rows, environment, customer, start)

    def finalised(
        self, rows: Repositories, environment: Environment, customer: str, start: int, invoice: str | None, at: int
    ) -> None:
        """The period's invoice was finalised `at`: what was not sent by then, and all that comes later, is carried forward.

        `invoice` None: the provider made none, since the contract ended and it had nothing to bill.
        """
        period = rows.periods.get(environment, customer, start)
        if period is None or period.state == "invoiced":
            return
        now = self._clock.now_us()
        rows.periods.move(environment, customer, start, "invoiced", invoice, at)
        for message in rows.outbox.withdraw(environment, customer, start, now):
            if message.meter is not None and message.quantity is not None and message.status != "too_old":
                report = self._book(rows, period, message.meter)
                rows.reports.put(replace(report, reported=report.reported - message.quantity), now)

    def reopened(self, rows: Repositories, environment: Environment, customer: str, start: int) -> None:
        """Another contract has the period: what an invoice had of the one before is none of its."""
        now = self._clock.now_us()
        for report in rows.reports.of(environment, customer, start):
            rows.reports.put(replace(report, billed=None), now)

    def _write(
        self,
        rows: Repositories,
        period: BillingPeriod,
        meter: str,
        total: Decimal,
        report: UsageReport,
        seq: int,
        now: int,
        priority: int,
        *,
        cut: bool = False,
    ) -> int:
        """Bring the book to `total`. 1 when a message was made for it."""
        if period.state == "invoiced" or closes_late(period, now):
            prices = [price for price in self._prices(rows, period) if price.meter == meter]
            self._adjustments.carry(rows, period, report, prices, total, seq, now)
            return 0
        lacking = total - report.reported - report.carried
        at = self._date(rows, period, now, cut=cut) if lacking else None
        if at is None:  # what cannot be dated in it is carried forward
            return 0
        made = OutboxMessage(
            id=new_id("out", now // 1000, self._clock.random_bits(80)),
            environment=period.environment,
            topic=METER_EVENT,
            lane=usage_lane(period.environment, period.customer, meter),
            identifier=identify(
                "usage", period.environment, period.customer, meter, period.start, seq, report.revision
            ),
            payload={
                "at": at,
                "end": period.end,
                "after_seq": report.seq,
                "upto_seq": seq,
            },
            priority=priority,
            created_at=now,
            due_at=now,
            customer=period.customer,
            meter=meter,
            period_start=period.start,
            quantity=lacking,
        )
        rows.outbox.put([made])
        book = replace(report, reported=report.reported + lacking, revision=report.revision + 1, seq=seq)
        rows.reports.put(book, now)
        self.made += 1
        return 1

    @staticmethod
    def _date(rows: Repositories, period: BillingPeriod, now: int, *, cut: bool) -> int | None:
        """When usage is dated; None where no date is the period's alone. The provider's sums are asked for by whole minutes, and a minute
        that began in another period is that one's."""
        if period.start >= period.end:
            return None
        at = cut_time(period.start, period.end, now) if cut else report_time(period.start, period.end, now)
        minute = period.start - period.start % MINUTE_US
        if at is not None and at < minute + MINUTE_US and minute < period.start:
            before = rows.periods.overlapping(period.environment, [period.customer], minute, period.start)
            return None if before else at
        return at

    def _divide(self, periods: Iterable[BillingPeriod]) -> None:
        """See to it that no cell holds usage of two periods, or of one and of what comes after it."""
        now = self._clock.now_us()
        for period in dict.fromkeys(periods):
            for edge in (period.start, period.until):
                if edge <= now + AHEAD_US and not self._edges.cut(period.environment, period.customer, edge):
                    self.undivided += 1
                    logger.warning(
                        "usage of %s cannot be divided at %d any more: its events are gone", period.customer, edge
                    )

    def _book(self, rows: Repositories, period: BillingPeriod, meter: str) -> UsageReport:
        found = rows.reports.get(period.environment, period.customer, meter, period.start)
        return found or UsageReport(period.environment, period.customer, meter, period.start)

    def _prices(self, rows: Repositories, period: BillingPeriod) -> Sequence[Price]:
        """Those of the period's plan that the provider bills by usage, in the customer's currency."""
        plan = rows.catalog.plan(period.plan, period.plan_version)
        customer = rows.customers.get(period.customer)
        if plan is None or customer is None:
            return ()
        return tuple(
            price
            for price in plan.prices
            if price.meter is not None and price.currency == customer.currency and rated_here(price) is None
        )

    def _meters(self, rows: Repositories, period: BillingPeriod, only: str | None) -> Iterator[tuple[str, int]]:
        for meter in dict.fromkeys(price.meter for price in self._prices(rows, period)):
            if meter is not None and only in (None, meter):
                yield meter, self._book(rows, period, meter).revision

    def _total(self, period: BillingPeriod, meter: str) -> Decimal | None:
        """What the ledger has; None where that is not known, which is no zero."""
        total = self._usage.period_total(meter, period.environment, period.customer, period.start, period.until)
        if total is None:
            self.unknown += 1
        return total
