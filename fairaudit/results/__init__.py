"""What an audit, a comparison and an attribution found: frozen types that can be saved, loaded and looked at.

An undefined value is empty and stands with its reason. The columns of the tables are in `results.columns`.
"""

from fairaudit.results.attribution import Attribution
from fairaudit.results.audit import AuditResult
from fairaudit.results.comparisons import Comparison, MethodComparison
from fairaudit.results.probes import Masking, Robustness

__all__ = ["Attribution", "AuditResult", "Comparison", "Masking", "MethodComparison", "Robustness"]
