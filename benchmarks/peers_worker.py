"""Run by disaggregated_metrics.py in .venv-bench: aequitas and AIF360 on the arrays it is given, a call a line.

Reads the name of a library from standard input, answers with its CPU seconds and its values by subgroup as JSON. Data
frames and data sets are made before the clock starts.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

NAMES = ("recall", "fnr", "fpr", "tnr", "precision", "fdr", "npv", "selection_rate")


def aequitas(
    true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int
) -> Callable[[], list[list[float]]]:
    """Return aequitas' crosstabs as a function without arguments."""
    import pandas as pd
    from aequitas.group import Group

    frame = pd.DataFrame({"g": groups.astype(str), "label_value": true, "score": predicted})
    names = ["tpr", "fnr", "fpr", "tnr", "precision", "fdr", "npv", "pprev"]

    def side() -> list[list[float]]:
        found, _ = Group().get_crosstabs(frame, attr_cols=["g"])
        return found.assign(g=found["attribute_value"].astype(int)).sort_values("g")[names].to_numpy(float).tolist()

    return side


def aif360(true: np.ndarray, predicted: np.ndarray, groups: np.ndarray, count: int) -> Callable[[], list[list[float]]]:
    """Return AIF360's rates, one metric object a subgroup, as a function without arguments."""
    import pandas as pd
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

    def dataset(labels: np.ndarray) -> BinaryLabelDataset:
        frame = pd.DataFrame({"g": groups.astype(float), "y": labels.astype(float)})
        return BinaryLabelDataset(df=frame, label_names=["y"], protected_attribute_names=["g"])

    sets = dataset(true), dataset(predicted)
    names = ["true_positive_rate", "false_negative_rate", "false_positive_rate", "true_negative_rate"]
    names += ["positive_predictive_value", "false_discovery_rate", "negative_predictive_value", "selection_rate"]

    def side() -> list[list[float]]:
        rows = []
        for g in range(count):
            metric = ClassificationMetric(*sets, [{"g": g}], [{"g": (g + 1) % count}])
            rows.append([float(getattr(metric, name)(privileged=False)) for name in names])
        return rows

    return side


def main() -> None:
    """Answer until standard input ends."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    with np.load(sys.argv[1]) as data:
        arrays = [data[name] for name in ("true", "predicted", "groups")]
        count = int(data["count"])
    sides: dict[str, Callable[[], list[list[float]]]] = {}
    for line in sys.stdin:
        name = line.strip()
        sides.setdefault(name, {"aequitas": aequitas, "aif360": aif360}[name](*arrays, count))
        began = time.process_time()
        values = sides[name]()
        print(json.dumps({"seconds": time.process_time() - began, "values": values}), flush=True)


if __name__ == "__main__":
    main()
