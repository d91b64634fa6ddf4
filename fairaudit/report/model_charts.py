"""Charts of several models on one page: a line a model, told apart by colour and dash."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from fairaudit.metrics.roc import GRID
from fairaudit.report.charts import INK, SETTINGS, svg_of
from fairaudit.report.models import MEASURES
from fairaudit.report.words import sentence_case

# Told apart by colour (safe for the common forms of colour blindness) and, in print or for others, by dash.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))


def training_chart(histories: Mapping[str, pd.DataFrame]) -> Markup:
    """Draw validation score, validation loss and training loss of several models over the epochs."""
    measures = [m for m in MEASURES if any(m in table and table[m].notna().any() for table in histories.values())]
    with mpl.rc_context(SETTINGS):
        drawing = Figure(figsize=(3.4 * len(measures), 3.2), layout="constrained")
        for panel, measure in zip(drawing.subplots(1, len(measures), squeeze=False).ravel(), measures, strict=True):
            for place, (name, table) in enumerate(histories.items()):
                if measure not in table:
                    continue
                epochs = np.arange(1, len(table) + 1)
                panel.plot(epochs, table[measure], color=_COLOURS[place], linestyle=_DASHES[place], label=_shown(name))
                if "selected" in table:
                    kept = table["selected"].astype(bool).to_numpy()
                    panel.plot(epochs[kept], table[measure].to_numpy()[kept], "o", color=_COLOURS[place])
            panel.set(title=MEASURES[measure], xlabel="epoch")
        _legend(drawing)
        return svg_of(drawing, f"training curves of {', '.join(histories)}: {', '.join(MEASURES[m] for m in measures)}")


def roc_chart(heads: Mapping[str, Mapping[str, np.ndarray]]) -> Markup:
    """Draw the ROC curves of each head's models, a panel a head."""
    names = list(dict.fromkeys(name for curves in heads.values() for name in curves))
    with mpl.rc_context(SETTINGS):
        drawing = Figure(figsize=(3.4 * len(heads), 3.9), layout="constrained")
        for panel, (task, curves) in zip(
            drawing.subplots(1, len(heads), squeeze=False).ravel(), heads.items(), strict=True
        ):
            panel.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
            for place, name in enumerate(names):
                if name in curves:
                    panel.plot(GRID, curves[name], color=_COLOURS[place], linestyle=_DASHES[place], label=_shown(name))
            panel.set(xlabel="false positive rate", ylabel="true positive rate", title=sentence_case(task))
            panel.set_aspect("equal")
        _legend(drawing)
        return svg_of(
            drawing, f"ROC curves of {', '.join(names)} for {', '.join(heads)}; the areas stand in the tables"
        )


def _shown(name: str) -> str:
    """Return a name that a legend does not leave out, as matplotlib does with names that begin with an underscore."""
    return f"\u200b{name}" if name.startswith("_") else name


def _legend(drawing: Figure) -> None:
    named = {
        label: line for panel in drawing.axes for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    handles, labels = list(named.values()), list(named)
    wide = 0.7 + 0.085 * max(map(len, labels))  # inches that one entry takes: line, gap and text of 10 points
    columns = max(1, min(len(labels), int(drawing.get_figwidth() / wide)))
    drawing.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
