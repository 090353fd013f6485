"""Values as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tollkeeper.cli.usage import BAR_WIDTH, bar
from tollkeeper.cli.values import grouped, instant, local_zone, plural, shown_span, shown_time, span_seconds

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "ahead", "meant"),
    [
        ("2026-11-21", False, "2026-11-20T23:00:00Z"),
        ("2026-07-01", False, "2026-06-30T22:00:00Z"),
        ("2026-11-21T09:30", False, "2026-11-21T08:30:00Z"),
        ("2026-11-21T09:30:00+05:30", False, "2026-11-21T04:00:00Z"),
        ("2026-11-21T09:30:00.25Z", False, "2026-11-21T09:30:00.250000Z"),
        ("now", False, "2026-11-21T12:00:00Z"),
        ("36h", False, "2026-11-20T00:00:00Z"),
        ("2w", True, "2026-12-05T12:00:00Z"),
    ],
)
def test_an_instant_is_read_in_the_zone(text: str, ahead: bool, meant: str) -> None:
    assert instant("--from", text, NOW, BERLIN, ahead=ahead) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "7y", "2026-13-01", "999999w", "0001-01-01", "-3d", "٣d"])
def test_what_is_no_instant_is_refused_by_the_name_of_its_option(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not an instant; expected 2026-11-21, ") as refused:
        instant("--from", text, NOW, BERLIN)
    assert refused.value.param_hint == "--from"


@given(st.text(max_size=20))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        meant = instant("--from", text, NOW, None)
    except typer.BadParameter:
        return
    assert datetime.fromisoformat(meant).tzinfo is not None


def test_spans_are_seconds() -> None:
    assert [span_seconds("--overlap", text) for text in ("0", "90s", "15m", "36h", "7d", "2w")] == [
        0,
        90,
        900,
        129_600,
        604_800,
        1_209_600,
    ]
    with pytest.raises(typer.BadParameter, match="is not a span"):
        span_seconds("--overlap", "1.5h")


def test_times_are_shown_with_the_offset_of_their_zone() -> None:
    assert shown_time("2026-07-01T22:15:30Z", BERLIN) == "2026-07-02 00:15 +02:00"
    assert shown_time("2026-11-21T01:00:00Z", ZoneInfo("Asia/Kathmandu"), seconds=True) == "2026-11-21 06:45:00 +05:45"
    assert shown_time("1890-01-01T00:00:00Z", BERLIN) == "1890-01-01 00:53 +00:53:28"
    assert (shown_time(None), shown_time("soon")) == ("", "soon")


def test_the_local_zone_is_named_when_it_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Kathmandu")
    assert local_zone() == ZoneInfo("Asia/Kathmandu")
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert local_zone() is None


def test_numbers_are_grouped_and_never_rounded() -> None:
    assert [grouped(text) for text in ("1234567.50", "0.000000001", 1000, "1E+6", None, "many", "NaN")] == [
        "1,234,567.50",
        "0.000000001",
        "1,000",
        "1,000,000",
        "",
        "many",
        "NaN",
    ]


def test_spans_are_shown_in_their_largest_unit() -> None:
    spans = (
        timedelta(seconds=-3),
        timedelta(seconds=59),
        timedelta(minutes=59),
        timedelta(hours=47),
        timedelta(days=2),
    )
    assert [shown_span(span) for span in spans] == ["0 s", "59 s", "59 min", "47 h", "2 days"]


def test_plurals() -> None:
    assert [plural(n, "event") for n in (0, 1, 1200)] == ["0 events", "1 event", "1,200 events"]


@given(st.decimals(0, 10**15, places=9), st.decimals(0, 10**15, places=9))
def test_a_bar_never_leaves_its_column_and_shows_anything_above_zero(value: Decimal, other: Decimal) -> None:
    drawn = bar(value, max(value, other), BAR_WIDTH)
    assert len(drawn) <= BAR_WIDTH
    assert (drawn != "") == (value > 0)
    assert value != max(value, other) or value == 0 or drawn == "█" * BAR_WIDTH
