"""The answer of `tollkeeper whatif` as one page that loads nothing: style and charts are in it, and there is no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from tollkeeper.cli import whatif_svg as svg
from tollkeeper.cli.whatif_style import STYLE
from tollkeeper.cli.whatif_words import (
    Told,
    amount,
    by_day,
    callers,
    concentration,
    grouping,
    mixed,
    notes,
    percent,
    refusals,
    summary,
)
from tollkeeper.services.whatif_report import PlanTotal

MARK: Final = '<meta name="generator" content="tollkeeper whatif">'
COLUMNS: Final = 160


def page(told: Told) -> str:
    """A whole HTML document."""
    parts = [_cards(told), _earned(told), _months(told), _days(told), _shares(told), _top(told), _refused(told)]
    read = "".join(f"<p>{escape(line)}.</p>" for line in summary(told))
    said = "".join(f"<li>{escape(line)}</li>" for line in notes(told))
    names = escape(", ".join(told.shown_files()))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{MARK}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What your logs would have earned</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>What your logs would have earned</h1>
<p class="files">{names}</p>
{read}<p>{escape(grouping(told))}</p>
</header>
{"".join(parts)}<section><h2>What the numbers take for granted</h2><ul>{said}</ul></section>
<footer>Made by <code>tollkeeper whatif</code>. This page loads nothing from elsewhere.</footer>
</main>
</body>
</html>
"""


def _section(heading: str, body: str, under: str = "") -> str:
    note = f'<p class="under-heading">{escape(under)}</p>' if under else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{body}</section>\n"


