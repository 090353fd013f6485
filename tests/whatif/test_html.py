"""The page is whole, loads nothing, and holds what the table holds."""

from __future__ import annotations

from html.parser import HTMLParser
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import Run
from tollkeeper.cli.whatif_svg import bars, curve, groups, scale, stacks

from .logs import caddy, combined, when
from .test_cli_whatif import LOG, PRICE, SECRET

START = when("2026-11-05T09:00:00")


class Page(HTMLParser):
    """Tags in balance, their names and attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_is_in_balance(run: Run, tmp_path: Path) -> None:
    lines = [
        combined(when(f"2026-{month:02}-11T09:00:00"), user="<b onload=x>&amp;")
        for month in (9, 10, 11)
        for _ in range(5)
    ]
    lines += [combined(START, user=f'u"{n}<script>') for n in range(12) for _ in range(n)]
    lines += [combined(START, user="zoë\x1b[31m")]
    (tmp_path / "a<i>.log").write_text("\n".join(lines))
    result = run(
        "whatif", "a<i>.log", "--free", "1", "--price", "0.10", "--price", "2", "--html", "r.html", "--zone", "UTC"
    )
    assert result.code == 0
    assert "wrote r.html" in result.err
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.count("<svg") == 4
    assert {tag for tag, _ in page.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "image",
        "use",
        "a",
        "b",
    } == set()
    for _, attributes in page.tags:
        assert not attributes.keys() & {"src", "href", "srcset", "xlink:href", "action", "data", "style"}
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text
    assert "default-src 'none'; style-src 'unsafe-inline'" in str(page.tags)
    assert "<b onload=x>&amp;" in page.text
    assert all(c.isprintable() or c == "\n" for c in text)
    for wanted in ("2026-09", "2026-10", "Pro at 0.10", "Pro at 2", "who would hit"):
        assert wanted.lower() in page.text.lower()


def test_the_amounts_on_the_page_are_those_of_the_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    run("whatif", "a.log", *PRICE, "--html", "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    for wanted in ("0.60 USD", "0.50", "Free: 5 (71.4 %) by quota"):
        assert wanted in page.text


def test_a_secret_in_the_log_is_not_on_the_page(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("\n".join([caddy(START, f"Bearer {SECRET}")] * 4))
    run("whatif", "a.log", *PRICE, "--html", "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "sk_live_…p7dc" in text
    assert SECRET[9:] not in text


def test_only_a_report_is_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(LOG)
    for _ in range(2):
        assert run("whatif", "a.log", *PRICE, "--html", "r.html").code == 0
    result = run("whatif", "a.log", *PRICE, "--html", "a.log")
    assert (result.code, result.out) == (2, "")
    assert "a.log is there already, and is no report of whatif" in result.err
    assert (tmp_path / "a.log").read_text() == LOG
    result = run("whatif", "a.log", *PRICE, "--html", "none/r.html")
    assert (result.code, result.out) == (2, "")
    assert "there is no folder none" in result.err


@given(st.integers(0, 10**15) | st.floats(1e-6, 1e12))
def test_an_axis_has_few_lines_and_the_value_is_below_the_last(most: float) -> None:
    step, top = scale(most)
    assert top >= most * (1 - 1e-9)
    assert ceil(top / step - 1e-9) <= 5
    assert most <= 0 or top < most + step * (1 + 1e-9)


amounts = st.lists(st.integers(0, 10**9), min_size=1, max_size=400)


@given(amounts)
def test_every_chart_draws_any_numbers(values: list[int]) -> None:
    names = [f"<{i}>" for i in range(len(values))]
    falling = sorted((v + 1 for v in values), reverse=True)
    for chart in (
        bars([(name, value, str(value)) for name, value in zip(names, values, strict=True)], "a<b"),
        groups(names, [("x", "c0", values), ("y", "c1", falling)], "a<b"),
        stacks(names, values, falling, ("a", "b"), "a<b"),
        curve(falling, "c0", "a<b"),  # type: ignore[arg-type]
    ):
        assert Page(chart).tags[0][1]["aria-label"] == "a<b"
        assert "nan" not in chart
        assert "inf" not in chart


@pytest.mark.parametrize(("most", "step"), [(0, 1), (1, 0.2), (24, 5), (60, 20), (100, 20), (4060, 1000), (12.5, 2.5)])
def test_an_axis_counts_in_round_steps(most: float, step: float) -> None:
    assert scale(most)[0] == step
