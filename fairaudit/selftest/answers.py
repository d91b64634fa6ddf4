"""Cases whose answers can be worked out by hand or stand in a published article."""

import math

import numpy as np

from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import DataError
from fairaudit.metrics.intervals import holm, koopman, mover_difference, sign_flip_p, wilson, z_value
from fairaudit.selftest.checks import QUICK, Check, audited, equal, gap, holds, metric, table

# 50 faces: recall of Female 18/20, of Male 20/30
SIMPLE = {("Female", "Female"): 18, ("Female", "Male"): 2, ("Male", "Male"): 20, ("Male", "Female"): 10}
BETTER = {("Female", "Female"): 38, ("Female", "Male"): 2, ("Male", "Male"): 59, ("Male", "Female"): 1}


def known_values() -> list[Check]:
    """Every kind of metric on a table of 150 faces, worked out by hand."""
    result = audited(table({"A": SIMPLE, "B": BETTER}))
    kappa = (38 / 50 - (20 * 28 + 30 * 22) / 2500) / (1 - (20 * 28 + 30 * 22) / 2500)
    mcc = (18 * 20 - 2 * 10) / math.sqrt(28 * 20 * 30 * 22)
    expected = {
        ("n", ""): 50.0,
        ("accuracy", ""): 38 / 50,
        ("balanced_accuracy", ""): (18 / 20 + 20 / 30) / 2,
        ("recall", "Female"): 18 / 20,
        ("fnr", "Female"): 2 / 20,
        ("fpr", "Female"): 10 / 30,
        ("precision", "Female"): 18 / 28,
        ("npv", "Female"): 20 / 22,
        ("f1", "Female"): 36 / 48,
        ("macro_f1", ""): (36 / 48 + 40 / 52) / 2,
        ("selection_rate", "Male"): 22 / 50,
        ("base_rate", "Male"): 30 / 50,
        ("kappa", ""): kappa,
        ("mcc", ""): mcc,
    }
    rows = {key: metric(result, key[0], "A", key[1]) for key in expected}
    found = [equal(" of ".join(filter(None, key)), value, rows[key]["value"]) for key, value in expected.items()]
    accuracy = gap(result, "accuracy")
    found.append(equal("gap in accuracy", 97 / 100 - 38 / 50, accuracy["difference"]))
    found.append(equal("ratio of accuracies", (38 / 50) / (97 / 100), accuracy["ratio"]))
    return [*found, equal("worst-off", "A", accuracy["worst"])]


def known_intervals() -> list[Check]:
    """Intervals printed in the articles that define them."""
    z = z_value(0.95)
    low, high = wilson(np.array([81 / 263]), np.array([263]), z)  # Newcombe, Stat Med 17:857 (1998), example 1
    found = [equal("Wilson, 81 of 263, lower", 0.2553, low[0], 5e-5), equal("upper", 0.3662, high[0], 5e-5)]
    sides = [(np.array([x / n]), *wilson(np.array([x / n]), np.array([n]), z)) for x, n in ((56, 70), (48, 80))]
    low, high = mover_difference(sides[0], sides[1])  # Newcombe, Stat Med 17:873 (1998), table II (a), method 10
    found += [equal("Newcombe, 56/70 − 48/80, lower", 0.0524, low[0], 5e-5), equal("upper", 0.3339, high[0], 5e-5)]
    low, high = koopman(
        np.array([36]), np.array([40]), np.array([16]), np.array([80]), z
    )  # Koopman, Biometrics 40:513 (1984), example
    found += [equal("Koopman, (36/40)/(16/80), lower", 2.94, low[0], 5e-3), equal("upper", 7.15, high[0], 5e-3)]
    return found


def known_p_values() -> list[Check]:
    """Exact McNemar and Holm's procedure against values that can be recomputed by hand."""
    flips = np.array([1] * 10 + [-1] * 2)
    exact = 2 * sum(math.comb(12, k) for k in range(3)) / 2**12
    # p-value → adjusted: the smallest times 4, the next times 3, and none below the one before
    known = [(0.01, 0.03), (0.04, 0.06), (0.03, 0.06), (math.nan, math.nan), (0.005, 0.02)]
    adjusted = holm(np.array([p for p, _ in known]))
    found = [equal("exact McNemar, 10 helped and 2 harmed", exact, sign_flip_p(flips))]
    return found + [
        equal(f"Holm, p = {p}", right, float(value)) for (p, right), value in zip(known, adjusted, strict=True)
    ]


def class_never_predicted() -> list[Check]:
    """A class that is never predicted has recall 0, and no precision: undefined with a reason, never 0."""
    cells = {("a", "a"): 30, ("b", "b"): 30, ("c", "a"): 20, ("c", "b"): 20}
    result = audited(table({"A": cells, "B": cells}, task="shape"), tasks=["shape"])
    precision = metric(result, "precision", "A", "c")
    return [
        equal("recall of c", 0.0, metric(result, "recall", "A", "c")["value"]),
        equal("precision of c", math.nan, precision["value"]),
        holds("its reason", "names the class", precision["reason"], "predicted as c" in precision["reason"]),
        equal("F1 of c", 0.0, metric(result, "f1", "A", "c")["value"]),
        equal("macro recall", (1 + 1 + 0) / 3, metric(result, "macro_recall", "A")["value"]),
        equal("macro precision", math.nan, metric(result, "macro_precision", "A")["value"]),
        equal("a gap in precision of c", math.nan, gap(result, "precision", "c")["difference"]),
    ]