def _figure(chart: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    keys = "".join(f'<li><i class="{colour}"></i>{escape(name)}</li>' for colour, name in legend)
    return f'<figure>{f"<ul class=legend>{keys}</ul>" if keys else ""}<div class="chart">{chart}</div></figure>'


def _money(told: Told, plan: PlanTotal) -> str:
    return f"{amount(plan.earned)} {told.report.currency.upper()}"


def _cards(told: Told) -> str:
    report = told.report
    cards = []
    for i, plan in enumerate(report.plans):
        rows = [
            ("would pay", callers(told, plan.payers)),
            ("calls counted", f"{plan.used:,}"),
            ("refused by limits", f"{plan.by_limit:,}" if plan.by_limit else "none"),
            ("refused by quota", f"{plan.by_quota:,}" if plan.by_quota else "none"),
        ]
        listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
        cards.append(
            f'<article class="card b{i % 6}"><h3>{escape(plan.name)}</h3><p class="sum">{amount(plan.earned)}'
            f"<small> {escape(report.currency.upper())}</small></p><dl>{listed}</dl></article>"
        )
    best = ""
    if mix := mixed(told):
        who = f"{callers(told, len(report.best_amounts))} would pay: {mix}."
        best = (
            f'<article class="card best"><h3>Each on the cheapest plan whose quota does</h3><p class="sum">{amount(report.best)}'
            f"<small> {escape(report.currency.upper())}</small></p><p>{escape(who)}</p></article>"
        )
    return f'{best}<div class="cards">{"".join(cards)}</div>\n'


def _earned(told: Told) -> str:
    rows = [(plan.name, plan.earned, _money(told, plan)) for plan in told.report.plans]
    if len(rows) < 2:
        return ""
    return _section("Earned by plan", _figure(svg.bars(rows, "Earned by plan")))


def _months(told: Told) -> str:
    report = told.report
    if len(report.months) < 2:
        return ""
    earning = [(i, plan) for i, plan in enumerate(report.plans) if plan.earned]
    heads = "".join(f"<th class=n>{escape(plan.name)}</th>" for plan in report.plans)
    rows = []
    for month in report.months:
        cells = "".join(
            f"<td class=n>{amount(plan.months.get(month.key, plan.earned * 0))}</td>" for plan in report.plans
        )
        part = " <small>in part</small>" if month.partly else ""
        rows.append(f"<tr><td>{month.key}{part}</td><td class=n>{month.calls:,}</td>{cells}</tr>")
    table = f"<table><thead><tr><th>Month</th><th class=n>Calls</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    chart = ""
    if earning and len(report.months) * len(earning) <= COLUMNS:
        series = [
            (plan.name, f"c{i % 6}", [plan.months.get(month.key, plan.earned * 0) for month in report.months])
            for i, plan in earning
        ]
        chart = _figure(
            svg.groups([month.key for month in report.months], series, "Earned by month"),
            [(f"c{i % 6}", plan.name) for i, plan in earning] if len(earning) > 1 else (),
        )
    return _section(f"Earned by month, {report.currency.upper()}", chart + f'<div class="wide">{table}</div>')


def _days(told: Told) -> str:
    days = by_day(told)
    if len(days) < 2:
        return ""
    each = -(-len(days) // COLUMNS)
    chunks = [days[i : i + each] for i in range(0, len(days), each)]
    labels = [chunk[0][0] for chunk in chunks]
    counted = [sum(day[2] for day in chunk) for chunk in chunks]
    others = [sum(day[1] - day[2] for day in chunk) for chunk in chunks]
    names = ("counted", "not counted")
    chart = svg.stacks(labels, counted, others, names, "Calls by day")
    heading = "Calls by day" if each == 1 else f"Calls by {each} days"
    return _section(heading, _figure(chart, [("plain", names[0]), ("quiet", names[1])]))


def _shares(told: Told) -> str:
    report = told.report
    amounts, colour, of = report.best_amounts, "plain", "each on the cheapest plan"
    if len(report.plans) == 1:
        amounts, colour, of = report.plans[0].amounts, "c0", report.plans[0].name
    if len(amounts) < 10:
        return ""
    return _section(
        "How much hangs on few",
        _figure(svg.curve(amounts, colour, "Share of the amount by number of payers")),
        f"Share of the amount that the first payers bring, the largest first; {of}. {concentration(amounts)}".rstrip(
            ". "
        )
        + ".",
    )


def _top(told: Told) -> str:
    report = told.report
    payers = [one for one in report.top if any(plan.amount for plan in one.plans)]
    if not payers:
        return _section("Who would pay", "<p>Nobody would have paid anything on these plans.</p>")
    paid = [(i, plan.name) for i, plan in enumerate(report.plans) if plan.earned]
    heads = "".join(f"<th class=n>{escape(name)}</th>" for _, name in paid)
    counts = "<th class=n>Successes</th>" if told.found.question.count_on == "success" else ""
    rows = []
    for one in payers:
        cells = "".join(f"<td class=n>{amount(one.plans[i].amount)}</td>" for i, _ in paid)
        counted = f"<td class=n>{one.countable:,}</td>" if counts else ""
        rows.append(
            f"<tr><td class=who>{escape(one.label)}</td><td class=n>{one.calls:,}</td>{counted}{cells}"
            f"<td>{escape(report.plans[one.fits].name)}</td></tr>"
        )
    table = (
        f"<table><thead><tr><th>Caller</th><th class=n>Calls</th>{counts}{heads}<th>Cheapest fit</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return _section(
        "Who would pay most",
        f'<div class="wide">{table}</div>',
        f"{len(payers):,} of {callers(told, report.billed)}, in {report.currency.upper()}.",
    )


def _refused(told: Told) -> str:
    report = told.report
    if not report.refused:
        return _section("Who would hit a limit or a quota", "<p>Nobody.</p>")
    rows = []
    for one in report.refused:
        worst = max(plan.by_limit + plan.by_quota for plan in one.plans)
        rows.append(
            f"<tr><td class=who>{escape(one.label)}</td><td class=n>{one.calls:,}</td>"
            f"<td class=n>{percent(worst, one.calls)}</td><td>{escape(refusals(told, one))}</td></tr>"
        )
    table = (
        "<table><thead><tr><th>Caller</th><th class=n>Calls</th><th class=n>At most refused</th><th>By plan</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    hit = []
    for plan in report.plans:
        counts = ((plan.hit_limit, "its limits"), (plan.hit_quota, "its quota"), (plan.over_quota, "its soft quota"))
        if words := ", ".join(f"{callers(told, n)} at {what}" for n, what in counts if n):
            hit.append(f"{plan.name}: {words}.")
    return _section("Who would hit a limit or a quota", f'<div class="wide">{table}</div>', " ".join(hit))
