"""Audits of face classifiers: does this model treat people equally, and how sure are we?

The road, as functions: `load_faces → train / load_checkpoint / open_model → predict → read_predictions → run_audit →
compare → write_report`. They are loaded on first use, so that importing fairaudit, or auditing a table, loads no torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "load_faces": "fairaudit.data.readers",
    "split_faces": "fairaudit.data.splits",
    "synthesize": "fairaudit.data.synthetic",
    "load_spec": "fairaudit.spec",
    "train": "fairaudit.models.training",
    "load_checkpoint": "fairaudit.models.checkpoint",
    "open_model": "fairaudit.models.wrapped.opening",
    "predict": "fairaudit.models.inference",
    "read_predictions": "fairaudit.data.predictions",
    "read_shards": "fairaudit.data.shards",
    "run_audit": "fairaudit.audit",
    "compare": "fairaudit.comparison",
    "compare_methods": "fairaudit.methods",
    "attribute": "fairaudit.attribution.attribute",
    "write_report": "fairaudit.report.render",
    "notebook_html": "fairaudit.report.notebook",
    "write_comparison_report": "fairaudit.report.render",
    "write_methods_report": "fairaudit.report.render",
    "AuditResult": "fairaudit.results",
    "Comparison": "fairaudit.results",
    "MethodComparison": "fairaudit.results",
    "Attribution": "fairaudit.results",
    "FaceTable": "fairaudit.data.tables",
    "Predictions": "fairaudit.data.tables",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Load one of the public functions or types on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'fairaudit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
