"""Made-up predictions, attributions and hostile names for the tests of the report: small, with a known gap or none."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from fairaudit.attribution.regions import REGIONS
from fairaudit.results import Attribution, AuditResult, Comparison
from fairaudit.results.columns import (
    ATTRIBUTION_COLUMNS,
    COMPARISON_COLUMNS,
    CONTRAST_COLUMNS,
    CURVE_COLUMNS,
    GAP_CHANGE_COLUMNS,
    REGION_COLUMNS,
    SANITY_COLUMNS,
)

HOSTILE = (
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "Ünï × cödé “ﬁ” 🙂 \u202eשלום 12 مرحبا",
    "x" * 300,
    "a/b\\c?d=e&f#g",
    "CON",
)
RACES = ("White", "Black", "Asian", "Indian", "Others")
GENDERS = ("Male", "Female")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")


def make_predictions(
    n: int = 1200,
    *,
    seed: int = 0,
    accuracy: float = 0.9,
    worse: Mapping[str, float] | None = None,
    races: Sequence[str] = RACES,
    shares: Sequence[float] | None = None,
    tasks: Sequence[str] = ("gender",),
) -> pd.DataFrame:
    """Return a predictions table in the public format; `worse` gives the accuracy of faces labelled as some race."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": [f"face-{i:05d}.jpg" for i in range(n)]})
    frame["race"] = rng.choice(list(races), n, p=shares)
    frame["gender"] = rng.choice(list(GENDERS), n)
    frame["age"] = rng.choice(list(AGES), n)
    chance = frame["race"].map(dict(worse or {})).astype(float).fillna(accuracy).to_numpy()
    for task in tasks:
        classes = {"gender": GENDERS, "race": tuple(races), "age": AGES}[task]
        code = frame[task].map({name: i for i, name in enumerate(classes)}).to_numpy()
        wrong = rng.random(n) >= chance
        step = 1 if task == "age" else rng.integers(1, len(classes), n)
        frame[f"{task}_true"] = frame[task]
        frame[f"{task}_pred"] = np.array(classes, dtype=object)[np.where(wrong, (code + step) % len(classes), code)]
    return frame


