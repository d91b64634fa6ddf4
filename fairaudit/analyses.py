"""What an audit computes beyond metrics, gaps and confusion: each analysis makes one further table of the result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fairaudit.axes import AxisData
from fairaudit.data.tables import Predictions
from fairaudit.spec import AuditSpec


@dataclass(frozen=True, kw_only=True)
class AuditData:
    """All that an analysis may read: every task on every axis (`overall` first), the spec, and the tables so far."""

    predictions: Predictions
    axes: Sequence[AxisData]
    audit: AuditSpec
    seed: int
    metrics: pd.DataFrame
    gaps: pd.DataFrame


Analysis = Callable[[AuditData], pd.DataFrame]

# name of the table (results.MORE_TABLES gives its columns) → the function that makes it
ANALYSES: Mapping[str, Analysis] = {}
