"""The page of one subgroup: its figures against everyone else, its confusions, and where the model looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairaudit.report.attributions import Picture, group_pictures, share_table
from fairaudit.report.context import Context
from fairaudit.report.figures import Scale, strip
from fairaudit.report.heads import class_table
from fairaudit.report.looks import contrast_tables, group_regions
from fairaudit.report.pictures import FacePictures, thumbnail
from fairaudit.report.tables import Entry, Matrix, Notes, Row, Table, confusion_matrix, difference_matrix, entry
from fairaudit.report.words import (
    DASH,
    DEGENERATE_ONLY,
    axis_label,
    count,
    counted,
    difference,
    figure,
    interval,
    is_number,
    metric_words,
    number,
    sentence_case,
)
from fairaudit.subgroups import UNKNOWN

MISTAKES = 6


@dataclass(frozen=True, kw_only=True)
class HeadOfGroup:
    """One head for one subgroup, ready to print."""

    task: str
    title: str
    sentence: str
    degenerate: str
    against: Table
    classwise: Table | None
    confusion: Matrix | None
    apart: Matrix | None
    apart_note: str
    mistakes: Table | None
    no_mistakes: str
    pictures: Sequence[Picture]
    looks: Sequence[Table]
    faces: Sequence[tuple[str, str]]
    faces_note: str


def group_heads(context: Context, by: str, subgroup: str, totals: Mapping[tuple[str, str], np.ndarray]) -> list[Any]:
    """Return every head of one subgroup; `totals` is what `axis_totals` gives."""
    return [_head(context, task, by, subgroup, totals.get((task, by))) for task in context.tasks]


def axis_totals(context: Context) -> dict[tuple[str, str], np.ndarray]:
    """Return for each task and axis the confusion over its known subgroups; a subgroup's rest is this minus it."""
    totals: dict[tuple[str, str], np.ndarray] = {}
    for (task, by, subgroup), matrix in context.confusion.items():
        if subgroup != UNKNOWN:
            totals[task, by] = totals.get((task, by), 0) + matrix
    return totals


def _head(context: Context, task: str, by: str, subgroup: str, total: np.ndarray | None) -> HeadOfGroup:
    classes = context.tasks[task]
    counts = context.confusion.get((task, by, subgroup))
    reason = context.degenerate.get((task, by), "")
    concealed = context.concealed(task, by)
    title = sentence_case(task)
    apart, note = _apart(counts, total, classes, title, subgroup, concealed or reason)
    faces, faces_note = _faces(context, task, by, subgroup)
    return HeadOfGroup(
        task=task,
        title=title,
        sentence=_sentence(context, task, by, subgroup),
        degenerate=sentence_case(reason),
        against=_against(context, task, by, subgroup),
        classwise=None
        if reason
        else class_table(context, task, by, subgroup, f"{title}: each class within {subgroup}"),
        confusion=None
        if counts is None
        else confusion_matrix(counts, classes, f"{title}: labels against predictions, faces labelled {subgroup}"),
        apart=apart,
        apart_note=note,
        mistakes=_mistakes(counts, total, classes, title, subgroup, bool(concealed or reason)),
        no_mistakes=_no_mistakes(counts, concealed),
        pictures=group_pictures(context, task, by, subgroup),
        looks=[
            *(group_regions(context, task, by, subgroup) or _centre(context, task, by, subgroup, title)),
            *contrast_tables(context, by=by, subgroup=subgroup, task=task),
        ],
        faces=faces,
        faces_note=faces_note,
    )


def _centre(context: Context, task: str, by: str, subgroup: str, title: str) -> list[Table]:
    """Return the shares of centre and border, where nothing is known of regions."""
    table = share_table(context, task, by, subgroup, f"{title}: share of absolute attribution, with interval")
    return [] if table is None else [table]


