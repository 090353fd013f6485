"""Numbers for meters, and the epochs they were in force in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import apsw

from tollkeeper.core.metering import Filter, Meter
from tollkeeper.storage.sql.usage.log import UsageLog
from tollkeeper.storage.sql.usage.writer import UsageWriter


class MeterRegistry:
    """Registers on the writer's thread, between two commits."""

    def __init__(self, writer: UsageWriter) -> None:
        self._writer = writer

    def register(self, meters: Sequence[Meter]) -> tuple[int, list[int]]:
        """The epoch of this set of meters and each one's number. A definition that was seen before keeps its number."""
        epoch, numbers = self._writer.call(lambda log: _register(log, meters))
        return epoch, numbers


def definition(meter: Meter) -> str:
    """What decides how events are folded; wording is not part of it. Without filters, the text is that of versions that knew none."""
    names = ("event_type", "aggregation", "value_property", "group_by", *(["filters"] if meter.filters else []))
    fields = {k: v for k, v in asdict(meter).items() if k in names}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def read_definition(key: str, text: str) -> Meter:
    fields = json.loads(text)
    filters = tuple(Filter(**{**one, "values": tuple(one["values"])}) for one in fields.get("filters", ()))
    return Meter(key=key, **{**fields, "group_by": tuple(fields["group_by"]), "filters": filters})


def _register(log: UsageLog, meters: Sequence[Meter]) -> tuple[int, list[int]]:
    db = log.db
    with db:
        epoch = int(
            db.execute("SELECT max(coalesce(max(from_epoch), 0), coalesce(max(until_epoch), 0)) FROM meter_epochs").get
            or 0
        )
        numbers = [_number(db, meter) for meter in meters]
        in_force = {row[0] for row in db.execute("SELECT number FROM meter_epochs WHERE until_epoch IS NULL")}
        if in_force != set(numbers):
            epoch += 1
            db.executemany(
                "UPDATE meter_epochs SET until_epoch = ? WHERE number = ? AND until_epoch IS NULL",
                [(epoch, number) for number in in_force - set(numbers)],
            )
            db.executemany(
                "INSERT INTO meter_epochs VALUES (?, ?, NULL)", [(n, epoch) for n in set(numbers) - in_force]
            )
    return epoch, numbers


def _number(db: apsw.Connection, meter: Meter) -> int:
    text = definition(meter)
    found = db.execute("SELECT number FROM meters WHERE key = ? AND definition = ?", (meter.key, text)).get
    if found is None:
        db.execute("INSERT INTO meters (key, definition) VALUES (?, ?)", (meter.key, text))
        found = db.last_insert_rowid()
    return int(found)
