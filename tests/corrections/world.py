"""A Tollkeeper with every aggregation, and what it takes to correct and to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spine import Spine
from tollkeeper.core.corrections import Correction, Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.corrections import Asked
from tollkeeper.upkeep import verify_database

CATALOG = """
currency = "usd"
[meters.api_calls]
event_type = "api.call"
aggregation = "count"
[meters.tokens]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
[meters.by_model]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
group_by = ["model", "region"]
[meters.largest]
event_type = "llm"
aggregation = "max"
value_property = "tokens"
group_by = ["model"]
[meters.smallest]
event_type = "llm"
aggregation = "min"
value_property = "tokens"
[meters.mean]
event_type = "llm"
aggregation = "avg"
value_property = "tokens"
[meters.last]
event_type = "llm"
aggregation = "latest"
value_property = "tokens"
[meters.models]
event_type = "llm"
aggregation = "unique"
value_property = "model"
group_by = ["region"]
[meters.tokens_of_a]
event_type = "llm"
aggregation = "sum"
value_property = "tokens"
filters = [{property = "model", equals = "a"}]
[plans.free]
product = "api"
quotas = [{meter = "api_calls", limit = "5", kind = "hard"}, {meter = "tokens", limit = "1000000", kind = "hard"}]
"""
METERS = ("api_calls", "tokens", "by_model", "largest", "smallest", "mean", "last", "models", "tokens_of_a")
GROUPS = {"by_model": ("model", "region"), "largest": ("model",), "models": ("region",)}
DAY_US = 86_400_000_000


class World(Spine):
    """Customers `ann` and `bob`."""

    def __init__(self, folder: Path, zones: tuple[str, str] = ("UTC", "Asia/Kathmandu")) -> None:
        super().__init__(folder, CATALOG)
        for id, zone in zip(("ann", "bob"), zones, strict=True):
            self.customer(id=id, zone=zone)

    @property
    def now(self) -> int:
        return self.time.now // 1000

    def send(self, *events: UsageEvent, environment: Any = "live") -> list[str]:
        return [result.status for result in self.app.ingest.ingest_wait(environment, events)]

    def correct(self, asked: Asked) -> Correction:
        """Tried, then made: both must say the same, and it must come true."""
        tried = self.app.corrections.preview(asked)
        before = {place: self.used(place[1], **place_query(place)) for place in places(tried)}
        made = self.app.corrections.correct(asked)
        assert made.applied_at is not None
        assert (made.events, made.skipped) == (tried.events, tried.skipped)
        assert made.changes == tried.changes
        for change, place in zip(tried.changes, places(tried), strict=True):
            assert change.before == before[place]
            environment = {"environment": asked.environment}
            assert change.after == self.used(place[1], **place_query(place), **environment), change
        return made

    def usage(self, environment: Any = "live") -> dict[tuple[Any, ...], Any]:
        """Every total, by day, key and dimension."""
        found = {}
        for customer in ("ann", "bob"):
            for meter in METERS:
                answer = self.app.usage.query(
                    meter,
                    environment=environment,
                    customer=customer,
                    start=self.now - 40 * DAY_US,
                    end=self.now + DAY_US,
                    window="day",
                    group_by=("key", *GROUPS.get(meter, ())),
                )
                found[customer, meter] = answer.total
                for row in answer.data:
                    if row.events:
                        found[customer, meter, row.start, *row.group.values()] = (row.value, row.events)
        return found

    def hold(self) -> None:
        """The log refolded agrees, and so does what the gate has in memory."""
        verification = verify_database(self.url)
        assert verification.ok, verification.shown
        for (environment, customer), account in list(self.app.gate._accounts.items()):
            stored = self.app.usage_file.reader.totals(environment, customer, account.start, account.end)
            kept = {meter: total.used for meter, total in account.totals.items() if total.used}
            assert kept == {meter: used for meter, used in stored.items() if used}
            following = self.app.usage_file.reader.totals(environment, customer, account.end, account.end + 27 * DAY_US)
            assert {m: n for m, n in account.following.items() if n} == {m: n for m, n in following.items() if n}


def places(correction: Correction) -> list[tuple[str, str, int, int]]:
    return [(one.customer, one.meter, one.start, one.end) for one in correction.changes]


def place_query(place: tuple[str, str, int, int]) -> dict[str, Any]:
    customer, _, start, end = place
    return {"customer": customer, "start": start, "end": end}


def void(selection: Selection, **fields: Any) -> Asked:
    return Asked("void", fields.pop("environment", "live"), selection, "a test", "ada", **fields)


def amend(selection: Selection, data: dict[str, Any], **fields: Any) -> Asked:
    return Asked("amend", fields.pop("environment", "live"), selection, "a test", "ada", data, **fields)


def one(id: str, source: str = "default") -> Selection:
    return Selection(id, source)
