"""Whatever is used, cut, changed and bought again within fractions of seconds: every unit is on one invoice line or in one named state."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox.conftest import Running
from selling.ends import CENTS, DAY, HOUR, SECOND, Ends
from tollkeeper.core.errors import Conflict, NotFound
from tollkeeper.core.provider import ProviderRefused

STEPS = ("use", "use", "use", "report", "settle", "buy pro", "buy max", "pro", "max", "now", "hand", "hand unbilled")
WAITS = (0, 1, 300_000, 400_000, 999_999, SECOND, 5 * SECOND, 61 * SECOND, HOUR, DAY)
lives = st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(WAITS)), min_size=3, max_size=12)


def live(ends: Ends, steps: list[tuple[str, int]]) -> list[int]:
    """Do what the steps say, as far as it can be done. When each unit was used."""
    used: list[int] = []
    money = ends.money
    assert money.checkouts is not None
    assert money.dispatcher is not None
    for step, wait in steps:
        ends.go(ends.instant + wait)
        running = [one for one in ends.v1.subscriptions.list({}).data if one.status == "active"]
        try:
            if step == "use":
                used.append(ends.instant)
                ends.use()
            elif step == "settle":
                ends.settle()
            elif step == "report":
                while money.reports.run_once() or money.dispatcher.run_once():
                    pass
            elif step.startswith("buy"):
                ends.buy(step[4:])
            elif step in CENTS:
                money.checkouts.change("acme", step, "now")
            elif step == "now" and running:
                ends.cut("now")
            elif running:
                ends.v1.subscriptions.cancel(running[0].id, {"invoice_now": step == "hand"})
        except (Conflict, NotFound, ProviderRefused):  # nothing to be changed, or it has ended and nobody knows yet
            pass
    return used


def come_to_rest(ends: Ends) -> None:
    assert ends.money.subscriptions is not None
    for _ in range(2):
        ends.rest()
        ends.money.subscriptions.close_ends()


def placed(ends: Ends) -> tuple[Decimal, Decimal, Decimal]:
    """Units on invoices, units of contracts that ended without one, units outside every contract."""
    billed = sum((Decimal(cents) / CENTS[plan] for plan, cents in ends.billed().items()), Decimal(0))
    told = ends.told()
    assert {one.state for one in told} <= {"uninvoiced", "outside"}, told
    named = {state: Decimal(0) for state in ("uninvoiced", "outside")}
    for one in told:
        named[one.state] += one.difference or Decimal(0)
    return billed, named["uninvoiced"], named["outside"]


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(lives)
@example([("buy pro", 0), ("use", 1), ("now", 300_000), ("use", 400_000), ("buy max", 0), ("use", 0), ("use", SECOND)])
@example(
    [("buy pro", 0), ("use", HOUR), ("hand", 300_000), ("report", 1), ("use", 0), ("settle", 5 * SECOND), ("use", 1)]
)
@example([("buy pro", 0), ("use", DAY), ("max", 400_000), ("use", 0), ("pro", 300_000), ("use", 999_999), ("now", 0)])
@example([("buy pro", 0), ("use", DAY), ("report", 1), ("hand unbilled", 0), ("use", 400_000), ("settle", SECOND)])
def test_every_unit_is_on_one_line_or_in_one_named_state(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as folder:
        running = Running()
        ends = Ends(Path(folder), running)
        try:
            used = live(ends, steps)
            ends.settle()
            ends.go(ends.instant + DAY)
            ends.settle()
            with contextlib.suppress(Conflict):
                ends.cut("now")
            come_to_rest(ends)
            begun = min((period.start for period in ends.periods()), default=None)
            counted = sum(begun is not None and at >= begun for at in used)  # before the first contract it is nobody's
            billed, uninvoiced, outside = placed(ends)
            assert billed + uninvoiced + outside == counted
            assert ends.money.drift is not None
            ends.money.drift.repair()
            come_to_rest(ends)
            assert placed(ends) == (billed + uninvoiced, 0, outside)
            assert ends.waiting() == 0
        finally:
            ends.browser.close()
            ends.money.close()
            ends.toll.close()
            running.stop()