def _sentence(context: Context, task: str, by: str, subgroup: str) -> str:
    """Say in words how the subgroup fares in this head, compared alone with everyone else."""
    metric = DEGENERATE_ONLY[0] if (task, by) in context.degenerate else "accuracy"
    name = sentence_case(metric_words(metric).label)
    cell = context.cell(task, by, subgroup, metric)
    if metric not in context.shown(task, by) and (task, by, subgroup) not in context.confusion:
        return f"No labels of {task} are known: only how often each class is predicted can be compared."
    if not is_number(cell.value):
        return f"{name} is undefined here: {cell.reason or 'the audit gives no reason'}."
    first = f"{name} {figure(cell.value, cell.low, cell.high)} over {counted(cell.n, 'face')}"
    against = context.against.get((task, by, subgroup), {}).get((metric, ""))
    if subgroup == UNKNOWN:
        return first + "; faces with an unknown label are reported, and left out of every comparison."
    if cell.small:
        least = context.result.meta.get("min_group_size")
        return first + f". With fewer than {counted(least, 'face')} nothing is concluded about this group."
    if against is None or not is_number(against.difference):
        return first + "."
    size = difference(against.difference, against.low, against.high)
    if is_number(against.low) and against.low <= 0 <= against.high:
        return f"{first}; against everyone else {size}: no difference is shown by this comparison alone."
    side = "below" if against.difference < 0 else "above"
    apart, bounds = difference(abs(against.difference), signed=False), interval(against.low, against.high)
    return f"{first}: {apart} {side} everyone else (difference {bounds})."


def _against(context: Context, task: str, by: str, subgroup: str) -> Table:
    """Return the whole-task metrics, then recall of each class (without labels, selection rates), beside the rest's."""
    mine = context.figures.get((task, by, subgroup), {})
    rest = context.against.get((task, by, subgroup), {})
    keys = [(metric, "") for metric in context.shown(task, by) if (metric, "") in mine]
    each = "recall" if (task, by, subgroup) in context.confusion else "selection_rate"
    keys += [key for key in mine if key[1] and key[0] == each]
    if (task, by) in context.degenerate:  # what is undefined there is said once, above the table
        keys = [key for key in keys if is_number(mine[key].value)]
        # the recall of its one class, against those of other subgroups, says what the recall by labelled class says
        compared = [key for key in keys if key[1] and key in rest and is_number(rest[key].difference)]
        keys = compared or [key for key in keys if not key[1]] or keys
    edges = [e for key, a in rest.items() if key in keys and _percent(key) for e in (a.difference, a.low, a.high)]
    scale, notes = Scale(edges, zero=True), Notes()
    rows = []
    for metric, class_ in keys:
        cell, other = context.cell(task, by, subgroup, metric, class_), rest.get((metric, class_))
        kind = metric_words(metric).kind
        entries = [entry(cell, metric, notes), Entry(count(cell.n), css="num")]
        if other is None:
            entries += [Entry(DASH, css="num"), Entry(DASH, css="num"), Entry("", css="chart"), Entry(DASH, css="num")]
        else:
            why = 0 if is_number(other.difference) else notes.number(other.reason)
            picture: str = ""
            if _percent((metric, class_)) and is_number(other.difference):
                picture = strip(scale, other.difference, other.low, other.high, faint=cell.small)
            entries += [
                Entry(figure(other.rest, kind=kind), css="num"),
                Entry(difference(other.difference, other.low, other.high, kind), why, "num"),
                Entry(picture, css="chart"),
                Entry(count(other.n_rest), css="num"),
            ]
        rows.append(Row(sentence_case(metric_words(metric).label) + (f" of {class_}" if class_ else ""), entries))
    columns = [f"{subgroup}"[:40], "n", "everyone else", "difference", scale.header(), "n of the rest"]
    caption = f"{sentence_case(task)}: faces labelled {subgroup} against everyone else on the axis {axis_label(by)}"
    return Table(caption=caption, first="measure", columns=columns, rows=rows, notes=notes.texts)


