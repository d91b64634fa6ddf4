"""Which faces are attributed: the same number of every subgroup, one of each person."""

import numpy as np
import pandas as pd

from fairaudit.subgroups import UNKNOWN


def draw_evenly(groups: pd.Categorical, limit: int, seed: int, subjects: pd.Series | None = None) -> np.ndarray:
    """Return at most `limit` row numbers, ascending, drawn evenly over the subgroups.

    Where a subgroup has fewer faces than its part, the others give more. Rows of `unknown` are drawn only where no row
    has a known subgroup. Of each person in `subjects` at most one face is drawn, so that faces are independent; a face
    without a subject is one of its own.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    if subjects is not None:
        shuffled_subjects = subjects.iloc[order]
        order = order[(shuffled_subjects.isna() | ~shuffled_subjects.duplicated()).to_numpy()]
    shuffled = pd.Series(np.asarray(groups, dtype=object)[order])
    rank = shuffled.groupby(shuffled).cumcount().to_numpy()
    known = (shuffled != UNKNOWN).to_numpy()
    eligible = known if known.any() else ~known
    first_come = np.argsort(rank[eligible], kind="stable")  # every subgroup's first face, then every second one, …
    return np.sort(order[eligible][first_come][:limit])
