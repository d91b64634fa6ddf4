"""What a comparison found: of models, and of methods over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit.results.columns import CHURN_COLUMNS, METHOD_TABLES, NON_INFERIORITY_COLUMNS
from fairaudit.results.files import load_whole, save_whole


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A baseline and one or more models on the same faces, paired by image.

    deltas: COMPARISON_COLUMNS; gap_changes: GAP_CHANGE_COLUMNS; churn: CHURN_COLUMNS; non_inferiority:
    NON_INFERIORITY_COLUMNS (both empty in a comparison made before there were any). meta keys: baseline (name), models
    [name], created, fairaudit, format, n_paired, n_unpaired {model: n}, tasks, subgroups, summary {model: [plain
    sentences]}, hashes, confidence, min_group_size, margin, warnings.
    """

    deltas: pd.DataFrame
    gap_changes: pd.DataFrame
    meta: Mapping[str, Any]
    churn: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CHURN_COLUMNS)))
    non_inferiority: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(NON_INFERIORITY_COLUMNS)))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: which gaps fell or grew, and at whose cost."""
        from fairaudit import notebook_html

        return str(notebook_html(self))

    def save(self, folder: Path) -> None:
        """Write comparison.json, comparison.csv, gap_changes.csv, churn.csv and non_inferiority.csv, or nothing."""
        tables = {"comparison": self.deltas, "gap_changes": self.gap_changes}
        more = {"churn": self.churn, "non_inferiority": self.non_inferiority}
        save_whole(folder, "comparison.json", {**tables, **{k: t for k, t in more.items() if len(t)}}, self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote."""
        tables, meta = load_whole(
            folder, "comparison.json", "comparison", ("comparison", "gap_changes"), ("churn", "non_inferiority")
        )
        deltas, gaps = tables.pop("comparison"), tables.pop("gap_changes")
        return cls(deltas=deltas, gap_changes=gaps, meta=meta, **tables)


@dataclass(frozen=True, kw_only=True)
class MethodComparison:
    """Methods against a baseline, each trained with several seeds, on the same faces: tables of METHOD_TABLES.

    effects: method_effects; harm: method_harm; spread: seed_spread; pareto; recommendations. meta keys: baseline
    (name), methods [name], seeds {name: [seed]}, paired {method: bool}, n, tasks, subgroups, named_on, named {task:
    {axis: {worst, best}}}, costs {name: {fact: value}}, confidence, margin, min_group_size, summary {method: [plain
    sentences]}, hashes {name: {seed: hash}}, created, fairaudit, format, method, warnings.
    """

    effects: pd.DataFrame
    harm: pd.DataFrame
    spread: pd.DataFrame
    pareto: pd.DataFrame
    recommendations: pd.DataFrame
    meta: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write methods.json and the five tables as CSV, whole or not at all."""
        tables = (self.effects, self.harm, self.spread, self.pareto, self.recommendations)
        save_whole(folder, "methods.json", dict(zip(METHOD_TABLES, tables, strict=True)), self.meta)

    @classmethod
    def load(cls, folder: Path) -> "MethodComparison":
        """Read what `save` wrote. Raises DataError where the folder holds none or its tables were changed."""
        tables, meta = load_whole(folder, "methods.json", "comparison of methods", tuple(METHOD_TABLES))
        effects, harm, spread, pareto, recommendations = (tables[name] for name in METHOD_TABLES)
        return cls(effects=effects, harm=harm, spread=spread, pareto=pareto, recommendations=recommendations, meta=meta)
