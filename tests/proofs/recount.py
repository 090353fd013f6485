"""Rollups beside the log folded again: from the events, the epochs of meters and the customers' periods alone."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from tollkeeper.bootstrap import Tollkeeper
from tollkeeper.core.periods import period_at

Cell = tuple[str, str, int, str | None, int]
Folded = dict[Cell, tuple[int, Decimal]]
"""(environment, customer, meter's number, subject, cell in seconds) → events, sum."""


def stored_rollups(app: Tollkeeper) -> Folded:
    rows = app.usage_file.reader._db().execute(
        """SELECT environment, c.name, meter, u.name, cell, events, units, nanos FROM rollups
           JOIN names c ON c.number = customer LEFT JOIN names u ON u.number = subject"""
    )
    return {
        ("test" if environment else "live", customer, meter, subject, cell): (events, units + Decimal(nanos).scaleb(-9))
        for environment, customer, meter, subject, cell, events, units, nanos in rows
    }


def refolded_log(app: Tollkeeper) -> Folded:
    epochs = [
        (number, json.loads(definition), since, until)
        for number, definition, since, until in app.usage_file.reader._db().execute(
            "SELECT number, definition, from_epoch, until_epoch FROM meters JOIN meter_epochs USING (number)"
        )
    ]
    folded: Folded = {}
    for event in app.usage_file.reader.events():
        if event.state == "voided":
            continue
        account: Any = app.gate.account_of(event.environment, event.customer)  # type: ignore[arg-type]
        start = period_at(account.anchor, account.zone, event.time)[0] // 1_000_000
        cell = max(event.time // 1_000_000 // 900 * 900, start)
        data = json.loads(event.amended or event.data or "{}", parse_float=Decimal)
        for number, meter, since, until in epochs:
            if meter["event_type"] != event.type or not (
                since <= event.epoch and (until is None or event.epoch < until)
            ):
                continue
            value = event.quantity if meter["aggregation"] == "count" else data.get(meter["value_property"])
            if value is None:
                continue
            where = (event.environment, event.customer, number, event.subject, cell)
            events, total = folded.get(where, (0, Decimal(0)))
            folded[where] = (events + 1, total + Decimal(value))
    return folded
