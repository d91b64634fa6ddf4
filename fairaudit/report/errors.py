"""The page of wrongly predicted faces, for a reader who asked to see them: by label and prediction, surest first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairaudit.report.context import Context
from fairaudit.report.pictures import FacePictures, thumbnail
from fairaudit.report.words import count, is_number, sentence_case
from fairaudit.wording import plural

PAIRS = 12  # confusions of a head that are laid out


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """One confusion: its title, what is shown of how many, and (thumbnail, how sure the model was) of each face."""

    title: str
    note: str
    faces: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class HeadErrors:
    """One head's confusions, most frequent first."""

    title: str
    sentence: str
    confusions: Sequence[Confusion]


def error_heads(context: Context) -> list[HeadErrors]:
    """Return every head's confusions with their faces; empty where no faces were asked for."""
    if context.faces is None:
        return []
    return [_head(context.faces, task) for task in context.tasks]


def _head(pictures: FacePictures, task: str) -> HeadErrors:
    wrong, labelled = _wrong(pictures, task)
    groups = sorted(wrong.groupby(["true", "pred"], sort=False), key=lambda item: (-len(item[1]), item[0]))
    were = "was" if len(wrong) == 1 else "were"
    faces = plural(labelled, "face")
    sentence = f"{count(len(wrong))} of {faces} with a label and a prediction {were} predicted wrongly."
    if len(groups) > PAIRS:
        sentence += f" The {PAIRS} most frequent of {len(groups)} confusions are laid out."
    shown = [_confusion(pictures, str(key[0]), str(key[1]), rows) for key, rows in groups[:PAIRS]]
    return HeadErrors(title=sentence_case(task), sentence=sentence, confusions=shown)


def _wrong(pictures: FacePictures, task: str) -> tuple[pd.DataFrame, int]:
    """Return image, label, prediction and its probability of every error, and how many faces could be judged."""
    frame = pictures.predictions.frame
    columns = ["image", f"{task}_true", f"{task}_pred"]
    if not set(columns) <= set(frame.columns):
        return pd.DataFrame(columns=["image", "true", "pred", "sure"]), 0
    found = frame[columns].astype(object).set_axis(["image", "true", "pred"], axis=1)
    sure = np.full(len(frame), np.nan)
    for class_ in pictures.predictions.tasks[task]:
        if f"{task}_prob_{class_}" in frame:
            mine = (found["pred"] == class_).to_numpy()
            sure[mine] = frame[f"{task}_prob_{class_}"].to_numpy(dtype=float)[mine]
    judged = found["true"].notna() & found["pred"].notna()
    wrong = found.assign(sure=sure)[judged & (found["true"] != found["pred"])]
    return wrong, int(judged.sum())


def _confusion(pictures: FacePictures, true: str, predicted: str, rows: pd.DataFrame) -> Confusion:
    """Lay out one confusion: the faces of which the model was surest, those without a probability last."""
    faces, unreadable = [], 0
    first = rows.sort_values("sure", ascending=False, kind="stable").head(pictures.per_group)
    for image, sure in zip(first["image"], first["sure"], strict=True):
        uri = thumbnail(pictures.locate(str(image)), pictures.size)
        if uri is None:
            unreadable += 1
            continue
        faces.append((uri, f"sure to {100 * sure:.0f} %" if is_number(sure) else "no probability"))
    note = f"{count(len(faces))} of {plural(len(rows), 'face')}"
    note += f"; {unreadable} could not be read" if unreadable else ""
    return Confusion(title=f"labelled {true}, predicted {predicted}", note=note, faces=faces)
