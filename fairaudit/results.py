"""What an audit, a comparison and an attribution found: frozen types that can be saved, loaded and looked at.

The tidy tables only ever gain columns, at the end. An undefined value is empty and stands with its reason.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from fairaudit.errors import DataError
from fairaudit.files import atomic_folder, claim, file_hash, write_json, write_text
from fairaudit.subgroups import UNKNOWN

FORMAT_VERSION = 1
PAGES = "pages.json"  # names and hashes of the pages that a report wrote
HISTORY = "history.csv"  # of the training, in a checkpoint and beside the audit of one
METRIC_COLUMNS = (
    "task",
    "by",
    "subgroup",
    "metric",
    "class",
    "value",
    "low",
    "high",
    "n",
    "denominator",
    "small",
    "reason",
    "n_effective",
)
GAP_COLUMNS = (
    *("task", "by", "metric", "class", "difference", "difference_low", "difference_high"),
    *("ratio", "ratio_low", "ratio_high", "worst", "best", "reason", "assessed", "not_assessed"),
    *("expected_gap", "split_sample_gap", "p_value", "p_adjusted", "detectable_gap", "verdict", "tau_squared"),
    *("tau_squared_truncated", "expected_gap_high", "p_extremes", "family", "family_size"),
)
REST_COLUMNS = (
    *("task", "by", "subgroup", "metric", "class", "value", "rest", "difference", "low", "high", "n_rest"),
    "reason",
)
CONFUSION_COLUMNS = ("task", "by", "subgroup", "true", "predicted", "count")
COMPARISON_COLUMNS = (
    *("model", "task", "by", "subgroup", "metric", "class", "baseline", "mitigated", "delta", "low", "high"),
    *("p_value", "p_adjusted", "n", "helped", "harmed", "small", "reason"),
)
GAP_CHANGE_COLUMNS = (
    *("model", "task", "by", "metric", "class", "baseline", "mitigated", "delta", "low", "high", "levelling_down"),
    *("reason", "worst", "best", "pair_baseline", "pair_mitigated", "pair_delta", "pair_low", "pair_high"),
)
CHURN_COLUMNS = (
    *("model", "task", "by", "subgroup", "n", "changed", "churn", "low", "high", "harmed", "helped", "still_wrong"),
    *("harmed_share", "harmed_low", "harmed_high", "small", "reason"),
)
NON_INFERIORITY_COLUMNS = (
    *("model", "task", "by", "subgroup", "metric", "delta", "low", "high", "margin", "verdict", "n", "n_needed"),
    *("family_size", "small", "reason"),
)
# Tables of methods × seeds: file name without .csv → columns; `seed` is "" where the row speaks of all seeds.
METHOD_TABLES: dict[str, tuple[str, ...]] = {
    "method_effects": (
        *("claim", "method", "seed", "task", "by", "subgroup", "metric", "baseline", "value", "delta", "low", "high"),
        *("seeds", "df", "sd_faces", "sd_seeds", "sd_interaction", "n", "levelling_down", "small", "reason"),
    ),
    "method_harm": (
        *("method", "task", "by", "subgroup", "metric", "delta", "low", "high", "margin", "verdict", "n", "n_needed"),
        *("seeds", "seeds_needed", "family_size", "small", "reason"),
    ),
    "seed_spread": (
        *("method", "task", "by", "subgroup", "metric", "value", "low", "high", "seeds", "mean", "sd", "least", "most"),
        "reason",
    ),
    "pareto": (
        *("task", "by", "front", "method", "seed", "accuracy", "accuracy_low", "accuracy_high", "versus", "versus_low"),
        *("versus_high", "standing", "dominated_by", "reason"),
    ),
    "recommendations": ("claim", "method", "task", "by", "recommended", "sentence", "reason"),
}
_JUDGED = (
    *("policy", "task", "by", "metric", "class", "measure", "limit", "value", "low", "high", "confidence"),
    *("verdict", "n_needed", "not_assessed", "reason", "worst", "best", "assessed", "n", "n_smallest"),
)
# Tables of an audit beyond the four that every audit has: file name without .csv → columns. Each is made by the
# function of the same name in analyses.ANALYSES, and is written only where it has rows.
MORE_TABLES: dict[str, tuple[str, ...]] = {
    "findings": (
        *("task", "by", "kind", "subgroup", "other", "metric", "class", "value", "other_value", "difference", "low"),
        *("high", "n", "n_other", "p_value", "p_adjusted", "family", "family_size", "detectable"),
        *("detectable_unadjusted", "finding", "sentence", "reason"),
    ),
    "pooled": ("task", "by", "subgroup", "metric", "class", "value", "pooled", "low", "high", "n"),
    "policies": _JUDGED,
    "hypotheses": _JUDGED,
    "exploratory": (
        *("task", "by", "subgroup", "metric", "class", "discovered", "value", "rest", "difference", "low", "high"),
        *("p_value", "p_adjusted", "confirmed", "n", "n_rest", "n_discovered", "p_discovered", "sentence", "reason"),
    ),
    "population": (
        *("task", "by", "metric", "class", "value", "low", "high", "n", "n_effective", "unweighted"),
        *("unweighted_low", "unweighted_high", "covered", "reason"),
    ),
    "adjusted": (
        *("task", "by", "metric", "class", "subgroup", "covariates", "raw", "raw_low", "raw_high"),
        *("adjusted", "adjusted_low", "adjusted_high", "overlap", "modelled", "n", "reason"),
        *("modelled_low", "modelled_high", "raw_shared", "change", "change_low", "change_high", "overlap_enough"),
        *("target", "worst", "best", "adjusted_worst", "adjusted_best", "assessed", "not_assessed"),
    ),
    "label_noise": (
        *("task", "by", "metric", "class", "subgroup", "method", "error_rate", "observed", "observed_low"),
        *("observed_high", "corrected", "low", "high", "breakdown", "n", "reason", "worst", "best"),
    ),
    "directed": (
        *("task", "by", "subgroup", "true", "predicted", "count", "value", "low", "high", "n", "rest", "n_rest"),
        *("difference", "difference_low", "difference_high", "p_value", "p_adjusted", "family_size", "small", "reason"),
    ),
    "attraction": (
        *("task", "by", "subgroup", "class", "value", "low", "high", "n_predicted", "n", "small", "reason"),
        *("reading", "family_size"),
    ),
    "pairs": (
        *("task", "by", "subgroup", "first", "second", "value", "low", "high", "confused", "confused_low"),
        *("confused_high", "n_first", "n_second", "reading", "small", "reason", "family_size"),
    ),
    "impact": (
        *("task", "class", "by", "subgroup", "applicants", "selected", "no_output", "share", "value", "low", "high"),
        *("ratio", "ratio_low", "ratio_high", "reference", "reading", "small", "reason"),
    ),
    "calibration": (*("task", "by", "subgroup", "of", "class", "bin", "n", "mean_score", "observed", "low", "high"),),
    "coverage": (
        *("task", "by", "subgroup", "point", "threshold", "n", "answered", "coverage", "coverage_low"),
        *("coverage_high", "risk", "risk_low", "risk_high", "aurc", "aurc_low", "aurc_high", "small", "reason"),
    ),
    "roc": (*("task", "by", "subgroup", "class", "threshold", "fpr", "tpr", "n_class", "n_others"),),
    "thresholds": (
        *("task", "by", "subgroup", "class", "threshold", "selection_rate", "selection_rate_low"),
        *("selection_rate_high", "tpr", "tpr_low", "tpr_high", "fpr", "fpr_low", "fpr_high"),
        *("n", "n_class", "n_others", "small", "reason"),
    ),
    "custom": (
        *("task", "by", "subgroup", "metric", "class", "kind", "value", "low", "high", "n", "small", "method", "draws"),
        *("lowest", "highest", "not_assessed", "reason"),
    ),
    "summary": (
        *("task", "by", "metric", "class", "statistic", "value", "low", "high", "expected", "expected_high"),
        *("subgroup", "n", "groups", "left_out", "reason"),
    ),
    "criteria": (
        *("task", "by", "criterion", "class", "metric", "at_class", "difference", "difference_low", "difference_high"),
        *("ratio", "ratio_low", "ratio_high", "worst", "best", "n", "assessed", "not_assessed", "reason"),
    ),
}
ATTRIBUTION_COLUMNS = (
    "task",
    "by",
    "subgroup",
    "region",
    "share",
    "low",
    "high",
    "n",
    "rest",
    "difference",
    "difference_low",
    "difference_high",
    "reason",
)
# what robustness found: file name without .csv → columns
ROBUSTNESS_TABLES: dict[str, tuple[str, ...]] = {
    "robustness": (
        *("task", "by", "subgroup", "metric", "perturbation", "strength", "amount", "unit", "value", "low", "high"),
        *("n", "drop", "drop_low", "drop_high", "lost", "gained", "small", "reason"),
    ),
    "robustness_gaps": (
        *("task", "by", "metric", "perturbation", "strength", "amount", "difference", "low", "high", "worst", "best"),
        *("assessed", "not_assessed", "reason"),
    ),
    "robustness_tests": (
        *("task", "by", "subgroup", "perturbation", "clean", "rest_clean", "drop", "rest_drop", "difference", "low"),
        *("high", "n", "n_rest"),
        *("matched", "detectable", "p_value", "p_adjusted", "family_size", "finding", "sentence", "reason"),
    ),
}
# what masking found: file name without .csv → columns
MASKING_TABLES: dict[str, tuple[str, ...]] = {
    "masking": (
        *("task", "by", "subgroup", "metric", "region", "fill", "area", "clean", "value", "low", "high", "n"),
        *("drop", "drop_low", "drop_high", "lost", "gained", "reading", "small", "sentence", "reason"),
    ),
    "masking_tests": (
        *("task", "by", "subgroup", "region", "fill", "difference", "low", "high", "n", "n_rest", "matched"),
        *("p_value", "p_adjusted", "family_size", "finding", "sentence", "reason"),
    ),
}
REGION_COLUMNS = (
    *("method", "baseline", "task", "by", "subgroup", "region", "kind"),
    *("share", "low", "high", "n", "area", "reason"),
)
CONTRAST_COLUMNS = (
    *("method", "baseline", "task", "by", "subgroup", "other", "comparison", "target", "region", "kind"),
    *("difference", "low", "high", "p_value", "p_adjusted", "randomized"),
    *("net", "net_low", "net_high", "net_p_value", "net_p_adjusted"),
    *("n", "n_other", "strata", "verdict", "reason"),
)
SANITY_COLUMNS = (
    *("method", "baseline", "task", "check", "part", "value", "low", "high", "limit", "n", "outcome", "sentence"),
)
CURVE_COLUMNS = ("method", "baseline", "task", "check", "fill", "order", "share", "value", "low", "high", "n")


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
        _save(folder, "audit.json", {**tables, **filled}, self.meta, predictions)

    @classmethod
    def load(cls, folder: Path) -> "AuditResult":
        """Read what `save` wrote. Raises DataError where the folder holds no audit or its tables were changed."""
        tables, meta = _load(
            folder, "audit.json", "audit", ("metrics", "gaps", "confusion", "rest"), tuple(MORE_TABLES)
        )
        more = {name: tables.pop(name) for name in MORE_TABLES if name in tables}
        return cls(**tables, more=more, meta=meta)


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
        _save(folder, "comparison.json", {**tables, **{k: t for k, t in more.items() if len(t)}}, self.meta, None)

    @classmethod
    def load(cls, folder: Path) -> "Comparison":
        """Read what `save` wrote."""
        tables, meta = _load(
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
        _save(folder, "methods.json", dict(zip(METHOD_TABLES, tables, strict=True)), self.meta, None)

    @classmethod
    def load(cls, folder: Path) -> "MethodComparison":
        """Read what `save` wrote. Raises DataError where the folder holds none or its tables were changed."""
        tables, meta = _load(folder, "methods.json", "comparison of methods", tuple(METHOD_TABLES))
        effects, harm, spread, pareto, recommendations = (tables[name] for name in METHOD_TABLES)
        return cls(effects=effects, harm=harm, spread=spread, pareto=pareto, recommendations=recommendations, meta=meta)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Mean attribution maps per subgroup, how much of the attribution falls where, and how far that may be trusted.

    shares: ATTRIBUTION_COLUMNS (region "centre" or "border"; share of absolute attribution in 0…1; `difference` is
    against everyone else). maps: {(task, by, subgroup): array (h, w), mean absolute attribution of the first method,
    each face scaled to sum 1}; the subgroup `overall` of the axis `overall` is the mean of all. regions:
    REGION_COLUMNS; contrasts: CONTRAST_COLUMNS; sanity: SANITY_COLUMNS; curves: CURVE_COLUMNS; each empty where nothing
    was asked for.
    pictures: {(method, what, task, by, subgroup): array (h, w)}, what: "signed", "absolute" (of the methods after the
    first), "difference" (from everyone else, matched, mean over baselines), "net" (the same minus that of the
    randomized model), "wrong" (wrong minus right predictions). meta keys: method, methods, steps, seed, baseline,
    baselines {name: sentence}, faces {task: n}, sampled (sentence: how many of how many faces), sampled_by (axis),
    target (sentence),
    completeness {task: median relative error, or None}, intervals (sentence), image_size, centre (sentence that defines
    the region), alignment, regions, contrasts (sentences; "" without), images [image that was attributed], unreadable
    [image], checkpoint (hash), warnings [sentence].
    """

    shares: pd.DataFrame
    maps: Mapping[tuple[str, str, str], np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    regions: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(REGION_COLUMNS)))
    contrasts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CONTRAST_COLUMNS)))
    sanity: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SANITY_COLUMNS)))
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CURVE_COLUMNS)))
    pictures: Mapping[tuple[str, ...], np.ndarray] = field(default_factory=dict)

    def rest_map(self, task: str, by: str, subgroup: str) -> np.ndarray | None:
        """Return the mean map of everyone else on the axis, None where there is no one; `unknown` is in no rest."""
        table = self.shares
        chosen = table[(table["task"] == task) & (table["by"] == by) & (table["region"] == "centre") & (table["n"] > 0)]
        others = chosen[~chosen["subgroup"].isin([subgroup, UNKNOWN])]
        maps = [self.maps[(task, by, other)] for other in others["subgroup"]]
        return np.average(np.stack(maps), axis=0, weights=others["n"].to_numpy()) if maps else None

    def save(self, folder: Path) -> None:
        """Write attribution.json, its five tables as CSV and maps.npz, whole or not at all."""
        keys, shown = sorted(self.maps), sorted(self.pictures)
        arrays = {f"map{i}": np.asarray(self.maps[key], dtype=np.float32) for i, key in enumerate(keys)}
        arrays |= {f"picture{i}": np.asarray(self.pictures[key], dtype=np.float32) for i, key in enumerate(shown)}
        meta = {**self.meta, "maps": [list(key) for key in keys], "pictures": [list(key) for key in shown]}
        tables = {
            "attribution": self.shares,
            "regions": self.regions,
            "contrasts": self.contrasts,
            "sanity": self.sanity,
            "curves": self.curves,
        }
        _save(folder, "attribution.json", tables, meta, None, arrays)

    @classmethod
    def load(cls, folder: Path) -> "Attribution":
        """Read what `save` wrote."""
        more = ("regions", "contrasts", "sanity", "curves")
        tables, meta = _load(folder, "attribution.json", "attribution", ("attribution",), more)
        try:
            with np.load(folder / "maps.npz", allow_pickle=False) as arrays:
                maps = {tuple(key): arrays[f"map{i}"] for i, key in enumerate(meta["maps"])}
                shown = {tuple(key): arrays[f"picture{i}"] for i, key in enumerate(meta.get("pictures", ()))}
        except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
            raise DataError(f"{folder / 'maps.npz'} cannot be read ({error}); make the attribution again") from None
        found = {name: tables[name] for name in more if name in tables}
        return cls(shares=tables["attribution"], maps=maps, meta=meta, pictures=shown, **found)


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
        _save_beside(folder, self.MARKER, tables, self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Robustness":
        """Read what `save` wrote. Raises DataError where it is missing, unfinished or was changed."""
        tables, meta = _load_finished(folder, cls.MARKER, "robustness", tuple(ROBUSTNESS_TABLES))
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
        _save_beside(folder, self.MARKER, dict(zip(MASKING_TABLES, (self.table, self.tests), strict=True)), self.meta)

    @classmethod
    def load(cls, folder: Path) -> "Masking":
        """Read what `save` wrote. Raises DataError where it is missing, unfinished or was changed."""
        tables, meta = _load_finished(folder, cls.MARKER, "masking", tuple(MASKING_TABLES))
        return cls(table=tables["masking"], tests=tables["masking_tests"], meta=meta)


def read_table(path: Path) -> pd.DataFrame:
    """Read one of our CSV tables: text stays verbatim ("NA" and "" too), numbers are numbers, empty numbers are NaN."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    for column in frame.columns:
        # `baseline` names a picture in the tables of attributions, and is a value in those that hold a `delta`
        if column in _TEXT or (column == "baseline" and "delta" not in frame):
            continue
        if column in _FLAGS:
            frame[column] = frame[column].map({"True": True, "False": False, "": False}).astype(bool)
        else:
            frame[column] = pd.to_numeric(frame[column].mask(frame[column] == ""))
    return frame


_TEXT = frozenset(
    (
        *("task", "by", "subgroup", "metric", "class", "reason", "worst", "best", "true", "predicted", "model"),
        *("region", "not_assessed", "of", "point"),
        *("policy", "measure", "verdict", "sentence"),
        *("covariates", "target", "adjusted_worst", "adjusted_best", "method"),
        *("criterion", "at_class", "statistic", "left_out", "first", "second", "reading", "reference"),
        *("kind", "lowest", "highest", "other", "family"),
        *("claim", "seed", "front", "standing", "dominated_by"),
        *("perturbation", "unit", "matched", "fill"),
        *("comparison", "check", "part", "outcome", "order"),
    )
)
_FLAGS = frozenset(("confirmed", "finding", "small", "levelling_down", "recommended"))


def _save(
    folder: Path,
    marker: str,
    tables: Mapping[str, pd.DataFrame],
    meta: Mapping[str, Any],
    predictions: Any,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> None:
    claim(folder, marker.removesuffix(".json"), marker)  # what is replaced whole must have been ours
    with atomic_folder(folder) as temporary:
        for name, table in tables.items():
            table.to_csv(temporary / f"{name}.csv", index=False, encoding="utf-8", lineterminator="\n")
        if arrays is not None:
            np.savez_compressed(temporary / "maps.npz", allow_pickle=False, **arrays)
        if predictions is not None:
            predictions.save(temporary / "predictions.parquet")
        files = {entry.name: file_hash(entry) for entry in sorted(temporary.iterdir())}
        write_json(temporary / marker, {**meta, "files": files})


def _save_beside(folder: Path, marker: str, tables: Mapping[str, pd.DataFrame], meta: Mapping[str, Any]) -> None:
    """Write tables, then the marker with their hashes, into a folder that keeps what else lies in it."""
    hashes = {}
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        write_text(path, table.to_csv(index=False, lineterminator="\n"))
        hashes[path.name] = file_hash(path)
    write_json(folder / marker, {**meta, "files": hashes})


def _load_finished(
    folder: Path, marker: str, kind: str, names: tuple[str, ...]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    path = folder / marker
    if path.exists() and "unfinished" in path.read_text(encoding="utf-8", errors="replace")[:100]:
        raise DataError(f"{folder} is unfinished: run the same command again, and it goes on")
    return _load(folder, marker, kind, names)


def _load(
    folder: Path, marker: str, kind: str, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    try:
        meta = json.loads((folder / marker).read_text(encoding="utf-8"))
        names = (*names, *(name for name in optional if f"{name}.csv" in meta["files"]))
        for name in names:
            if file_hash(folder / f"{name}.csv") != meta["files"][f"{name}.csv"]:
                raise DataError(f"{folder / name}.csv was changed after the {kind} was written; make the {kind} again")
        return {name: read_table(folder / f"{name}.csv") for name in names}, meta
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no {kind}: {error.filename} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{folder / marker} is damaged ({error}); make the {kind} again") from None
