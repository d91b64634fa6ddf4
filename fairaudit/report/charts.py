"""The few larger charts, drawn with seaborn as SVG that takes the page's own text colour (dark mode, print)."""

import hashlib
import io
import re
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from fairaudit.report.tables import Entry, Row, Table
from fairaudit.report.words import is_number
from fairaudit.wording import plural

# A colour that nothing else uses stands for "the page's text colour" until the SVG is written.
INK = "#010203"
_COLUMNS = 3
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a task may have any name, "$" included
    "svg.hashsalt": "fairaudit",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# Figures of an epoch that are no measure of quality.
_NOT_DRAWN = ("seconds", "images_per_second", "share_waiting")


def training_curves(history: pd.DataFrame) -> Markup:
    """Draw every measure of the history over the epochs: one panel a measure, training and validation apart."""
    long = _long(history)
    measures = list(dict.fromkeys(long["measure"]))
    rows = -(-len(measures) // _COLUMNS)
    columns = min(len(measures), _COLUMNS)
    with mpl.rc_context(SETTINGS):
        drawing = Figure(figsize=(3.1 * columns, 2.5 * rows), layout="constrained")
        panels = drawing.subplots(rows, columns, squeeze=False).ravel()
        for panel, measure in zip(panels, measures, strict=False):
            part = long[long["measure"] == measure]
            parts = sorted(set(part["part"]))  # training before validation in every panel
            sns.lineplot(
                part, x="epoch", y="value", hue="part", style="part", hue_order=parts, style_order=parts, ax=panel,
                palette=["#0072b2", "#d55e00", "#009e73", "#cc79a7"][: len(parts)], markers=True, legend=len(parts) > 1,
            )  # fmt: skip
            for position in _starts(history):
                panel.axvline(position + 0.5, color=INK, linewidth=0.8, linestyle=":")
            for position in _chosen(history):
                panel.axvline(position, color=INK, linewidth=0.8, linestyle="--")
            panel.set(title=measure, xlabel="epoch", ylabel="")
            if panel.legend_ is not None:
                sns.move_legend(panel, "best", title=None, frameon=False)
        for panel in panels[len(measures) :]:
            panel.set_visible(False)
        return svg_of(
            drawing, f"training curves over {plural(long['epoch'].nunique(), 'epoch')}: {', '.join(measures)}"
        )


def history_note(history: pd.DataFrame) -> str:
    """Say which epoch was kept, and what the lines in the chart mark."""
    chosen = _chosen(history)
    kept = f"Kept (dashed line): epoch {chosen[0]}, chosen on validation faces. " if chosen else ""
    stages = list(dict.fromkeys(history["stage"])) if "stage" in history else []
    return kept + (f"Dotted lines part the stages: {', '.join(map(str, stages))}." if len(stages) > 1 else "")


def _chosen(history: pd.DataFrame) -> list[int]:
    """Return the position, from 1, of the epoch that was kept."""
    if "selected" not in history:
        return []
    return [place for place, kept in enumerate(history["selected"].tolist(), start=1) if kept]


def _starts(history: pd.DataFrame) -> list[int]:
    """Return how many epochs had passed whenever a further stage began."""
    stages = history["stage"].tolist() if "stage" in history else []
    return [place for place in range(1, len(stages)) if stages[place] != stages[place - 1]]


def history_table(history: pd.DataFrame) -> Table:
    """Return the history as a table, one row an epoch, so that no curve has to be read off."""
    columns = [str(column) for column in history.columns if column != "epoch"]
    rows = [
        Row(
            str(index + 1 if "epoch" not in history else record["epoch"]),
            [Entry(_text(record[column]), css="num") for column in columns],
        )
        for index, record in enumerate(history.to_dict("records"))
    ]
    return Table(caption="Training, epoch by epoch", first="epoch", columns=columns, rows=rows)


def svg_of(drawing: Figure, label: str) -> Markup:
    """Return a figure as inline SVG: same input, same bytes; text stays text.

    Ids carry a hash of the label, so that charts of one page do not share any; styles become SVG's own attributes,
    because the page's policy blocks every style but that of its head.
    """
    stream = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(stream, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"url\(#([^)]+)\)|xlink:href=\"#([^\"]+)\"", text))
    kept = {name for pair in used for name in pair if name}
    own = hashlib.sha256(label.encode()).hexdigest()[:6]
    text = re.sub(r' id="([^"]+)"', lambda match: f' id="{match[1]}-{own}"' if match[1] in kept else "", text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#\1-{own})", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#\1-{own}"', text)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[a-zA-Z][^>]*>", lambda match: re.sub(r' style="([^"]*)"', _attributes, match[0]), text)
    text = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg class="drawn" viewBox="\1" ROLE>', text, count=1)
    text = text.replace(INK, "currentColor").replace("<g>", '<g stroke-linejoin="round">', 1)
    return Markup(text.replace("ROLE", f'role="img" aria-label="{escape(label)}"', 1))


def _attributes(match: re.Match[str]) -> str:
    """Return the attributes that say what a style says; a font becomes its size, the family is the page's own."""
    parts = [part.split(":", 1) for part in match[1].split(";") if ":" in part]
    said = {name.strip(): value.strip() for name, value in parts}
    if "font" in said:
        size = re.search(r"([\d.]+)px", said.pop("font"))
        said |= {"font-size": size[1]} if size else {}
    return "".join(f' {name}="{value}"' for name, value in said.items() if name != "font-family")


def _long(history: pd.DataFrame) -> pd.DataFrame:
    """Return epoch, measure, part (training, validation or ""), value of every numeric column but the clock's."""
    epochs = pd.Series(range(1, len(history) + 1))  # counted through all stages
    parts = []
    for column in history.select_dtypes("number").columns:
        name = str(column)
        if name == "epoch" or name in _NOT_DRAWN or history[column].isna().all():
            continue
        part, measure = "", name
        for prefix, word in (("train_", "training"), ("val_", "validation"), ("validation_", "validation")):
            if name.startswith(prefix):
                part, measure = word, name.removeprefix(prefix)
        values = history[column].reset_index(drop=True)
        parts.append(
            pd.DataFrame({"epoch": epochs, "measure": measure.replace("_", " "), "part": part, "value": values})
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["epoch", "measure", "part", "value"])


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if is_number(value) else "–"
    return str(value)
