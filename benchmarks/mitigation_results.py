"""Write one table of what runs of `fairaudit mitigate` found: a row a set × head × method, against plain training.

    python benchmarks/mitigation_results.py UTKFace=runs/utk FairFace=runs/fairface --out mitigation_results.csv

Each argument is NAME=FOLDER of a finished run. Values are shares (0…1), means over seeds; `_low` and `_high` bound the
change against plain training ("erm") over seeds × test faces at the run's confidence, each looked at alone. AUC (of
nine ages the mean of one against the rest), `churn` (answers other than plain training's with the same seed) and
`own_churn` (answers that differ between two seeds of one method) are of all test faces; `_value_low` and `_value_high`
bound a level: over seeds × faces, of `own_churn` over faces.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

from fairaudit.report.mitigate import METRICS, effect, harm_words
from fairaudit.results import MethodComparison
from fairaudit.subgroups import OVERALL

KEYS = ("value", "change", "low", "high", "n")
LEVEL = ("value", "value_low", "value_high", "n")
COLUMNS = (
    *("set", "head", "by", "named_on_validation", "method", "seeds", "confidence"),
    *(f"{metric}_{key}" for metric in METRICS for key in KEYS),
    *("gap_change", "levelling_down", "subgroups", "recommended", "cpu_seconds_a_seed", "groups_at"),
    *(f"auc_{key}" for key in (*LEVEL, "change", "low", "high")),
    *(f"{metric}_{key}" for metric in ("churn", "own_churn") for key in LEVEL),
)


def rows_of(name: str, folder: Path, by: str) -> list[dict[str, Any]]:
    """Return the rows of one run on the axis that was mitigated."""
    made = []
    for place in sorted((folder / "comparison").iterdir()):
        found = MethodComparison.load(place)
        for task in found.meta["tasks"]:
            for method in (found.meta["baseline"], *found.meta["methods"]):
                made.append({"set": name, **_row(found, method, task, by)})
    return made


def _row(found: MethodComparison, method: str, task: str, by: str) -> dict[str, Any]:
    baseline = method == found.meta["baseline"]
    row: dict[str, Any] = {"head": task, "by": by, "method": method, "seeds": len(found.meta["seeds"][method])}
    row["named_on_validation"] = found.meta["named"][task][by].get("worst", "")
    row["confidence"] = found.meta["confidence"]
    for metric in METRICS:
        if (own := effect(found, method, task, by, metric)) is None:
            continue
        row |= {f"{metric}_value": own["baseline" if baseline else "value"], f"{metric}_n": own["n"]}
        if not baseline:
            row |= {f"{metric}_{key}": own[of] for key, of in (("change", "delta"), ("low", "low"), ("high", "high"))}
    if not baseline:
        gap = effect(found, method, task, by, "gap")
        said = found.recommendations
        said = said[(said["method"] == method) & (said["by"] == by) & (said["claim"] == "method")]
        row |= {"gap_change": gap["delta"], "levelling_down": bool(gap["levelling_down"])} if gap is not None else {}
        row |= {"subgroups": harm_words(found, method, task, by), "recommended": bool(said["recommended"].any())}
    row |= _ranking(found, method, task)
    costs = found.meta["costs"][method]
    return {**row, "cpu_seconds_a_seed": round(costs["seconds"], 2), "groups_at": costs["groups_at"]}


def _ranking(found: MethodComparison, method: str, task: str) -> dict[str, Any]:
    """Return AUC, churn and own churn of all test faces; the baseline's AUC stands in every method's rows."""
    baseline = method == found.meta["baseline"]
    rows, spread = found.effects, found.spread
    rows = rows[(rows["claim"] == "method") & (rows["task"] == task) & (rows["by"] == OVERALL)]
    rows = rows[rows["method"] == (found.meta["methods"][0] if baseline else method)].set_index("metric")
    auc, side = rows.loc["auc"], "baseline" if baseline else "value"
    made = {"auc_value": auc[side], "auc_n": auc["n"]}
    made |= {f"auc_value_{end}": auc[f"{side}_{end}"] for end in ("low", "high")}
    if not baseline:
        made |= {"auc_change": auc["delta"], "auc_low": auc["low"], "auc_high": auc["high"]}
        made |= {f"churn_{key}": rows.loc["churn", key] for key in LEVEL}
    own = spread[(spread["method"] == method) & (spread["task"] == task) & (spread["by"] == OVERALL)]
    own = own.set_index("metric").loc["own_churn"].rename({"low": "value_low", "high": "value_high"})
    return made | {f"own_churn_{key}": own[key] for key in LEVEL}


def main() -> None:
    """Read the arguments and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="NAME=FOLDER of a finished run of `fairaudit mitigate`")
    parser.add_argument("--by", default="race", help="the axis that was mitigated")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with given.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for run in given.runs:
            name, _, folder = run.partition("=")
            for row in rows_of(name, Path(folder), given.by):
                figures = {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}
                writer.writerow({key: "" if v != v else v for key, v in figures.items()})


if __name__ == "__main__":
    main()
