"""Charts as inline SVG: bars, grouped and stacked columns, a curve. Colours are the page's; every mark tells its value as a tooltip."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 860
_LEFT: Final = 64
_RIGHT: Final = 12
_TOP: Final = 10
_BELOW: Final = 26
Number = Decimal | int


def bars(rows: Sequence[tuple[str, Number, str]], what: str) -> str:
    """Horizontal bars of (name, value, value as text), each with its name before it."""
    wide, step = max((len(name) for name, _, _ in rows), default=0), 34
    left = min(220, 20 + 8 * min(wide, 26))
    room = WIDTH - left - 130
    most = max((value for _, value, _ in rows), default=0) or 1
    marks = []
    for i, (name, value, text) in enumerate(rows):
        y = i * step
        length = float(value / most) * room if value else 0.0
        marks.append(
            f'<text class="name" x="{left - 10}" y="{y + 21}" text-anchor="end">{escape(_short(name, 26))}</text>'
            f'<rect class="c{i % 6}" x="{left}" y="{y + 6}" width="{length:.1f}" height="22" rx="3">'
            f"<title>{escape(name)}: {escape(text)}</title></rect>"
            f'<text class="value" x="{left + length + 8:.1f}" y="{y + 21}">{escape(text)}</text>'
        )
    return _svg("".join(marks), step * len(rows), what)


def groups(
    labels: Sequence[str], series: Sequence[tuple[str, str, Sequence[Number]]], what: str, height: int = 230
) -> str:
    """Columns side by side, one of each series (name, colour, values) over each label."""
    most = max((value for *_, values in series for value in values), default=0)
    axis, top = _axis(most, height)
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    wide = min(48.0, slot * 0.8 / max(1, len(series)))
    marks = [axis]
    for i, label in enumerate(labels):
        middle = _LEFT + slot * (i + 0.5)
        for j, (name, colour, values) in enumerate(series):
            tall = _scaled(values[i], top, height)
            x = middle + (j - len(series) / 2) * wide
            box = f'x="{x + 1:.1f}" y="{_TOP + height - tall:.1f}" width="{max(1.0, wide - 2):.1f}" height="{tall:.1f}"'
            tip = f"<title>{escape(label)}, {escape(name)}: {values[i]:,}</title>"
            marks.append(f'<rect class="{colour}" {box}>{tip}</rect>')
    marks.append(_ticks(labels, slot, height))
    return _svg("".join(marks), _TOP + height + _BELOW, what)


def stacks(
    labels: Sequence[str],
    lower: Sequence[int],
    upper: Sequence[int],
    names: tuple[str, str],
    what: str,
    height: int = 190,
) -> str:
    """Columns of two parts, the second upon the first."""
    axis, top = _axis(max((a + b for a, b in zip(lower, upper, strict=True)), default=0), height)
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    gap = 1.0 if slot > 4 else 0.0
    marks = [axis]
    for i, (label, a, b) in enumerate(zip(labels, lower, upper, strict=True)):
        first, second = _scaled(a, top, height), _scaled(b, top, height)
        x, y = _LEFT + slot * i, _TOP + height - first
        tip = f"<title>{escape(label)}: {a:,} {escape(names[0])}, {b:,} {escape(names[1])}</title>"
        box = f'x="{x + gap / 2:.2f}" width="{slot - gap:.2f}"'
        marks.append(f'<g>{tip}<rect class="plain" {box} y="{y:.1f}" height="{first:.1f}"/>')
        marks.append(f'<rect class="quiet" {box} y="{y - second:.1f}" height="{second:.1f}"/></g>')
    marks.append(_ticks(labels, slot, height))
    return _svg("".join(marks), _TOP + height + _BELOW, what)


def curve(values: Sequence[Decimal], colour: str, what: str, height: int = 210) -> str:
    """The share of the sum that the first n of falling values make, for each n, in percent."""
    axis, top = _axis(100, height, " %")
    total, running, points = sum(values, Decimal(0)), Decimal(0), []
    room = WIDTH - _LEFT - _RIGHT
    keep = {round(i * (len(values) - 1) / 299) for i in range(300)} | set(range(min(100, len(values))))
    for i, value in enumerate(values):
        running += value
        if i in keep:
            points.append(
                (_LEFT + room * (i + 1) / len(values), _TOP + height - _scaled(running * 100 / total, top, height))
            )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(float(_LEFT), float(_TOP + height)), *points])
    base = _TOP + height
    marks = [
        axis,
        f'<polygon class="under {colour}" points="{line} {points[-1][0]:.1f},{base}"/>',
        f'<polyline class="line {colour}" points="{line}"/>',
    ]
    for part in (1, 25, 50, 75, 100):
        n = max(1, round(len(values) * part / 100))
        anchor = "end" if part == 100 else "middle"
        if part != 1 or len(values) > 25:
            marks.append(
                f'<text x="{_LEFT + room * n / len(values):.1f}" y="{base + 18}" text-anchor="{anchor}">{n:,}</text>'
            )
    return _svg("".join(marks), base + _BELOW, what)


def _svg(marks: str, height: float, what: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(what)}">{marks}</svg>'


def _scaled(value: Number, top: float, height: int) -> float:
    return float(value) * height / top


def _axis(most: Number, height: int, unit: str = "") -> tuple[str, float]:
    """Lines with numbers from 0 on, and what the uppermost stands for: 1, 2, 2.5 or 5 times a power of ten apart."""
    step, top = scale(float(most))
    marks = []
    for i in range(round(top / step) + 1):
        y = _TOP + height - _scaled(Decimal(str(i * step)), top, height)
        text = (
            f"{round(i * step, 6):,.10g}" if step < 1 else f"{i * step:,.0f}" if step % 1 == 0 else f"{i * step:,.1f}"
        )
        marks.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}{unit}</text>'
        )
    return "".join(marks), top


def scale(most: float) -> tuple[float, float]:
    """A step that makes at most five lines above 0 up to `most`, and the topmost line."""
    if most <= 0:
        return 1.0, 1.0
    power = 10.0 ** floor(log10(most))
    step = next(power * f for f in (0.2, 0.25, 0.5, 1, 2, 2.5) if ceil(most / (power * f) - 1e-9) <= 5)
    return step, step * ceil(most / step - 1e-9)


def _ticks(labels: Sequence[str], slot: float, height: int) -> str:
    """As many labels as there is room for, evenly."""
    each = max(1, ceil(len(labels) * 92 / (WIDTH - _LEFT - _RIGHT)))
    return "".join(
        f'<text x="{_LEFT + slot * (i + 0.5):.1f}" y="{_TOP + height + 18}" text-anchor="middle">{escape(labels[i])}</text>'
        for i in range(0, len(labels), each)
        if i == 0 or _LEFT + slot * (i + 0.5) + 40 < WIDTH
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
