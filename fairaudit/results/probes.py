"""What showing changed faces found: worse pictures, and hidden regions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.results.columns import MASKING_TABLES, ROBUSTNESS_TABLES
from fairaudit.results.files import load_finished, save_beside


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """How accuracy falls, subgroup by subgroup, as the same faces are shown ever worse.

    curves, gaps, tests: the columns of ROBUSTNESS_TABLES. meta keys: name, created, fairaudit, format, n (faces),
    sampled (sentence), tasks, subgroups {axis: {subgroup: n}}, perturbations {name: {unit, shown, stands_for,
    amounts}}, degenerate [{task, by, reason}], image_size, checkpoint (hash), confidence, draws, seed, min_group_size,
    independence (sentence), label_source, model {…}, predictions {file: sha256}, warnings [sentence].
    """

    curves: pd.DataFrame
    gaps: pd.DataFrame
    tests: pd.DataFrame
    meta: Mapping[str, Any] = field(default_factory=dict)

    MARKER = "robustness.json"

    def save(self, folder: Path) -> None:
        """Write the three tables, then robustness.json with their hashes, beside what else lies in the folder."""
        tables = dict(zip(ROBUSTNESS_TABLES, (self.curves, self.gaps, self.tests), strict=True))
        save_beside(folder, self.MARKER, tables, self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Robustness":
        """Read what `save` wrote. Raises DataError where it is missing, unfinished or was changed."""
        tables, meta = load_finished(folder, cls.MARKER, "robustness", tuple(ROBUSTNESS_TABLES))
        curves, gaps, tests = (tables[name] for name in ROBUSTNESS_TABLES)
        return cls(curves=curves, gaps=gaps, tests=tests, meta=meta)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How accuracy falls, subgroup by subgroup, as a region of the same faces is hidden.

    table, tests: the columns of MASKING_TABLES. meta keys: those of `Robustness` but for perturbations; regions
    {region: share of the picture that is hidden}, fills {name: sentence}, palette, alignment, template (sentences).
    """

    table: pd.DataFrame
    tests: pd.DataFrame
    meta: Mapping[str, Any] = field(default_factory=dict)

    MARKER = "masking.json"

    def save(self, folder: Path) -> None:
        """Write the two tables, then masking.json with their hashes, beside what else lies in the folder."""
        save_beside(folder, self.MARKER, dict(zip(MASKING_TABLES, (self.table, self.tests), strict=True)), self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Masking":
        """Read what `save` wrote. Raises DataError where it is missing, unfinished or was changed."""
        tables, meta = load_finished(folder, cls.MARKER, "masking", tuple(MASKING_TABLES))
        return cls(table=tables["masking"], tests=tables["masking_tests"], meta=meta)