def make_attribution(
    axes: Mapping[str, Sequence[str]], *, tasks: Sequence[str] = ("gender",), size: int = 24, seed: int = 0
) -> Attribution:
    """Return an attribution with a blob in the middle of every map, and plausible shares."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    maps, rows = {}, []
    for task in tasks:
        for by, groups in {"overall": ("overall",), **axes}.items():
            for group in groups:
                blob = np.exp(-12 * ((x - rng.normal(0, 0.1)) ** 2 + y**2)) + 0.3 * rng.random((size, size))
                maps[task, by, group] = blob / blob.sum()
                share = 0.6 + 0.05 * rng.random()
                for region, value in (("centre", share), ("border", 1 - share)):
                    figures = (value, value - 0.05, value + 0.05, 8, 0.61, value - 0.61, value - 0.7, value - 0.5, "")
                    rows.append((task, by, group, region, *figures))
    regions = [
        ("integrated-gradients", "blurred", task, by, group, region, kind, 1 / 9, 0.1, 0.13, 8, 0.1, "")
        for task, by, group in maps
        for kind in ("absolute", "signed")
        for region in REGIONS
    ]
    sanity = [
        (
            "integrated-gradients",
            "blurred",
            tasks[0],
            "completeness",
            "",
            0.01,
            np.nan,
            np.nan,
            0.05,
            8,
            "passed",
            "ok",
        ),
        (
            *("integrated-gradients", "blurred", tasks[0], "model randomization", "absolute"),
            *(0.7, 0.6, 0.8, 0.5, 6, "failed", "maps stay as they were"),
        ),
        *(
            (
                *("integrated-gradients", "blurred", tasks[0], "deletion", fill),
                *(-0.2, -0.3, 0.1, 0.0, 6, "not shown", "it may be chance"),
            )
            for fill in ("blurred", "mean")
        ),
    ]
    curves = [
        (
            *("integrated-gradients", "blurred", task, check, fill, order, share),
            *((value := 0.9 - share * (0.7 if order == "attribution" else 0.5)), value - 0.1, value + 0.1, 6),
        )
        for task in tasks
        for check in ("deletion", "insertion")
        for fill in ("blurred", "mean")
        for order in ("attribution", "scattered", "blocks")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    pictures = {
        ("integrated-gradients", what, *key): value - value.mean()
        for key, value in maps.items()
        for what in ("signed", *(("difference", "net") if key[1] != "overall" else ()))
    }
    return Attribution(
        shares=pd.DataFrame(rows, columns=list(ATTRIBUTION_COLUMNS)),
        maps=maps,
        regions=pd.DataFrame(regions, columns=list(REGION_COLUMNS)),
        contrasts=_contrasts(axes, tasks),
        sanity=pd.DataFrame(sanity, columns=list(SANITY_COLUMNS)),
        curves=pd.DataFrame(curves, columns=list(CURVE_COLUMNS)),
        pictures=pictures,
        meta={
            "method": "integrated-gradients",
            "methods": ["integrated-gradients"],
            "steps": 16,
            "centre": "the middle half",
            "warnings": ["few faces"],
        },
    )


def _contrasts(axes: Mapping[str, Sequence[str]], tasks: Sequence[str]) -> pd.DataFrame:
    """Return contrasts of every verdict: hair is the model's doing, eyes are image content, nothing else is shown."""
    verdicts = {"hair": "model", "eyes": "image content, not model", "nose": "no difference shown"}
    rows = [
        {
            **dict(zip(("method", "baseline", "task"), ("integrated-gradients", baseline, task), strict=True)),
            "by": by,
            "subgroup": group,
            "other": "everyone else",
            "comparison": "subgroups",
            "target": "Female",
            "region": region,
            "kind": "absolute",
            "difference": 0.05,
            "low": 0.03,
            "high": 0.07,
            "p_value": 0.001,
            "p_adjusted": 0.01,
            "randomized": 0.0,
            "net": 0.05,
            "net_low": 0.02,
            "net_high": 0.08,
            "net_p_value": 0.001,
            "net_p_adjusted": 0.01,
            "n": 12,
            "n_other": 30,
            "strata": 4,
            "verdict": verdict,
            "reason": "",
        }
        for task in tasks
        for by, groups in axes.items()
        for group in groups
        for region, verdict in verdicts.items()
        for baseline in ("blurred", "mean", "noise")
    ]
    return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS))


def make_comparison(result: AuditResult, *, model: str = "reweighing", seed: int = 0) -> Comparison:
    """Return a comparison over the groups of `result`: the worst-off gain, the best-off lose a little."""
    rng = np.random.default_rng(seed)
    deltas, gaps = [], []
    chosen = result.metrics[result.metrics["metric"].isin(["accuracy", "balanced_accuracy"])]
    for row in chosen.to_dict("records"):
        delta = float(rng.normal(0.02 if row["value"] < 0.85 else -0.01, 0.005))
        key = (model, row["task"], row["by"], row["subgroup"], row["metric"], "")
        values = (row["value"], row["value"] + delta, delta, delta - 0.02, delta + 0.02)
        deltas.append((*key, *values, 0.01, 0.04, row["denominator"], 12, 5, bool(row["small"]), row["reason"]))
    for row in result.gaps[result.gaps["metric"] == "accuracy"].to_dict("records"):
        before = row["difference"]
        figures = (before, before - 0.03, -0.03, -0.05, -0.01)
        pair = (row["worst"], row["best"], before, before - 0.03, -0.03, -0.05, -0.01)
        gaps.append(
            (model, row["task"], row["by"], "accuracy", "", *figures, row["by"] == "race", row["reason"], *pair)
        )
    meta = {
        **{key: result.meta[key] for key in ("created", "fairaudit", "format", "tasks", "subgroups", "min_group_size")},
        "confidence": 0.95,
        "baseline": "baseline",
        "models": [model],
        "n_paired": result.meta["n"],
        "n_unpaired": {model: 3},
        "summary": {
            model: [f"{model}: the gap in accuracy of gender by race fell.", "Levelling down is not excluded."]
        },
        "hashes": {"baseline": "ab" * 32},
        "warnings": ["One seed only."],
    }
    return Comparison(
        deltas=pd.DataFrame(deltas, columns=list(COMPARISON_COLUMNS)),
        gap_changes=pd.DataFrame(gaps, columns=list(GAP_CHANGE_COLUMNS)),
        meta=meta,
    )
