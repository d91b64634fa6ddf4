"""Accuracy against the worst subgroup or the gap, as inline SVG: every method with both intervals, its seeds faint."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairaudit.report.figures import Scale
from fairaudit.report.words import is_number, number

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 360, 270, 52, 40, 12
# where a number may stand beside its point: right above, left above, right below, left below, and further away
_BESIDE = ((7, -6), (-15, -6), (7, 15), (-15, 15), (18, -14), (-26, -14), (18, 23), (-26, 23))


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
    parts += [_point(record, across, up) for record in means]
    places = [(_x(across, r["accuracy"]), _y(up, r["versus"])) for r in means]
    for record, (x, y), (dx, dy) in zip(means, places, _offsets(places), strict=True):
        parts.append(f'<text class="name" x="{x + dx:g}" y="{y + dy:g}">{names.index(record["method"]) + 1}</text>')
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
        parts.append(f'<text x="{x}" y="{floor + 15}" text-anchor="middle">{_tick(tick)}</text>')
    for tick in up.ticks:
        y = _y(up, tick)
        parts.append(f'<line class="tick" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{_tick(tick)}</text>')
    middle = (LEFT + WIDTH - 8) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">accuracy over all faces, %</text>')
    turn = f'transform="rotate(-90 10 {floor / 2})"'
    parts.append(f'<text x="10" y="{floor / 2}" text-anchor="middle" {turn}>{escape(versus)}</text>')
    return "".join(parts)


def _tick(value: float) -> str:
    return number(value).removesuffix(".0")


def _offsets(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where the number of each point stands beside it, so that numbers of near points do not meet."""
    taken: list[tuple[float, float]] = []
    chosen: list[tuple[float, float]] = []
    for x, y in places:
        free = [
            (dx, dy)
            for dx, dy in _BESIDE
            if all(abs(x + dx - a) > 11 or abs(y + dy - b) > 12 for a, b in taken)
            and all(abs(x + dx + 4 - a) > 9 or abs(y + dy - 4 - b) > 9 for a, b in places if (a, b) != (x, y))
        ]
        dx, dy = free[0] if free else _BESIDE[0]
        taken.append((x + dx, y + dy))
        chosen.append((dx, dy))
    return chosen


def _point(record: Mapping[str, Any], across: Scale, up: Scale) -> str:
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
    return "".join(parts)
