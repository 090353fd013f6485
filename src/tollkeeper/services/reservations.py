"""Reserve → commit or release: for work whose size is known only afterwards (tokens, bytes, seconds).

The commit is a usage event under the reservation's own id, stamped with the instant of its admission: the period that admitted it
pays for it. It always counts: after a restart, after a lapse, after a release, above what was reserved.

A pass admits any number of calls for as long as a gateway keeps it; it holds nothing, and each call by it is committed by its own id.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict, InvalidRequest, NotFound, TollkeeperError
from tollkeeper.core.events import (
    GATEWAY_SOURCE,
    RESERVATION_SOURCE,
    ULID_TIMED,
    LogRow,
    Outcome,
    Submission,
    quantity_data,
)
from tollkeeper.core.gate import Decision
from tollkeeper.core.metering import NANOS, QuantityInvalid, format_quantity, join_quantity, split_quantity
from tollkeeper.core.reservations import HOLD_SECONDS, Reservation, read_token
from tollkeeper.services.extras import extras_of
from tollkeeper.services.gate import Gate
from tollkeeper.services.ingest import folds_of
from tollkeeper.services.meters import MeterTable
from tollkeeper.services.snapshots import Account, MeterView
from tollkeeper.services.submissions import Awaited, Log, Waited

_CALL: Final = re.compile("[0-9a-f]{32}")


class Call(NamedTuple):
    """A reserved call and how it ended. `id`: which of the calls by a pass it is, 32 hexadecimal digits; None for a reservation."""

    token: str
    succeeded: bool
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit. `duplicate`: this very commit had been made before. Quantities are decimals as strings."""

    status: Literal["accepted", "duplicate"]
    event_id: str
    customer: str
    meter: str
    reserved: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Released:
    """The answer to a release. `released` is "0" when nothing was held any more: committed, released or lapsed before."""

    customer: str
    meter: str
    reserved: str
    released: str


class Commit:
    """A commit under way: its row is counted, and held by nobody's log yet."""

    __slots__ = ("_account", "_amount", "_gate", "_held", "_reservation", "row")

    def __init__(
        self,
        gate: Gate,
        reservation: Reservation,
        amount: int,
        account: Account,
        row: LogRow,
        held: Decision | None,
    ) -> None:
        self._gate = gate
        self._reservation = reservation
        self._amount = amount
        self._account = account
        self.row = row
        self._held = held

    def take_back(self) -> None:
        """The log did not take the row: what was held is held again."""
        self._gate.holds.unuse(self._held, self._account, self.row)

    def settle(self, outcomes: list[Outcome] | None) -> Committed:
        """After the log's answer (None: accepted). Raises Conflict."""
        status: Literal["accepted", "duplicate"] = "accepted"
        if outcomes is not None and outcomes[0].status != "accepted":
            self._gate.add((self._account,), (self.row,), -1)
            if outcomes[0].status == "conflict":
                raise Conflict("This reservation was committed before with another quantity, which counts.")
            status = "duplicate"
        made = self._reservation
        reserved, quantity = _text(made.amount), _text(self._amount)
        return Committed(status, made.event_id, made.customer, made.meter, reserved, quantity)


