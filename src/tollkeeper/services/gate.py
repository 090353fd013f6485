"""The gate: who is this, may they, and what does it cost. The hot path, whole, in one file.

A check touches memory only: one snapshot per key (key + customer + plan in one value), one bucket per limit, one total per customer and
meter. Limits and quota are judged together and taken together under one lock; what is taken and then not recorded is given back.
The only wait is for the commit of the usage event.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from hashlib import sha256
from typing import Protocol

from tollkeeper.core.customers import Environment
from tollkeeper.core.errors import Conflict, InvalidRequest, TollkeeperError
from tollkeeper.core.events import (
    CHECK_SOURCE,
    GATE,
    GATE_SOURCE,
    ULID_TIMED,
    UUID_TIMED,
    Extra,
    FoldTuple,
    LogRow,
    Outcome,
    Submission,
    digest_id,
    pack_id,
    quantity_data,
)
from tollkeeper.core.gate import (
    NO_TERMS,
    NOBODY,
    STATUS,
    Code,
    Decision,
    Terms,
    Who,
    decide,
)
from tollkeeper.core.grants import CustomerGrant
from tollkeeper.core.limits import refund
from tollkeeper.core.metering import NANOS, QuantityInvalid, split_quantity
from tollkeeper.core.periods import period_at
from tollkeeper.core.ports import Grants
from tollkeeper.core.shadow import ALL
from tollkeeper.services.addresses import from_where, is_within
from tollkeeper.services.clock import Clock
from tollkeeper.services.early import Early
from tollkeeper.services.extras import check_data, extras_of
from tollkeeper.services.foreign_keys import ForeignKeys
from tollkeeper.services.holds import Holds
from tollkeeper.services.meters import MeterTable, not_checkable
from tollkeeper.services.near import tell_near
from tollkeeper.services.snapshots import Account, MeterView, Snapshot, count_cell, count_others, count_row, fill
from tollkeeper.services.submissions import Awaited, Log, Waited

UNKNOWN_KEYS = 10_000
OTHER_CHECK = "This id was used before for another check (other key, meter or cost). Use a new id."


class Totals(Protocol):
    """Usage folded so far: meter number → billionths, for [start, end) in µs."""

    def totals(self, environment: str, customer: str, start: int, end: int) -> dict[int, int]: ...


class Gate:
    """`check` for threads, `check_async` for a loop, `judge` then `record` or `refund` for surfaces that count successes only."""

    def __init__(
        self,
        grants: Grants,
        log: Log,
        totals: Totals,
        meters: MeterTable,
        clock: Clock | None = None,
        *,
        foreign: ForeignKeys | None = None,
        snapshots: int = 200_000,
    ) -> None:
        self._grants = grants
        self._log = log
        self._totals = totals
        self.meters = meters
        self.clock = clock or Clock()
        self._now_ns = self.clock.now_ns
        self._steady_ns = self.clock.steady_ns
        self.foreign = foreign if foreign is not None else ForeignKeys()
        self.may_be_key = self.foreign.may_be_key
        self._snapshots: dict[bytes, Snapshot] = {}
        self._unknown: dict[bytes, None] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._lock = threading.Lock()
        self._loading = threading.RLock()
        self.holds = Holds(self._lock)
        self.shadow_plans: frozenset[str] = frozenset()
        self.buy: Callable[[Environment, str], Callable[[int], str] | None] | None = None
        self.on_near: Callable[[Decision], None] = tell_near
        self.on_shadow: Callable[[Decision, str], None] = lambda decision, code: None
        self._generation = 0
        self._max_snapshots = snapshots
        self._boot = self.clock.random_bits(40) << 40
        self._counter = itertools.count(1)  # next() is atomic
        self.decisions: dict[str, dict[str, int]] = {
            name: dict.fromkeys(STATUS, 0) for name in ("live", "test", "unknown")
        }
        self.early_lost = 0
        self.early_repeated = 0

    # identity

    def find(self, raw: str) -> Snapshot | None:
        """The cached snapshot of a key; None when it must be loaded. No I/O."""
        try:
            return self._snapshots.get(sha256(raw.encode()).digest())
        except UnicodeEncodeError:
            return None

    def load(self, raw: str) -> Snapshot | None:
        """Read one key's snapshot (one SELECT); None when there is no such key. Junk costs no I/O."""
        if not self.may_be_key(raw):
            return None
        digest = sha256(raw.encode()).digest()
        if digest in self._unknown:
            return None
        with self._loading:
            generation = self._generation
            grant = self._grants.by_digest(digest)
            if grant is None:
                if len(self._unknown) >= UNKNOWN_KEYS:
                    self._unknown.clear()
                if generation == self._generation:
                    self._unknown[digest] = None
                return None
            account = None
            if grant.grant is not None:
                account = self.account(grant.key.environment, grant.grant)
            snapshot = Snapshot(grant, account)
            if self.buy is not None and account is not None:
                snapshot.who.buy = self.buy(account.environment, account.customer)
            if account is not None and grant.grant is not None:
                shadow = not self.shadow_plans.isdisjoint((ALL, snapshot.who.plan))
                fill(snapshot, account, grant.grant, self.meters.current, shadow)
            with self._lock:
                if generation == self._generation:  # a change that came meanwhile wins
                    if len(self._snapshots) >= self._max_snapshots:
                        self._snapshots.clear()
                    self._snapshots[digest] = snapshot
            return snapshot

    def account(self, environment: Environment, grant: CustomerGrant) -> Account:
        """A customer's account, with the current period's totals read once from the rollups.

        Periods count from the purchase; without a subscription, from the day the customer was made.

        Everything that queues usage for a customer gets the account first, so nothing can be in the queue when it is made.
        """
        where = (environment, grant.customer.id)
        account = self._accounts.get(where)
        if account is not None and not account.stale:
            return account
        with self._loading:
            account = self._accounts.get(where)
            if account is None:
                account = Account(environment, grant.customer.id, *grant.counting)
                self._begin(account, self._now_ns() // 1000)
                self._accounts[where] = account
            elif account.stale:
                account.stale = False
                if account.counting != grant.counting:  # bought just now: a period begins
                    account.anchor, account.zone, account.carried_from = grant.counting
                    self._begin(account, self._now_ns() // 1000)
            return account

    def in_memory(self, environment: Environment, customer: str) -> bool:
        """Whether `account_of` answers without a read."""
        account = self._accounts.get((environment, customer))
        return account is not None and not account.stale and self._now_ns() < account.end_ns

    def account_of(self, environment: Environment, customer: str) -> Account | None:
        """The account by customer id; None when there is no such customer. One SELECT the first time."""
        account = self._accounts.get((environment, customer))
        if account is None or account.stale:
            grant = self._grants.by_customer(environment, customer)
            if grant is None:
                return None
            account = self.account(environment, grant)
        now_ns = self._now_ns()
        if now_ns >= account.end_ns:
            self._roll(account, now_ns // 1000)
        return account

    def add(self, accounts: Iterable[Account], rows: Iterable[LogRow], sign: int = 1) -> None:
        """Count usage that did not pass the gate, row by row; `sign` -1 takes it back (a duplicate, a failed commit)."""
        with self._lock:
            for account, row in zip(accounts, rows, strict=True):
                count_row(account, row, sign)

    def correct(self, environment: Environment, commit: Callable[[], Iterable[tuple[str, int, int, int]]]) -> None:
        """Commit a correction and follow it: (customer, meter's number, cell in seconds, billionths) for each rollup it changed.

        No total is read from the rollups meanwhile, so none has the correction already when it is added.
        """
        with self._loading:
            changed = commit()
            with self._lock:
                for customer, meter, cell, billionths in changed:
                    account = self._accounts.get((environment, customer))
                    if account is not None:
                        count_cell(account, meter, cell, billionths)

    def _begin(self, account: Account, now_us: int) -> None:
        anchor, zone = account.anchor, account.zone
        start, end = period_at(anchor, zone, now_us)
        next_start, next_end = period_at(anchor, zone, end)
        read = self._totals.totals
        used = read(account.environment, account.customer, account.since(start), end)
        following = read(account.environment, account.customer, next_start, next_end)
        with self._lock:
            account.begin(start, end, used, following)

    def _roll(self, account: Account, now_us: int) -> None:
        """The period ended: what was recorded ahead of time for the next one is its beginning."""
        with self._loading:
            if now_us < account.end:
                return
            start, end = period_at(account.anchor, account.zone, account.end)
            if now_us < end:
                with self._lock:
                    account.begin(start, end, account.following, {})
            else:
                self._begin(account, now_us)

    def drop(self, customer: str | None = None) -> None:
        """Forget snapshots of one customer, or all. Called after every commit that changes what they were made from."""
        with self._lock:
            self._generation += 1
            self._unknown.clear()
            for account in list(self._accounts.values()):
                if customer is None or account.customer == customer:
                    account.stale = True  # its periods may count from another day now
            if customer is None:
                self._snapshots.clear()
            else:
                gone = [d for d, s in self._snapshots.items() if s.key.customer == customer]
                for digest in gone:
                    del self._snapshots[digest]

    def take_used(self) -> dict[str, int]:
        """When keys were last used (µs by key id) since the last call."""
        used: dict[str, int] = {}
        for snapshot in list(self._snapshots.values()):
            if snapshot.last_used:
                used[snapshot.key.id] = snapshot.last_used // 1000
                snapshot.last_used = 0
        return used

    # decision

    def _next_id(self, now_ns: int) -> int:
        """48 bits of ms, 40 bits of this start, 40 bits of count: unique, and later ids are larger."""
        return (now_ns // 1_000_000) << 80 | self._boot | (next(self._counter) & 0xFFFFFFFFFF)

    def judge(
        self,
        snapshot: Snapshot | None,
        meter: str | None,
        cost: int | str | Decimal = 1,
        scope: str | None = None,
        ip: str | None = None,
    ) -> Decision:
        """Judge and take. What a decision took (`amount`) must then be recorded or refunded. Raises on an unknown meter or a bad cost."""
        now_ns = self._now_ns()
        if snapshot is None:
            return self._refuse("NOT_FOUND", now_ns, NOBODY)
        who = snapshot.who
        refusal = snapshot.refusal
        if refusal is not None:
            return self._refuse(refusal[0], now_ns, who, refusal[1])
        if now_ns >= snapshot.expires:
            return self._refuse("EXPIRED", now_ns, who)
        if snapshot.networks and not is_within(snapshot.networks, ip):
            return self._refuse("FORBIDDEN", now_ns, who, from_where(ip))
        if scope is not None and scope not in snapshot.scopes:
            return self._refuse("INSUFFICIENT_SCOPE", now_ns, who, f"This API key needs the scope {scope!r}.")
        snapshot.last_used = now_ns
        if meter is None:
            terms: Terms = snapshot.terms
            return self._take(terms, None, now_ns, who, 0, 1)
        view = snapshot.meters.get(meter)
        if view is None:
            raise not_checkable(meter, self.meters.current)
        if now_ns >= view.account.end_ns:
            self._roll(view.account, now_ns // 1000)
        if type(cost) is int and cost == 1:
            return self._take(view, view, now_ns, who, NANOS, 1)
        amount, weight = self._amount(view, cost)
        return self._take(view, view, now_ns, who, amount, weight)

    def _refuse(self, code: Code, now_ns: int, who: Who, reason: str | None = None) -> Decision:
        with self._lock:
            self.decisions[who.environment or "unknown"][code] += 1
        decision = Decision(code, self._next_id(now_ns), who, reason=reason)
        return self._let_through(decision) if ALL in self.shadow_plans else decision

    def _let_through(self, decision: Decision) -> Decision:
        """Shadow mode: it passes, nothing of it is recorded as usage, and what would have refused it is noted."""
        decision.shadow = decision.code
        self.recount(decision, "VALID")
        decision.code, decision.reason = "VALID", None
        self.on_shadow(decision, decision.shadow)
        return decision

    @property
    def cached(self) -> int:
        """Snapshots of keys in memory."""
        return len(self._snapshots)

    def _take(self, terms: Terms, view: MeterView | None, now_ns: int, who: Who, amount: int, weight: int) -> Decision:
        """Judge limits and quota together and take all or nothing. An amount of 0 on a meter asks and takes nothing."""
        steady = self._steady_ns()
        buckets = terms.buckets
        allowance = terms.allowance
        used = end = before = 0
        with self._lock:
            if view is not None:
                account = view.account
                used, end = view.total.used, account.end
                # read before the period began, or the clock went back: `used` is of this period, so the event is, too
                if now_ns < account.start_ns:
                    now_ns = account.start_ns
            # inside the lock, so that ids rise in the order of admission
            id = (now_ns // 1_000_000) << 80 | self._boot | next(self._counter) & 0xFFFFFFFFFF
            code, refuser, tats = decide(buckets, steady, weight, allowance, used, amount)
            self.decisions[who.environment][code] += 1  # type: ignore[index]  # a key has one
            admitted = code == "VALID" and (amount or view is None)
            if admitted:
                for bucket, tat in zip(buckets, tats):  # noqa: B905 - same length, and this is the hot path
                    bucket.tat = tat
                if view is not None:
                    before = used
                    view.total.used = used = used + amount
                    if view.others:
                        count_others(view, amount, 1)
            else:
                tats = [bucket.tat for bucket in buckets]
        if admitted:
            decision = Decision(code, id, who, terms, steady, tats, used, end, amount)
            if allowance is not None and before < allowance.near <= used:
                self.on_near(decision)
            return decision
        decision = Decision(code, id, who, terms, steady, tats, used, end, 0, refuser)
        return self._let_through(decision) if terms.shadow and code != "VALID" else decision

    @staticmethod
    def _amount(view: MeterView, cost: int | str | Decimal) -> tuple[int, int]:
        try:
            units, nanos = split_quantity(cost)
        except QuantityInvalid:
            raise QuantityInvalid(
                f'cost is {str(cost)[:60]!r}; expected a decimal number such as "1" or "0.25".'
            ) from None
        if units < 0:
            raise QuantityInvalid(f"cost is {cost}; a check cannot give back. Void the event instead.")
        if nanos and view.entry.by_count:
            raise QuantityInvalid(
                f"cost is {cost}; meter {view.entry.key!r} counts whole events. Use a sum meter for fractions."
            )
        return units * NANOS + nanos, units + (nanos > 0)

    # recording

    def row(self, decision: Decision, id: str | None = None) -> LogRow:
        """The usage event of an admitted check, as a row of the log."""
        view = decision.terms
        assert isinstance(view, MeterView)
        account = view.account
        ms = decision.id >> 80
        at_s = ms // 1000
        cell = at_s - at_s % 900
        if cell < account.start_s <= at_s:
            cell = account.start_s
        amount = decision.amount
        if amount == NANOS:
            units, nanos, quantity, data = 1, 0, 1, view.unit_data
        else:
            units, nanos = divmod(amount, NANOS)
            quantity, data = units, None
            if view.property is not None:
                quantity, data = 1, quantity_data(view.property, amount)
        folds: tuple[FoldTuple, ...] = ((view.entry.number, cell, units, nanos),)
        for other in view.others:
            adds = other.adds(amount, view.property)
            if adds is not None:
                folds += ((other.number, cell, *divmod(adds, NANOS)),)
        extras: tuple[Extra, ...] = ()
        if view.extras:
            extras = extras_of(account, ms * 1000, view.extras, quantity, check_data(view.property, amount))
        flag = account.flag
        if id is None:
            flags, source, stored, digest = GATE << 1 | flag, GATE_SOURCE, decision.id.to_bytes(16, "big"), None
        else:
            kind, packed = pack_id(id)
            flags, source, stored = kind << 1 | flag, CHECK_SOURCE, packed  # type: ignore[assignment]
            digest = None if kind in (UUID_TIMED, ULID_TIMED) else digest_id(flag, CHECK_SOURCE, id)
        return (
            flags,
            source,
            stored,
            digest,
            view.event_type,
            decision.who.key_id,
            account.customer,
            ms * 1000,
            quantity,
            data,
            folds,
            view.epoch,
            extras,
        )

    def refund(self, decision: Decision, *, limits: bool = True) -> None:
        """Give back what an admitted check took: its event was not recorded, or had been already. A second call does nothing.

        The decision tells from then on what is used and what remains without it.
        `limits` False gives back the quota alone: a call that was made and failed is not billed, but it was made.
        """
        steady = self._steady_ns()
        view = decision.terms
        assert isinstance(view, MeterView)
        with self._lock:
            amount, decision.amount = decision.amount, 0
            if amount == 0:
                return
            decision.used -= amount
            weight = -(-amount // NANOS)
            if limits:
                tats = list(decision.tats)
                for i, bucket in enumerate(view.buckets):
                    spent = bucket.interval * (weight if bucket.weighted else 1)
                    bucket.tat = refund(bucket.tat, steady, spent)
                    tats[i] = refund(tats[i], decision.now, spent)
                decision.tats = tats
            if decision.resets_at == view.account.end:
                view.total.used -= amount
                count_others(view, amount, -1)

    def settle(self, decision: Decision, outcomes: list[Outcome] | None) -> None:
        """After the commit: a repeated id had been counted before, so this one is given back. Raises Conflict on another payload."""
        if outcomes is None or outcomes[0].status == "accepted":
            return
        self.refund(decision)
        if outcomes[0].status == "conflict":
            raise Conflict(OTHER_CHECK)

    def check(
        self,
        raw: str,
        meter: str | None = None,
        cost: int | str | Decimal = 1,
        *,
        scope: str | None = None,
        ip: str | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> Decision:
        """Identify, limit, count. Returns after the usage event is committed; with `wait=False` before that (refused for hard quotas).

        Raises NotFound (no such meter), InvalidRequest (bad cost, id or ip), Conflict (id reused), StorageUnavailable (nothing counted).
        """
        try:
            snapshot = self._snapshots.get(sha256(raw.encode()).digest())
        except UnicodeEncodeError:
            snapshot = None
        decision = self.judge(snapshot or self.load(raw), meter, cost, scope, ip)
        if not decision.amount:
            return decision if id is None else self.known(decision, cost, id)
        if not wait:
            self.record(decision, id)
            return decision
        self.commit_wait(decision, id)
        return decision

    def commit_wait(self, decision: Decision, id: str | None = None) -> None:
        """Record an admitted check and wait for its commit, in a thread. Gives back what it took when that fails."""
        try:
            submission = Waited((self.row(decision, id),))
            self._log.put(submission)
            outcomes = submission.wait()
        except TollkeeperError:
            self.refund(decision)
            raise
        self.settle(decision, outcomes)

    def may_be_known(self, decision: Decision, id: str | None) -> bool:
        """A retry meets a limit or a quota that the first attempt may have used up: whether that one counted is to be asked."""
        return id is not None and decision.code in ("RATE_LIMITED", "QUOTA_EXCEEDED") and decision.terms is not NO_TERMS

    def known(self, decision: Decision, cost: int | str | Decimal, id: str) -> Decision:
        """A refusal, or VALID when this very check was recorded before under its id. Waits for the log. Raises Conflict."""
        view = decision.terms
        if not self.may_be_known(decision, id) or not isinstance(view, MeterView):
            return decision
        amount, _ = self._amount(view, cost)
        before = Decision(
            "VALID",
            decision.id,
            decision.who,
            view,
            decision.now,
            decision.tats,
            decision.used,
            decision.resets_at,
            amount,
        )
        outcome = self._log.known(self.row(before, id))
        if outcome is None:
            return decision
        if outcome.status == "conflict":
            raise Conflict(OTHER_CHECK)
        self.recount(decision, "VALID")
        before.amount = 0
        return before

    def recount(self, decision: Decision, code: Code | None) -> None:
        """Among the decisions it counts as `code` instead; None: it is judged again, and counts then."""
        with self._lock:
            counts = self.decisions[decision.who.environment or "unknown"]
            counts[decision.code] -= 1
            if code is not None:
                counts[code] += 1

    async def commit(self, decision: Decision, id: str | None = None) -> None:
        """Record an admitted check and wait for its commit, on an event loop. Gives back what it took when that fails."""
        try:
            submission = Awaited((self.row(decision, id),))
            self._log.put(submission)
            await submission.future
        except TollkeeperError:
            self.refund(decision)
            raise
        self.settle(decision, submission.outcomes)

    def put(self, decision: Decision, submission: Submission) -> None:
        """Record an admitted check by a submission of the caller's own; its `done` must settle or refund."""
        try:
            self._log.put(submission)
        except TollkeeperError:
            self.refund(decision)
            raise

    def record(self, decision: Decision, id: str | None = None) -> None:
        """Record an admitted check without waiting: the early answer. What it may lose is what was queued when the process died.

        What the log then refuses, or knows already, is given back and counted in `early_lost` and `early_repeated`.
        """
        self.require_early(decision)
        try:
            self._log.put(Early(self, decision, (self.row(decision, id),)))
        except TollkeeperError:
            self.refund(decision)
            raise

    def require_early(self, decision: Decision) -> None:
        """The early answer may be lost in a crash, so it is not offered where the count is a promise."""
        allowance = decision.terms.allowance
        if allowance is not None and allowance.hard:
            self.refund(decision)
            raise InvalidRequest(
                f"durable=false is refused for {allowance.meter!r}: its quota is hard, and a hard quota is exact. Leave durable out."
            )
