"""What a section of the benchmark yields, how it is printed, and the JSON beside it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

QUIET = 0.05
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with its target. `value` None: it could not be measured, and `note` says why; that is never "met"."""

    name: str
    value: float | None
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> Literal["met", "not met", "not measured", ""]:
        if self.at_least is None and self.at_most is None:
            return ""
        if self.value is None:
            return "not measured"
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "met" if low and high else "not met"

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {plain(self.at_least)} {self.unit}".strip()
        if self.at_most is not None:
            return f"≤ {plain(self.at_most)} {self.unit}".strip()
        return ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdict": self.verdict}


@dataclass(slots=True)
class Section:
    """A table of what was measured, the figures that have a target, and the conditions: above all what was not equal."""

    key: str
    title: str
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "figures": [figure.as_json() for figure in self.figures],
            "conditions": self.conditions,
            "raw": self.raw,
        }


def plain(value: float) -> str:
    """A number for people: 28,412 · 3.27 · 0.512."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of an indented text, each as one line."""
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def ratios(these: Sequence[float], those: Sequence[float]) -> list[float]:
    """Round by round, so that both sides of a ratio were measured next to each other."""
    return [a / b for a, b in zip(these, those, strict=True)]


def print_section(console: Console, section: Section) -> None:
    console.print(f"\n[bold]{section.title}[/bold]")
    if section.rows:
        table = Table(show_edge=False, pad_edge=False)
        for number, column in enumerate(section.columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in section.rows:
            table.add_row(*row)
        console.print(table)
    print_figures(console, section.figures)
    for condition in section.conditions:
        console.print(f"  · {condition}", highlight=False)


def print_figures(console: Console, figures: Iterable[Figure]) -> None:
    colours = {"met": "green", "not met": "red", "not measured": "yellow", "": "white"}
    table = Table(show_edge=False, pad_edge=False, title_justify="left")
    for name in ("figure", "measured", "target", ""):
        table.add_column(name, justify="left" if name in ("figure", "") else "right", overflow="fold")
    for one in figures:
        value = "–" if one.value is None else f"{plain(one.value)} {one.unit}".strip()
        verdict = one.verdict
        table.add_row(
            one.name + (f" ({one.note})" if one.note else ""), value, one.target, f"[{colours[verdict]}]{verdict}[/]"
        )
    if table.row_count:
        console.print(table)


def print_machine(console: Console, machine: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    console.print(
        f"[bold]Tollkeeper {machine['commit']}[/bold] on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}, {machine['file_system']}; "
        f"load average before: {machine['load_average_before']}",
        highlight=False,
    )
    console.print(
        f"Python {machine['python']}, SQLite {machine['sqlite']}, Node {machine['node']}, {machine['redis_server']}, "
        f"{machine['wrk']}, {versions}",
        highlight=False,
    )


def warn_of_others(console: Console, busy: float) -> None:
    """Say that figures of a machine that does other work are worth little."""
    if busy > QUIET:
        console.print(
            f"[bold red]This machine is not quiet: {busy:.0%} busy before anything was started.[/] Rates, waits and verdicts below are "
            "disturbed; processor time per answer says most. Measure again on a quiet machine.",
            highlight=False,
        )


def save(sections: Sequence[Section], machine: dict[str, Any], started: float, arguments: dict[str, Any]) -> Path:
    """Write benchmarks/results/<UTC time>.json and latest.json; the path of the first."""
    RESULTS.mkdir(exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime(started))
    whole = {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "arguments": arguments,
        "machine": machine,
        "sections": {section.key: section.as_json() for section in sections},
    }
    text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    path = RESULTS / f"{stamp}.json"
    path.write_text(text)
    (RESULTS / "latest.json").write_text(text)
    return path
