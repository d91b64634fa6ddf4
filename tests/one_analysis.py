"""An audit with only some of its further tables: tests of one analysis need not wait for the others."""

from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from fairaudit.analyses import ANALYSES
from fairaudit.audit import run_audit
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec


def audit_with(frame: pd.DataFrame, *tables: str, **options: Any) -> AuditResult:
    """Audit `frame`, making only the further tables named; options are run_audit's, or the audit spec's."""
    known = {key: options.pop(key) for key in list(options) if key in AuditSpec.model_fields and key != "subgroups"}
    spec = AuditSpec(**{"draws": 100, **known})
    with patch("fairaudit.audit.ANALYSES", {name: ANALYSES[name] for name in tables}):
        return run_audit(frame, audit=spec, **options)


def frame_of(cubes: dict[str, Any], classes: list[str], task: str = "gender", by: str = "race") -> pd.DataFrame:
    """Faces that have these confusion counts (K, K) in each subgroup."""
    rows = []
    for group, cube in cubes.items():
        for y, line in enumerate(np.asarray(cube)):
            for p, n in enumerate(line):
                rows += [(classes[y], classes[p], group)] * int(n)
    frame = pd.DataFrame(rows, columns=[f"{task}_true", f"{task}_pred", by], dtype=object)
    return frame.assign(image=[f"{i}.jpg" for i in range(len(frame))])
