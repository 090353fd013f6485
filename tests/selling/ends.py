"""A customer whose usage is placed to the microsecond around the ends of contracts, and where each unit of it is billed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from reports.lived import Lived
from tollkeeper.core.drift import DriftCheck

SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
CENTS = {"pro": 50, "max": 10}


class Ends(Lived):
    """`go` sets both clocks; the sandbox's knows whole seconds, as Stripe's does. The ledger is what `used` was sent."""

    def go(self, instant: int) -> None:
        self.spine.time.now = instant * 1000
        self.running.control("/clock", {"set": time_of(instant - instant % SECOND).isoformat(), "frozen": True})

    @property
    def instant(self) -> int:
        return self.spine.time.now // 1000

    def use_at(self, *instants: int) -> None:
        """An event at each, sent then; the clock goes on to it."""
        for instant in sorted(instants):
            if instant > self.instant:
                self.go(instant)
            self.use(1, time_of(instant))

    def rest(self, hours: int = 6) -> None:
        """Live on until every invoice is final and everything that came of it is settled."""
        for _ in range(3):
            self.go(self.instant - self.instant % SECOND + hours * HOUR // 3)
            self.settle()

    def cut(self, how: str) -> None:
        assert self.money.checkouts is not None
        if how == "change":
            self.money.checkouts.change("acme", "max", "now")
        else:
            self.money.checkouts.cancel("acme", how)  # type: ignore[arg-type]

    @property
    def v1(self) -> Any:
        return self.running.client.v1

    def billed(self) -> dict[str, int]:
        """Cents of usage on the sandbox's invoices by plan: of metered prices, and of our adjustments, less what was credited."""
        found = dict.fromkeys(CENTS, 0)
        for invoice in self.v1.invoices.list({"limit": 100}).data:
            if invoice.status in ("void", "draft"):
                continue
            for line in self.v1.invoices.line_items.list(invoice.id, {"limit": 100}).data:
                if (plan := self._plan(line)) is not None:
                    found[plan] += line.amount
        for note in self.v1.credit_notes.list({"limit": 100}).data:
            found[self._adjusted(note.metadata.to_dict()["tollkeeper_message"])] -= note.amount
        return found

    def _adjusted(self, message: str) -> str:
        """Of which plan's period an adjustment is."""
        with self.toll.database.read() as rows:
            one = rows.adjustments.by_outbox(message)
            period = rows.periods.get("test", "acme", one.period_start or 0) if one is not None else None
        assert period is not None
        return period.plan

    def _plan(self, line: Any) -> str | None:
        """Of which plan's usage a line is; None of a fee."""
        parent = line.parent
        message = line.metadata.to_dict().get("tollkeeper_message")
        if parent.type == "invoice_item_details" and message:
            return self._adjusted(message)
        price = line.pricing.price_details.price if line.pricing is not None else None
        with self.toll.database.read() as rows:
            held = rows.provider_objects.by_id("stripe", "test", "price", price) if price else None
        if held is None or not held.key.endswith("/calls"):
            return None
        return held.key.partition("@")[0]

    def told(self) -> list[DriftCheck]:
        drift = self.money.drift
        assert drift is not None
        drift.check_all()
        return [one.check for one in drift.told()]

    def outside(self) -> int:
        """Units that lie outside every contract; nothing else may be told."""
        told = self.told()
        assert {one.state for one in told} <= {"outside"}, told
        return int(sum((one.ledger for one in told), Decimal(0)))

    def waiting(self) -> int:
        """Amounts that are on no invoice yet, in cents."""
        return sum(one.amount for one in self.v1.invoice_items.list({"pending": True, "limit": 100}).data)


def time_of(instant: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=instant)
