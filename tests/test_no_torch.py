"""Auditing a table and comparing models load no torch, and no scikit-learn."""

import subprocess
import sys

SCRIPT = """
import sys
import pandas as pd
import fairaudit as fa
from fairaudit.spec import AuditSpec
import fairaudit.report.render
n = 80
frame = pd.DataFrame({"image": range(n), "gender_true": ["Male", "Female"] * (n // 2),
                      "gender_pred": ["Male"] * (n // 2) + ["Female"] * (n // 2),
                      "race": ["a", "a", "b", "b"] * (n // 4)})
audit = AuditSpec(draws=100)
result = fa.run_audit(frame, audit=audit)
table = fa.read_predictions(frame)
fa.compare(table, {"same": table}, audit=audit)
print([name for name in ("torch", "torchvision", "sklearn", "captum") if name in sys.modules])
"""


def test_an_audit_of_a_table_loads_no_torch() -> None:
    """In a fresh interpreter, torch, torchvision, captum and scikit-learn stay unloaded."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
