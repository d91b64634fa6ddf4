"""What an audit found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.results.columns import MORE_TABLES, REST_COLUMNS
from fairaudit.results.files import load_whole, save_whole


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """One model's audit: the tables, and in `meta` what was audited, how, and what is not known.

    metrics: METRIC_COLUMNS; gaps: GAP_COLUMNS; confusion: CONFUSION_COLUMNS (counts; every axis, and `overall`);
    rest: REST_COLUMNS, each subgroup against everyone else of known subgroup, `low` and `high` of the difference.
    more: the further tables that the audit holds, by name, each with its columns of MORE_TABLES.
    meta keys: name, created (ISO date), fairaudit (version), format, n (rows), tasks {task: {"classes": […],
    "ordered": bool}}, subgroups {axis: {subgroup: n}}, degenerate [{task, by, reason}], min_group_size, confidence,
    draws, seed, label_source, independence (a sentence: subjects or the assumption), excluded [{"kind", "count",
    "action", "images": first 20; for missing labels and predictions also "task", "subgroups": {axis: {subgroup: n}}}],
    outcomes [{task, by, subgroup, status, count}], warnings [sentence], told [those that the caller gave],
    hashes {name: sha256}, model {…}, data {…}, mitigation {…} or None, training {…} or None.
    """

    metrics: pd.DataFrame
    gaps: pd.DataFrame
    confusion: pd.DataFrame
    meta: Mapping[str, Any]
    rest: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REST_COLUMNS)))
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str) -> pd.DataFrame:
        """Return the further table `name`, with its columns and no row where the audit has none."""
        return self.more.get(name, pd.DataFrame(columns=list(MORE_TABLES[name])))

    def to_frame(self) -> pd.DataFrame:
        """Return the metrics as a tidy table, one row a task, axis, subgroup, metric and class."""
        return self.metrics.copy()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the answer, compact and self-contained."""
        from fairaudit import notebook_html  # a name of the package, loaded on first use, so nothing here needs reports

        return str(notebook_html(self))

    def save(self, folder: Path, predictions: Any = None) -> None:
        """Write audit.json, metrics.csv, gaps.csv, confusion.csv, rest.csv (and predictions.parquet), or nothing."""
        tables = {"metrics": self.metrics, "gaps": self.gaps, "confusion": self.confusion, "rest": self.rest}
        filled = {name: table for name, table in self.more.items() if len(table)}
        save_whole(folder, "audit.json", {**tables, **filled}, self.meta, predictions=predictions)

    @classmethod
    def load(cls, folder: Path) -> "AuditResult":
        """Read what `save` wrote. Raises DataError where the folder holds no audit or its tables were changed."""
        tables, meta = load_whole(
            folder, "audit.json", "audit", ("metrics", "gaps", "confusion", "rest"), tuple(MORE_TABLES)
        )
        more = {name: tables.pop(name) for name in MORE_TABLES if name in tables}
        return cls(**tables, more=more, meta=meta)
