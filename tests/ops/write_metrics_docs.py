"""Write the table of docs/operate/metrics.md from the collector: `python tests/ops/write_metrics_docs.py`. A test holds it equal."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from tollkeeper.core.drift import DriftSum
from tollkeeper.core.inbox import InboxState
from tollkeeper.core.stats import Histogram, RequestStats
from tollkeeper.integrations.metrics import Sources, TollkeeperCollector
from tollkeeper.services.outbox import OutboxState
from tollkeeper.services.runner import Step

PAGE = Path(__file__).parents[2] / "docs" / "operate" / "metrics.md"
HEAD = "| metric | labels | means |\n|---|---|---|\n"
TAIL = "| `process_…` |"


class NoHolds(list[object]):
    lapsed = 0


class Owed:
    def state(self) -> OutboxState:
        return OutboxState({"pending": 0}, 0.0)


class Everything:
    """One object with a sample of every number, so that every label is seen."""

    early_lost = early_repeated = cached = commits = rows = failed_commits = wal_pages = queued = removed = 0

    def __init__(self) -> None:
        self.holds = NoHolds()
        self.decisions = {"live": {"VALID": 1}}
        self.counts = {"accepted": 1}
        self.rejected = {"too_old": 1}
        self.commit_seconds = Histogram()
        self.inbox = self.inbox_effects = self.event_poll = self.subscriptions = self.invoicing = self
        self.dispatcher = self.reports = self.drift = self
        self.outbox = Owed()
        self.made = self.unknown = self.undivided = 0
        self.behind = False
        self.received = self.repeated = self.caught = self.activated = self.lapsed = self.issued = 0
        self.refused = {"stale": 1}
        self.outcomes = {"done": 1}

    def state(self) -> InboxState:
        return InboxState(0, 0, 0.0)

    def sums(self) -> dict[tuple[str, str], DriftSum]:
        return {("calls", "equal"): DriftSum(0, Decimal(0))}


def table() -> str:
    one = Everything()
    requests = RequestStats()
    requests.route("GET", "/").observe(200, 0.1)
    step = Step("touch_keys", lambda: False, 1)
    step.succeeded_at = 0
    files = {"main": Path(__file__)}
    sources = Sources("1", requests, one, one, one, one, lambda: [step], files, lambda: 0, lambda: {"allowed": 1}, one)
    rows = []
    for family in TollkeeperCollector(sources).collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        kind = " (histogram)" if family.type == "histogram" else ""
        rows.append(f"| `{name}`{kind} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |\n")
    return "".join(rows)


def page(text: str) -> str:
    """`text` with its table made anew."""
    before, _, rest = text.partition(HEAD)
    return before + HEAD + table() + TAIL + rest.partition(TAIL)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
