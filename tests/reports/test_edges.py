"""Totals at the edges of periods: exact to the event, whatever the instant, the zone, and the time at which the edge was learned."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reports.house import CATALOG, DAY, HOUR, MINUTE, SECOND, House
from tollkeeper.core.corrections import Selection
from tollkeeper.core.events import UsageEvent
from tollkeeper.services.corrections import Asked
from tollkeeper.services.verify import Verification
from tollkeeper.storage.sql.usage.extras import CombinationCap
from tollkeeper.storage.sql.usage.retention import compact
from tollkeeper.storage.sql.usage.subjects import SubjectCap
from tollkeeper.upkeep import verify_database

QUARTER = 15 * MINUTE
EXTRAS = """
[meters.smallest]
event_type = "llm.completion"
aggregation = "min"
value_property = "tokens"
group_by = ["model"]
[meters.largest]
event_type = "llm.completion"
aggregation = "max"
value_property = "tokens"
[meters.last]
event_type = "llm.completion"
aggregation = "latest"
value_property = "tokens"
group_by = ["model"]
[meters.mean]
event_type = "llm.completion"
aggregation = "avg"
value_property = "tokens"
filters = [{property = "model", one_of = ["a", "b"]}]
[meters.users]
event_type = "llm.completion"
aggregation = "unique"
value_property = "user"
group_by = ["model"]
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, CATALOG.replace("[plans.pro]", EXTRAS + "\n[plans.pro]"))
    yield house
    house.app.close()


def utc(words: str) -> int:
    return round(datetime.fromisoformat(words).replace(tzinfo=UTC).timestamp()) * SECOND


def go_to(house: House, instant: int) -> None:
    house.go(instant - house.now)


def checked(house: House) -> Verification:
    """The verify command's answer, with the house closed meanwhile."""
    house.app.close()
    verification = verify_database(house.url)
    reopened(house)
    return verification


def reopened(house: House) -> None:
    house.reopen()
    house.open()


def total(house: House, meter: str, start: int, end: int) -> Decimal | None:
    return house.app.usage.period_total(meter, "live", house.acme, start, end)


@pytest.mark.parametrize(
    ("start", "middle", "end"),
    [
        ("2026-10-05T15:37:12", "2026-11-05T15:37:12", "2026-12-05T15:37:12"),  # within a quarter of an hour
        ("2026-10-31T23:59:59", "2026-11-30T23:59:59", "2026-12-31T23:59:59"),  # the month's end
        ("2027-12-29T18:15:00", "2028-01-29T18:15:00", "2028-02-29T18:15:00"),  # +05:45, a leap day
        ("2026-09-25T00:30:00", "2026-10-25T00:30:00", "2026-11-25T01:30:00"),  # Berlin, clocks set back
        ("2027-02-28T01:00:01", "2027-03-28T01:00:01", "2027-04-28T01:00:01"),  # Berlin, clocks set forward
    ],
)
def test_usage_of_the_last_and_the_first_second_is_in_its_own_period(
    house: House, start: str, middle: str, end: str
) -> None:
    edges = [utc(start), utc(middle), utc(end)]
    go_to(house, edges[0])
    house.forget_periods()
    go_to(house, edges[1])
    house.period(start=edges[0], end=edges[1])
    house.period(start=edges[1], end=edges[2])
    for at in (edges[0] - 1, edges[0], edges[1] - SECOND, edges[1] - 1, edges[1], edges[1] + SECOND - 1):
        house.use(1, at=at)
    go_to(house, edges[1] + HOUR)
    house.report()
    assert {one.period_start: str(one.quantity) for one in house.messages()} == {edges[0]: "3", edges[1]: "2"}
    house.use(1, at=edges[1] - 1)  # late
    house.use(1, at=edges[1])
    house.report()
    assert total(house, "api_calls", edges[0], edges[1]) == 4
    assert total(house, "api_calls", edges[1], edges[2]) == 3
    assert checked(house).ok


def test_an_upgrade_in_the_middle_of_a_cell_divides_it_though_it_is_learned_later(house: House) -> None:
    upgrade = house.start + 3 * DAY + 437 * SECOND
    go_to(house, upgrade - MINUTE)
    house.use(2)
    house.use(1, type="seat", seats=3)
    go_to(house, upgrade + MINUTE)
    house.use(5)
    house.use(1, type="seat", seats=9)
    house.report()
    house.period(end=upgrade)
    house.period(start=upgrade, end=house.end)
    house.report()
    assert house.book(start=house.start) == (Decimal(2), Decimal(0))
    assert house.book(start=upgrade) == (Decimal(5), Decimal(0))
    assert house.book("seats", house.start) == (Decimal(3), Decimal(0))
    assert house.book("seats", upgrade) == (Decimal(9), Decimal(0))
    assert checked(house).ok


