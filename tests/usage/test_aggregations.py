"""Every aggregation, with filters, dimensions, windows and zones, against a list of events and nothing clever."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spine import DAY, SECOND, Spine
from tollkeeper.core.errors import InvalidRequest
from tollkeeper.core.events import UsageEvent
from tollkeeper.core.metering import Meter
from tollkeeper.core.periods import period_at
from tollkeeper.core.plans import Quota
from tollkeeper.core.usage import Window
from tollkeeper.storage.sql.usage.extras import CombinationCap
from tollkeeper.storage.sql.usage.meters import definition
from tollkeeper.upkeep import verify_database

HEAD = """
currency = "usd"
[plans.p]
product = "api"
"""
WAYS = ("count", "sum", "avg", "max", "min", "latest", "unique")
METERS: dict[str, dict[str, Any]] = {
    **{way: {"aggregation": way} for way in WAYS},
    **{f"{way}_by": {"aggregation": way, "group_by": ["model", "region"]} for way in WAYS},
    "sum_of_a": {"aggregation": "sum", "filters": [("model", ("a", "7"), False)]},
    "max_not_eu": {"aggregation": "max", "group_by": ["model"], "filters": [("region", ("eu",), True)]},
    "count_both": {"aggregation": "count", "filters": [("region", ("eu", "us"), False), ("model", ("a",), True)]},
}
MOST = 3
ZONES = ("UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "America/New_York", "Pacific/Chatham")


def catalog() -> str:
    text = HEAD
    for key, meter in METERS.items():
        text += f'[meters.{key}]\nevent_type = "work"\naggregation = "{meter["aggregation"]}"\n'
        if meter["aggregation"] == "unique":
            text += 'value_property = "user"\n'
        elif meter["aggregation"] != "count":
            text += 'value_property = "size"\n'
        if names := meter.get("group_by"):
            text += f"group_by = {names}\n".replace("'", '"')
        for property, values, negated in meter.get("filters", ()):
            text += f'[[meters.{key}.filters]]\nproperty = "{property}"\n'
            text += f'not_equals = "{values[0]}"\n' if negated else f"one_of = {list(values)}\n".replace("'", '"')
    return text


class One(NamedTuple):
    """An accepted event; its place in the list is its place in the log."""

    environment: str
    customer: str
    key: str | None
    at: int
    data: dict[str, Any]


def text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return format(Decimal(value).normalize(), "f") if isinstance(value, int | Decimal) else str(value)


class Oracle:
    def __init__(self, anchors: dict[str, tuple[int, str]]) -> None:
        self.anchors = anchors
        self.events: list[One] = []
        self.known: dict[Any, set[Any]] = {}
        self.groups: list[dict[str, dict[str, str | None]]] = []

    def add(self, event: One) -> None:
        """The dimensions an event is kept by, meter by meter: the first of a period keep theirs."""
        self.events.append(event)
        groups = {}
        for key, meter in METERS.items():
            if names := meter.get("group_by"):
                if not self.counts(meter, event):
                    continue
                values = tuple(text(event.data.get(name)) for name in names)
                start = period_at(*self.anchors[event.customer], event.at)[0]
                known = self.known.setdefault((event.environment, event.customer, key, start), set())
                if values in known or len(known) < MOST:
                    known.add(values)
                    groups[key] = dict(zip(names, values, strict=True))
                else:
                    groups[key] = dict.fromkeys(names, "other")
        self.groups.append(groups)

    @staticmethod
    def counts(meter: dict[str, Any], event: One) -> bool:
        for property, values, negated in meter.get("filters", ()):
            if (text(event.data.get(property)) in values) is negated:
                return False
        way = meter["aggregation"]
        return way == "count" or event.data.get("user" if way == "unique" else "size") is not None

    def of(self, key: str, asked: dict[str, Any], start: int, end: int) -> Iterator[tuple[dict[str, Any], int]]:
        """(group, place) of every event that the meter counts."""
        for place, event in enumerate(self.events):
            if (
                event.environment == asked["environment"]
                and asked["customer"] in (None, event.customer)
                and asked["key"] in (None, event.key)
                and start <= event.at < end
                and self.counts(METERS[key], event)
            ):
                known = {"customer": event.customer, "key": event.key, **self.groups[place].get(key, {})}
                yield {name: known[name] for name in asked["group_by"]}, place

    def value(self, key: str, places: list[int]) -> str | None:
        way = METERS[key]["aggregation"]
        events = [self.events[place] for place in places]
        sizes = [Decimal(event.data.get("size") or 0) for event in events]
        found: Any = None
        if way == "count":
            found = len(events)
        elif way == "sum":
            found = sum(sizes)
        elif way == "unique":
            found = len({(event.customer, text(event.data["user"])) for event in events})
        elif not events:
            return None
        elif way == "avg":
            with localcontext(prec=60, rounding=ROUND_HALF_UP):
                found = (sum(sizes) / len(sizes)).quantize(Decimal("0.000000001"))
        elif way == "latest":
            found = max(zip((event.at for event in events), places, sizes, strict=True))[2]
        else:
            found = max(sizes) if way == "max" else min(sizes)
        return text(Decimal(found) if found else Decimal(0))  # a small negative average is rounded to -0


SIZES = st.sampled_from(
    (0, 7, "7.5", "7.25", 1, 1, -3, 7, Decimal("2.5"), "-0.000000001", "999999999999999.999999999", "-999999999999999")
)
DATA = st.fixed_dictionaries(
    {},
    optional={
        "size": SIZES | st.none(),
        "user": st.sampled_from((1, "1", Decimal("1.0"), "u", True, "true", "漢字", -2)),
        "model": st.sampled_from(("a", "b", 7, "7", Decimal("0.50"), None, "", "x\ny", '"]')),
        "region": st.sampled_from(("eu", "us", False)),
    },
)
SENT = st.tuples(
    st.sampled_from(("live", "live", "test")),
    st.sampled_from(("ann", "bob")),
    st.sampled_from((None, "k1", "k2")),
    st.sampled_from((0, 0, 900)) | st.sampled_from((0, 1, 900, 3600)) | st.integers(0, 34 * 86_400),
    DATA,
)
ASKED = st.fixed_dictionaries(
    {
        "environment": st.sampled_from(("live", "live", "test")),
        "customer": st.sampled_from((None, "ann", "bob")),
        "key": st.sampled_from((None, None, "k1")),
        "window": st.sampled_from((None, "hour", "day", "month", "period")),
        "zone": st.sampled_from(ZONES),
        "group_by": st.lists(st.sampled_from(("customer", "key", "model", "region")), unique=True, max_size=3).map(
            tuple
        ),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(batches=st.lists(st.lists(SENT, min_size=1, max_size=12), min_size=1, max_size=4), data=st.data())
def test_every_answer_is_what_a_list_of_events_says(batches: list[list[Any]], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spine = Spine(Path(folder), catalog())
        try:
            check(spine, batches, data)
        finally:
            spine.app.close()


def check(spine: Spine, batches: list[list[Any]], data: st.DataObject) -> None:
    anchors = {}
    for customer, zone in (("ann", "Asia/Kathmandu"), ("bob", "Australia/Lord_Howe")):
        spine.time.move(4321 * SECOND)
        spine.app.customers.create(id=customer, name=customer, plan="p", zone=zone)
        anchors[customer] = (spine.time.now // 1000, zone)
    spine.time.move(40 * DAY)  # clocks change in these weeks, in Lord Howe, Chatham and New York
    now = spine.time.now // 1000
    oracle = Oracle(anchors)
    number = 0
    for batch in batches:
        spine.app.usage_file.writer.log._combinations = CombinationCap(spine.app.usage_file.writer.log.db, MOST)
        for environment in ("live", "test"):
            events: list[Any] = []
            for where, customer, key, age, sent in batch:
                if where == environment:
                    number += 1
                    at = now - age * 1_000_000
                    time = datetime.fromtimestamp(at // 1_000_000, UTC) + timedelta(microseconds=at % 1_000_000)
                    events.append(UsageEvent(f"id-{number}", "work", "s", key, customer, time, sent))
                    oracle.add(One(environment, customer, key, at, sent))
            results = spine.app.ingest.ingest_wait(environment, events)  # type: ignore[arg-type]
            assert {result.status for result in results} <= {"accepted"}, results
        if data.draw(st.booleans(), label="restart"):
            spine.reopen()
    found = verify_database(spine.url)
    assert found.ok, found.shown
    for _ in range(12):
        compare(spine, oracle, data, now)


def compare(spine: Spine, oracle: Oracle, data: st.DataObject, now: int) -> None:
    key = data.draw(st.sampled_from(tuple(METERS)), label="meter")
    asked = data.draw(ASKED, label="asked")
    names = ("customer", "key", *METERS[key].get("group_by", ()))
    asked["group_by"] = tuple(name for name in asked["group_by"] if name in names)
    window: Window | None = asked["window"]
    if asked["customer"] is None and window == "period":
        window = None
    days = data.draw(st.sampled_from((1, 3, 34)) if window == "hour" else st.sampled_from((1, 34)), label="days")
    end = now + 1
    start = end - days * 86_400_000_000
    answer = spine.app.usage.query(key, **{**asked, "window": window}, start=start, end=end)
    edges = sorted({(row.start, row.end) for row in answer.data})
    if not edges:  # no group, no row
        assert asked["group_by"]
        assert answer.total == oracle.value(key, [])
        return
    assert (edges[0][0] <= start, edges[-1][1] >= end) == (True, True)
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    everything = list(oracle.of(key, asked, edges[0][0], edges[-1][1]))
    assert answer.total == oracle.value(key, [place for _, place in everything])
    groups = [group for group, _ in everything] if asked["group_by"] else [{}]
    distinct = [group for i, group in enumerate(groups) if group not in groups[:i]]
    assert len(answer.data) == len(edges) * len(distinct)
    for row in answer.data:
        assert row.group in distinct
        places = [place for group, place in oracle.of(key, asked, row.start, row.end) if group == row.group]
        assert (row.value, row.events, row.state) == (oracle.value(key, places), len(places), "known")
    if window in ("hour", "day", "month"):
        for begin, _ in edges[1:]:
            local = datetime.fromtimestamp(begin // 1_000_000, UTC).astimezone(ZoneInfo(asked["zone"]))
            assert (local.minute, local.second) == (0, 0) or after_a_gap(local)
            assert window == "hour" or local.hour == 0
            assert window != "month" or local.day == 1


def after_a_gap(local: datetime) -> bool:
    """A change of the clocks by half an hour ends an hour at half past."""
    before = (local.astimezone(UTC) - timedelta(seconds=3600)).astimezone(local.tzinfo)
    return before.utcoffset() != local.utcoffset()


@pytest.fixture
def rich(tmp_path: Path) -> Iterator[Spine]:
    spine = Spine(tmp_path, catalog() + CHECKED)
    spine.app.customers.create(id="ann", name="Ann", plan="p")
    yield spine
    spine.app.close()


CHECKED = """
[meters.spent]
event_type = "work"
aggregation = "sum"
value_property = "size"
[meters.fives]
event_type = "work"
aggregation = "count"
filters = [{property = "size", equals = "5"}]
"""


def send(spine: Spine, **data: Any) -> Any:
    number = spine.app.usage_file.reader.last_seq()
    event: Any = UsageEvent(f"e{number}", "work", customer="ann", data=data)
    return spine.app.ingest.ingest_wait("live", [event])[0]


def shown(spine: Spine, meter: str, *group_by: str) -> list[tuple[tuple[str | None, ...], str | None, int]]:
    rows = spine.app.usage.query(meter, customer="ann", group_by=group_by).data
    return [(tuple(row.group.values()), row.value, row.events) for row in rows]


def test_a_check_counts_in_every_meter_of_its_event_type_whose_value_it_carries(rich: Spine) -> None:
    key = rich.key("ann")
    for cost in ("5", "2.5", 1):
        assert rich.app.gate.check(key, "spent", cost).code == "VALID"
    values = {meter: shown(rich, meter)[0][1] for meter in ("spent", "sum", "max", "min", "avg", "count", "fives")}
    assert values == {
        "spent": "8.5",
        "sum": "8.5",
        "max": "5",
        "min": "1",
        "avg": "2.833333333",
        "count": "3",
        "fives": "1",
    }
    assert shown(rich, "unique") == [((), "0", 0)]
    assert shown(rich, "sum_by", "region", "model") == [((None, None), "8.5", 3)]
    assert shown(rich, "latest_by", "model") == [((None,), "1", 3)]
    assert verify_database(rich.url).ok


@pytest.mark.parametrize(
    ("meter", "why"),
    [("max", "takes the max of events"), ("sum_of_a", "has filters"), ("unique_by", "takes the unique")],
)
def test_a_meter_that_no_check_can_be_counted_by_is_refused_with_the_way_out(rich: Spine, meter: str, why: str) -> None:
    key = rich.key("ann")
    with pytest.raises(InvalidRequest, match=f"{why}.*send events instead"):
        rich.app.gate.check(key, meter)
    with pytest.raises(InvalidRequest, match="counts or sums, without filters"):
        rich.app.customers.set_quota("ann", "live", Quota(meter, Decimal(5), "hard"))
    assert shown(rich, "count") == [((), "0", 0)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"size": 1, "model": "m" * 129}, "value_invalid"),
        ({"size": 1, "model": ["a"]}, "value_invalid"),
        ({"size": 1, "region": {"a": 1}}, "value_invalid"),
        ({"size": 1, "user": "a\0b"}, "value_invalid"),
        ({"size": 1, "user": Decimal("1e200")}, "value_invalid"),
        ({"size": "many"}, "quantity_invalid"),
        ({"size": Decimal("0.0000000001")}, "quantity_invalid"),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_by_name_and_nothing_of_the_event_counts(
    rich: Spine, data: dict[str, Any], code: str
) -> None:
    result = send(rich, **data)
    assert (result.status, result.code) == ("rejected", code)
    [name] = [name for name in data if name != "size"] or ["size"]
    assert f"data.{name} is" in result.detail
    assert shown(rich, "count") == [((), "0", 0)]
    assert send(rich, size=1, model="m" * 128, user=Decimal("1e20")).status == "accepted"


def test_without_events_there_is_no_largest_value_and_none_is_not_zero(rich: Spine) -> None:
    assert {meter: shown(rich, meter)[0][1] for meter in WAYS} == {
        "count": "0",
        "sum": "0",
        "unique": "0",
        "avg": None,
        "max": None,
        "min": None,
        "latest": None,
    }
    assert rich.app.usage.query("max", customer="ann").data[0].state == "known"


def test_usage_is_grouped_by_what_the_meter_declares_and_nothing_else(rich: Spine) -> None:
    with pytest.raises(InvalidRequest, match="'user'; meter 'sum_by' has customer, key, model, region"):
        rich.app.usage.query("sum_by", group_by=("user",))
    with pytest.raises(InvalidRequest, match="'model'; meter 'sum' has customer, key"):
        rich.app.usage.query("sum", group_by=("model",))


def test_what_lies_beyond_the_most_combinations_is_one_group_and_the_total_is_whole(rich: Spine) -> None:
    log = rich.app.usage_file.writer.log
    log._combinations = CombinationCap(log.db, 2)
    for number, model in enumerate("abcabd"):
        send(rich, size=number, model=model, region="eu", user=model)
    assert shown(rich, "sum_by", "model") == [(("a",), "3", 2), (("b",), "5", 2), (("other",), "7", 2)]
    assert shown(rich, "max_by", "region", "model") == [
        (("eu", "a"), "3", 2),
        (("eu", "b"), "4", 2),
        (("other", "other"), "5", 2),
    ]
    assert shown(rich, "unique_by", "model") == [(("a",), "1", 2), (("b",), "1", 2), (("other",), "2", 2)]
    assert rich.app.usage.query("unique_by", customer="ann").total == "4"
    assert verify_database(rich.url).ok
    names = {row[0] for row in log.db.execute("SELECT name FROM names WHERE kind = 'd'")}
    assert names == {'["a","eu"]', '["b","eu"]'}  # what is beyond leaves no name behind


def test_a_meter_of_the_version_before_filters_keeps_its_number() -> None:
    assert definition(Meter("m", "e", "sum", "v")) == (
        '{"aggregation":"sum","event_type":"e","group_by":[],"value_property":"v"}'
    )


def test_values_that_differ_by_a_fraction_or_by_their_place_in_the_log_alone_are_told_apart_across_rows(
    rich: Spine,
) -> None:
    """Each event has a row of its own: another key, or another quarter of an hour."""
    at = datetime.fromtimestamp(rich.time.now // SECOND, UTC) - timedelta(days=2)
    sizes = (("k3", 0, "7.25"), ("k2", 0, "7.5"), ("k1", 0, "7.125"), ("k3", 1800, "7.375"), ("k2", -1800, "7.0625"))
    events: list[Any] = [
        UsageEvent(f"e{key}{later}", "work", "s", key, "ann", at + timedelta(seconds=later), {"size": size})
        for key, later, size in sizes
    ]
    rich.app.ingest.ingest_wait("live", events)
    start = (rich.time.now // 1000) - 3 * 86_400_000_000

    def value(meter: str, **asked: Any) -> str | None:
        return rich.app.usage.query(meter, customer="ann", start=start, **asked).total

    assert (value("max"), value("min"), value("latest")) == ("7.5", "7.0625", "7.375")
    at_once = int(at.timestamp()) * 1_000_000
    assert value("latest", end=at_once + 60_000_000) == "7.125"  # of three at one time the one logged last
    assert [row.value for row in rich.app.usage.query("max", customer="ann", start=start, group_by=("key",)).data] == [
        "7.125",
        "7.5",
        "7.375",
    ]


def test_each_period_has_its_own_first_combinations_after_a_restart_too(rich: Spine) -> None:
    rich.time.move(33 * DAY)  # the second period began three days ago, in the afternoon
    now = datetime.fromtimestamp(rich.time.now // SECOND, UTC)

    def sent(hours: int, *models: str) -> None:
        rich.reopen()
        log = rich.app.usage_file.writer.log
        log._combinations = CombinationCap(log.db, 2)
        first = rich.app.usage_file.reader.last_seq()
        events: list[Any] = [
            UsageEvent(
                f"e{first + i}", "work", "s", None, "ann", now - timedelta(hours=hours), {"size": 1, "model": model}
            )
            for i, model in enumerate(models)
        ]
        rich.app.ingest.ingest_wait("live", events)

    sent(71, "a", "b")
    sent(73, "c")
    sent(73, "d", "e")
    sent(71, "a", "c")
    start = rich.time.now // 1000 - 33 * 86_400_000_000
    rows = rich.app.usage.query("sum_by", customer="ann", start=start, window="period", group_by=("model",)).data
    found = [
        {str(row.group["model"]): row.value for row in rows if row.start == at and row.events}
        for at in sorted({r.start for r in rows})
    ]
    assert found == [{"c": "1", "d": "1", "other": "1"}, {"a": "2", "b": "1", "other": "1"}]
    assert verify_database(rich.url).ok
