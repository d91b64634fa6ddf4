"""Cases on which other tools have been seen to print wrong or silently partial numbers."""

import math

import numpy as np

from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.metrics import disparity
from fairaudit.metrics.estimates import Estimate, share
from fairaudit.metrics.intervals import holm
from fairaudit.metrics.multiplicity import benjamini_hochberg
from fairaudit.metrics.rates import METRICS, Table
from fairaudit.metrics.sample import Sample
from fairaudit.selftest.checks import QUICK, Check, audited, drawn, equal, gap, holds, metric, table
from fairaudit.selftest.noise import FAIRFACE_VALIDATION, RACES


def macro_average() -> list[Check]:
    """A macro average of .614 (seen printed as 1.000: the classes' lists had been added element by element)."""
    cells = {("a", "a"): 90, ("a", "b"): 10, ("b", "b"): 50, ("b", "c"): 50, ("c", "c"): 442, ("c", "a"): 558}
    result = audited(table({"A": cells, "B": cells}, task="shape"), tasks=["shape"])
    return [
        equal("macro recall", (0.9 + 0.5 + 0.442) / 3, metric(result, "macro_recall", "A")["value"]),
        equal("rounded", 0.614, round(metric(result, "macro_recall")["value"], 3)),
        equal("accuracy", (90 + 50 + 442) / 1200, metric(result, "accuracy", "A")["value"]),
    ]


def false_discovery() -> list[Check]:
    """Many tests at once: false findings stay at the level promised (seen: 27.5 % where 10 % was promised)."""
    rng = np.random.default_rng(7)
    p_values = rng.random((2000, 20))
    p_values[:, :5] *= 1e-4  # five true differences, fifteen without any
    wrong = float(np.mean([(holm(row)[5:] <= 0.1).any() for row in p_values]))
    shares = []
    for row in p_values:
        found = benjamini_hochberg(row) <= 0.1
        shares.append(found[5:].sum() / max(found.sum(), 1))
    # the fifteen p-values of Benjamini & Hochberg (1995), § 3.2: four are rejected at .05, three by Bonferroni
    classic = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.324, 0.4262]
    known = benjamini_hochberg(np.array([*classic, 0.5719, 0.6528, 0.759, 1.0]))
    rate = float(np.mean(shares))
    return [
        holds("families with a false finding, Holm at 10 %", "at most 12 %", wrong, wrong <= 0.12),
        holds("false ones among findings, Benjamini–Hochberg at 10 %", "at most 10 %", rate, rate <= 0.1),
        equal("rejected in Benjamini and Hochberg's example", 4, int((known <= 0.05).sum())),
    ]


def group_denominator() -> list[Check]:
    """A group's recall is of the group's own positives (seen: divided by those of the whole set)."""
    small = {("Female", "Female"): 40, ("Female", "Male"): 10, ("Male", "Male"): 50}
    large = {("Female", "Female"): 900, ("Female", "Male"): 100, ("Male", "Male"): 1000}
    row = metric(audited(table({"A": small, "B": large})), "recall", "A", "Female")
    return [equal("recall of Female in A", 0.8, row["value"]), equal("its denominator", 50, int(row["denominator"]))]


def three_class_parity() -> list[Check]:
    """Selection rates of three classes: a gap for each class (seen: .333, of one class only, silently)."""
    first = {("a", "a"): 60, ("b", "b"): 30, ("c", "b"): 0}
    second = {("a", "b"): 60, ("b", "c"): 30}
    result = audited(table({"A": first, "B": second}, task="shape"), tasks=["shape"])
    expected = {"a": 2 / 3, "b": 1 / 3, "c": 1 / 3}
    return [
        equal(f"gap in selection rate of {c}", v, gap(result, "selection_rate", c)["difference"])
        for c, v in expected.items()
    ]


def group_without_positives() -> list[Check]:
    """A group without one class has no recall of it (seen: recall 0 and an equalized-odds difference of 1)."""
    full = {("Female", "Female"): 45, ("Female", "Male"): 5, ("Male", "Male"): 50}
    other = {("Female", "Female"): 40, ("Female", "Male"): 10, ("Male", "Male"): 50}
    result = audited(table({"A": full, "B": other, "C": {("Male", "Male"): 80}}))
    row, compared = metric(result, "recall", "C", "Female"), gap(result, "recall", "Female")
    return [
        equal("recall of Female in C", math.nan, row["value"]),
        equal("its reason", "no face labelled Female in C", row["reason"]),
        equal("gap in recall of Female, of A and B", 0.1, compared["difference"]),
        equal("not assessed", "C", compared["not_assessed"]),
    ]