def test_two_edges_within_one_quarter_of_an_hour(house: House) -> None:
    quarter = (house.start // QUARTER + 100) * QUARTER
    go_to(house, quarter + QUARTER)
    for second in range(0, 900, 60):
        house.use(1, at=quarter + second * SECOND)
    cuts = house.app.usage_file.cuts
    assert cuts.cut("live", house.acme, quarter + 61 * SECOND)
    assert cuts.cut("live", house.acme, quarter + 600 * SECOND)
    house.use(1, at=quarter + 300 * SECOND)
    found = [
        total(house, "api_calls", quarter + a * SECOND, quarter + b * SECOND)
        for a, b in ((0, 61), (61, 600), (600, 900))
    ]
    assert found == [2, 9, 5]
    assert checked(house).ok


def test_a_cut_is_made_once_and_one_customers_alone(house: House) -> None:
    other = house.customer("pro")
    at = house.start + DAY + 7 * SECOND
    go_to(house, at + MINUTE)
    house.use(2, at=at - SECOND)
    house.use(2, at=at - SECOND, customer=other)
    house.use(3)
    house.use(3, customer=other)
    cuts = house.app.usage_file.cuts
    assert cuts.cut("live", house.acme, at)
    assert cuts.cut("live", house.acme, at)
    assert cuts.cut("live", "nobody", at)
    quarter = at - at % QUARTER
    assert house.app.usage.period_total("api_calls", "live", other, quarter, at) == 5
    assert total(house, "api_calls", quarter, at) == 2
    assert checked(house).ok


def test_where_events_were_removed_a_cell_stays_as_it_is_and_that_is_told(house: House) -> None:
    at = house.start + DAY + 7 * SECOND
    go_to(house, at + MINUTE)
    house.use(2, at=at - SECOND)
    house.use(3)
    house.app.usage_file.writer.call(lambda log: compact(log, house.now + DAY, 3))
    assert not house.app.usage_file.cuts.cut("live", house.acme, at)
    assert total(house, "api_calls", at - at % QUARTER, at + HOUR) == 5
    house.period(end=at)
    house.period(start=at, end=house.end)
    house.report()
    assert house.reports.undivided == 2
    assert checked(house).ok


class Oracle:
    """Every event sent, and what each meter makes of those within two instants."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int, dict[str, Any]]] = []

    def total(self, meter: str, start: int, end: int) -> Decimal:
        found = [(at, n, data) for at, n, data in self.events if start <= at < end]
        if not found:
            return Decimal(0)
        values = [Decimal(data["tokens"]) for _, _, data in found]
        if meter == "tokens":
            return sum(values, Decimal(0))
        if meter == "smallest":
            return min(values)
        if meter == "largest":
            return max(values)
        if meter == "last":
            return Decimal(max(found, key=lambda one: one[:2])[2]["tokens"])
        if meter == "users":
            return Decimal(len({data["user"] for _, _, data in found}))
        kept = [Decimal(data["tokens"]) for _, _, data in found if data["model"] in ("a", "b")]
        return (sum(kept, Decimal(0)) / len(kept)).quantize(Decimal("1e-9")) if kept else Decimal(0)


@pytest.mark.parametrize("seed", range(12))
def test_every_aggregation_is_exact_between_any_two_edges_learned_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    oracle = Oracle()
    if seed % 3:  # more subjects and combinations than have rows of their own
        monkeypatch.setattr(SubjectCap.__init__, "__defaults__", (seed % 4 + 1,))
        monkeypatch.setattr(CombinationCap.__init__, "__defaults__", (seed % 3,))
    house = House(tmp_path, CATALOG.replace("[plans.pro]", EXTRAS + "\n[plans.pro]"))
    base = (house.start // QUARTER + 200) * QUARTER
    go_to(house, base + HOUR)
    known: set[int] = {base, base + HOUR}
    for n in range(150):
        action = chance.random()
        if action < 0.06:
            edge = base + chance.randrange(3600) * SECOND
            assert house.app.usage_file.cuts.cut("live", house.acme, edge)
            known.add(edge)
        elif action < 0.08:
            house.app.close()
            reopened(house)
        elif action < 0.3 and oracle.events:
            place = chance.randrange(len(oracle.events))
            at, number, _ = oracle.events.pop(place)
            where = Selection(id=f"e{number}", source="t")
            if action < 0.16:
                house.app.corrections.correct(Asked("void", "live", where, "a test", "ada"))
            else:
                changed = {
                    "tokens": chance.randrange(-50, 50),
                    "model": chance.choice("abc"),
                    "user": chance.choice("xyz"),
                }
                house.app.corrections.correct(Asked("amend", "live", where, "a test", "ada", changed))
                oracle.events.append((at, number, changed))
        else:
            at = base + chance.randrange(HOUR)
            data = {"tokens": chance.randrange(-50, 50), "model": chance.choice("abc"), "user": chance.choice("xyz")}
            event = UsageEvent(
                f"e{n}",
                "llm.completion",
                "t",
                chance.choice((None, "s1", "s2", "s3", "s4", "s5")),
                house.acme,
                datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at),
                data,
            )
            [result] = house.app.ingest.ingest_wait("live", [event])
            assert result.status == "accepted"
            oracle.events.append((at, n, data))
        edges = sorted(known)
        if n % 10 == 0:
            a, b = sorted(chance.sample(edges, 2))
            for meter in ("tokens", "smallest", "largest", "last", "users", "mean"):
                assert total(house, meter, a, b) == oracle.total(meter, a, b), (meter, a - base, b - base)
    edges = sorted(known)
    for a, b in pairwise(edges):
        for meter in ("tokens", "smallest", "largest", "last", "users", "mean"):
            assert total(house, meter, a, b) == oracle.total(meter, a, b), (meter, a - base, b - base)
    verification = checked(house)
    assert verification.ok, verification.shown
    house.app.close()
