"""Usage looked up by customer, key, meter, window and zone; visible as soon as its event is acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import InvalidRequest, NotFound
from tollkeeper.core.events import LoggedEvent
from tollkeeper.core.metering import CELL_SECONDS, Meter, format_quantity
from tollkeeper.core.periods import EARLIEST_US, ZoneInvalid, find_zone, period_at
from tollkeeper.core.usage import WINDOWS, UnmatchedType, UsageRow, Window, windows
from tollkeeper.services.clock import Clock
from tollkeeper.services.usage_values import Asked, Cells, values_of

MAX_ROWS = 10_000
GROUPS = ("customer", "key")


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """`total` is a decimal string, None where there was nothing to take a max, min, average or latest value of.

    `data` in order of time, then group.
    """

    meter: str
    total: str | None
    data: list[UsageRow]


class Usage:
    """`calendar(environment, customer)` gives the anchor (µs) and zone of a customer's periods and the zone of its days and months.

    It gives None when there is no such customer. The two zones differ once a customer was given another: what was bought keeps its periods.
    Nothing is known of a time that was over `max_age_days` before the file was made: events that old are not taken.
    """

    def __init__(
        self,
        cells: Cells,
        calendar: Callable[[Environment, str], tuple[int, str, str] | None],
        clock: Clock,
        *,
        max_age_days: int = 35,
    ) -> None:
        self._cells = cells
        self._calendar = calendar
        self._clock = clock
        self._max_age_us = max_age_days * 86_400_000_000
        self._known_since: int | None = None

    def query(
        self,
        meter: str,
        *,
        environment: Environment = "live",
        customer: str | None = None,
        key: str | None = None,
        start: int | None = None,
        end: int | None = None,
        window: Window | None = None,
        zone: str | None = None,
        group_by: tuple[str, ...] = (),
    ) -> UsageAnswer:
        """What a meter comes to over [start, end) in µs, widened to whole cells of 15 minutes. Without a window: one row per group.

        `group_by`: any of "customer", "key" and the meter's own dimensions.

        Start defaults to the customer's current period, or the current UTC month; end to now. Raises NotFound, InvalidRequest.
        """
        known = self._cells.meters(meter)
        if not known:
            raise NotFound(f"There is no meter {meter!r}.")
        newest = known[-1][1]
        numbers = [number for number, one in known if _way(one) == _way(newest)]
        anchor: int | None = None
        period_zone = "UTC"
        if customer is not None:
            found = self._calendar(environment, customer)
            if found is None:
                raise NotFound(f"There is no customer {customer!r}.")
            anchor, period_zone, shown_zone = found
            zone = zone or shown_zone
        elif window == "period":
            raise InvalidRequest("window=period needs a customer: each has a period of its own.")
        zone = zone or "UTC"
        self._check(window, zone, group_by, newest)
        now = self._clock.now_us()
        end = now + 1 if end is None else end
        if start is None:  # `end` is not part of what is asked for: at a boundary it is the period before
            start = period_at(anchor or 0, period_zone, max(min(end - 1, now), EARLIEST_US))[0]
        start, end = self._widen(start, end, anchor, period_zone)
        if start >= end:
            raise InvalidRequest("from is not before to.")
        edges = [(start, end)]
        if window is not None:
            edges = self._windows(start, end, window, period_zone if window == "period" else zone, anchor)
        return self._answer(Asked(newest, numbers, environment, customer, key, edges, group_by))

    def period_total(self, meter: str, environment: Environment, customer: str, start: int, end: int) -> Decimal | None:
        """What a meter comes to over exactly the cells that begin in [start, end): of a period whose bounds divide its cells.

        None where it is not known, or there is no such meter; 0 where there was no event.
        """
        known = self._cells.meters(meter)
        if not known:
            return None
        newest = known[-1][1]
        numbers = [number for number, one in known if _way(one) == _way(newest)]
        found = values_of(self._cells, Asked(newest, numbers, environment, customer, None, [(start, end)], ()))
        if end <= self._since() and not found.events:
            return None
        return found.total or Decimal(0)

    def _answer(self, asked: Asked) -> UsageAnswer:
        found = values_of(self._cells, asked)
        groups = {group for _, group in found.events} if asked.group_by else {()}
        if len(groups) * len(asked.edges) > MAX_ROWS:
            raise InvalidRequest(
                f"That is more than {MAX_ROWS} rows; ask for a shorter time, a wider window or fewer groups."
            )
        since = self._since()
        data: list[UsageRow] = []
        for index, (begin, until) in enumerate(asked.edges):
            for group in sorted(groups, key=str):
                events = found.events.get((index, group), 0)
                known = until > since or events > 0
                value = _text(found.values.get((index, group), found.nothing)) if known else None
                named = dict(zip(asked.group_by, group, strict=True))
                data.append(UsageRow(begin, until, named, value, events, "known" if known else "unknown"))
        return UsageAnswer(asked.meter.key, _text(found.total), data)

    def log(
        self, environment: Environment, customer: str | None, after: int, limit: int
    ) -> tuple[list[LoggedEvent], int | None]:
        """Those asked for among the `limit` events of the log after a sequence, and where to go on; None at the log's end."""
        looked = list(self._cells.events(after, limit))
        found = [e for e in looked if e.environment == environment and customer in (None, e.customer)]
        return found, looked[-1].seq if len(looked) == limit else None

    def unmatched(self, environment: Environment = "live", days: int = 30) -> list[UnmatchedType]:
        """Event types of the last days that were accepted but that no meter counts."""
        return self._cells.unmatched(environment, self._clock.now_us() // 1_000_000 - days * 86400)

    def _since(self) -> int:
        if self._known_since is None:
            self._known_since = int(self._cells.info().get("created_at", "0")) - self._max_age_us
        return self._known_since

    @staticmethod
    def _check(window: str | None, zone: str, group_by: tuple[str, ...], meter: Meter) -> None:
        if window is not None and window not in WINDOWS:
            raise InvalidRequest(f"window is {window!r}; expected one of {', '.join(WINDOWS)}.")
        try:
            find_zone(zone)
        except ZoneInvalid:
            raise InvalidRequest(f"zone is {zone[:60]!r}; expected an IANA zone such as Europe/Berlin.") from None
        names = (*GROUPS, *meter.group_by)
        for name in group_by:
            if name not in names:
                raise InvalidRequest(f"group_by has {name[:60]!r}; meter {meter.key!r} has {', '.join(names)}.")

    @staticmethod
    def _widen(start: int, end: int, anchor: int | None, zone: str) -> tuple[int, int]:
        """Outward to whole cells; a period's own start is a cell's start."""
        cell = CELL_SECONDS * 1_000_000
        if anchor is None or period_at(anchor, zone, start)[0] != start:
            start -= start % cell
        if anchor is None or period_at(anchor, zone, end)[0] != end:
            end += -end % cell
        return start, end

    @staticmethod
    def _windows(start: int, end: int, window: Window, zone: str, anchor: int | None) -> list[tuple[int, int]]:
        edges: list[tuple[int, int]] = []
        for edge in windows(start, end, window, zone, anchor):
            edges.append(edge)
            if len(edges) > MAX_ROWS:
                raise InvalidRequest(f"That is more than {MAX_ROWS} windows; ask for a shorter time or a wider window.")
        return edges


def _way(meter: Meter) -> tuple[str, tuple[str, ...]]:
    return meter.aggregation, meter.group_by


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format_quantity(value)
