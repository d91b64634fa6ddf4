"""What an audit computes beyond metrics, gaps and confusion: each analysis makes one further table of the result."""

from collections.abc import Callable, Mapping

import pandas as pd

from fairaudit.adjusted_table import adjusted_table
from fairaudit.axes import AuditData
from fairaudit.calibration_tables import calibration_table, coverage_table
from fairaudit.confusion_tables import attraction_table, directed_table, pairs_table
from fairaudit.criteria import criteria_table
from fairaudit.custom_table import custom_table
from fairaudit.exploratory_table import exploratory_table
from fairaudit.findings import findings_table
from fairaudit.impact_table import impact_table
from fairaudit.label_noise_table import label_noise_table
from fairaudit.policy_tables import hypotheses_table, policies_table
from fairaudit.pooling_table import pooled_table
from fairaudit.population_table import population_table
from fairaudit.roc_tables import roc_table, threshold_table
from fairaudit.summary_table import summary_table

Analysis = Callable[[AuditData], pd.DataFrame]

# name of the table (results.MORE_TABLES gives its columns) → the function that makes it
ANALYSES: Mapping[str, Analysis] = {
    "findings": findings_table,
    "pooled": pooled_table,
    "policies": policies_table,
    "hypotheses": hypotheses_table,
    "exploratory": exploratory_table,
    "population": population_table,
    "criteria": criteria_table,
    "summary": summary_table,
    "calibration": calibration_table,
    "coverage": coverage_table,
    "roc": roc_table,
    "thresholds": threshold_table,
    "impact": impact_table,
    "custom": custom_table,
    "directed": directed_table,
    "attraction": attraction_table,
    "pairs": pairs_table,
    "adjusted": adjusted_table,
    "label_noise": label_noise_table,
}
