"""A Tollkeeper that bills by a payment provider: periods put by hand, and a provider in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

from reports.fake_provider import FakeProvider
from spine import Spine
from tollkeeper.core.billing import Adjustment, BillingPeriod
from tollkeeper.core.customers import Environment
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.outbox import INVOICE_LINE, METER_EVENT, OutboxMessage
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.services.adjustments import Adjustments
from tollkeeper.services.dispatch import Dispatcher
from tollkeeper.services.drift import Drift
from tollkeeper.services.outbox import Outbox
from tollkeeper.services.reports import Reports
from tollkeeper.services.topics import InvoiceLines, MeterEvents

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

CATALOG = """
currency = "usd"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"

[meters.seats]
event_type = "seat"
aggregation = "max"
value_property = "seats"

[plans.pro]
[[plans.pro.prices]]
key = "fee"
model = "flat"
flat_amount = "9"
[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "graduated"
tiers = [{up_to = 10, unit_amount = 0}, {up_to = "inf", unit_amount = "0.5"}]
[[plans.pro.prices]]
key = "seats"
meter = "seats"
model = "per_unit"
unit_amount = "3"
[[plans.pro.prices]]
key = "tokens"
meter = "tokens"
model = "per_unit"
unit_amount = "0.01"
minimum = "2"
"""


class House(Spine):
    """`now` in µs. The customer has one period, of 30 days, that began a minute ago."""

    def __init__(self, folder: Path, catalog: str = CATALOG) -> None:
        super().__init__(folder, catalog)
        self.provider = FakeProvider(lambda: self.now)
        self.acme = self.customer("pro")
        self.start = self.now
        self.end = self.start + 30 * DAY
        self.sent = 0
        self.open()
        self.map("customer", self.acme, "cus_1")
        self.map("meter", "api_calls", "mtr_api_calls")
        self.map("meter", "seats", "mtr_seats")
        self.period()
        self.go(61_000_000)  # nothing is reported in the first minute of a period

    def open(self) -> None:
        """The services, as they are after a start."""
        app = self.app
        clock = self.time.clock()
        self.reports = Reports(
            app.database, app.usage, app.usage_file.reader, app.usage_file.cuts, clock, ("stripe", "live")
        )
        self.meter_events = MeterEvents(app.database, self.provider, app.database.pair_id)
        self.lines = InvoiceLines(app.database, self.provider, Adjustments(clock))
        self.dispatcher = self.dispatcher_at()
        self.drift = Drift(app.database, app.usage, self.provider, clock, lag_us=0)
        self.outbox = Outbox(app.database, clock)

    def dispatcher_at(self, **options: Any) -> Dispatcher:
        topics = {METER_EVENT: self.meter_events, INVOICE_LINE: self.lines}
        return Dispatcher(self.app.database, topics, "live", self.time.clock(), **{"threads": 1, **options})

    def dispatch(self) -> None:
        """Send all that may be sent at once."""
        while self.dispatcher.run_once():
            pass

    def object(self, kind: str, key: str, id: str) -> ProviderObject:
        return ProviderObject("stripe", "live", kind, key, id, "", self.now)

    def map(self, kind: str, key: str, id: str) -> None:
        """The provider has it as `id`."""
        with self.app.database.write() as rows:
            rows.provider_objects.put(self.object(kind, key, id))

    def unmap(self, kind: str, key: str) -> None:
        with self.app.database.engine.connect() as connection:
            connection.execute(
                text("DELETE FROM provider_objects WHERE kind = :kind AND key = :key"), {"kind": kind, "key": key}
            )
            connection.commit()

    def forget_periods(self) -> None:
        with self.app.database.engine.connect() as connection:
            connection.execute(text("DELETE FROM billing_periods"))
            connection.commit()

    def provided(self, meter: str = "api_calls") -> Decimal:
        """What the provider's meter has for the customer."""
        return self.provider.total(f"mtr_{meter}", "cus_1", 0, 1 << 62)

    @property
    def now(self) -> int:
        return self.time.now // 1000

    def go(self, microseconds: int) -> None:
        self.time.move(microseconds * 1000)

    def period(self, **fields: Any) -> BillingPeriod:
        values: dict[str, Any] = {
            "environment": "live",
            "customer": self.acme,
            "start": self.start,
            "end": self.end,
            "provider": "stripe",
            "subscription": "sub_9",
            "plan": "pro",
            "plan_version": 1,
        }
        period = BillingPeriod(**{**values, **fields})
        with self.app.database.write() as rows:
            rows.periods.put(period)
        return period

    def use(
        self,
        count: int = 1,
        at: int | None = None,
        type: str = "api.call",
        *,
        customer: str | None = None,
        environment: Environment = "live",
        **data: Any,
    ) -> list[str]:
        """Events of the customer, `at` (µs) or now. Their ids. A millisecond goes by."""
        time = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at or self.now)
        ids = []
        for _ in range(count):
            self.sent += 1
            ids.append(f"e-{self.sent}")
            event = UsageEvent(ids[-1], type, "t", customer=customer or self.acme, time=time, data=data or None)
            [result] = self.app.ingest.ingest_wait(environment, [event])
            assert result.status == "accepted", result
        self.go(1000)
        return ids

    def report(self) -> None:
        """Run the step until nothing is left."""
        while self.reports.run_once():
            pass

    def messages(self, topic: str = "meter_event") -> list[OutboxMessage]:
        """Oldest first."""
        with self.app.database.read() as rows:
            return list(rows.outbox.list(None, topic, None, 1000))[::-1]

    def owed(self, meter: str = "api_calls") -> list[str]:
        """Quantities put into the outbox, in order."""
        return [str(one.quantity) for one in self.messages() if one.meter == meter]

    def book(self, meter: str = "api_calls", start: int | None = None) -> tuple[Decimal, Decimal]:
        """Reported and carried."""
        with self.app.database.read() as rows:
            report = rows.reports.get("live", self.acme, meter, start or self.start)
        assert report is not None
        return report.reported, report.carried

    def adjustments(self) -> list[Adjustment]:
        with self.app.database.read() as rows:
            return list(rows.adjustments.of("live", self.acme))