def missing_class() -> list[Check]:
    """A subgroup without one class: its recall is undefined, and averages are compared over the shared classes."""
    three = {("a", "a"): 36, ("a", "b"): 4, ("b", "b"): 30, ("b", "a"): 10, ("c", "c"): 20, ("c", "a"): 20}
    two = {("a", "a"): 32, ("a", "b"): 8, ("b", "b"): 36, ("b", "a"): 4}
    result = audited(table({"A": three, "B": two}, task="shape"), tasks=["shape"])
    recall, macro = metric(result, "recall", "B", "c"), metric(result, "macro_recall", "B")
    compared = gap(result, "macro_recall")
    return [
        equal("recall of c in B", math.nan, recall["value"]),
        equal("its reason", "no face labelled c in B", recall["reason"]),
        equal("macro recall of A", (0.9 + 0.75 + 0.5) / 3, metric(result, "macro_recall", "A")["value"]),
        equal("macro recall of B, over a and b", (0.8 + 0.9) / 2, macro["value"]),
        holds("what B's average runs over", "a, b", macro["reason"], macro["reason"].endswith("a, b")),
        equal("gap in macro recall, over a and b of both", 0.85 - 0.825, compared["difference"]),
        holds("what the gap runs over", "a, b", compared["reason"], compared["reason"].endswith("a, b")),
    ]


def small_groups() -> list[Check]:
    """An empty group does not appear; a group of one is shown with its interval, and judged by nobody."""
    frame = table({"A": SIMPLE, "B": BETTER, "C": {("Male", "Female"): 1}})
    frame["race"] = frame["race"].astype("category").cat.add_categories(["D"])
    result = audited(frame)
    one, accuracy = metric(result, "accuracy", "C"), gap(result, "accuracy")
    _, high = wilson(np.array([0.0]), np.array([1]), z_value(0.95))
    return [
        equal("subgroups", ["A", "B", "C"], list(result.meta["subgroups"]["race"])),
        equal("accuracy of C", 0.0, one["value"]),
        equal("its upper limit", float(high[0]), one["high"]),
        equal("marked as small", True, bool(one["small"])),
        equal("worst-off is of those assessed", "A", accuracy["worst"]),
        equal("named as not assessed", "C", accuracy["not_assessed"]),
        equal("recall of Female in C", math.nan, metric(result, "recall", "C", "Female")["value"]),
    ]


def degenerate_axis() -> list[Check]:
    """A race head by race: a perfect one has no demographic parity of 1, only recall by labelled class."""
    cells = {name: {(name, name): 40} for name in ("A", "B", "C")}
    result = audited(table(cells, task="race", attribute="group").rename(columns={"group": "race"}), tasks=["race"])
    selection = gap(result, "selection_rate", "A")
    return [
        equal("gap in selection rate", math.nan, selection["difference"]),
        holds("its reason", "says why", selection["reason"], "determines the label" in selection["reason"]),
        equal("recall by labelled class", 1.0, metric(result, "recall_by_labelled_class", "A")["value"]),
        equal("its gap", 0.0, gap(result, "recall_by_labelled_class")["difference"]),
    ]


def weights() -> list[Check]:
    """A weight of 2 counts twice in the value, but not in the certainty; a weight of 0 is refused."""
    frame = table({"A": SIMPLE, "B": BETTER})
    right = (frame["gender_true"] == frame["gender_pred"]).to_numpy()
    result = audited(frame.assign(weight=np.where(right, 2.0, 1.0)))
    row = metric(result, "accuracy", "A")
    try:
        read_predictions(frame.assign(weight=0.0))
        refused = "accepted"
    except DataError:
        refused = "refused"
    return [
        equal("accuracy of A, right faces weighted 2", 76 / 88, row["value"]),
        equal("effective number of faces, (Σw)²/Σw²", 88**2 / (38 * 4 + 12), row["n_effective"], 1e-9),
        equal("a weight of 0", "refused", refused),
    ]


def helped_and_harmed() -> list[Check]:
    """Two models on the same faces: faces helped and harmed, the paired change and its exact test."""
    frame = table({"A": {("Female", "Female"): 40, ("Female", "Male"): 10, ("Male", "Male"): 50}})
    other = frame.copy()
    wrong = np.flatnonzero(frame["gender_true"] != frame["gender_pred"])
    right = np.flatnonzero(frame["gender_true"] == frame["gender_pred"])
    other.loc[wrong[:8], "gender_pred"] = "Female"
    other.loc[right[:1], "gender_pred"] = "Male"
    tables = read_predictions(frame), read_predictions(other)
    deltas = compare(tables[0], {"other": tables[1]}, by=["race"], audit=QUICK).deltas
    row = deltas[(deltas["by"] == "overall") & (deltas["metric"] == "accuracy")].iloc[0]
    return [
        equal("helped", 8.0, float(row["helped"])),
        equal("harmed", 1.0, float(row["harmed"])),
        equal("change of accuracy", 0.07, row["delta"]),
        equal("exact McNemar", 2 * (1 + 9) / 2**9, row["p_value"]),
    ]
