"""Charts drawn as inline SVG text: quick and small enough for hundreds of pages, coloured by the page's own style.

Every chart says in words what it shows (`role="img"` with a label), takes its colours from CSS classes, so that dark
mode and print work, and stands beside the table that holds its numbers.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from fairaudit.report.words import DASH, Kind, is_number, number, unit

MOST_TICKS = 4
_TICKS = re.compile(r'<use href="#t([0-9-]+)"/>')


class Scale:
    """A linear scale from `low` to `high` with round ticks; `at` gives the position in percent of the width."""

    def __init__(self, values: Sequence[float], kind: Kind = "percent", *, zero: bool = False) -> None:
        """Span the finite `values` (and 0 when `zero`), widened to round numbers, within 0…1 for shares."""
        finite = [float(value) for value in values if is_number(value)] + ([0.0] if zero else [])
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if high - low < 0.02:
            low, high = low - 0.01, high + 0.01
        share = kind == "percent" and not zero
        step = _round_step((high - low) / MOST_TICKS)
        self.kind, self.zero = kind, zero
        self.low = max(math.floor(low / step) * step, 0.0) if share else math.floor(low / step) * step
        self.high = min(math.ceil(high / step - 1e-9) * step, 1.0) if share else math.ceil(high / step - 1e-9) * step
        first = math.ceil(self.low / step - 1e-9)
        self.ticks = [i * step for i in range(first, first + 2 * MOST_TICKS + 3) if i * step <= self.high + step * 1e-6]

    def at(self, value: float) -> float:
        """Return where `value` lies, 3…97 percent from the left, clipped at the ends."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(3 + 94 * min(max(share, 0.0), 1.0), 1)

    def header(self) -> Markup:
        """Return the ticks with their numbers, for the head of a column of strips."""
        marks = "".join(
            f'<text x="{self.at(tick)}%" y="12" text-anchor="middle">{_tick(tick, self.kind)}</text>'
            for tick in self.ticks
        )
        ends = f"{_tick(self.low, self.kind)} to {_tick(self.high, self.kind)}"
        name = unit(self.kind, difference=self.zero).strip() or "value"
        return Markup(f'<svg class="strip head" role="img" aria-label="scale, {ends} {name}">{marks}</svg>')

    def lines(self) -> str:
        """Return the tick lines of a strip: a reference to one drawing a page (see `tick_drawings`), named by them."""
        places = "-".join(f"{10 * self.at(tick):.0f}" for tick in self.ticks)
        return f'<use href="#t{places}"/>'


def tick_drawings(page: str) -> Markup:
    """Return the drawings of all tick lines that the strips of a page refer to, each once; "" where there are none."""
    groups = []
    for name in dict.fromkeys(_TICKS.findall(page)):
        marks = (f"{int(place) / 10:g}%" for place in name.split("-"))
        lines = "".join(f'<line class="tick" x1="{x}" x2="{x}" y1="0" y2="22"/>' for x in marks)
        groups.append(f'<g id="t{name}">{lines}</g>')
    return Markup(f'<svg class="unseen" aria-hidden="true"><defs>{"".join(groups)}</defs></svg>' if groups else "")


def strip(
    scale: Scale, value: float, low: float, high: float, *, pooled: float | None = None, faint: bool = False
) -> Markup:
    """Return one row of a forest plot: the point with its interval, the ticks, and the line of everyone together.

    The numbers stand in the same table row, so the strip itself is hidden from screen readers.
    """
    parts = [scale.lines()]
    reference = 0.0 if scale.zero else pooled
    if is_number(reference):
        x = scale.at(float(reference or 0.0))
        parts.append(f'<line class="pooled" x1="{x}%" x2="{x}%" y1="0" y2="22"/>')
    if is_number(low) and is_number(high):
        parts.append(f'<line class="bar" x1="{scale.at(low)}%" x2="{scale.at(high)}%" y1="11" y2="11"/>')
    if is_number(value):
        parts.append(f'<circle class="dot" cx="{scale.at(value)}%" cy="11" r="4"/>')
    return Markup(f'<svg class="strip{" faint" if faint else ""}" aria-hidden="true">{"".join(parts)}</svg>')


def dumbbell(scale: Scale, before: float, after: float) -> Markup:
    """Return one row of a before-and-after chart: a hollow ring (before), a filled dot (after), a line between."""
    parts = [scale.lines()]
    if is_number(before) and is_number(after):
        parts.append(f'<line class="bar" x1="{scale.at(before)}%" x2="{scale.at(after)}%" y1="11" y2="11"/>')
    if is_number(before):
        parts.append(f'<circle class="ring" cx="{scale.at(before)}%" cy="11" r="4.5"/>')
    if is_number(after):
        parts.append(f'<circle class="dot" cx="{scale.at(after)}%" cy="11" r="4"/>')
    return Markup(f'<svg class="strip" aria-hidden="true">{"".join(parts)}</svg>')


def share_bar(share: float) -> Markup:
    """Return a bar of the width `share` (0…1)."""
    width = round(100 * share, 2) if is_number(share) else 0
    return Markup(f'<svg class="bar-strip" aria-hidden="true"><rect width="{width}%" height="100%"/></svg>')


def small_matrix(values: np.ndarray, label: str, largest: float) -> Markup:
    """Return a matrix of differences (K × K, −1…1) as a small picture with the differences in points in its cells.

    Blue with diagonal hatching is below, orange is above everyone else, so that greyscale keeps the sign.
    """
    k, side = len(values), 26
    cells = []
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            cells.append(_small_cell(float(value), i * side, j * side, side, largest))
    size = k * side
    return Markup(
        f'<svg class="mini" viewBox="-1 -1 {size + 2} {size + 2}" width="{size + 2}" height="{size + 2}" role="img" '
        f'aria-label="{escape(label)}">{"".join(cells)}</svg>'
    )


def _small_cell(value: float, y: int, x: int, side: int, largest: float) -> str:
    if not is_number(value):
        return (
            f'<rect class="none" x="{x}" y="{y}" width="{side}" height="{side}"/>'
            f'<text x="{x + side / 2:g}" y="{y + side / 2 + 3:g}">{DASH}</text>'
        )
    strength = min(abs(value) / largest, 1.0) if largest > 0 else 0.0
    text = number(value, signed=True).split(".")[0] if abs(value) >= 0.1 else number(value, signed=True)
    text = text if abs(value) >= 0.005 else "0"
    name = "above" if value > 0 else "below"
    return (
        f'<rect class="{name} s{round(strength * 20)}" x="{x}" y="{y}" width="{side}" height="{side}"/>'
        f'<text class="v" x="{x + side / 2:g}" y="{y + side / 2 + 3:g}">{text}</text>'
    )


def _round_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.1
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)


def _tick(value: float, kind: Kind) -> str:
    if kind == "percent":
        return f"{round(value * 100, 1):g}".replace("-", "−")
    return f"{round(value, 3):g}".replace("-", "−")
