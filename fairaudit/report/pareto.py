"""Accuracy against the worst subgroup or the gap, as inline SVG: every method with both intervals, its seeds faint."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairaudit.report.figures import Scale
from fairaudit.report.words import is_number, number

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 340, 270, 46, 40, 12


def pareto_chart(records: Sequence[Mapping[str, Any]], versus: str, label: str) -> Markup:
    """Draw one front: rows of pareto.csv; numbers in the chart stand for methods, in the table's order.

    Filled: on the front. Hollow: dominated, or behind within noise. The table beside it holds the numbers.
    """
    means = [r for r in records if not r["seed"] and is_number(r["versus"])]
    if not means:
        return Markup("")
    names = list(dict.fromkeys(r["method"] for r in records))
    across = Scale([r[key] for r in records for key in ("accuracy", "accuracy_low", "accuracy_high")])
    up = Scale([r[key] for r in records for key in ("versus", "versus_low", "versus_high")])
    parts = [_axes(across, up, versus)]
    seeds = [r for r in records if r["seed"] and is_number(r["versus"])]
    parts += [
        f'<circle class="seed" cx="{_x(across, r["accuracy"])}" cy="{_y(up, r["versus"])}" r="2"/>' for r in seeds
    ]
    parts += [_point(record, across, up, names.index(record["method"]) + 1) for record in means]
    text = escape(label)
    return Markup(
        f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}">{"".join(parts)}</svg>'
    )


def _x(scale: Scale, value: float) -> float:
    return round(LEFT + (WIDTH - LEFT - 8) * scale.at(value) / 100, 1)


def _y(scale: Scale, value: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * scale.at(value) / 100, 1)


def _axes(across: Scale, up: Scale, versus: str) -> str:
    floor = HEIGHT - BOTTOM
    parts = [f'<line class="frame" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{floor}"/>']
    parts.append(f'<line class="frame" x1="{LEFT}" x2="{WIDTH - 8}" y1="{floor}" y2="{floor}"/>')
    for tick in across.ticks:
        x = _x(across, tick)
        parts.append(f'<text x="{x}" y="{floor + 15}" text-anchor="middle">{number(tick)}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<line class="tick" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{number(tick)}</text>')
    middle = (LEFT + WIDTH - 8) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">accuracy over all faces, %</text>')
    turn = f'transform="rotate(-90 10 {floor / 2})"'
    parts.append(f'<text x="10" y="{floor / 2}" text-anchor="middle" {turn}>{escape(versus)}</text>')
    return "".join(parts)


def _point(record: Mapping[str, Any], across: Scale, up: Scale, place: int) -> str:
    x, y = _x(across, record["accuracy"]), _y(up, record["versus"])
    parts = []
    if is_number(record["accuracy_low"]):
        ends = _x(across, record["accuracy_low"]), _x(across, record["accuracy_high"])
        parts.append(f'<line class="bar" x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>')
    if is_number(record["versus_low"]):
        tops = _y(up, record["versus_low"]), _y(up, record["versus_high"])
        parts.append(f'<line class="bar" x1="{x}" x2="{x}" y1="{tops[0]}" y2="{tops[1]}"/>')
    css = "dot" if record["standing"] == "on the front" else "ring"
    parts.append(f'<circle class="{css}" cx="{x}" cy="{y}" r="4.5"/>')
    parts.append(f'<text class="name" x="{x + 7}" y="{y - 6}">{place}</text>')
    return "".join(parts)
