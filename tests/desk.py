"""A desk on a fresh database, with a clock moved by hand and seeded randomness."""

from __future__ import annotations

import random
from pathlib import Path

from tollkeeper.services.catalog import CatalogService
from tollkeeper.services.customers import CustomerService
from tollkeeper.services.keys import KeyService
from tollkeeper.storage.sql.engine import open_database

SECOND = 1_000_000
DAY = 86_400 * SECOND
START = 1_760_000_000 * SECOND

CATALOG = """
currency = "usd"

[products.api]
name = "API"

[meters.api_calls]
event_type = "api.call"
aggregation = "count"

[plans.free]
product = "api"
limits = [{name = "burst", limit = 10, window_seconds = 1}]
quotas = [{meter = "api_calls", limit = "1000", kind = "hard"}]

[plans.pro]
product = "api"
limits = [{name = "burst", limit = 100, window_seconds = 1}]

[[plans.pro.prices]]
key = "calls"
meter = "api_calls"
model = "per_unit"
unit_amount = "0.002"
"""


class Desk:
    """`changes` is what `on_change` was told, in order."""

    def __init__(self, folder: Path, catalog: str | None = CATALOG) -> None:
        self.path = folder / "x.db"
        self.now = START
        self.changes: list[str | None] = []
        self.database = open_database(str(self.path))
        bits = random.Random(7).getrandbits
        self.catalog = CatalogService(self.database, self.clock, self.changes.append)
        self.customers = CustomerService(self.database, self.clock, bits, self.changes.append)
        self.keys = KeyService(self.database, self.clock, bits, self.changes.append)
        if catalog is not None:
            self.catalog.apply(catalog)
            self.changes.clear()

    def clock(self) -> int:
        return self.now