def missing_group() -> list[Check]:
    """Faces without an attribute are a group of their own, outside comparisons (seen: they vanish from the groups)."""
    cells = {("Female", "Female"): 45, ("Female", "Male"): 5, ("Male", "Male"): 50}
    frame = table({"A": cells, "B": cells, "?": {("Female", "Male"): 40}})
    frame["race"] = frame["race"].where(frame["race"] != "?", None)
    result = audited(frame)
    sizes = result.meta["subgroups"]["race"]
    rest = result.rest[(result.rest["metric"] == "accuracy") & (result.rest["subgroup"] == "A")].iloc[0]
    warned = [w for w in result.meta["warnings"] if "lack an attribute" in w]
    return [
        equal("faces of all groups together", len(frame), sum(sizes.values())),
        equal("faces of unknown group", 40, sizes.get("unknown", 0)),
        equal("accuracy of unknown", 0.0, metric(result, "accuracy", "unknown")["value"]),
        equal("gap between the known", 0.0, gap(result, "accuracy")["difference"]),
        equal("faces in A's rest", 100, int(rest["n_rest"])),
        equal("warnings that say so", 1, len(warned)),
    ]


def all_groups_kept() -> list[Check]:
    """Seven groups go in, seven come out (seen: two of seven)."""
    result = audited(drawn(1400, {"race": RACES}, 0.9, seed=8))
    rows = result.metrics[(result.metrics["by"] == "race") & (result.metrics["metric"] == "accuracy")]
    return [
        equal("groups", sorted(RACES), sorted(rows["subgroup"])),
        equal("groups in the gap", 7, int(gap(result, "accuracy")["assessed"])),
    ]


def bootstrap_of_a_gap() -> list[Check]:
    """Twenty sets without disparity: a bootstrap of max − min finds a gap in all, the interval given here in few."""
    rng = np.random.default_rng(9)
    sizes = np.full(7, FAIRFACE_VALIDATION // 7)
    naive = own = 0
    for _ in range(20):
        right = rng.binomial(sizes, 0.94)
        rates = rng.binomial(sizes, right / sizes, (1000, 7)) / sizes
        naive += bool(np.quantile(np.ptp(rates, axis=1), 0.025) > 0)
        own += disparity.gap(_accuracies(right, sizes), 0, np.arange(7), 0.95).difference_low > 0
    return [
        holds("sets in which a percentile bootstrap excludes 0", "all 20", naive, naive == 20),
        # at 1 false in 20, more than three are expected once in 60 such suites
        holds("sets in which the lower limit is above 0", "at most 3", own, own <= 3),
    ]


def _accuracies(right: np.ndarray, sizes: np.ndarray) -> Estimate:
    """Return the accuracies of groups with so many right faces, for a task of two classes."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    wrong = np.concatenate([np.arange(n) >= r for n, r in zip(sizes, right, strict=True)]).astype(np.int64)
    sample = Sample(
        table=Table(2, 2),
        groups=tuple(map(str, range(len(sizes)))),
        group=groups,
        row=np.zeros(len(groups), dtype=np.int64),
        column=wrong,
    )
    return share(sample, np.eye(len(sizes)), METRICS["accuracy"])


def pair_named_on_test() -> list[Check]:
    """A comparison that names its worst subgroup on the compared faces says so (seen: chosen on test in silence)."""
    tables = [read_predictions(drawn(400, {"race": ("A", "B")}, 0.9, seed=seed)) for seed in (10, 10, 11)]
    said = []
    for validation in (None, tables[2]):
        meta = compare(tables[0], {"same": tables[1]}, by=["race"], audit=QUICK, validation=validation).meta
        said.append(any("regression to the mean" in warning for warning in meta["warnings"]))
    return [equal("warns without validation", True, said[0]), equal("warns with validation", False, said[1])]
