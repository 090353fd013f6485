"""Values as people write and read them: instants, spans, quantities."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo

import typer

from tollkeeper.core.periods import ZoneInvalid, find_zone

_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
INSTANT = "2026-11-21, 2026-11-21T09:30, an RFC 3339 time, or a span such as 36h or 7d"


def span_seconds(option: str, text: str) -> int:
    """`90s`, `15m`, `36h`, `7d`, `2w`, or `0`, in seconds. Raises BadParameter naming `option`."""
    match = _SPAN.fullmatch(text.strip())
    if match:
        return int(match[1]) * _SECONDS[match[2]]
    if text.strip() == "0":
        return 0
    raise typer.BadParameter(f"{text!r} is not a span such as 90s, 15m, 36h, 7d or 0", param_hint=option)


def instant(option: str, text: str, now: datetime, zone: tzinfo | None, *, ahead: bool = False) -> str:
    """RFC 3339 from a date (its first moment), a time, or a span: before `now`, or after it when `ahead`.

    `zone` None is the local zone of this machine. Raises BadParameter naming `option`.
    """
    text = text.strip()
    try:
        if _SPAN.fullmatch(text):
            span = timedelta(seconds=span_seconds(option, text))
            moment = now + span if ahead else now - span
        elif text == "now":
            moment = now
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                zone = zone or local_zone()
                moment = moment.replace(tzinfo=zone) if zone else moment.astimezone()
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not an instant; expected {INSTANT}", param_hint=option) from None


def zone_by_name(option: str, name: str) -> ZoneInfo:
    """Raises BadParameter naming `option`."""
    try:
        return find_zone(name)
    except ZoneInvalid:
        raise typer.BadParameter(
            f"{name!r} is not an IANA time zone such as Europe/Berlin", param_hint=option
        ) from None


def local_zone() -> ZoneInfo | None:
    """This machine's zone, from TZ or /etc, when its IANA name can be told."""
    named = os.environ.get("TZ", "").lstrip(":")
    if not named:
        target = os.path.realpath("/etc/localtime")
        named = target.partition("zoneinfo/")[2] or _etc_timezone()
    try:
        return find_zone(named) if named else None
    except ZoneInvalid:
        return None


def _etc_timezone() -> str:
    try:
        return Path("/etc/timezone").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def shown_time(text: str | None, zone: tzinfo | None = None, *, seconds: bool = False) -> str:
    """An RFC 3339 instant in `zone` (None: this machine's), with its offset; "" for none, the text itself if it is no instant."""
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text).astimezone(zone or local_zone())
    except (ValueError, OverflowError):
        return text
    wall = moment.replace(tzinfo=None)
    offset = moment.isoformat()[len(wall.isoformat()) :]
    return f"{wall.isoformat(' ', 'seconds' if seconds else 'minutes')} {offset}"


def shown_span(span: timedelta) -> str:
    """A length of time in its largest whole unit: `40 s`, `25 min`, `3 h`, `12 days`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 2 * 86_400:
        return f"{seconds // 3600} h"
    return plural(seconds // 86_400, "day")


def grouped(text: str | int | None) -> str:
    """`1234567.50` as `1,234,567.50`; "" for none, the text itself if it is no number."""
    if text is None:
        return ""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return str(text)
    return f"{number:,f}" if number.is_finite() else str(text)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 event`, `12,000 events`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
