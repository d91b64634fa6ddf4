"""The columns of every table that is written. A table only ever gains columns, at its end."""

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
        *("baseline_low", "baseline_high", "value_low", "value_high"),
    ),
    "method_harm": (
        *("method", "task", "by", "subgroup", "metric", "delta", "low", "high", "margin", "verdict", "n", "n_needed"),
        *("seeds", "seeds_needed", "family_size", "small", "reason"),
    ),
    "seed_spread": (
        *("method", "task", "by", "subgroup", "metric", "value", "low", "high", "seeds", "mean", "sd", "least", "most"),
        *("reason", "n"),
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
