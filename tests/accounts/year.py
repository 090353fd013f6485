"""A rehearsed year: customers by chance at a real sandbox, each invoice held against the accountant's."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accounts.accountant import minor
from accounts.contracts import TYPES, Account, Coupon, Event, catalog, plans
from sandbox.conftest import Running
from selling.test_with_sandbox import House
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.corrections import Asked

STARTS = [datetime(2027, 1, 29, 15, 37, 12, tzinfo=UTC), datetime(2027, 10, 29, 15, 37, 12, tzinfo=UTC)]
GUARD = timedelta(minutes=3)
DRAFT = timedelta(hours=2)
SMALLEST = {"usd": 50, "jpy": 50}
"""What is less is owed with the next invoice (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts)."""
ZONES = ["UTC", "Asia/Kathmandu", "Europe/Vienna", "America/New_York"]


class Year(House):
    def __init__(self, folder: Path, running: Running, seed: int, customers: int = 30, months: int = 12) -> None:
        self.chance = random.Random(seed)
        self.plans = plans(self.chance)
        super().__init__(folder, running, catalog(self.plans))
        self.begin = STARTS[seed % 2]
        self.at(self.begin)
        self.finish = self.begin + timedelta(days=31 * months)
        self.accounts: list[Account] = []
        self.previewed: list[tuple[str, datetime, int]] = []
        self.numbers = iter(range(10**9))
        self.stops: list[tuple[datetime, int, str, Account]] = []
        self.coupons = self._coupons()
        self.failures: list[str] = []
        self.refunds: Counter[str] = Counter()
        for number in range(customers):
            currency = self.chance.choice(["usd", "usd", "jpy", "kwd"])
            account = Account(f"c{number}", currency)
            self.accounts.append(account)
            zone = self.chance.choice(ZONES)
            self.zone = zone
            self.customer(account.id, currency)
            edge = self.chance.choice([0, 86_400, 2 * 86_400, self.chance.randrange(28 * 86_400)])
            self.stop(self.begin + timedelta(seconds=edge + self.chance.choice([0, 0, number * 61])), "buy", account)

    def _coupons(self) -> list[dict[str, Any]]:
        return [
            {"percent_off": 15, "duration": "forever"},
            {"percent_off": 33.33, "duration": "repeating", "duration_in_months": 3},
            {"percent_off": 12.5, "duration": "once"},
            {"amount_off": 700, "duration": "forever"},
            {"amount_off": 1234, "duration": "repeating", "duration_in_months": 2},
            {"amount_off": 10_000, "duration": "once"},
        ]

    def close(self) -> None:
        self.browser.close()
        self.money.close()
        self.toll.close()

    def stop(self, at: datetime, what: str, account: Account) -> None:
        heapq.heappush(self.stops, (at, next(self.numbers), what, account))

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.spine.time.now / 1e9, UTC)

    def run(self) -> None:
        while self.stops and self.stops[0][0] <= self.finish:
            at, _, what, account = heapq.heappop(self.stops)
            at = max(at, self.now)
            self.at(at)
            for one in self.accounts:
                assert one.end is None or one.plan is None or one.end > at or one is account or what == "end", (
                    one.id,
                    what,
                )
            getattr(self, f"_{what}")(account, at)

    def rest(self) -> None:
        assert self.money.subscriptions is not None
        self.money.subscriptions.close_ends()
        self.settle()
        for account in self.accounts:
            account.settled()

    # stops

    def _buy(self, account: Account, at: datetime) -> None:
        coupon = None
        sent = None
        if self.chance.random() < 0.4:
            params = dict(self.chance.choice(self.coupons))
            if "amount_off" in params:
                params["currency"] = account.currency
            made = self.running.client.v1.coupons.create(params)  # type: ignore[arg-type]
            sent = made.id
            text = params.get("percent_off")
            coupon = Coupon(
                made.id,
                params["duration"],
                None if text is None else str(text),
                params.get("amount_off"),
                params.get("duration_in_months"),
            )
        plan = self.chance.choice(self.plans)
        if not plan.of(account.currency):
            return
        if plan.trial_days:
            coupon = sent = None
        self.coupon = sent
        self.buy(plan.key, account.id)
        account.buy(plan, at, coupon)
        self.rest()
        self._month(account)

    def _month(self, account: Account) -> None:
        """What will happen in the month that begins."""
        assert account.start is not None
        assert account.end is not None
        span = account.end - account.start
        fate = self.chance.random()
        begin = account.start + DRAFT + timedelta(minutes=30)
        for _ in range(self.chance.choice([0, 1, 2, 3])):
            when = begin + self.chance.random() * (span - DRAFT - timedelta(minutes=40))
            self.stop(when.replace(microsecond=0), "use", account)
        if fate < 0.3 and not account.trial:
            when = begin + self.chance.random() * (span - DRAFT - timedelta(hours=5))
            self.stop(when.replace(microsecond=0), self.chance.choice(["change", "change", "cancel"]), account)
        elif fate < 0.4 and not account.trial:
            self.stop(begin + span / 3, self.chance.choice(["later", "last"]), account)
        self.stop(account.end - timedelta(seconds=20), "before", account)
        self.stop(account.end + timedelta(seconds=5), "end", account)

    def _use(self, account: Account, at: datetime) -> None:
        if not account.spans and account.plan is None:
            return
        events: list[UsageEvent] = []
        for _ in range(self.chance.randint(1, 25)):
            back = self.chance.choice([0, 0, 3600, 86_400, 9 * 86_400, 30 * 86_400])
            when = at - timedelta(seconds=back * self.chance.random())
            when = when.replace(microsecond=self.chance.choice([0, when.microsecond]))
            meter = self.chance.choice(sorted(TYPES))
            value = self._value(meter)
            data = None if value is None else {{"tokens": "tokens", "peak": "seats", "users": "user"}[meter]: value}
            event = Event(f"e{next(self.numbers)}", meter, when, value)
            if self._close_to_an_edge(account, when):
                continue
            events.append(UsageEvent(event.id, TYPES[meter], "t", customer=account.id, time=when, data=data))
            account.events[event.id] = event
        if events:
            results = self.toll.ingest.ingest_wait("test", events)
            assert {one.status for one in results} == {"accepted"}, results
        if self.chance.random() < 0.5:
            self.rest()
        for _ in range(self.chance.choice([0, 0, 1, 3])):
            self._correct(account, at)
        if self.chance.random() < 0.6:
            self.rest()

    def _value(self, meter: str) -> Any:
        if meter == "tokens":
            return self.chance.choice([str(self.chance.randint(0, 9)), f"{self.chance.random() * 5:.3f}", "-1.5"])
        return {"calls": None, "peak": str(self.chance.randint(1, 50)), "users": f"u{self.chance.randint(1, 40)}"}[
            meter
        ]

    def _close_to_an_edge(self, account: Account, when: datetime) -> bool:
        edges = [edge for start, end, _ in account.spans for edge in (start, end)] + [account.start or when]
        first = min(edges)
        return when < first or any(abs(when - edge) < timedelta(seconds=1) for edge in edges)

    def _correct(self, account: Account, at: datetime) -> None:
        recent = [one for one in account.events.values() if at - one.at < timedelta(days=33)]
        if not recent:
            return
        event = self.chance.choice(recent)
        change = self.chance.random() < 0.4 and event.meter in ("tokens", "peak")
        data: dict[str, Any] | None = None
        if change:
            event.value = self._value(event.meter)
            data = {{"tokens": "tokens", "peak": "seats"}[event.meter]: event.value}
        else:
            del account.events[event.id]
        asked = Asked("amend" if change else "void", "test", Selection(id=event.id, source="t"), "a test", "ada", data)
        self.toll.corrections.correct(asked)

    def _change(self, account: Account, at: datetime) -> None:
        if not self._free_to_change(account, at):
            return
        plan = self.chance.choice(self.plans[:5])
        if plan is account.plan or account.plan is self.plans[5]:
            return
        self.rest()
        assert self.money.checkouts is not None
        self.money.checkouts.change(account.id, plan.key, "now")
        account.upgrade(plan, at)
        self.rest()
        self._month(account)

    def _free_to_change(self, account: Account, at: datetime) -> bool:
        return (
            account.plan is not None
            and account.next_plan is None
            and not account.ending
            and not account.trial
            and account.draft is None
            and account.start is not None
            and account.end is not None
            and account.start + GUARD < at < account.end - GUARD
        )

    def _later(self, account: Account, at: datetime) -> None:
        plan = self.chance.choice(self.plans[:5])
        if not self._free_to_change(account, at) or plan is account.plan or account.plan is self.plans[5]:
            return
        assert self.money.checkouts is not None
        self.money.checkouts.change(account.id, plan.key, "period_end")
        account.downgrade(plan)

    def _last(self, account: Account, at: datetime) -> None:
        if not self._free_to_change(account, at):
            return
        assert self.money.checkouts is not None
        self.money.checkouts.cancel(account.id, "period_end")
        account.ending = True

    def _cancel(self, account: Account, at: datetime) -> None:
        if not self._free_to_change(account, at):
            return
        self.rest()
        assert self.money.checkouts is not None
        self.money.checkouts.cancel(account.id, "now")
        account.cancel(at)
        self.rest()
        self._again(account, at)

    def _before(self, account: Account, at: datetime) -> None:
        """What the preview says seconds before the end."""
        if account.plan is None or account.end is None or not timedelta(0) < account.end - at < timedelta(minutes=1):
            return
        self.rest()
        if account.ending or account.trial:
            return
        assert self.money.checkouts is not None
        shown = self.money.checkouts.preview(account.id)
        self.previewed.append((account.id, account.end, int(minor(shown.total, account.currency))))

    def _end(self, account: Account, at: datetime) -> None:
        if account.plan is None or account.end is None or not timedelta(0) < at - account.end < timedelta(minutes=10):
            return
        account.reach_end()
        self.rest()
        self.stop(at + DRAFT, "final", account)

    def _final(self, account: Account, at: datetime) -> None:
        account.finalise()
        self.rest()
        if account.plan is not None:
            self._month(account)
        else:
            self._again(account, at)

    def _again(self, account: Account, at: datetime) -> None:
        """Some buy again, after the last of what they owed was invoiced."""
        self.stop(at + DRAFT, "rest", account)
        if self.chance.random() < 0.6:
            self.stop(at + timedelta(days=1) + timedelta(seconds=self.chance.randrange(20 * 86_400)), "buy", account)

    def _rest(self, account: Account, at: datetime) -> None:
        self.rest()

    # what came of it

    def compare(self) -> int:
        """Every invoice with the one that was foreseen; the number of those compared."""
        over = self.now
        self.at(over + DRAFT)  # what was put on an invoice of its own is final
        for account in self.accounts:
            if account.draft is not None:
                account.finalise()
        self.rest()
        compared = 0
        for account in self.accounts:
            compared += self._compare(account, over)
        return compared

    def _compare(self, account: Account, over: datetime) -> int:
        with self.toll.database.read() as rows:
            held = rows.provider_objects.get("stripe", "test", "customer", account.id)
            kept = {one.id: one for one in rows.invoices.of("test", account.id)}
        if held is None:
            return 0
        v1 = self.running.client.v1
        found = list(reversed(list(v1.invoices.list({"customer": held.id, "limit": 100}).auto_paging_iter())))
        actual, beside, balance = [], 0, 0
        credited = sum(note.amount for note in v1.credit_notes.list({"customer": held.id, "limit": 100}).data)
        for invoice in found:
            all_lines = list(v1.invoices.line_items.list(invoice.id, {"limit": 100}).auto_paging_iter())
            amounts = Counter(line.amount for line in all_lines if line.amount)
            off = sum(one.amount for one in invoice.total_discount_amounts or [])
            row = kept.pop(invoice.id, None)
            if row is None or (row.status, minor(row.total, account.currency)) != (invoice.status, invoice.total):
                self.failures.append(f"{account.id} {invoice.id}: our row {row} but {invoice.status} {invoice.total}")
            if invoice.status == "draft":
                continue
            if not credited and account.currency in SMALLEST:
                owed = invoice.total + balance
                due, balance = (owed, 0) if owed >= SMALLEST[account.currency] else (0, owed)
                if (invoice.amount_due, invoice.ending_balance) != (due, balance):
                    self.failures.append(f"{account.id} {invoice.id}: {invoice.amount_due} is asked, not {due}")
            of = invoice.parent.subscription_details if invoice.parent else None
            if of is None:
                beside += invoice.total
            elif amounts and invoice.created <= over.timestamp():
                actual.append((datetime.fromtimestamp(invoice.created, UTC), amounts, off, invoice.total))
        expected = [(one.at, one.lines, one.off, one.total) for one in account.expected if one.lines]
        said = "\n      ".join(account.story)
        for number in range(max(len(expected), len(actual))):
            wanted = expected[number] if number < len(expected) else None
            got = actual[number] if number < len(actual) else None
            if got != wanted:
                self.failures.append(
                    f"{account.id} {account.currency} invoice {number}:\n   wanted {wanted}\n   got    {got}\n      {said}"
                )
                break
        if beside - credited != account.after:
            self.failures.append(f"{account.id} beside: {beside} - {credited}, foreseen {account.after}\n      {said}")
        for id, at, total in self.previewed:
            if id == account.id:
                right = [one.total for one in account.expected if one.at == at]
                if right and right[0] != total:
                    self.failures.append(f"{id} preview before {at}: {total}, invoice {right[0]}\n      {said}")
        return len(actual)

    def told(self, customer: str) -> str:
        """What the house wrote down of a customer: for whoever looks for a difference."""
        with self.toll.database.read() as rows:
            owed = rows.adjustments.of("test", customer)
            kept = rows.invoices.of("test", customer)
        text = [
            f"{one.period_start} {one.price} {one.quantity} {one.amount} {one.state} {one.invoice} {one.reason}"
            for one in owed
        ]
        text += [f"{one.id} {one.status} {one.total} {one.created_at}" for one in kept]
        return "\n".join(text)

    def drifting(self) -> list[str]:
        assert self.money.drift is not None
        self.money.drift.check_all()
        found = [one.check for one in self.money.drift.told()]
        return [f"{one}" for one in found if one.state != "outside"]  # between two contracts
