"""Cases in which nothing may change: the same faces in another order, or under other names."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fairaudit.metrics.rates import METRICS
from fairaudit.results import AuditResult
from fairaudit.selftest.checks import Check, audited, drawn, equal, holds

KEYS = {"metrics": ["by", "subgroup", "metric", "class"], "gaps": ["by", "metric", "class"]}
KEYS["rest"] = KEYS["metrics"]
# what is drawn depends on the order of groups through the seeds; nothing else may
DRAWN = tuple(name for name, metric in METRICS.items() if metric.kind == "composite")
DRAWN_COLUMNS = frozenset(
    (
        *("expected_gap", "expected_gap_high", "split_sample_gap", "p_value", "p_adjusted", "p_extremes"),
        "detectable_gap",
    )
)


def rows_shuffled() -> list[Check]:
    """The same rows in another order: every number of every table is the same to the last digit."""
    frame = _faces()
    return _same(audited(frame, ["race:sex"]), audited(frame.sample(frac=1, random_state=1), ["race:sex"]))


def classes_renamed() -> list[Check]:
    """Other words for the classes, in another order: the same numbers under the new names."""
    names = {"Female": "z", "Male": "a"}
    frame = _faces()
    renamed = frame.assign(**{c: frame[c].map(names) for c in ("gender_true", "gender_pred")})
    first = _renamed(audited(frame, ["race"]), {"class": names})
    return _same(first, audited(renamed, ["race"]), exact=False)


def groups_renamed() -> list[Check]:
    """Other names for the groups, in another order, odd characters included: the same numbers under the new names."""
    names = {"White": "Ω <b>", "Black": "10", "Asian": "a, “b”", "Indian": "NA"}
    frame = _faces()
    renamed = audited(frame.assign(race=frame["race"].map(names)), ["race"])
    first = _renamed(audited(frame, ["race"]), {"subgroup": names, "worst": names, "best": names})
    return _same(first, renamed, exact=False)


def _faces() -> pd.DataFrame:
    frame = drawn(1000, {"race": ("White", "Black", "Asian", "Indian"), "sex": ("f", "m")}, 0.9, seed=6)
    worse = drawn(1000, {"race": ("White", "Black", "Asian", "Indian"), "sex": ("f", "m")}, 0.7, seed=6)
    return frame.assign(gender_pred=np.where(frame["race"] == "Asian", worse["gender_pred"], frame["gender_pred"]))


def _renamed(result: AuditResult, names: Mapping[str, Mapping[str, str]]) -> AuditResult:
    """Return an audit's tables with other words in some columns."""
    tables = {}
    for table in KEYS:
        frame = getattr(result, table)
        words = {c: frame[c].map(lambda v, t=t: t.get(v, v)) for c, t in names.items() if c in frame}
        tables[table] = frame.assign(**words)
    return AuditResult(**tables, confusion=result.confusion, meta=result.meta)


def _same(first: AuditResult, second: AuditResult, exact: bool = True) -> list[Check]:
    """Check that both audits hold the same rows and numbers; `exact`: what is drawn, too."""
    found = []
    for table, keys in KEYS.items():
        one, two = (getattr(result, table).set_index(keys).sort_index() for result in (first, second))
        found.append(equal(f"{table}: rows", True, one.index.equals(two.index)))
        if not one.index.equals(two.index):
            continue
        numbers = [c for c in one.select_dtypes("number") if exact or c not in DRAWN_COLUMNS]
        fixed = np.ones(len(one), dtype=bool) if exact else ~one.index.get_level_values("metric").isin(DRAWN)
        cells = one.loc[fixed, numbers].to_numpy(dtype=float), two.loc[fixed, numbers].to_numpy(dtype=float)
        largest = float(np.nanmax(np.abs(cells[0] - cells[1]), initial=0.0))
        undefined = bool((np.isnan(cells[0]) == np.isnan(cells[1])).all())
        limit = 0.0 if exact else 1e-12
        what = f"{table}: largest change of {cells[0].size:,} numbers"
        found.append(holds(what, f"at most {limit:g}", largest, largest <= limit and undefined))
        if not exact:
            values = [c for c in ("value", "difference", "ratio", "rest") if c in one and c in numbers]
            change = np.nanmax(np.abs(one[values].to_numpy(float) - two[values].to_numpy(float)), initial=0.0)
            found.append(holds(f"{table}: largest change of a value", "at most 1e-12", float(change), change <= 1e-12))
        if "worst" in one:
            ends = [side[["worst", "best"]] for side in (one, two)]
            found.append(equal(f"{table}: the same worst and best", True, ends[0].equals(ends[1])))
    return found
