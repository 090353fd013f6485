"""What `tollkeeper whatif` says, in words and as JSON: the same sentences for the terminal, the JSON and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tollkeeper.cli.values import plural
from tollkeeper.core.accesslog_callers import By, shown
from tollkeeper.core.periods import SECOND_US, find_zone
from tollkeeper.services.whatif import EXAMPLES, LATE_US, WhatIf
from tollkeeper.services.whatif_report import OfCaller, Report

BEHIND_A_PROXY = 1000  # calls after which one network is no likely caller
_CARRIES: Mapping[By, str] = {"key": "a key", "user": "a user's name", "network": "an address"}


@dataclass(frozen=True, slots=True)
class Told:
    """Everything there is to tell. `files`: names, as given; `broken`: what became of files that end badly."""

    found: WhatIf
    report: Report
    files: tuple[str, ...]
    broken: tuple[str, ...]

    def shown_files(self) -> list[str]:
        return [file_name(file) for file in self.files]


def file_name(name: str) -> str:
    """A file's name as it may be shown, whatever it holds."""
    return shown(name, 200)


def callers(told: Told, count: int) -> str:
    """`1 network`, `12,000 keys`."""
    return plural(count, told.found.by or "network")


def moment(told: Told, at: int | None) -> str:
    if at is None:
        return ""
    return datetime.fromtimestamp(at // SECOND_US, find_zone(told.found.question.zone)).strftime("%Y-%m-%d %H:%M")


def summary(told: Told) -> list[str]:
    """What was read, whose calls they are, and which of them count."""
    found = told.found
    what = f"{plural(found.calls, 'call')} in {plural(found.lines, 'line')} of {plural(len(told.files), 'log')}"
    share = f"{found.countable:,}, {percent(found.countable, found.calls)} of the calls"
    counts = "Every call counts" if found.question.count_on == "attempt" else f"Successes (2xx) count: {share}"
    return [
        f"{what}, {moment(told, found.first)} to {moment(told, found.last)} ({found.question.zone})",
        f"{callers(told, told.report.callers)}, {told.report.billed:,} of them with calls that count. {counts}",
    ]


def mixed(told: Told) -> str:
    """How many callers would be on which plan when each takes the cheapest one whose quota does. "" for a single plan."""
    plans = told.report.plans
    return ", ".join(f"{plan.picked:,} on {plan.name}" for plan in plans if plan.picked) if len(plans) > 1 else ""


def percent(part: Decimal | int, whole: Decimal | int) -> str:
    return f"{Decimal(part) * 100 / whole:.1f} %" if whole else "0 %"


def amount(value: Decimal) -> str:
    """`1,234.50`, without the currency."""
    return f"{value:,f}"


def grouping(told: Told) -> str:
    found = told.found
    by = found.by or "network"
    how = {"key": "by API key", "user": "by user", "network": "by network (/24 of IPv4, /64 of IPv6)"}[by]
    if found.chosen is None:
        return f"Grouped {how}."
    named, of = found.chosen
    reason = f"{named:,} of the first {of:,} calls carry {_CARRIES[by]}"
    if by == "network":
        reason = f"fewer than half of the first {of:,} calls carry a key or a user's name"
    return f"Grouped {how}: {reason}."


def concentration(amounts: list[Decimal]) -> str:
    """How much of the amount comes from the largest tenth of the payers; amounts falling. "" for fewer than ten."""
    if len(amounts) < 10:
        return ""
    tenth = -(-len(amounts) // 10)
    share = percent(sum(amounts[:tenth], Decimal(0)), sum(amounts, Decimal(0)))
    return f"{plural(tenth, 'payer')} of {len(amounts):,} would bring {share} of {amount(sum(amounts, Decimal(0)))}"


def notes(told: Told) -> list[str]:
    """What the numbers leave out, or take for granted; the first is the plainest."""
    return list(_notes(told))


def _notes(told: Told) -> Iterator[str]:
    found, report = told.found, told.report
    yield "Everyone is taken to stay and to use as much as before. A month costs a caller something when a call of it counts in that month."
    partly = [month.key for month in report.months if month.partly]
    if partly:
        yield f"In the log only in part, so more would be used: {', '.join(partly)}. Nothing is extrapolated."
    if found.whole_seconds and any(plan.by_limit for plan in report.plans):
        yield "The log has whole seconds: calls of one second are judged as if they came at once, so limits refuse more than in life."
    if found.by == "network" and report.callers <= 2 and found.calls >= BEHIND_A_PROXY:
        yield "Nearly all calls come from one network: behind a proxy the log has the proxy's address, and --by key or user tells more."
    yield from told.broken
    if found.nobody:
        yield f"Calls without {_CARRIES[found.by or 'network']}: {found.nobody:,}, in no amount. The gate would refuse such calls."
    if found.hidden:
        yield f"Calls whose key the log hides (REDACTED): {found.hidden:,}. In Caddy, log_credentials shows it."
    if found.others.calls:
        yield (
            f"{plural(found.others.calls, 'call')} came when {found.question.most_cells:,} callers and months were kept apart already: "
            "in no amount. --most raises the bound."
        )
    if found.late:
        yield (
            f"{plural(found.late, 'time')} a caller's calls went back by more than {LATE_US // SECOND_US // 60} minutes: limits began "
            "anew there. Logs of several servers are read one after the other."
        )
    if found.filtered:
        yield f"{plural(found.filtered, 'call')} outside of what --path and --free-path let through: not counted."
    for line in report.left_out:
        yield f"Left out: {line}."
    yield from skipped(told)


def skipped(told: Told) -> Iterator[str]:
    """Lines that are no calls: how many, why, and where the first are; never what they hold."""
    for reason, one in sorted(told.found.skipped.items(), key=lambda item: -item[1].count):
        where = ", ".join(f"{file_name(file)}:{number}" for file, number in one.examples)
        more = ", …" if one.count > EXAMPLES else ""
        yield f"{plural(one.count, 'line')} skipped, {reason}: {where}{more}"


def refusals(told: Told, one: OfCaller) -> str:
    """`Free: 12 by limit, 900 (45.0 %) by quota; Pro: 3 by limit`."""
    parts = []
    for total, plan in zip(told.report.plans, one.plans, strict=True):
        words = [
            f"{n:,} ({percent(n, one.calls)}) by {what}"
            for n, what in ((plan.by_limit, "limit"), (plan.by_quota, "quota"))
            if n
        ]
        if plan.over:
            words.append(f"past the soft quota in {plan.over} of its months")
        if words:
            parts.append(f"{total.name}: {', '.join(words)}")
    return "; ".join(parts)


def by_day(told: Told) -> list[tuple[str, int, int]]:
    """(day, calls, calls that count) of every day from the first to the last."""
    days = told.found.days
    if not days:
        return []
    day, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    found = []
    while day <= last:
        calls, countable = days.get(day.isoformat(), (0, 0))
        found.append((day.isoformat(), calls, countable))
        day += timedelta(days=1)
    return found


def caller_dict(told: Told, caller: OfCaller) -> dict[str, Any]:
    return {
        "caller": caller.label,
        "calls": caller.calls,
        "countable": caller.countable,
        "cheapest_fit": told.report.plans[caller.fits].key,
        "plans": {
            total.key: {
                "amount": format(plan.amount, "f"),
                "counted": plan.used,
                "refused_by_limit": plan.by_limit,
                "refused_by_quota": plan.by_quota,
                "months_over_quota": plan.over,
            }
            for total, plan in zip(told.report.plans, caller.plans, strict=True)
        },
    }


def as_dict(told: Told) -> dict[str, Any]:
    """`--json`: decimals are strings, times RFC 3339."""
    found, report, question = told.found, told.report, told.found.question

    def instant(at: int | None) -> str | None:
        zone = find_zone(question.zone)
        return None if at is None else datetime.fromtimestamp(at // SECOND_US, zone).isoformat()

    return {
        "files": told.shown_files(),
        "lines": found.lines,
        "skipped": {
            reason: {"lines": one.count, "examples": [f"{file_name(file)}:{number}" for file, number in one.examples]}
            for reason, one in found.skipped.items()
        },
        "from": instant(found.first),
        "to": instant(found.last),
        "zone": question.zone,
        "by": found.by,
        "meter": question.meter.key,
        "count_on": question.count_on,
        "currency": report.currency,
        "calls": found.calls,
        "countable": found.countable,
        "callers": report.callers,
        "callers_with_counted_calls": report.billed,
        "calls_without_caller": found.nobody,
        "calls_beyond_memory": found.others.calls,
        "plans": [
            {
                "key": plan.key,
                "name": plan.name,
                "earned": format(plan.earned, "f"),
                "months": {month: format(value, "f") for month, value in sorted(plan.months.items())},
                "payers": plan.payers,
                "counted": plan.used,
                "refused_by_limit": plan.by_limit,
                "refused_by_quota": plan.by_quota,
                "callers_refused_by_limit": plan.hit_limit,
                "callers_refused_by_quota": plan.hit_quota,
                "callers_over_soft_quota": plan.over_quota,
            }
            for plan in report.plans
        ],
        "cheapest_fit": {
            "earned": format(report.best, "f"),
            "payers": len(report.best_amounts),
            "callers": {plan.key: plan.picked for plan in report.plans},
        },
        "months": [{"month": month.key, "calls": month.calls, "in_part": month.partly} for month in report.months],
        "days": [{"day": day, "calls": n[0], "countable": n[1]} for day, n in sorted(found.days.items())],
        "top": [caller_dict(told, caller) for caller in report.top],
        "refused": [caller_dict(told, caller) for caller in report.refused],
        "notes": notes(told),
    }
