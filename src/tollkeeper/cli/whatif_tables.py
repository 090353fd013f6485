"""The answer of `tollkeeper whatif` in a terminal: tables, and charts where there is a terminal that can draw them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tollkeeper.cli import terminal
from tollkeeper.cli.usage import BAR, bar
from tollkeeper.cli.whatif_words import (
    Told,
    amount,
    by_day,
    callers,
    concentration,
    grouping,
    mixed,
    notes,
    refusals,
    summary,
)

HEIGHTS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 14


def show(told: Told) -> None:
    """Everything, the answer first."""
    draws = terminal.draws(BAR + HEIGHTS)
    for line in summary(told):
        terminal.say(line)
    other = "" if told.found.chosen is None else " --by groups otherwise."
    terminal.say(grouping(told) + other, "dim")
    _plans(told, draws)
    if len(told.report.months) > 1:
        _months(told)
    if draws and len(told.found.days) > 1:
        _days(told)
    _top(told)
    _refused(told)
    terminal.note("")
    for line in notes(told):
        terminal.note(f"· {line}")


def _heading(text: str) -> None:
    terminal.say()
    terminal.say(text, "bold")


def _plans(told: Told, draws: bool) -> None:
    report = told.report
    _heading("What each plan would have earned")
    right = (f"EARNED {report.currency.upper()}", "PAYERS", "COUNTED", "LIMIT REFUSES", "QUOTA REFUSES")
    made = terminal.table("PLAN", *right, "", right=right)
    made.columns[-1].no_wrap = True
    most = max((plan.earned for plan in report.plans), default=Decimal(0))
    for plan in report.plans:
        terminal.add_row(
            made,
            plan.name,
            terminal.styled(amount(plan.earned), "bold green" if plan.earned else ""),
            f"{plan.payers:,}",
            f"{plan.used:,}",
            _turned_away(plan.by_limit),
            _turned_away(plan.by_quota),
            terminal.styled(bar(plan.earned, most, BAR_WIDTH) if draws else "", "green"),
        )
    terminal.show_table(made)
    for plan in report.plans:
        if plan.earned and (line := concentration(plan.amounts)):
            terminal.say(f"{plan.name}: {line}", "dim")
    if mix := mixed(told):
        terminal.say()
        earned = terminal.styled(
            f"{amount(report.best)} {report.currency.upper()}", "bold green" if report.best else ""
        )
        terminal.console().print(
            terminal.styled("Each on the cheapest plan whose quota does: ") + earned + terminal.styled(f" ({mix})")
        )


def _turned_away(calls: int) -> Any:
    return terminal.styled(f"{calls:,}" if calls else "-", "yellow" if calls else "dim")


def _months(told: Told) -> None:
    from rich.markup import escape

    report = told.report
    _heading("By month")
    names = [escape(plan.name) for plan in report.plans]
    made = terminal.table("MONTH", "CALLS", *names, right=("CALLS", *names))
    for month in report.months:
        earned = [amount(plan.months.get(month.key, plan.earned * 0)) for plan in report.plans]
        terminal.add_row(made, month.key + (" (in part)" if month.partly else ""), f"{month.calls:,}", *earned)
    terminal.show_table(made)


def _days(told: Told) -> None:
    days = by_day(told)
    _heading("Calls a day")
    line, most, each = columns([calls for _, calls, _ in days], 72)
    terminal.say(line, "cyan")
    span = f"{days[0][0]} to {days[-1][0]}" + (f", {each} days a column" if each > 1 else "")
    terminal.say(f"{span}; at most {most:,} on a day", "dim")


def columns(values: Sequence[int], width: int) -> tuple[str, int, int]:
    """A line of columns, the greatest value, and how many values (their greatest is shown) share a column."""
    each = -(-len(values) // width)
    most = max(values)
    tops = [max(values[i : i + each]) for i in range(0, len(values), each)]
    return "".join(HEIGHTS[-(-top * 8 // most) - 1] if top else " " for top in tops), most, each


def _top(told: Told) -> None:
    from rich.markup import escape

    payers = [one for one in told.report.top if any(plan.amount for plan in one.plans)]
    if not payers:
        terminal.say()
        terminal.say("Nobody would have paid anything on these plans.", "yellow")
        return
    _heading(f"Who would pay most ({len(payers):,} of {callers(told, told.report.billed)})")
    paid = [(i, plan.name) for i, plan in enumerate(told.report.plans) if plan.earned]
    names = [escape(name) for _, name in paid]
    counts = ["SUCCESSES"] if told.found.question.count_on == "success" else []
    made = terminal.table("CALLER", "CALLS", *counts, *names, "CHEAPEST FIT", right=("CALLS", *counts, *names))
    for one in payers:
        cells = [f"{one.calls:,}", *([f"{one.countable:,}"] if counts else [])]
        cells += [amount(one.plans[i].amount) for i, _ in paid]
        terminal.add_row(made, one.label, *cells, told.report.plans[one.fits].name)
    terminal.show_table(made)


def _refused(told: Told) -> None:
    report = told.report
    if not report.refused:
        terminal.say()
        terminal.say("Nobody would have hit a limit or a quota.", "green")
        return
    _heading("Who would hit a limit or a quota")
    for plan in report.plans:
        hit = [(plan.hit_limit, "its limits"), (plan.hit_quota, "its quota"), (plan.over_quota, "its soft quota")]
        if told_hit := ", ".join(f"{callers(told, count)} at {what}" for count, what in hit if count):
            terminal.say(f"{plan.name}: {told_hit}")
    made = terminal.table("CALLER", "CALLS", "WOULD BE REFUSED", right=("CALLS",))
    for one in report.refused:
        terminal.add_row(made, one.label, f"{one.calls:,}", refusals(told, one))
    terminal.show_table(made)
