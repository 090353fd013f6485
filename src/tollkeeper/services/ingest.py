"""Usage events from outside: judge each on its own, log what counts, answer per event.

An answer of `accepted` or `duplicate` means: in the total exactly once, for ever. A repeated id with another payload is a `conflict`, told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import StorageUnavailable, TollkeeperError
from tollkeeper.core.events import TEXT, UUID_RANDOM, Event, Extra, FoldTuple, LogRow, Outcome, digest_id, pack_id
from tollkeeper.core.keys import looks_like_key
from tollkeeper.core.metering import CELL_SECONDS, QuantityInvalid, ValueInvalid
from tollkeeper.core.periods import cell_start, period_at
from tollkeeper.services.clock import Clock
from tollkeeper.services.extras import extras_of
from tollkeeper.services.gate import Gate
from tollkeeper.services.meters import MeterEntry, MeterSet, MeterTable
from tollkeeper.services.snapshots import Account
from tollkeeper.services.submissions import Awaited, Log, submit

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MAX_ID = 256
MAX_NAME = 256
MAX_DATA = 16 * 1024
MAX_AHEAD_US = 5 * 60 * 1_000_000
OWN_SOURCES = "tollkeeper:"
"""What the sources of events begin with that Tollkeeper makes itself."""


@dataclass(slots=True)
class Result:
    """The answer for one event. `code` and `detail` say why one was not accepted; `meters` which ones count it."""

    index: int
    id: str | None
    status: str
    code: str | None = None
    detail: str | None = None
    meters: tuple[str, ...] = ()


@dataclass(slots=True)
class Batch:
    """A judged batch: what is to be logged, and the answers so far (None where the log has the word)."""

    results: list[Result | None]
    rows: list[LogRow] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    meters: list[tuple[str, ...]] = field(default_factory=list)


class _Refused(Exception):
    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail


class Ingest:
    """`canonical` encodes a JSON object as text with sorted keys and exact numbers; the same value gives the same text."""

    def __init__(
        self,
        gate: Gate,
        log: Log,
        meters: MeterTable,
        canonical: Callable[[Any], str],
        customer_of_key: Callable[[str], str | None],
        clock: Clock,
        *,
        max_age_days: int = 35,
    ) -> None:
        self._gate = gate
        self._log = log
        self._meters = meters
        self._canonical = canonical
        self._customer_of_key = customer_of_key
        self._clock = clock
        self._max_age_us = max_age_days * 86_400_000_000
        self._max_age_days = max_age_days
        self.counts = {"accepted": 0, "duplicate": 0, "conflict": 0, "rejected": 0, "unmatched": 0}
        self.rejected: dict[str, int] = {}

    async def ingest(self, environment: Environment, events: Sequence[Event | Result]) -> list[Result]:
        """Log a batch and answer each event in its place; a Result in `events` is an answer already given (undecodable).

        Raises StorageUnavailable when the log did not take the batch; then nothing of it counts.
        """
        if self._warm(environment, events):
            batch = self.judge(environment, events)
        else:  # customers not met before are read from storage: off the loop
            batch = await asyncio.to_thread(self.judge, environment, events)
        if not batch.rows:
            return self.settle(batch, [])
        submission = Awaited(batch.rows)
        try:
            self._log.put(submission)
            await submission.future
        except TollkeeperError:
            self._take_back(batch)
            raise
        return self.settle(batch, submission.outcomes)

    def ingest_wait(self, environment: Environment, events: Sequence[Event | Result]) -> list[Result]:
        """`ingest` for threads."""
        batch = self.judge(environment, events)
        if not batch.rows:
            return self.settle(batch, [])
        try:
            outcomes = submit(self._log, batch.rows).wait()
        except TollkeeperError:
            self._take_back(batch)
            raise
        return self.settle(batch, outcomes)

    def _warm(self, environment: Environment, events: Sequence[Event | Result]) -> bool:
        """Whether judging needs memory alone."""
        customers = {None if isinstance(event, Result) else event.customer or event.subject for event in events}
        return all(customer is None or self._gate.in_memory(environment, customer) for customer in customers)

    def _take_back(self, batch: Batch) -> None:
        self._gate.add(batch.accounts, batch.rows, -1)

    def judge(self, environment: Environment, events: Sequence[Event | Result]) -> Batch:
        """Turn events into rows, and count them towards their customers' totals at once, before the commit."""
        flag = 1 if environment == "test" else 0
        now = self._clock.now_us()
        batch = Batch([None] * len(events))
        rows, accounts = batch.rows, batch.accounts
        meters = self._meters.current
        known: dict[str, Account] = {}
        for index, event in enumerate(events):
            if isinstance(event, Result):
                batch.results[index] = event
                continue
            try:
                row, account, names = self._row(environment, flag, now, event, meters, known)
            except _Refused as refused:
                batch.results[index] = Result(index, _echo(event.id), "rejected", refused.code, refused.detail)
                continue
            rows.append(row)
            accounts.append(account)
            batch.indexes.append(index)
            batch.ids.append(event.id)
            batch.meters.append(names)
        self._gate.add(accounts, rows)
        return batch

    def settle(self, batch: Batch, outcomes: Sequence[Outcome] | None) -> list[Result]:
        """Put the log's answers in their places (None: all accepted); give back what was counted twice."""
        results, counts, rows = batch.results, self.counts, batch.rows
        if outcomes is None:
            for index, id, meters in zip(batch.indexes, batch.ids, batch.meters, strict=True):
                results[index] = Result(index, id, "accepted", None, None, meters)
        else:
            twice: list[int] = []
            for i, (index, id, outcome) in enumerate(zip(batch.indexes, batch.ids, outcomes, strict=True)):
                status = outcome.status
                if status != "accepted":
                    twice.append(i)
                if status == "conflict":
                    detail = "This id was sent before with another type, subject, customer or data. The first one counts; use a new id."
                    results[index] = Result(index, id, status, "id_conflict", detail)
                else:
                    results[index] = Result(index, id, status, None, None, batch.meters[i])
            if twice:
                self._gate.add([batch.accounts[i] for i in twice], [rows[i] for i in twice], -1)
        answered: list[Result] = []
        for result in results:
            assert result is not None
            status = result.status
            counts[status] += 1
            if status == "accepted" and not result.meters:
                counts["unmatched"] += 1
            elif status == "rejected" and result.code is not None:
                self.rejected[result.code] = self.rejected.get(result.code, 0) + 1
            answered.append(result)
        return answered

    def _row(
        self,
        environment: Environment,
        flag: int,
        now: int,
        event: Event,
        meters_now: MeterSet,
        known: dict[str, Account],
    ) -> tuple[LogRow, Account, tuple[str, ...]]:
        id, source, type = event.id, event.source, event.type
        if not id or len(id) > MAX_ID:
            raise _Refused("id_invalid", f"id has {len(id)} characters; expected 1 to {MAX_ID}.")
        if not type or len(type) > MAX_NAME:
            raise _Refused("type_invalid", f"type has {len(type)} characters; expected 1 to {MAX_NAME}.")
        if not source or len(source) > MAX_NAME:
            raise _Refused("source_invalid", f"source has {len(source)} characters; expected 1 to {MAX_NAME}.")
        if source.startswith(OWN_SOURCES):
            raise _Refused(
                "source_reserved", f"Sources that begin with {OWN_SOURCES!r} are for events Tollkeeper makes itself."
            )
        subject = event.subject
        customer = event.customer
        if subject is not None and not 0 < len(subject) <= MAX_NAME:
            raise _Refused("subject_invalid", f"subject has {len(subject)} characters; expected 1 to {MAX_NAME}.")
        if subject is not None and self._is_secret(subject):
            raise _Refused(
                "subject_invalid", "subject is the secret of a key, which is kept nowhere; send the key's id."
            )
        if customer is None:
            if subject is None:
                raise _Refused(
                    "customer_missing", "Send `customer`, or a `subject` that is a key's id or a customer's id."
                )
            customer = self._customer_of_key(subject) or subject
            account = self._gate.account_of(environment, customer)
            if account is None:
                raise _Refused(
                    "unknown_subject",
                    f"{self._shown(subject)} is no key's id and no customer's id. Send `customer` as well.",
                )
        else:
            account = known.get(customer) or self._gate.account_of(environment, customer)
            if account is None:
                raise _Refused("unknown_customer", f"There is no customer {self._shown(customer)}. Create it first.")
        known[customer] = account
        at = now if event.time is None else self._time(event.time, now)
        data = event.data
        entries = meters_now.by_type.get(type, ())
        folds: tuple[FoldTuple, ...] = ()
        meters: tuple[str, ...] = ()
        extras: tuple[Extra, ...] = ()
        if entries:
            try:
                folds, meters = folds_of(account, at, entries, 1, data)
                if meters_now.extra:
                    extras = extras_of(account, at, meters_now.extra.get(type, ()), 1, data)
            except QuantityInvalid as error:
                raise _Refused("quantity_invalid", error.detail) from None
            except ValueInvalid as error:
                raise _Refused("value_invalid", error.detail) from None
        text = None
        if data is not None:
            try:
                text = self._canonical(data)
            except (TypeError, ValueError, OverflowError, RecursionError) as error:  # from a program, not from JSON
                raise _Refused("invalid_event", f"data is not JSON: {str(error)[:200]}.") from None
            if len(text) > MAX_DATA:
                raise _Refused("data_too_large", f"data has {len(text)} bytes; at most {MAX_DATA} are kept.")
        kind, stored = pack_id(id)
        digest = digest_id(flag, source, id) if kind in (TEXT, UUID_RANDOM) else None
        flags, epoch = kind << 1 | flag, meters_now.epoch
        row = (flags, source, stored, digest, type, subject, customer, at, 1, text, folds, epoch, extras)
        return row, account, meters

    def _shown(self, text: str) -> str:
        if self._is_secret(text):
            return "with the secret of a key as its id"
        return repr(text if len(text) <= 80 else f"{text[:79]}…")

    def _is_secret(self, text: str) -> bool:
        return (text[:3] == "tk_" and looks_like_key(text) is not None) or self._gate.foreign.has(text)

    def _time(self, time: datetime, now: int) -> int:
        if time.tzinfo is None:
            raise _Refused("time_invalid", "time has no zone; expected RFC 3339, such as 2026-11-21T12:00:00Z.")
        at = (time - EPOCH) // MICROSECOND
        if at > now + MAX_AHEAD_US:
            raise _Refused("too_early", "time is more than 5 minutes ahead of this server's clock.")
        if at < now - self._max_age_us:
            raise _Refused("too_old", f"time is more than {self._max_age_days} days ago; usage that old is not taken.")
        return at


def folds_of(
    account: Account, at: int, entries: tuple[MeterEntry, ...], quantity: int, data: Mapping[str, Any] | None
) -> tuple[tuple[FoldTuple, ...], tuple[str, ...]]:
    """What an event adds to its meters, and their keys. Raises QuantityInvalid."""
    at_s = at // 1_000_000
    cell = at_s - at_s % CELL_SECONDS
    if account.start <= at < account.end:
        if cell < account.start_s:
            cell = account.start_s
    else:
        cell = cell_start(at, period_at(account.anchor, account.zone, at)[0]) // 1_000_000
    if len(entries) == 1:
        entry = entries[0]
        value = entry.fold(quantity, data)
        if value is None:
            return (), ()
        return ((entry.number, cell, value[0], value[1]),), entry.names
    values = [(entry, entry.fold(quantity, data)) for entry in entries]
    folds = tuple((entry.number, cell, *value) for entry, value in values if value is not None)
    return folds, tuple(entry.key for entry, value in values if value is not None)


def _echo(id: str) -> str:
    return id if len(id) <= MAX_ID else f"{id[: MAX_ID - 1]}…"


__all__ = ["Batch", "Ingest", "Result", "StorageUnavailable"]