class Reservations:
    """`secret` signs the tokens. `max_age_days`: how old usage may be that is still taken, as for events."""

    def __init__(self, gate: Gate, log: Log, meters: MeterTable, secret: bytes, *, max_age_days: int = 35) -> None:
        self._gate = gate
        self._log = log
        self._meters = meters
        self._secret = secret
        self._max_age_days = max_age_days

    def hold(self, decision: Decision) -> None:
        """Make a reservation of an admitted decision, instead of recording it. Its token stands in `decision.reservation`."""
        view = decision.terms
        if decision.code == "VALID" and isinstance(view, MeterView):
            decision.reservation = _of(decision, view).token(self._secret)
            self._gate.holds.keep(decision)

    def admit(self, decision: Decision) -> bool:
        """Make a pass of an admitted decision, for a gateway that answers by it until it asks again. What the decision took of a quota is
        given back, since each call by the pass is counted when it is settled; what it took of limits stays taken.

        False: it is not for a cache, and unchanged. A hard quota is exact, so each call is judged by it; shadow mode looks at each.
        """
        view = decision.terms
        if not decision.amount or not isinstance(view, MeterView):
            return False
        if view.allowance is not None and view.allowance.hard:
            return False
        decision.reservation = replace(_of(decision, view), many=True).token(self._secret)
        self._gate.refund(decision, limits=False)
        return True

    def commit(
        self, token: str, quantity: int | str | Decimal | None = None, environment: Environment | None = None
    ) -> Committed:
        """Count what was used (None: what was reserved); waits for the commit. `environment`: the only one the caller may speak for.

        Raises InvalidRequest (no such token, too old), NotFound (another environment), QuantityInvalid, Conflict (committed before
        with another quantity), StorageUnavailable (nothing counted; try again).
        """
        commit = self.begin(token, quantity, environment)
        submission = Waited((commit.row,))
        try:
            self._log.put(submission)
            outcomes = submission.wait()
        except TollkeeperError:
            commit.take_back()
            raise
        return commit.settle(outcomes)

    def settle(
        self, calls: Sequence[Call], environment: Environment | None = None
    ) -> list[Committed | Released | TollkeeperError]:
        """Commit what succeeded as it was reserved, release the rest; all commits in one transaction. An answer for each.

        Raises StorageUnavailable when none of the commits was taken; try the whole again.
        """
        answers: list[Commit | Released | TollkeeperError] = []
        passes: dict[str, Reservation] = {}  # a log has the same one many times
        for token, succeeded, id in calls:
            try:
                made = passes.get(token) or self._read(token, environment)
                if made.many:
                    passes[token] = made
                    made = _call_of(made, id)
                if succeeded:
                    answers.append(self._begin(made, made.amount))
                else:
                    answers.append(self._release(made))
            except TollkeeperError as error:
                answers.append(error)
        commits = [answer for answer in answers if isinstance(answer, Commit)]
        outcomes: Sequence[Outcome | None] = [None] * len(commits)
        if commits:
            submission = Waited([commit.row for commit in commits])
            try:
                self._log.put(submission)
                outcomes = submission.wait() or outcomes
            except TollkeeperError:
                for commit in reversed(commits):
                    commit.take_back()
                raise
        known = iter(outcomes)
        return [_settled(answer, next(known)) if isinstance(answer, Commit) else answer for answer in answers]

    def begin(self, token: str, quantity: int | str | Decimal | None, environment: Environment | None = None) -> Commit:
        """Count in memory; the row must then be logged, and the commit settled or taken back."""
        reservation = self._single(token, environment)
        return self._begin(reservation, reservation.amount if quantity is None else _amount(quantity, reservation))

    def begin_from_memory(
        self, token: str, quantity: int | str | Decimal | None, environment: Environment | None = None
    ) -> Commit | None:
        """`begin` without a read; None when the customer must be read first."""
        reservation = self._single(token, environment)
        if not self._gate.in_memory(reservation.environment, reservation.customer):
            return None
        return self._begin(reservation, reservation.amount if quantity is None else _amount(quantity, reservation))

    async def commit_async(self, token: str, quantity: int | str | Decimal | None = None) -> Committed:
        """`commit` on an event loop."""
        commit = self.begin_from_memory(token, quantity)
        if commit is None:
            commit = await asyncio.to_thread(self.begin, token, quantity)
        try:
            submission = Awaited((commit.row,))
            self._log.put(submission)
            await submission.future
        except TollkeeperError:
            commit.take_back()
            raise
        return commit.settle(submission.outcomes)

    def withdraw(self, decision: Decision, *, made: bool) -> None:
        """Give back what a decision holds, by whoever made the reservation. The decision tells from then on what is left without it.

        `made`: the request was made, so a limit by requests keeps it, as after a release.
        """
        if not made:
            if self._gate.holds.forget(decision.id):
                self._gate.refund(decision)
            return
        self._gate.holds.release(decision.id, self._gate.clock.steady_ns())
        decision.used -= decision.amount
        decision.amount = 0

    def put(self, submission: Submission) -> None:
        """Log a commit by a submission of the caller's own; its `done` must settle it or take it back. Raises StorageUnavailable."""
        self._log.put(submission)

    def _begin(self, reservation: Reservation, amount: int) -> Commit:
        account, row = self._row(reservation, amount)
        held = self._gate.holds.use(reservation.id, account, row, amount, self._gate.clock.steady_ns())
        return Commit(self._gate, reservation, amount, account, row, held)

    def release(self, token: str, environment: Environment | None = None) -> Released:
        """Give back what is held. Raises InvalidRequest (no such token), NotFound (another environment)."""
        return self._release(self._single(token, environment))

    def _release(self, reservation: Reservation) -> Released:
        if reservation.many:  # a failed call by a pass: nothing was held for it
            return Released(
                reservation.customer, reservation.meter, _text(reservation.amount), _text(reservation.amount)
            )
        released = self._gate.holds.release(reservation.id, self._gate.clock.steady_ns())
        return Released(reservation.customer, reservation.meter, _text(reservation.amount), _text(released))

    def lapse(self) -> bool:
        """Give back what nobody has asked for in HOLD_SECONDS. A step of the runner."""
        self._gate.holds.lapse(self._gate.clock.now_ns() // 1_000_000 - HOLD_SECONDS * 1000)
        return False

    def _read(self, token: str, environment: Environment | None) -> Reservation:
        reservation = read_token(token, self._secret)
        if environment is not None and reservation.environment != environment:
            raise NotFound(f"This reservation is of {reservation.environment}, your token of {environment}.")
        return reservation

    def _single(self, token: str, environment: Environment | None) -> Reservation:
        reservation = self._read(token, environment)
        return _call_of(reservation, None) if reservation.many else reservation

    def _row(self, reservation: Reservation, amount: int) -> tuple[Account, LogRow]:
        at = reservation.at
        age_days = (self._gate.clock.now_us() - at) // 86_400_000_000
        if age_days >= self._max_age_days:
            raise InvalidRequest(
                f"This reservation was made {age_days} days ago; usage is taken for {self._max_age_days} days."
            )
        account = self._gate.account_of(reservation.environment, reservation.customer)
        if account is None:
            raise NotFound(f"There is no customer {reservation.customer!r} any more.")
        units, nanos = divmod(amount, NANOS)
        data: dict[str, Decimal] | None = None
        quantity, text = units, None
        if reservation.value_property is not None:
            quantity, text = 1, quantity_data(reservation.value_property, amount)
            data = {reservation.value_property: join_quantity(units, nanos)}
        meters = self._meters.current
        entries = meters.by_type.get(reservation.event_type, ())
        folds, _ = folds_of(account, at, entries, quantity, data)
        extras = extras_of(account, at, meters.extra.get(reservation.event_type, ()), quantity, data)
        row: LogRow = (
            ULID_TIMED << 1 | account.flag,
            GATEWAY_SOURCE if reservation.many else RESERVATION_SOURCE,
            reservation.id.to_bytes(16, "big"),
            None,
            reservation.event_type,
            reservation.key_id,
            reservation.customer,
            at,
            quantity,
            text,
            folds,
            meters.epoch,
            extras,
        )
        return account, row


def _call_of(by: Reservation, call: str | None) -> Reservation:
    """What one call by a pass is settled by. Raises InvalidRequest."""
    if call is None or not _CALL.fullmatch(call):
        raise InvalidRequest(
            'This call was let through by a pass, so it must say which call it was: "call":"$request_id" in the log of nginx.'
        )
    return by.call(call)


def _of(decision: Decision, view: MeterView) -> Reservation:
    return Reservation(
        decision.id,
        view.account.environment,
        view.account.customer,
        str(decision.who.key_id),
        view.entry.key,
        view.event_type,
        view.property,
        decision.amount,
    )


def _settled(commit: Commit, outcome: Outcome | None) -> Committed | TollkeeperError:
    try:
        return commit.settle(None if outcome is None else [outcome])
    except Conflict as error:
        return error


def _amount(quantity: int | str | Decimal, reservation: Reservation) -> int:
    try:
        units, nanos = split_quantity(quantity)
    except QuantityInvalid:
        raise QuantityInvalid(
            f'quantity is {str(quantity)[:60]!r}; expected a decimal number such as "1" or "0.25".'
        ) from None
    if units < 0:
        raise QuantityInvalid(f"quantity is {quantity}; what was used is not negative.")
    if nanos and reservation.value_property is None:
        raise QuantityInvalid(f"quantity is {quantity}; meter {reservation.meter!r} counts whole events.")
    return units * NANOS + nanos


@lru_cache(maxsize=4096)  # the calls of a log cost the same, most of them
def _text(billionths: int) -> str:
    return format_quantity(join_quantity(*divmod(billionths, NANOS)))
