"""The sender killed again and again, against a sandbox that fails in every way: what it has is what the ledger has, to the unit."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.conftest import Running
from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.billing import BillingPeriod, whole_minutes
from tollkeeper.core.outbox import STATUSES
from tollkeeper.core.ports_money import ProviderObject
from tollkeeper.core.provider_catalog import Thing
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.shelf import StripeShelf
from tollkeeper.upkeep import verify_database

CATALOG = """
currency = "usd"
[meters.tokens]
event_type = "llm.completion"
aggregation = "sum"
value_property = "tokens"
[meters.largest]
event_type = "llm.completion"
aggregation = "max"
value_property = "tokens"
[plans.pro]
prices = [
  {key = "tokens", meter = "tokens", model = "per_unit", unit_amount = "0.01"},
  {key = "largest", meter = "largest", model = "per_unit", unit_amount = "1"},
]
"""
KINDS = ("429", "500", "drop_before", "drop_after", "500_after", "409")
SECOND = 1_000_000
DAY = 86_400 * SECOND


class House:
    """Files in `folder`, an account in the sandbox, and how far both clocks were moved on (s)."""

    def __init__(self, folder: Path) -> None:
        self.url = str(folder / "toll.db")
        self.sandbox = Running()
        self.calls = Calls("sk_test_tests1234", self.sandbox.url)
        self.account = StripeAccount(self.calls, lambda: None)
        self.offset = 0
        now = int(time.time()) * SECOND
        self.start, self.end = now - DAY - 12 * SECOND, now + 29 * DAY
        app = Tollkeeper(self.url)
        app.catalog.apply(CATALOG)
        self.customers: dict[str, str] = {}
        shelf = StripeShelf(self.calls, app.database.pair_id)
        self.meters = {
            key: shelf.make(Thing("meter", key, {"name": key}), lambda kind, key: "", key)
            for key in ("tokens", "largest")
        }
        made = [app.customers.create(name=f"c{n}", plan="pro").customer for n in range(4)]
        with app.database.write() as rows:
            for customer in made:
                self.customers[customer.id] = self.account.make_customer(customer, f"k-{customer.id}")
                rows.provider_objects.put(
                    ProviderObject("stripe", "test", "customer", customer.id, self.customers[customer.id], "", now)
                )
                rows.periods.put(BillingPeriod("test", customer.id, self.start, self.end, "stripe", "sub_1", "pro", 1))
            for key, id in self.meters.items():
                rows.provider_objects.put(ProviderObject("stripe", "test", "meter", key, id, "", now))
        app.close()

    def child(self, seed: int, mode: str) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("sender_child.py")
        arguments = [self.url, self.sandbox.url, str(self.offset), str(seed), mode]
        child = subprocess.Popen([sys.executable, str(script), *arguments], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        return child

    def go(self, seconds: int) -> None:
        self.offset += seconds
        self.sandbox.control("/clock", {"advance": seconds})


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.sandbox.stop()


@pytest.mark.parametrize("seed", [1])
def test_a_sender_killed_at_random_moments_amid_faults_reports_every_unit_once(house: House, seed: int) -> None:
    chance = random.Random(seed)
    for kind in KINDS:
        house.sandbox.control("/faults", {"kind": kind, "path": "*meter_events*", "rate": 0.07})
    for n in range(10):
        child = house.child(seed * 1000 + n, "work")
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(chance.uniform(0.05, 1.2))
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
        house.go(25 * 3600 if n in (4, 8) else 400)  # past every lease, and twice past what the provider remembers
    faults = house.sandbox.control("/faults")
    house.sandbox.control("/faults", None, "DELETE")
    drain = house.child(0, "drain")
    assert drain.wait(120) == 0
    assert drain.stdout is not None
    drain.stdout.close()

    app = Tollkeeper(house.url)
    first, last = whole_minutes(house.start, house.end)
    sent = 0
    for customer, id in house.customers.items():
        for meter, meter_id in house.meters.items():
            ledger = app.usage.period_total(meter, "test", customer, house.start, house.end)
            assert house.account.reported(meter_id, id, first, last) == ledger, (customer, meter)
            with app.database.read() as rows:
                states = rows.outbox.quantities("test", customer, meter, house.start)
            assert set(states) <= {"sent"}, states
            assert sum(states.values()) == ledger
            sent += len(states)
    assert sent
    assert sum(fault["hits"] for fault in faults["faults"]) > 5
    with app.database.read() as rows:
        assert {rows.outbox.counts().get(status, 0) for status in STATUSES} == {0}
    app.close()
    assert verify_database(house.url).ok
