"""What refitted heads say of faces, as the public table of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.tables import FaceTable, Predictions
from fairaudit.mitigation.refitted import RefittedHead


def predictions_of(faces: FaceTable, heads: Sequence[RefittedHead], x: np.ndarray) -> Predictions:
    """Return the public table of what the heads say of the faces, whose embeddings are `x` (n, d)."""
    frame = faces.frame
    columns: dict[str, Any] = {"image": frame["image"].astype(str)}
    for head in heads:
        answers = head.answer(x, frame)
        columns[f"{head.task}_true"] = frame[head.task]
        columns[f"{head.task}_pred"] = pd.Categorical.from_codes(answers.labels, pd.Index(head.classes))
        columns[f"{head.task}_status"] = "ok"
        for place, name in enumerate(head.classes):
            columns[f"{head.task}_prob_{name}"] = answers.probabilities[:, place].astype(np.float32)
    attributes = tuple(dict.fromkeys([*faces.tasks, *faces.attributes]))
    for name in (*attributes, "subject_id", "weight"):
        if name in frame:
            columns[name] = frame[name]
    tasks = {head.task: head.classes for head in heads}
    first = heads[0]
    meta = {"mitigation": first.method, "by": first.by, "seed": first.seed, "split_hash": faces.meta.get("split_hash")}
    return Predictions(
        frame=pd.DataFrame(columns),
        tasks=tasks,
        attributes=attributes,
        ordered=faces.ordered & frozenset(tasks),
        label_source=faces.label_source,
        meta=meta,
    )
