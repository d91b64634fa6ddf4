"""The table of predictions: its columns, and the rows of a batch of faces."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from fairaudit.data.quality import QUALITY
from fairaudit.data.tables import FaceTable
from fairaudit.data.taxonomy import MAX_AGE
from fairaudit.models.heads import AGE_YEARS
from fairaudit.models.protocol import FaceModel
from fairaudit.models.reading import Batch


def schema_of(checkpoint: FaceModel, faces: FaceTable) -> pa.Schema:
    """Return the columns of the table, as `inference.predict` lists them."""
    fields = [pa.field("image", pa.string())]
    word = pa.dictionary(pa.int32(), pa.string())
    for task, classes in checkpoint.classes.items():
        if task in faces.tasks:
            fields.append(pa.field(f"{task}_true", word))
        fields += [pa.field(f"{task}_pred", word), pa.field(f"{task}_status", pa.string())]
        fields += [pa.field(f"{task}_prob_{name}", pa.float32()) for name in classes]
    if checkpoint.meta.get("predicts_years"):
        fields += [pa.field(name, pa.float32()) for name in ("age_true_years", "age_pred_years")]
    fields += [pa.field(name, word) for name in attribute_columns(faces)]
    if "subject_id" in faces.frame:
        fields.append(pa.field("subject_id", pa.string()))
    if "weight" in faces.frame:
        fields.append(pa.field("weight", pa.float64()))
    return pa.schema([*fields, *(pa.field(name, pa.float32()) for name in _measured(faces))])


def _measured(faces: FaceTable) -> list[str]:
    """Return which of QUALITY are measured: those that the faces have no attribute or task of the same name for."""
    return [name for name in QUALITY if name not in attribute_columns(faces)]


def attribute_columns(faces: FaceTable) -> list[str]:
    """Return the subgroup columns: every labelled task and every further attribute."""
    return list(dict.fromkeys([*faces.tasks, *faces.attributes]))


def record_of(
    schema: pa.Schema,
    checkpoint: FaceModel,
    faces: FaceTable,
    batch: Batch,
    probs: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
) -> pa.RecordBatch:
    """Return the rows of a batch: `probs` has each task's probabilities (n, K), `labels` its class codes (n,)."""
    frame = faces.frame.iloc[batch.rows]
    failed = np.array([bool(trouble) for trouble in batch.trouble])
    columns: dict[str, pa.Array] = {"image": pa.array(frame["image"].astype(str), pa.string())}
    for task, classes in checkpoint.classes.items():
        if task in faces.tasks:
            columns[f"{task}_true"] = _words(frame[task], classes)
        answer = np.where(failed, -1, labels[task])
        columns[f"{task}_pred"] = _words(
            pd.Series(pd.Categorical.from_codes(answer.astype(np.int64), pd.Index(classes))), classes
        )
        columns[f"{task}_status"] = pa.array(np.where(failed, "failed", "ok"), pa.string())
        for index, name in enumerate(classes):
            columns[f"{task}_prob_{name}"] = pa.array(probs[task][:, index], pa.float32(), from_pandas=True)
    if AGE_YEARS in probs:
        known = frame[AGE_YEARS] if AGE_YEARS in frame else np.full(len(frame), np.nan)
        columns["age_true_years"] = pa.array(known, pa.float32(), from_pandas=True)
        columns["age_pred_years"] = pa.array(probs[AGE_YEARS][:, 0].clip(0, MAX_AGE), pa.float32(), from_pandas=True)
    for name in attribute_columns(faces):
        columns[name] = _words(frame[name], values_of(faces, name))
    if "subject_id" in frame:
        columns["subject_id"] = pa.array(
            frame["subject_id"].astype(object).map(str, na_action="ignore"), pa.string(), from_pandas=True
        )
    if "weight" in frame:
        columns["weight"] = pa.array(frame["weight"], pa.float64(), from_pandas=True)
    for name in _measured(faces):
        columns[name] = pa.array(batch.quality[:, QUALITY.index(name)], pa.float32(), from_pandas=True)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def values_of(faces: FaceTable, name: str) -> tuple[str, ...]:
    """Return all values of an attribute in its own order, so that every part of the file has the same dictionary."""
    column = faces.frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(map(str, column.cat.categories))
    return tuple(sorted({str(value) for value in column.dropna().unique()}))


def _words(column: pd.Series, values: tuple[str, ...]) -> pa.DictionaryArray:
    text = column.astype(object).map(str, na_action="ignore")
    codes = pd.Categorical(text, categories=list(values)).codes
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=codes < 0), pa.array(list(values), pa.string())
    )
