"""What a case is made of: tables from exact counts, audits of them, and checks of what was found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.audit import run_audit
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec
from fairaudit.wording import plural

QUICK = AuditSpec(draws=100)
# {subgroup: {(label, prediction): faces}}
Counts = Mapping[str, Mapping[tuple[str, str], int]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that is known beforehand: what it is, what was expected and found, and whether they agree."""

    what: str
    expected: str
    found: str
    ok: bool


def equal(what: str, expected: Any, found: Any, tolerance: float = 1e-12) -> Check:
    """Check that two values are equal, numbers to `tolerance`; undefined (NaN) equals undefined."""
    if isinstance(expected, float | int) and not isinstance(expected, bool):
        both = math.isnan(expected) and math.isnan(found)
        ok = both or bool(abs(float(found) - expected) <= tolerance)
    else:
        ok = bool(expected == found)
    return Check(what=what, expected=shown(expected), found=shown(found), ok=ok)


def holds(what: str, expected: str, found: Any, ok: bool) -> Check:
    """Check a condition that is no equality: `expected` says it in words."""
    return Check(what=what, expected=expected, found=shown(found), ok=bool(ok))


def shown(value: Any) -> str:
    """Return a value for the table that is printed: short numbers, "undefined" for NaN."""
    if isinstance(value, float | np.floating):
        return "undefined" if math.isnan(value) else f"{float(value):.6g}"
    return str(value)


def table(counts: Counts, task: str = "gender", attribute: str = "race") -> pd.DataFrame:
    """Return a predictions table with exactly these counts."""
    rows = [
        (group, label, prediction)
        for group, cells in counts.items()
        for (label, prediction), n in cells.items()
        for _ in range(n)
    ]
    frame = pd.DataFrame(rows, columns=[attribute, f"{task}_true", f"{task}_pred"], dtype=object)
    return frame.assign(image=[f"face-{i}" for i in range(len(frame))])


def drawn(n: int, shares: Mapping[str, Sequence[str]], accuracy: float | np.ndarray, seed: int) -> pd.DataFrame:
    """Return n faces with attributes drawn evenly from `shares` and genders that are right with `accuracy`."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.choice(list(values), n) for name, values in shares.items()}).astype(object)
    label = rng.integers(0, 2, n)
    wrong = rng.random(n) >= accuracy
    names = np.array(["Female", "Male"], dtype=object)
    predicted = names[np.where(wrong, 1 - label, label)]
    return frame.assign(image=[f"face-{i}" for i in range(n)], gender_true=names[label], gender_pred=predicted)


def audited(frame: pd.DataFrame, by: Sequence[str] = ("race",), **more: Any) -> AuditResult:
    """Return the audit of a table on some axes, with few draws."""
    return run_audit(frame, by=list(by), audit=more.pop("audit", QUICK), **more)


def metric(result: AuditResult, name: str, subgroup: str = "overall", class_: str = "", by: str = "race") -> Any:
    """Return the one row of the metrics table that is meant."""
    axis = "overall" if subgroup == "overall" else by
    return _one(result.metrics, {"by": axis, "subgroup": subgroup, "metric": name, "class": class_})


def gap(result: AuditResult, name: str, class_: str = "", by: str = "race") -> Any:
    """Return the one row of the gap table that is meant."""
    return _one(result.gaps, {"by": by, "metric": name, "class": class_})


def _one(frame: pd.DataFrame, where: Mapping[str, str]) -> Any:
    found = frame
    for column, value in where.items():
        found = found[found[column] == value]
    if len(found) != 1:
        raise LookupError(f"{plural(len(found), 'row')} instead of one with {dict(where)}")
    return found.iloc[0]
