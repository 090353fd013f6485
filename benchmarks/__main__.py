"""`python -m benchmarks [SECTION …]`: all of them when none is named. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import machine, report

SECTIONS = ("check", "events", "gate", "authz", "webhooks", "outbox", "growth", "footprint", "whatif")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Tollkeeper beside others on this machine."
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"one or more of {', '.join(SECTIONS)} (all)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds of every load (3)")
    parser.add_argument("--seconds", type=float, default=6, help="length of one load run, at most 9 (6)")
    parser.add_argument("--events", type=int, default=3_400_000, help="events to grow to (3,400,000: two days' worth)")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where data files go; a disk, not memory (benchmarks/results)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the data files and server logs")
    parsed = parser.parse_args()
    for one in parsed.sections:
        if one not in SECTIONS:
            parser.error(f"there is no section {one!r}; expected {', '.join(SECTIONS)}")
    if not 1 <= parsed.seconds <= 9 or parsed.rounds < 1 or parsed.events < 1_000_000:
        parser.error("--seconds is 1 to 9, --rounds at least 1, --events at least 1,000,000")
    return parsed


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers, groups and files are cleared away
    started = time.time()
    console = Console(width=None if sys.stdout.isatty() else 180)
    missing = machine.missing_parts()
    for sentence in missing.values():
        console.print(f"[yellow]{sentence}[/]")
    if "taskset" in missing or "wrk" in missing:
        return 1
    parent = chosen.folder or report.RESULTS
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="data-", dir=parent))
    facts = machine.facts(work)
    report.print_machine(console, facts)
    report.warn_of_others(console, facts["busy_before"])

    def say(text: str) -> None:
        console.print(f"[dim]{time.time() - started:5.0f} s  {text}[/]", highlight=False)

    sections: list[report.Section] = []
    try:
        for name, measure in _plan(chosen, work, missing, say).items():
            if chosen.sections and name not in chosen.sections:
                continue
            say(name)
            section = measure()
            sections.append(section)
            report.print_section(console, section)
    finally:
        if sections:
            path = report.save(sections, facts, started, {key: str(value) for key, value in vars(chosen).items()})
            console.print(f"\nkept in {path}")
        if chosen.keep:
            console.print(f"data files and logs in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    console.print("\n[bold]Targets[/bold]")
    report.warn_of_others(console, facts["busy_before"])
    report.print_figures(console, [one for section in sections for one in section.figures if one.verdict])
    return 0


def _plan(
    chosen: argparse.Namespace, work: Path, missing: dict[str, str], say: Callable[[str], None]
) -> dict[str, Callable[[], report.Section]]:
    from benchmarks import authz, check, events, footprint, gate, growth, outbox, webhooks, whatif

    return {
        "check": lambda: check.measure(work, chosen.rounds, chosen.seconds, missing),
        "events": lambda: events.measure(work, chosen.rounds, chosen.seconds),
        "gate": lambda: gate.measure(work, chosen.rounds),
        "growth": lambda: growth.measure(work, chosen.events, say),
        "authz": lambda: authz.measure(work, chosen.rounds, chosen.seconds),
        "webhooks": lambda: webhooks.measure(work, chosen.rounds, chosen.seconds, missing),
        "outbox": lambda: outbox.measure(work, chosen.rounds),
        "footprint": lambda: footprint.measure(work),
        "whatif": lambda: whatif.measure(work),
    }


if __name__ == "__main__":
    sys.exit(main())
