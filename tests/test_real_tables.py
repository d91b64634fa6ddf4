"""Published tables of other people, reproduced figure by figure from their predictions read in as a user's tables.

docs/reproductions.md says how many figures agree, and why each of the others does not.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fairaudit import audit as audit_module
from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError
from fairaudit.spec import AuditSpec

QUICK = AuditSpec(draws=100)
TASKS = ("age", "gender", "race")
# Their bins are off by one: "0-2" holds 0 to 3 years, "70-130" holds 71 and more. Used as they are.
AGE_EDGES = (-1, 3, 10, 20, 30, 40, 50, 60, 70, 200)
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-130")
RACES = ("White", "Black", "Asian", "Indian", "Other")
CLASSES = {"age": AGES, "gender": ("Female", "Male"), "race": RACES}
PUBLISHED = {"age_bins": "age", "genders": "gender", "races": "race"}
FILES = {"DeepFace": "uncropped_DF_all.csv", "FairFace": "uncropped_FF_all.csv"}


@pytest.fixture(autouse=True)
def metrics_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing published here needs tests and further analyses, which would double the time."""
    monkeypatch.setattr(audit_module, "ANALYSES", {})
    monkeypatch.setattr(audit_module, "disparity_tests", lambda axes, audit, seed: {})


# ---- UTKFace, 864 rows of proportions, p-values, power, F1 and one-vs-rest balanced accuracy -------------------------


def raw_utkface(folder: Path, model: str) -> pd.DataFrame:
    """One model's file under our column names, with their age bins; the four files of malformed names are left out."""
    frame = pd.read_csv(folder / FILES[model], dtype=str, keep_default_na=False)
    frame["age_true"] = pd.cut(pd.to_numeric(frame["src_age"]), AGE_EDGES, labels=AGES).astype(str)
    frame = frame[frame["src_gender"].isin(["Female", "Male"]) & frame["src_race"].isin(RACES)]
    names = {"img_path": "image", "src_gender": "gender_true", "src_race": "race_true", "pred_age_grp": "age_pred"}
    names |= {"pred_gender": "gender_pred", "pred_race": "race_pred"}
    return frame.rename(columns=names)[["image", *(f"{t}_{s}" for t in TASKS for s in ("true", "pred"))]]


def cells(table: Predictions, which: tuple[str, ...], prefix: str = "") -> pd.DataFrame:
    """Audit each task over the other two attributes and both together; return the metrics by task, group and class."""
    found = []
    for task in TASKS:
        first, second = (f"{prefix}{other}" for other in TASKS if other != task)
        audit = run_audit(table, tasks=[task], by=[first, second, f"{first}:{second}"], audit=QUICK)
        found.append(audit.metrics[audit.metrics["metric"].isin(which)])
    return pd.concat(found).set_index(["task", "by", "subgroup", "metric", "class"])


def places(published: pd.DataFrame, metric: str, prefix: str = "", per_class: bool = True) -> list[tuple[str, ...]]:
    """Where in our metrics the figure of each published row stands."""
    keys = []
    for row in published.to_dict("records"):
        task = PUBLISHED[row["test_prop"]]
        fixed = {t: row[f"test_{t}"] for t in TASKS if t != task and row[f"test_{t}"] != "All"}
        by = ":".join(f"{prefix}{t}" for t in fixed) or "overall"
        keys.append(
            (task, by, " × ".join(fixed.values()) or "overall", metric, row[f"test_{task}"] if per_class else "")
        )
    return keys


def looked_up(table: pd.DataFrame, keys: list[tuple[str, ...]], column: str = "value") -> np.ndarray:
    """The figures at these places, NaN where there is no such subgroup."""
    return table[column].reindex(pd.MultiIndex.from_tuples(keys)).to_numpy(dtype=float)


