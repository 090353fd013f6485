"""A desk whose money is collected by a sandbox on a real socket, spoken to by the official client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from desk import Desk
from sandbox.conftest import Running
from tollkeeper.integrations.stripe.account import StripeAccount
from tollkeeper.integrations.stripe.client import Calls
from tollkeeper.integrations.stripe.doctor import StripeDoctor
from tollkeeper.integrations.stripe.shelf import StripeShelf
from tollkeeper.services.provider_catalog import ProviderCatalog

INSTALLATION = "0123456789abcdef"
PUBLIC_URL = "https://toll.example.com"

CATALOG = """
name = "Weather"
currency = "usd"

[products.api]
name = "Weather API"

[meters.calls]
event_type = "api.call"
aggregation = "count"

[meters.seats]
event_type = "session"
aggregation = "unique"
value_property = "user"

[plans.free]
product = "api"
quotas = [{meter = "calls", limit = "100", kind = "hard"}]

[plans.pro]
product = "api"
prices = [
  {key = "fee", model = "flat", flat_amount = "9"},
  {key = "calls", meter = "calls", model = "graduated", tiers = [
    {up_to = "1000", unit_amount = "0"}, {up_to = "inf", unit_amount = "0.002"}]},
  {key = "seats", meter = "seats", model = "package", package_size = "5", package_amount = "2"},
]

[plans.custom]
product = "api"
prices = [{key = "calls", meter = "calls", model = "per_unit", unit_amount = "0.01", minimum = "50"}]
"""


class Shop:
    """One installation and its account. `seen()`: the calls that changed something since the last time, as (path, parameters)."""

    def __init__(self, folder: Path, running: Running) -> None:
        self.sandbox = running
        self.desk = Desk(folder, CATALOG)
        self.calls = Calls("sk_test_tests1234", running.url)
        self.shelf = StripeShelf(self.calls, INSTALLATION)
        self.catalog = ProviderCatalog(self.desk.database, self.shelf, INSTALLATION, self.desk.clock)
        self.account = StripeAccount(self.calls, lambda: self.id("portal", "default"))
        self.doctor = StripeDoctor(self.calls, PUBLIC_URL, has_webhook_secret=True)

    def id(self, kind: str, key: str) -> str | None:
        with self.desk.database.read() as rows:
            found = rows.provider_objects.get("stripe", "test", kind, key)
        return None if found is None else found.id


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    running = Running()
    made = Shop(tmp_path, running)
    yield made
    made.desk.database.close()
    running.stop()
