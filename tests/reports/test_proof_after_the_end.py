"""The sender killed again and again while it bills and credits what comes after the end of contracts.

Against a sandbox that fails in every way. Lines, last invoices and credit notes: each customer pays what the ledger comes to, once.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from reports.lived import Lived
from sandbox.conftest import Running
from tollkeeper.core.outbox import CREDIT_NOTE, INVOICE_LINE, LAST_INVOICE
from tollkeeper.core.rating import rate
from tollkeeper.money import Money
from tollkeeper.settings import Settings

KINDS = ("429", "500", "drop_before", "drop_after", "500_after", "409")
PATHS = ("/v1/invoiceitems", "/v1/invoices", "/v1/credit_notes")
CALLS = 12


class Ended(Lived):
    """Contracts of pro that were cancelled and paid, of several months of one customer after another."""

    during: list[datetime]

    def begin(self, contracts: int) -> None:
        self.during = []
        self.used: list[list[str]] = []
        for _ in range(contracts):
            self.buy("pro")
            self.move(3600)
            self.during.append(self.now)
            self.used.append(self.use(CALLS))
            self.move(3600)
            self.cancel()
        assert self.collected() == contracts * (30 + Decimal(CALLS) / 2)

    @property
    def instant(self) -> int:
        return self.spine.time.now // 1000

    def child(self, mode: str) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("money_child.py")
        arguments = [self.spine.url, self.running.url, str(self.instant), mode]
        child = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    def posted(self) -> int:
        calls = self.running.control("/calls?method=POST&limit=2000")["calls"]
        return sum(one["method"] == "POST" and one["path"].startswith(PATHS) for one in calls)

    def shut(self) -> None:
        self.money.close()
        self.toll.close()

    def reopen(self) -> None:
        self.spine.reopen()
        self.toll = self.spine.app
        account = {"STRIPE_SECRET_KEY": "sk_test_tests1234", "STRIPE_API_BASE": self.running.url}
        self.money = Money(self.toll, Settings.load(account))


@pytest.fixture
def ended(tmp_path: Path) -> Iterator[Ended]:
    running = Running()
    made = Ended(tmp_path, running)
    yield made
    made.browser.close()
    made.shut()
    running.stop()


def test_a_sender_killed_among_lines_last_invoices_and_credit_notes_bills_and_credits_each_unit_once(
    ended: Ended,
) -> None:
    chance = random.Random(3)
    ended.begin(4)
    v1: Any = ended.running.client.v1
    for kind in KINDS:
        for path in PATHS:
            ended.running.control("/faults", {"kind": kind, "method": "POST", "path": path, "rate": 0.15})
    for turn in range(12):
        number = turn % 4
        if number % 2:
            ended.use(chance.randrange(1, 4), ended.during[number])
        else:
            ended.void(ended.used[number].pop())
        ended.shut()
        child = ended.child("work")
        before, wanted = ended.posted(), chance.randrange(3)
        for _ in range(400):  # until it has sent something, as a rule
            if ended.posted() >= before + wanted:
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.05))
        assert child.poll() is None
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
        ended.reopen()
        ended.move(25 * 3600 if turn in (4, 8) else 400)
    faults = ended.running.control("/faults")["faults"]
    ended.running.control("/faults", None, "DELETE")
    for _ in range(3):
        ended.shut()
        drain = ended.child("drain")
        assert drain.wait(120) == 0
        assert drain.stdout is not None
        drain.stdout.close()
        ended.reopen()
        ended.move(7200)
        ended.settle()
    with ended.toll.database.read() as rows:
        sent = {m.topic for m in rows.outbox.list(None, None, None, 1000) if m.status == "sent"}
        assert {CREDIT_NOTE, INVOICE_LINE, LAST_INVOICE} <= sent
        periods = rows.periods.of("test", "acme")
        owed = Decimal(0)
        for period in periods:
            total = ended.toll.usage.period_total("api_calls", "test", "acme", period.start, period.until)
            assert total is not None
            plan = rows.catalog.plan("pro", 1)
            assert plan is not None
            owed += sum((rate(price, total).amount for price in plan.prices), Decimal(0))
    assert len(periods) == 4
    assert ended.collected() == owed
    assert v1.invoice_items.list({"pending": True}).data == []
    assert sum(fault["hits"] for fault in faults) >= 5
    assert ended.money.drift is not None
    ended.money.drift.check_all()
    assert ended.money.drift.told() == []
