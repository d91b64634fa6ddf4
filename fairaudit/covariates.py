"""Covariates of faces as strata: which columns may be adjusted for, and how numbers become a few bins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairaudit.data.bins import are_numbers, bin_codes, bin_names, quantile_bins
from fairaudit.errors import UsageError
from fairaudit.registry import suggestion
from fairaudit.subgroups import UNKNOWN, parse, values_in_order

LABEL_MIX = "label_mix"  # the labels of the task that is looked at
POOLED = "pooled"
MOST_LEVELS = 50
MEDIATOR = (
    "Adjusted gaps compare subgroups at one common mix of the named covariates. A covariate that the group itself "
    "influences (camera × skin tone → brightness) is a possible mediator: a gap that shrinks when it is held fixed "
    "shows a way in which the gap may arise, and the people concerned meet the raw gap all the same."
)
_NUMBERS_AS_NAMES = 10  # a column of names that are all numbers is put into bins beyond this many
_NO_COVARIATE = frozenset(("image", "subject_id", "weight", "label_source", "sha256", "path"))
_OF_THE_ANSWER = ("_pred", "_status", "_pred_years")


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """One covariate of every row of a table: `codes` (N,) into `levels`, −1 where it is not known."""

    name: str
    codes: np.ndarray
    levels: tuple[str, ...]
    binned: bool = False

    def words(self) -> str:
        """Return the covariate as a table names it."""
        return f"{self.name} in {len(self.levels)} bins" if self.binned else self.name


def check_covariates(columns: Sequence[str], names: Sequence[str], tasks: Sequence[str], target: str) -> None:
    """Raise UsageError for a covariate that the table lacks, that is named twice, or that the prediction decides; and
    for a target mix that is neither 'pooled' nor 'attribute=value'.
    """
    for name in names:
        answer = any(name in (f"{t}_pred", f"{t}_status") or name.startswith(f"{t}_prob_") for t in tasks)
        if answer or name.endswith(_OF_THE_ANSWER):
            raise UsageError(
                f"adjust for {name!r}: it comes from the prediction, which no fair comparison may hold fixed"
            )
        if names.count(name) > 1:
            raise UsageError(f"adjust for {name!r}: it is named twice")
        usable = possible_covariates(columns, tasks)
        if name not in usable and f"{name}_true" not in columns:
            raise UsageError(
                f"adjust for {name!r}: the table has no such column{suggestion(name, usable)} "
                f"(it has: {', '.join(usable)})"
            )
    attribute, equals, value = target.partition("=")
    if target != POOLED and not (equals and value and attribute in columns):
        raise UsageError(
            f"adjust_to = {target!r}: give 'pooled', or 'attribute=value' of a column such as 'race=White'"
        )


def possible_covariates(columns: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Return the columns that may be adjusted for, and the word for the task's own labels."""
    answers = [c for c in columns if c.endswith(_OF_THE_ANSWER) or any(c.startswith(f"{t}_prob_") for t in tasks)]
    return [LABEL_MIX, *(c for c in columns if c not in _NO_COVARIATE and c not in answers)]


def covariate(frame: pd.DataFrame, name: str, task: str, times: np.ndarray | None) -> Covariate:
    """Return one covariate of the rows of `frame`; numbers in quantile bins over the faces that have one.

    times: how many equal faces each row stands for; None: one. Numbers of a table on disk are in bins already. Raises
    UsageError for names of over 50 values, and for a column that is not counted where tables are larger than memory.
    """
    column = f"{task}_true" if name == LABEL_MIX and name not in frame else name
    column = column if column in frame else f"{name}_true"
    if column not in frame:
        raise UsageError(
            f"adjust for {name!r}: of a table on disk only attributes, labels and columns of numbers can be used"
        )
    values = frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype) and isinstance(values.cat.categories, pd.IntervalIndex):
        return _of_bins(name, values.cat.codes.to_numpy(), values.cat.categories)  # of a table on disk
    numbers = _numbers(values)
    if numbers is not None:
        return _binned(name, numbers, np.ones(len(frame)) if times is None else times)
    levels = [level for level in values_in_order(values) if level != UNKNOWN]
    if len(levels) > MOST_LEVELS:
        raise UsageError(f"adjust for {name!r}: it has {len(levels)} values; at most {MOST_LEVELS} make strata")
    text = values.astype(object).map(str, na_action="ignore")
    return Covariate(name=name, codes=pd.Index(levels).get_indexer(pd.Index(text)), levels=tuple(levels))


def _numbers(values: pd.Series) -> np.ndarray | None:
    """Return the values as floats where they are measurements: numbers, or more than a few names that are numbers."""
    if not pd.api.types.is_numeric_dtype(values.dtype):
        known = values.dropna()
        if known.nunique() <= _NUMBERS_AS_NAMES or pd.to_numeric(known.astype(str), errors="coerce").isna().any():
            return None
        values = pd.to_numeric(values.astype(object), errors="coerce")
    if pd.api.types.is_bool_dtype(values.dtype):
        return None
    numbers = values.to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _binned(name: str, numbers: np.ndarray, times: np.ndarray) -> Covariate:
    known = ~np.isnan(numbers)
    distinct, place = np.unique(numbers[known], return_inverse=True)
    counts = np.rint(np.bincount(place, weights=times[known], minlength=len(distinct)))
    bins = quantile_bins([(distinct, counts)], len(distinct), int(counts.sum()))
    return _of_bins(name, bin_codes(numbers, bins), bins)


def _of_bins(name: str, codes: np.ndarray, bins: pd.IntervalIndex) -> Covariate:
    return Covariate(name=name, codes=codes, levels=bin_names(bins), binned=not are_numbers(bins))


def target_rows(frame: pd.DataFrame, target: str) -> np.ndarray | None:
    """Return which rows of `frame` make the target mix, or None for all faces of known subgroup.

    Raises UsageError where no row has the value that `target` names.
    """
    if target == POOLED:
        return None
    attribute, _, value = target.partition("=")
    column = attribute if attribute in frame else f"{attribute}_true"
    found = (frame[column].astype(object).map(str, na_action="ignore") == value).to_numpy()
    if not found.any():
        known = values_in_order(frame[column])
        raise UsageError(
            f"adjust_to = {target!r}: no face has that value{suggestion(value, known)} "
            f"({attribute} has: {', '.join(known[:20])})"
        )
    return found


def usable_on(names: Sequence[str], by: str) -> list[str]:
    """Return the covariates that an axis can be adjusted for: those that are no part of it."""
    return [name for name in names if name not in parse(by)]


def strata(covariates: Sequence[Covariate]) -> tuple[np.ndarray, list[np.ndarray], list[str]]:
    """Return the stratum of each row (codes; −1 where a covariate is not known), the level of each stratum by
    covariate, and the strata's names. Only combinations that occur are strata.
    """
    codes = [one.codes for one in covariates]
    sizes = [len(one.levels) for one in covariates]
    missing = np.any([part < 0 for part in codes], axis=0)
    packed = np.zeros(len(missing), dtype=np.int64)
    for part, size in zip(codes, sizes, strict=True):
        packed = packed * max(size, 1) + part
    present = np.unique(packed[~missing])
    stratum = np.where(missing, -1, np.searchsorted(present, packed))
    levels: list[np.ndarray] = []
    rest = present
    for size in reversed(sizes):
        rest, part = np.divmod(rest, max(size, 1))
        levels.insert(0, part)
    named = [[f"{one.name} {one.levels[i]}" for i in part] for one, part in zip(covariates, levels, strict=True)]
    return stratum, levels, [", ".join(parts) for parts in zip(*named, strict=True)]
