"""Criteria, spread, confusions, impact ratios and own metrics are the same from shards on disk as from memory."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import sklearn.metrics as sk
from one_analysis import audit_with

from fairaudit.data.shards import read_shards

TABLES = ("criteria", "summary", "directed", "attraction", "pairs", "impact", "custom")


def share_of_equal(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """A user's metric that takes no weights."""
    return float((y_true == y_pred).mean())


def test_every_table_is_the_same_from_shards(tmp_path: Path) -> None:
    """A table on disk stands as rows with the faces that each stands for; every number equals the one from memory."""
    rng = np.random.default_rng(0)
    race = rng.choice(["Black", "White", None], 900, p=[0.4, 0.5, 0.1])
    true = rng.choice(["Female", "Male"], 900)
    wrong = rng.random(900) < np.where(race == "Black", 0.3, 0.1)
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(900)], "race": race, "gender_true": true})
    frame["gender_pred"] = np.where(wrong, np.where(true == "Male", "Female", "Male"), true)
    frame["hired_pred"] = rng.choice(["no", "yes"], 900)
    for i in range(3):
        frame.iloc[i::3].to_parquet(tmp_path / f"{i}.parquet")
    options = {"by": ["race"], "selection": {"task": "hired", "class": "yes"}, "draws": 200}
    options["metrics"] = (share_of_equal, sk.balanced_accuracy_score)
    with patch("fairaudit.custom_table.CALLS", 0):  # the quicker jackknife
        on_disk = audit_with(read_shards(tmp_path, most_held=10), *TABLES, **options)
        in_memory = audit_with(frame, *TABLES, **options)
    for name in TABLES:
        assert len(on_disk.table(name))
        pd.testing.assert_frame_equal(on_disk.table(name), in_memory.table(name), rtol=1e-9, atol=1e-12)