def yates(x: np.ndarray, n: np.ndarray, y: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Two-sided p of two independent proportions: χ² with Yates' correction, as R's prop.test computes it."""
    p_values = np.full(len(x), np.nan)
    for i in np.flatnonzero(m > 0):
        counts = np.array([[x[i], n[i] - x[i]], [y[i], m[i] - y[i]]])
        p_values[i] = stats.chi2_contingency(counts, correction=True).pvalue
    return p_values


def arcsine_power(p: np.ndarray, n: np.ndarray, q: np.ndarray, m: np.ndarray, alpha: float) -> np.ndarray:
    """Power of the two-sided test of two proportions by Cohen's h (Cohen 1988, §6), as R's pwr.2p2n.test has it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.abs(2 * np.arcsin(np.sqrt(p)) - 2 * np.arcsin(np.sqrt(q))) * np.sqrt(n * m / (n + m))
    z = stats.norm.isf(alpha / 2)
    return stats.norm.sf(z - shift) + stats.norm.sf(z + shift)


@cache
def label_shares(folder: Path) -> pd.DataFrame:
    """How many faces are labelled as each subgroup, and which share of them as each class."""
    frame = raw_utkface(folder, "FairFace")
    table = frame[["image"]].assign(**{f"{t}_pred": frame[f"{t}_true"] for t in TASKS})
    table = table.assign(**{t: frame[f"{t}_true"] for t in TASKS})
    return cells(read_predictions(table, classes=CLASSES), ("n", "selection_rate"))


@pytest.mark.parametrize("model", ["FairFace", "DeepFace"])
def test_every_figure_of_the_utkface_table(shared: Path, model: str) -> None:
    """All 432 rows a model: n and shares exactly, F1, balanced accuracy, p-values and power to 1e-9."""
    folder = shared / "tables" / "cuboulder_utkface"
    published = pd.read_csv(folder / "combined_p_val_F1_acc.csv")
    published = published[published["model"] == model].reset_index(drop=True)
    assert len(published) == 432
    frame = raw_utkface(folder, model)
    lacking = frame["age_pred"] == ""
    assert int(lacking.sum()) == {"FairFace": 11, "DeepFace": 49}[model]
    frame = frame.assign(**{f"{t}_status": np.where(lacking, "no_face", "") for t in TASKS})

    labels = label_shares(folder)
    n = looked_up(labels, places(published, "n", per_class=False))
    share = looked_up(labels, places(published, "selection_rate"))
    np.testing.assert_array_equal(n, published["source_n"])
    np.testing.assert_allclose(share, published["source_prop"], rtol=0, atol=1e-15)

    said = frame[["image"]].assign(**{f"{t}_pred": frame[f"{t}_pred"] for t in TASKS})
    said = said.assign(**{f"said_{t}": frame[f"{t}_pred"] for t in TASKS})[~lacking]
    predicted = cells(read_predictions(said, classes=CLASSES), ("n", "selection_rate"), "said_")
    m = np.nan_to_num(looked_up(predicted, places(published, "n", "said_", per_class=False)))
    rate = looked_up(predicted, places(published, "selection_rate", "said_"))
    np.testing.assert_array_equal(m, published["model_n"])
    np.testing.assert_allclose(rate, published["model_prop"], rtol=0, atol=1e-15)

    scores = cells(read_predictions(frame, classes=CLASSES), ("f1", "recall", "tnr"))
    f1 = looked_up(scores, places(published, "f1"))
    # caret's F1 is 0/0 = NA where no face is right; it is 0: faces are labelled as the class, none is found
    no_hit = f1 == 0
    np.testing.assert_allclose(np.where(no_hit, np.nan, f1), published["model_F1"], rtol=0, atol=1e-12)
    assert int(no_hit.sum()) == published["model_F1"].isna().sum()
    balanced = (looked_up(scores, places(published, "recall")) + looked_up(scores, places(published, "tnr"))) / 2
    np.testing.assert_allclose(balanced, published["model_Accuracy"], rtol=0, atol=1e-12)

    p_values = yates(share * n, n, np.nan_to_num(rate) * m, m)
    np.testing.assert_allclose(p_values, published["model_p_value"], rtol=1e-9, atol=1e-300)
    power = arcsine_power(share, n, rate, m, alpha=0.003)
    # pwr.2p2n.test refuses groups of fewer than 2: they wrote 0 there
    np.testing.assert_allclose(np.where(m < 2, 0.0, power), published["model_power"], rtol=0, atol=1e-9)
    assert int((m < 2).sum()) == {"FairFace": 0, "DeepFace": 89}[model]


def test_the_malformed_names_of_utkface_are_refused(shared: Path) -> None:
    """With the classes given, a file name in the place of a race is an error that shows it."""
    frame = pd.read_csv(shared / "tables" / "cuboulder_utkface" / FILES["FairFace"], dtype=str, keep_default_na=False)
    names = {"image": "img_path", "race_true": "src_race", "race_pred": "pred_race"}
    with pytest.raises(DataError, match=r"3 values of race_true are none of its classes \('2017"):
        read_predictions(frame, rename=names, tasks=["race"], classes={"race": RACES}, attributes=[])


# ---- 2,998 FairFace images, DeepFace against FaceLLM: figures of a README ------------------------------------------

CONFIDENCE = {
    "DeepFace": {"gender": "gender_confidence", "race": "race_confidence", "age": "face_confidence"},
    "FaceLLM": {"gender": "gender_confidence", "race": "race_confidence", "age": "age_confidence"},
}


@cache
def facellm(folder: Path, model: str) -> tuple[pd.DataFrame, Predictions]:
    """One model's file joined to the labels: as they are, and read in with names and values mapped."""
    labels = pd.read_csv(folder / "train_labels_inferred_only.csv", dtype=str).set_index("image_id")
    file = {"DeepFace": "deepface_3k.csv", "FaceLLM": "facellm_3k.csv"}[model]
    frame = pd.read_csv(folder / file, dtype=str).set_index("image_id").add_suffix("_said")
    frame = frame.join(labels).reset_index()
    for task, column in CONFIDENCE[model].items():
        confidence = pd.to_numeric(frame[f"{column}_said"]) / (100 if model == "DeepFace" and task != "age" else 1)
        # ten bins of equal width, closed above: a confidence of 1.01 is in none
        bins = np.ceil(np.round(confidence * 10, 9)).clip(lower=1)
        frame[f"{task}_confidence_bin"] = bins.where(bins <= 10).astype("Int64").astype(str).replace("<NA>", "")
        frame[f"{task}_confidence"] = confidence
    keep = ["image_id", *(f"{t}_confidence_bin" for t in TASKS), *(f"{t}{s}" for t in TASKS for s in ("", "_said"))]
    table = read_predictions(
        frame[keep],
        rename={
            "image": "image_id",
            **{f"{t}_{s}": f"{t}{e}" for t in TASKS for s, e in (("true", ""), ("pred", "_said"))},
        },
        values={"race": {"East Asian": "Asian", "Southeast Asian": "Asian"}, "age": {"more than 70": "70+"}},
    )
    return frame, table


@cache
def facellm_metrics(folder: Path, model: str) -> Mapping[tuple[str, str, str, str, str], float]:
    """Every metric of each task overall and by bin of its own confidence, and the shares of directed confusions."""
    _, table = facellm(folder, model)
    found: dict[tuple[str, str, str, str, str], float] = {}
    for task in TASKS:
        result = run_audit(table, tasks=[task], by=[f"{task}_confidence_bin"], audit=QUICK)
        for row in result.metrics.to_dict("records"):
            axis = "" if row["by"] == "overall" else row["subgroup"]
            found[task, axis, row["metric"], row["class"], ""] = row["value"]
        cube = result.confusion[result.confusion["by"] == "overall"]
        total = cube.groupby("true")["count"].sum()
        for row in cube.to_dict("records"):
            found[task, "", "share", row["true"], row["predicted"]] = row["count"] / total[row["true"]]
    return found


def ece(folder: Path, model: str, task: str) -> float:
    """Expected calibration error over ten equal bins of the published confidence: Σ n/N · |accuracy − mean confidence|.

    Plain and biased upwards, as they published it; an audit gives the debiased one only.
    """
    frame, table = facellm(folder, model)
    labelled = table.frame[f"{task}_true"].notna().to_numpy()
    frame, rates = frame[labelled], facellm_metrics(folder, model)
    means = (
        frame.groupby(f"{task}_confidence_bin")[f"{task}_confidence"].agg(["mean", "size"]).drop("", errors="ignore")
    )
    gaps = [abs(row["mean"] - rates[task, b, "accuracy", "", ""]) * row["size"] for b, row in means.iterrows()]
    return float(sum(gaps) / len(frame))


LATINO, EASTERN = "Latino_Hispanic", "Middle Eastern"
# (task, metric, class, predicted) → published figures of DeepFace and FaceLLM, None where the README gives none
FIGURES: dict[tuple[str, str, str, str], tuple[str | None, str | None]] = {
    ("gender", "accuracy", "", ""): ("0.6848", "0.8829"),
    ("gender", "recall", "Female", ""): ("0.376", "0.993"),
    ("gender", "recall", "Male", ""): ("0.959", "0.785"),
    ("gender", "share", "Female", "Male"): ("0.62", None),
    ("gender", "share", "Male", "Female"): (None, "0.21"),
    ("race", "macro_f1", "", ""): ("0.604", "0.607"),
    ("race", "recall", "Asian", ""): ("0.84", "0.94"),
    ("race", "recall", "Black", ""): ("0.83", "0.89"),
    ("race", "recall", "White", ""): ("0.77", "0.94"),
    ("race", "recall", "Indian", ""): ("0.42", "0.66"),
    ("race", "recall", LATINO, ""): ("0.31", "0.15"),
    ("race", "recall", EASTERN, ""): ("0.46", "0.20"),
    ("race", "share", "Indian", "Black"): ("0.16", None),
    ("race", "share", "Indian", LATINO): ("0.18", None),
    ("race", "share", LATINO, "White"): ("0.24", "0.41"),
    ("race", "share", LATINO, "Asian"): ("0.20", None),
    ("race", "share", EASTERN, "White"): ("0.32", "0.68"),
    ("age", "accuracy", "", ""): ("0.2678", "0.2925"),
    ("age", "macro_f1", "", ""): ("0.106", "0.237"),
    ("age", "mae_bins", "", ""): ("1.17", "0.94"),
    ("age", "off_by_one_accuracy", "", ""): ("0.693", "0.824"),
    ("age", "cumulative_score_2", "", ""): ("0.888", "0.955"),
    ("age", "recall", "0-2", ""): (None, "0.83"),
    ("age", "recall", "10-19", ""): (None, "0.92"),
    ("age", "recall", "30-39", ""): (None, "0.73"),
}
ECES = {"race": ("0.0458", "0.1747"), "gender": ("0.2282", "0.0865"), "age": ("0.5125", "0.5406")}
# (model, task) → per confidence bin: published mean confidence, accuracy, count
RELIABILITY: dict[tuple[str, str], dict[str, tuple[str, str, int]]] = {
    ("DeepFace", "race"): {
        "2": ("0.20", "0.50", 2),
        "3": ("0.27", "0.33", 298),
        "4": ("0.36", "0.38", 566),
        "5": ("0.45", "0.52", 447),
        "6": ("0.55", "0.65", 290),
        "7": ("0.65", "0.68", 224),
        "8": ("0.75", "0.77", 212),
        "9": ("0.85", "0.84", 214),
        "10": ("0.98", "0.94", 745),
    },
    ("FaceLLM", "race"): {
        "1": ("0.0", "0.76", 42),
        "5": ("0.5", "0.72", 160),
        "8": ("0.8", "0.76", 1325),
        "9": ("0.9", "0.62", 1393),
        "10": ("1.0", "0.77", 78),
    },
    ("DeepFace", "gender"): {
        "6": ("0.55", "0.55", 132),
        "7": ("0.65", "0.65", 148),
        "8": ("0.75", "0.75", 218),
        "9": ("0.85", "0.85", 336),
        "10": ("0.98", "0.98", 2164),
    },
    ("FaceLLM", "gender"): {
        "1": ("0.0", "0.40", 120),
        "5": ("0.5", "0.48", 160),
        "8": ("0.8", "0.92", 1325),
        "9": ("0.9", "0.94", 1393),
    },
    ("DeepFace", "age"): {
        "1": ("0.00", "0.24", 1035),
        "9": ("0.89", "0.28", 170),
        "10": ("0.94", "0.28", 1792),
    },
    ("FaceLLM", "age"): {
        "1": ("0.0", "0.33", 48),
        "5": ("0.5", "0.26", 160),
        "8": ("0.8", "0.30", 1325),
        "9": ("0.9", "0.29", 1393),
        "10": ("1.0", "0.26", 72),
    },
}
# What does not agree: where → (published, found, why). Nothing else may differ.
DIFFER = {
    "DeepFace gender recall Male": ("0.959", "0.960", "1523 of 1587 = .95967 was cut, not rounded"),
    "DeepFace race confidence 3": ("0.27", "0.26", "mean of the bin's 298 confidences is .2648"),
    "DeepFace race confidence 4": ("0.36", "0.35", "mean of the bin's 566 confidences is .3488"),
    **{
        f"DeepFace gender accuracy {b}": (published, found, "the column repeats the mean confidence")
        for b, published, found in (
            ("6", "0.55", "0.45"),
            ("7", "0.65", "0.45"),
            ("8", "0.75", "0.49"),
            ("9", "0.85", "0.51"),
            ("10", "0.98", "0.76"),
        )
    },
}


def test_every_figure_of_the_facellm_readme(shared: Path) -> None:
    """Accuracies, macro-F1, recalls, confusions, bin errors, calibration: 133 agree as printed, 8 do not (DIFFER)."""
    folder = shared / "tables" / "facellm_deepface_fairface3k"
    agree, differ = 0, {}

    def figure(name: str, published: str, value: float) -> None:
        nonlocal agree
        digits = len(published.partition(".")[2])
        found = f"{value:.{digits}f}"
        if found == published:
            agree += 1
        else:
            differ[name] = (published, found)

    for column, model in enumerate(("DeepFace", "FaceLLM")):
        rates = facellm_metrics(folder, model)
        for (task, metric, class_, said), published in FIGURES.items():
            name = " ".join(filter(None, (model, task, metric, class_, said)))
            if published[column] is not None:
                figure(name, str(published[column]), rates[task, "", metric, class_, said])
        for task, errors in ECES.items():
            figure(f"{model} {task} ECE", errors[column], ece(folder, model, task))
    for (model, task), bins in RELIABILITY.items():
        rates, frame = facellm_metrics(folder, model), facellm(folder, model)[0]
        frame = frame[frame[task].notna()]
        for b, (confidence, accuracy, n) in bins.items():
            mean = frame.loc[frame[f"{task}_confidence_bin"] == b, f"{task}_confidence"].mean()
            figure(f"{model} {task} confidence {b}", confidence, mean)
            figure(f"{model} {task} accuracy {b}", accuracy, rates[task, b, "accuracy", "", ""])
            figure(f"{model} {task} count {b}", str(n), rates[task, b, "n", "", ""])
    assert differ == {name: (published, found) for name, (published, found, _) in DIFFER.items()}
    assert agree == 133


def test_what_was_left_out_of_the_facellm_tables_is_counted(shared: Path) -> None:
    """DeepFace predicted two images that have no label: they are listed as left out, not dropped."""
    _, table = facellm(shared / "tables" / "facellm_deepface_fairface3k", "DeepFace")
    result = run_audit(table, tasks=["gender"], by=["gender_confidence_bin"], audit=QUICK)
    (entry,) = [e for e in result.meta["excluded"] if e["kind"] == "no_label_given"]
    assert entry["count"] == 2
    assert set(entry["images"]) == {"10949", "11006"}
