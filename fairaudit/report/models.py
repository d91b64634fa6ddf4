"""Several models on one page: what is shown to differ, how they were trained, their training and ROC curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.tables import Predictions
from fairaudit.metrics.intervals import holm
from fairaudit.metrics.roc import macro_roc
from fairaudit.report.answer import ComparisonContext
from fairaudit.report.context import make_context
from fairaudit.report.sections import Section
from fairaudit.report.tables import Entry, Notes, Row, Table, entry
from fairaudit.report.words import DASH, count, difference, is_number, listing, number, sentence_case
from fairaudit.subgroups import OVERALL
from fairaudit.wording import plural

MEASURES = {"val_score": "validation score", "val_loss": "validation loss", "train_loss": "training loss"}
MOST = 8  # models in one chart: more lines cannot be told apart


def conclusions(context: ComparisonContext) -> list[str]:
    """Return one sentence a head: who is shown to be more or less accurate than the baseline over all faces.

    Exact McNemar tests of the same faces, adjusted by Holm over all models and heads together: what noise could make
    is called no difference, and so is a change whose interval is not on one side of 0 (the tests know no weights).
    """
    found = [
        record
        for model in context.models
        for task in context.tasks
        for record in context.deltas.get((model, task, OVERALL), [])
        if record["metric"] == "accuracy" and is_number(record["p_value"])
    ]
    if not found:
        return []
    adjusted = dict(zip(map(id, found), holm(np.array([r["p_value"] for r in found], dtype=float)), strict=True))
    level = 1 - float(context.comparison.meta.get("confidence", 0.95))
    baseline = str(context.comparison.meta.get("baseline", "the baseline"))
    lines = []
    for task in context.tasks:
        own = [record for record in found if record["task"] == task]
        shown = [record for record in own if adjusted[id(record)] <= level]
        better = [_named(record) for record in shown if record["low"] > 0]
        worse = [_named(record) for record in shown if record["high"] < 0]
        parts = [f"more accurate than {baseline}: {listing(better)}"] if better else []
        parts += [f"less accurate: {listing(worse)}"] if worse else []
        rest = len(own) - len(better) - len(worse)
        if rest:
            parts.append(f"no difference from {baseline} is shown for {plural(rest, 'model')}")
        lines.append(f"{sentence_case(task)}, over all faces: {'; '.join(parts)}.")
    lines.append(f"Exact paired tests, adjusted together over {plural(len(found), 'comparison')} with {baseline}.")
    return lines


def _named(record: Mapping[str, Any]) -> str:
    return f"{record['model']} ({difference(record['delta'], record['low'], record['high'])})"


def facts_table(context: ComparisonContext) -> Table | None:
    """Return size, training time and speed of each model, as far as its checkpoint and predictions say."""
    rows = []
    for name, result in context.results.items():
        model = dict(result.meta.get("model") or {})
        built = model.get("architecture")
        said = dict(getattr(context.tables.get(name), "meta", {}))
        rows.append(
            Row(
                name,
                [
                    Entry(str(built.get("backbone", DASH)) if isinstance(built, Mapping) else DASH),
                    Entry(count(model.get("parameters")) if model.get("parameters") else DASH, css="num"),
                    Entry(_plain(model.get("seconds")), css="num"),
                    Entry(_plain(said.get("images_per_second")), css="num"),
                ],
            )
        )
    if not any(item.text != DASH for row in rows for item in row.entries):
        return None
    columns = ["backbone", "parameters", "trained in (seconds)", "predicted (images a second)"]
    caption = "Size and time of each model, on the machine that it was trained on; other work there makes it slower"
    return Table(caption=caption, first="model", columns=columns, rows=rows)


def _plain(value: Any) -> str:
    return count(round(float(value))) if is_number(value) else DASH


def curves_section(context: ComparisonContext) -> Section | None:
    """Draw the training curves of every model that has them into one chart."""
    histories = {name: table for name, table in context.histories.items() if has_curve(table)}
    if not histories:
        return None
    data = curves_data(histories, [name for name in context.results if name not in histories])
    return Section(key="curves", title="Training, model by model", template="sections/training.html", data=data)


def has_curve(history: pd.DataFrame) -> bool:
    """Tell whether a history has a second epoch and anything that is drawn."""
    return len(history) > 1 and any(name in history and history[name].notna().any() for name in MEASURES)


def curves_data(histories: Mapping[str, pd.DataFrame], without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the template of training curves prints for several models: chart, note and table."""
    from fairaudit.report.model_charts import training_chart  # drawing costs seconds of import

    drawn = dict(list(histories.items())[:MOST])
    note = "A dot marks the epoch that was kept. Epochs are counted through all stages; scores are of validation faces."
    if len(drawn) < len(histories):
        note += f" Only the first {MOST} models are drawn; the table has all."
    if without:
        note += f" Without epochs of their own: {listing(list(without))}."
    return {"chart": training_chart(drawn), "table": _kept_table(histories), "note": note}


