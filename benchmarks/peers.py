"""What AIF360 and aequitas make of one small table, kept as tests/data/peers.csv, which a test compares ours with.

    make bench && .venv-bench/bin/python benchmarks/peers.py

Both need versions of libraries that clash with ours, so they live in an environment of their own. The table: 800 faces
of five groups, a label and a prediction of 0 or 1, all drawn with Python's own generator and a seed. Group E has no
face labelled 1; eight faces have no group.
"""

import csv
import logging
import random
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "peers.csv"
SEED = 20
GROUPS = {"A": 320, "B": 220, "C": 150, "D": 72, "E": 30, "": 8}
RATES = {
    "A": (0.5, 0.85, 0.1),
    "B": (0.4, 0.75, 0.15),
    "C": (0.6, 0.9, 0.3),
    "D": (0.3, 0.6, 0.05),
    "": (0.5, 0.5, 0.5),
}
REFERENCE = "A"
AEQUITAS = ("tpr", "tnr", "for", "fdr", "fpr", "fnr", "npv", "precision", "pprev", "prev", "ppr")
AIF360_PAIRS = (
    *("statistical_parity_difference", "disparate_impact", "equal_opportunity_difference", "average_odds_difference"),
    *("average_abs_odds_difference", "equalized_odds_difference", "error_rate_difference", "error_rate_ratio"),
    *("false_positive_rate_difference", "false_negative_rate_difference", "false_omission_rate_difference"),
    *("false_discovery_rate_difference", "false_positive_rate_ratio", "false_discovery_rate_ratio"),
)


class Face(NamedTuple):
    """A face's group ("": not known), label and prediction."""

    group: str
    label: int
    predicted: int


def faces() -> list[Face]:
    """Return the table."""
    draw = random.Random(SEED).random
    found = []
    for group, n in GROUPS.items():
        base, hit, false = RATES.get(group, (0.0, 0.0, 0.2))
        for _ in range(n):
            label = int(draw() < base)
            found.append(Face(group, label, int(draw() < (hit if label else false))))
    return found


def by_aequitas(table: list[Face]) -> list[tuple[str, str, str, float]]:
    """Return aequitas' metrics of each group: (metric, group, reference, value)."""
    import pandas as pd
    from aequitas.group import Group

    frame = pd.DataFrame(table, columns=["race", "label_value", "score"]).replace({"race": {"": None}})
    found, _ = Group().get_crosstabs(frame, attr_cols=["race"])
    return [(m, row["attribute_value"], "", float(row[m])) for _, row in found.iterrows() for m in AEQUITAS]


def by_aif360(table: list[Face]) -> list[tuple[str, str, str, float]]:
    """Return AIF360's metrics of each group against the reference."""
    import pandas as pd
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

    names = sorted({face.group for face in table if face.group})
    frame = pd.DataFrame(
        [(names.index(f.group), f.label, f.predicted) for f in table if f.group], columns=["g", "y", "p"]
    )

    def dataset(column: str) -> BinaryLabelDataset:
        told = frame[["g", column]].rename(columns={column: "y"}).astype(float)
        return BinaryLabelDataset(df=told, label_names=["y"], protected_attribute_names=["g"])

    rows = []
    for number, name in enumerate(names):
        if name != REFERENCE:
            sides = {"unprivileged_groups": [{"g": number}], "privileged_groups": [{"g": names.index(REFERENCE)}]}
            metric = ClassificationMetric(dataset("y"), dataset("p"), **sides)
            rows += [(m, name, REFERENCE, float(getattr(metric, m)())) for m in AIF360_PAIRS]
    return rows


def reweighing_by_aif360(table: list[Face]) -> list[tuple[str, str, str, float]]:
    """Return AIF360's reweighing weights of the four cells of reference or rest × label: ("reweighing, label 1", …)."""
    import pandas as pd
    from aif360.algorithms.preprocessing import Reweighing
    from aif360.datasets import BinaryLabelDataset

    frame = pd.DataFrame([(float(f.group == REFERENCE), f.label) for f in table if f.group], columns=["g", "y"])
    told = BinaryLabelDataset(df=frame, label_names=["y"], protected_attribute_names=["g"])
    weights = Reweighing([{"g": 0.0}], [{"g": 1.0}]).fit_transform(told).instance_weights
    rows = []
    for group, number in ((REFERENCE, 1.0), ("rest", 0.0)):
        for label in (0, 1):
            cell = ((frame["g"] == number) & (frame["y"] == label)).to_numpy()
            rows.append((f"reweighing, label {label}", group, "", float(weights[cell][0])))
    return rows


def main() -> None:
    """Write the table of both libraries' values."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    table = faces()
    sides = {"aequitas": by_aequitas, "aif360": by_aif360}
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["peer", "version", "metric", "group", "reference", "value"])
        for group in GROUPS:
            for cell in ((0, 0), (0, 1), (1, 0), (1, 1)):
                writer.writerow(
                    ["table", "", f"label {cell[0]} predicted {cell[1]}", group, "", table.count((group, *cell))]
                )
        for peer, values in sides.items():
            for metric, group, reference, value in values(table):
                writer.writerow([peer, version(peer), metric, group, reference, repr(value)])
        for metric, group, reference, value in reweighing_by_aif360(table):
            writer.writerow(["aif360", version("aif360"), metric, group, reference, repr(value)])


if __name__ == "__main__":
    main()
