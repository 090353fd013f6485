"""What the provider threw away after it had taken it: told by events of its own, found among the messages, and rejected with the reason.

The quantity stays in the book under its message: `outbox replay` sends it once more when the cause is mended, and what has not been by
the end of its period is carried forward.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tollkeeper.core.billing import SECOND_US
from tollkeeper.core.inbox import AfterCommit, Effects, InboxEvent
from tollkeeper.core.outbox import DELIVERED, METER_EVENT, OutboxMessage
from tollkeeper.core.ports import Repositories
from tollkeeper.core.provider import MeterFaults, Provider

logger = logging.getLogger("tollkeeper.meter_errors")

METER_ERROR_EVENTS: Final = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
SLACK_US: Final = 5 * SECOND_US
"""By how much our clock and the provider's may differ."""


class MeterErrorEffect:
    """The event is read from the provider, since what is sent of it has no reasons in it.

    It names samples only, by the key of a call (the report's identifier and the number of the attempt) or by the identifier. When it
    tells of as many as we sent to that meter in its time, it was all of them; otherwise what is not named shows as drift.
    """

    def about(self, event: InboxEvent) -> str:
        return f"meter/{event.object or event.id}"

    def fetch(self, provider: Provider, event: InboxEvent) -> MeterFaults:
        return provider.meter_faults(event.id, event.document())

    def apply(self, rows: Repositories, event: InboxEvent, fetched: MeterFaults, now: int) -> Sequence[AfterCommit]:
        whole = self._whole(rows, event, fetched)
        rejected: list[OutboxMessage] = []
        for fault in fetched.faults:
            for reference, said in fault.named:
                rejected += _reject(rows, reference.partition("-")[0], f"{fault.code}: {said}", now)
        for message in whole:
            fault = max(fetched.faults, key=lambda one: one.count)
            said = fault.named[0][1] if fault.named else "rejected by the provider"
            rejected += _reject(rows, message.identifier, f"{fault.code}: {said}", now)
        told = sum(fault.count for fault in fetched.faults)
        return (partial(_tell, event, told, rejected),)

    def _whole(self, rows: Repositories, event: InboxEvent, fetched: MeterFaults) -> Sequence[OutboxMessage]:
        """All that was sent to the meter in the event's time, if that is as much as was thrown away."""
        told = sum(fault.count for fault in fetched.faults)
        if fetched.meter is None or told <= sum(len(fault.named) for fault in fetched.faults):
            return ()
        meter = rows.provider_objects.by_id(event.provider, event.environment, "meter", fetched.meter)
        if meter is None:
            return ()
        sent = rows.outbox.taken(event.environment, meter.key, fetched.start - SLACK_US, fetched.end + SLACK_US)
        return sent if len(sent) == told else ()


def meter_error_effects() -> Effects:
    """The effects by type of event."""
    return dict.fromkeys(METER_ERROR_EVENTS, MeterErrorEffect())


def _reject(rows: Repositories, identifier: str, error: str, now: int) -> list[OutboxMessage]:
    message = rows.outbox.reject(METER_EVENT, identifier, error[:500], now)
    if message is None:  # not ours, or known
        return []
    if message.customer is not None and message.meter is not None and message.period_start is not None:
        period = rows.periods.get(message.environment, message.customer, message.period_start)
        report = rows.reports.get(message.environment, message.customer, message.meter, message.period_start)
        if period is not None and period.finalized_at is not None and report is not None:
            counted = message.status in DELIVERED and (message.settled_at or 0) <= period.finalized_at
            if report.billed is not None and message.quantity is not None and counted:
                # the invoice was taken to have it
                rows.reports.put(replace(report, billed=report.billed - message.quantity), now)
            rows.periods.doubt(message.environment, message.customer, message.period_start)
    return [message]


def _tell(event: InboxEvent, told: int, rejected: Sequence[OutboxMessage]) -> None:
    for message in rejected:
        logger.warning(
            "the provider threw away %s %s of %s after it had taken it: `tollkeeper outbox show %s`",
            message.quantity,
            message.meter,
            message.customer,
            message.id,
            extra={"outbox_message": message.id},
        )
    if told > len(rejected):
        logger.warning(
            "%s tells of %d reports of usage that were thrown away; %d of them are newly known here, `tollkeeper drift` finds others",
            event.id,
            told,
            len(rejected),
        )