def _kept_table(histories: Mapping[str, pd.DataFrame]) -> Table:
    rows = []
    for name, table in histories.items():
        chosen = table[table["selected"].astype(bool)] if "selected" in table else table.iloc[:0]
        place = int(np.flatnonzero(table["selected"])[0]) + 1 if len(chosen) else None
        kept: Mapping[Any, Any] = chosen.iloc[0].to_dict() if len(chosen) else {}
        seconds = table["seconds"].sum() if "seconds" in table else None
        cells = [count(len(table)), count(place) if place else DASH, number(kept.get("val_score")), _plain(seconds)]
        rows.append(Row(name, [Entry(text, css="num") for text in cells]))
    columns = ["epochs", "kept epoch", "validation score (%)", "seconds"]
    return Table(caption="The epoch that was kept, of each model", first="model", columns=columns, rows=rows)


def roc_section(context: ComparisonContext) -> Section | None:
    """Draw each head's ROC curves, a line a model, beside the areas under them with their intervals."""
    from fairaudit.report.model_charts import roc_chart  # drawing costs seconds of import

    drawn = dict(list(context.tables.items())[:MOST])
    heads = {task: curves for task in context.tasks if (curves := roc_curves(drawn, task))}
    if not heads:
        return None
    note = f" Only the first {MOST} models are drawn." if len(context.tables) > MOST else ""
    areas = [table for task in heads if (table := _auc(context, task)) is not None]
    data = {"chart": roc_chart(heads), "panels": min(len(heads), 4), "areas": areas, "note": note}
    return Section(key="roc", title="ROC curves, model by model", template="sections/roc.html", data=data)


def roc_curves(tables: Mapping[str, Predictions], task: str) -> dict[str, np.ndarray]:
    """Return each model's macro-averaged one-vs-rest ROC curve on `GRID`; models without probabilities have none."""
    curves = {}
    for name, table in tables.items():
        classes = table.tasks.get(task, ())
        columns = [f"{task}_prob_{class_}" for class_ in classes]
        if not classes or f"{task}_true" not in table.frame or not set(columns) <= set(table.frame.columns):
            continue
        codes = pd.Categorical(table.frame[f"{task}_true"], categories=list(classes)).codes
        weight = table.frame["weight"].to_numpy(dtype=float) if "weight" in table.frame else None
        curve, used = macro_roc(table.frame[columns].to_numpy(dtype=float), np.asarray(codes), weight)
        if used:
            curves[name] = curve
    return curves


def _auc(context: ComparisonContext, task: str) -> Table | None:
    notes, rows, classes = Notes(), [], list[str]()
    for name, result in context.results.items():
        audit = make_context(result)
        if task not in audit.tasks:
            continue
        classes = classes or list(audit.tasks[task])
        cells = [audit.cell(task, OVERALL, OVERALL, "auc", class_) for class_ in classes]
        rows.append(Row(name, [entry(cell, "auc", notes) for cell in cells]))
    if not rows:
        return None
    caption = f"{sentence_case(task)}: area under each class's ROC curve, against all other classes"
    return Table(caption=caption, first="model", columns=classes, rows=rows, notes=notes.texts)


MODEL_SECTIONS: dict[str, Callable[[ComparisonContext], Section | None]] = {
    "curves": curves_section,
    "roc": roc_section,
}