def _percent(key: tuple[str, str]) -> bool:
    return metric_words(key[0]).kind == "percent"


def _apart(
    counts: np.ndarray | None, total: np.ndarray | None, classes: Sequence[str], title: str, subgroup: str, reason: str
) -> tuple[Matrix | None, str]:
    if reason:
        return None, "How it differs from everyone else’s is undefined here: " + reason + "."
    if counts is None:
        return None, "Without labels there are no confusions to compare."
    if not counts.sum():
        return None, "Without a prediction there are no confusions to compare."
    if total is None or subgroup == UNKNOWN or not (total - counts).sum():
        return None, "There is no one else to compare with."
    caption = f"{title}: row shares of {subgroup} minus everyone else’s, in points"
    return difference_matrix(counts, total - counts, classes, caption), ""


def _mistakes(
    counts: np.ndarray | None,
    total: np.ndarray | None,
    classes: Sequence[str],
    title: str,
    subgroup: str,
    degenerate: bool,
) -> Table | None:
    """Return the most frequent directed confusions: how many, of how many so labelled, and the rest's share."""
    if counts is None:
        return None
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if not wrong[i, j]:
            break
        labelled = counts[i].sum()
        share = figure(wrong[i, j] / labelled)
        entries = [Entry(count(wrong[i, j]), css="num"), Entry(f"{share} of {count(labelled)}", css="num")]
        if not degenerate:
            others = None if total is None or subgroup == UNKNOWN else (total - counts)[i]
            shown = figure(others[j] / others.sum()) if others is not None and others.sum() else DASH
            entries.append(Entry(shown, css="num"))
        rows.append(Row(f"{classes[i]} → {classes[j]}", entries))
    caption = f"{title}: what faces labelled {subgroup} are mistaken for, most frequent first"
    columns = ["faces", "share of those so labelled", *([] if degenerate else ["everyone else’s share"])]
    return Table(caption=caption, first="labelled → predicted", columns=columns, rows=rows) if rows else None


def _no_mistakes(counts: np.ndarray | None, concealed: str) -> str:
    """Return why no mistake is listed: none was made, none could be known, or cells are hidden."""
    if counts is None and concealed:
        return f"What these faces are mistaken for is left out: {concealed}."
    if counts is None:
        return "Without labels nothing can be called a mistake."
    if not counts.sum():
        return "No face of this group has both a label and a prediction of this head."
    return "No wrong prediction of this head in this group."


def _faces(context: Context, task: str, by: str, subgroup: str) -> tuple[list[tuple[str, str]], str]:
    """Return (thumbnail, what it was labelled and predicted as) of wrongly predicted faces, where that is asked for."""
    pictures = context.faces
    if pictures is None:
        return [], ""
    wrong = _errors(pictures, task, context.members[by] == subgroup)
    shown, unreadable = [], 0
    for image, true, predicted in wrong[: pictures.per_group]:
        uri = thumbnail(pictures.locate(image), pictures.size)
        if uri is None:
            unreadable += 1
            continue
        shown.append((uri, f"labelled {true}, predicted {predicted}"))
    note = f"{number(len(shown), 'count')} of {counted(len(wrong), 'wrongly predicted face')}"
    return shown, note + (f"; {unreadable} could not be read" if unreadable else "")


def _errors(pictures: FacePictures, task: str, inside: np.ndarray) -> list[tuple[str, str, str]]:
    frame = pictures.predictions.frame
    columns = [f"{task}_true", f"{task}_pred"]
    if not {*columns, "image"} <= set(frame.columns):
        return []
    true, predicted = (frame[column].astype(object) for column in columns)
    wrong = frame[inside & true.notna() & predicted.notna() & (true != predicted)]
    return list(zip(wrong["image"], wrong[columns[0]].astype(str), wrong[columns[1]].astype(str), strict=True))
