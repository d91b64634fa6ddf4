"""Several models on one page: conclusions heed paired tests, ROC curves are right, charts name every model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_data import make_predictions
from sklearn.metrics import roc_auc_score, roc_curve

from fairaudit.audit import run_audit
from fairaudit.comparison import compare
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.metrics.roc import GRID, macro_roc, roc
from fairaudit.report.answer import make_comparison_context
from fairaudit.report.model_charts import roc_chart
from fairaudit.report.models import conclusions, has_curve, roc_curves
from fairaudit.report.render import write_comparison_report


@pytest.mark.parametrize("seed", range(4))
def test_a_curve_equals_sklearns(seed: int) -> None:
    """Also where many scores are equal."""
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(0, 12, 300) / 11, rng.random(300) < 0.3
    alarms, found = roc(scores, positive)
    theirs = roc_curve(positive, scores, drop_intermediate=False)
    assert np.allclose(alarms, theirs[0])
    assert np.allclose(found, theirs[1])
    weight = rng.uniform(0.1, 4, 300)
    theirs = roc_curve(positive, scores, drop_intermediate=False, sample_weight=weight)
    assert np.allclose(roc(scores, positive, weight), theirs[:2])
    assert np.isnan(roc(scores, np.ones(300, bool))[0]).all()


def test_the_mean_curve_has_the_mean_area() -> None:
    """The area under the macro curve is scikit-learn's macro one-vs-rest AUC, but for the grid; a class without faces,
    faces without label and faces without answer change nothing."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, 2000)
    probs = rng.dirichlet([1, 1, 1], 2000) + 0.4 * np.eye(3)[codes]
    probs /= probs.sum(1, keepdims=True)
    curve, used = macro_roc(probs, codes)
    assert used == 3
    assert abs(np.trapezoid(curve, GRID) - roc_auc_score(codes, probs, multi_class="ovr")) < 0.005
    wider = np.vstack([np.column_stack([probs, np.zeros(2000)]), np.full((5, 4), np.nan), np.full((5, 4), 0.25)])
    labels = np.concatenate([codes, np.zeros(5, dtype=int), np.full(5, -1)])
    again, also = macro_roc(wider, labels)
    assert also == 3
    assert np.allclose(curve, again)
    spoiled = np.vstack([probs, [[0.5, 0.2, 0.2], [1.5, -0.25, -0.25]]])  # no probabilities: the audit leaves them out
    assert np.allclose(curve, macro_roc(spoiled, np.append(codes, [1, 1]))[0])
    assert macro_roc(probs, np.full(2000, -1))[1] == 0


def with_probabilities(table: pd.DataFrame, sure: float) -> pd.DataFrame:
    """Add probabilities that give the predicted class `sure`."""
    for name in ("Male", "Female"):
        table[f"gender_prob_{name}"] = np.where(table["gender_pred"] == name, sure, 1 - sure)
    return table


@pytest.fixture(scope="module")
def models() -> dict[str, Predictions]:
    """A baseline, a model of the same accuracy (other errors), and a clearly better one."""
    frames = {
        "first": make_predictions(900, seed=1, accuracy=0.8),
        "same": make_predictions(900, seed=1, accuracy=0.81),
        "better": make_predictions(900, seed=1, accuracy=0.95),
    }
    truth = frames["first"][["race", "gender", "age", "gender_true"]]
    for name, frame in frames.items():
        frame[truth.columns] = truth
        rng = np.random.default_rng(len(name))
        right = rng.random(900) < {"first": 0.80, "same": 0.80, "better": 0.95}[name]
        other = frame["gender_true"].map({"Male": "Female", "Female": "Male"})
        frame["gender_pred"] = frame["gender_true"].where(right, other)
    return {name: read_predictions(with_probabilities(frame, 0.8)) for name, frame in frames.items()}


def test_noise_is_called_no_difference(models: dict[str, Predictions]) -> None:
    """Only the model that is better beyond noise is named; with the baseline twice, nobody is."""
    rest = {name: table for name, table in models.items() if name != "first"}
    found = compare(models["first"], rest, by=["race"], tasks=["gender"], baseline_name="first")
    lines = conclusions(make_comparison_context(found))
    assert "more accurate than first: better" in lines[0]
    assert "no difference from first is shown for 1 model" in lines[0]
    assert "same" not in lines[0]
    assert "2 comparisons" in lines[-1]
    alike = compare(models["first"], {"copy": models["first"]}, by=["race"], tasks=["gender"], baseline_name="first")
    assert "no difference from first is shown for 1 model" in conclusions(make_comparison_context(alike))[0]


def test_the_page_shows_all_models_in_one_chart(models: dict[str, Predictions], tmp_path: Path) -> None:
    """Training and ROC curves name every model, the table says size and time, and nothing is loaded from outside."""
    results = {}
    for name, table in models.items():
        meta = {"model": {"architecture": {"backbone": f"net-{name}"}, "parameters": 1234567, "seconds": 61.2}}
        results[name] = run_audit(table, by=["race"], tasks=["gender"], name=name, meta=meta)
    rest = {name: table for name, table in models.items() if name != "first"}
    found = compare(models["first"], rest, by=["race"], tasks=["gender"], baseline_name="first")
    history = pd.DataFrame(
        {
            "stage": "all",
            "epoch": [1, 2, 3],
            "seconds": 2.0,
            "train_loss": [3, 2, 1.5],
            "val_loss": [3, 2.5, 2.6],
            "val_score": [0.5, 0.7, 0.6],
            "selected": [False, True, False],
        }
    )
    page = write_comparison_report(
        found, tmp_path, results=results, histories={"first": history, "better": history, "same": history.iloc[:1]},
        tables=models,
    ).read_text(encoding="utf-8")  # fmt: skip
    assert 'aria-label="training curves of first, better' in page
    assert 'aria-label="ROC curves of first, same, better for gender' in page
    assert "Without epochs of their own: same." in page
    assert "1,234,567" in page
    assert "net-better" in page
    assert "area under each class" in page
    assert page.count("<script") == 1


def test_models_without_probabilities_have_no_curve(models: dict[str, Predictions]) -> None:
    """A curve is drawn where there is one; none is made up."""
    bare = read_predictions(make_predictions(100, seed=2))
    assert set(roc_curves({"bare": bare, "full": models["first"]}, "gender")) == {"full"}
    assert roc_curves({"bare": bare}, "age") == {}


def test_a_conclusion_from_weighted_faces_needs_its_interval(models: dict[str, Predictions]) -> None:
    """The exact test counts faces: where weights turn the change round or make it noise, nothing is concluded."""
    right = {"first": np.repeat([True, False], [450, 450]), "other": np.repeat([False, True], [300, 600])}
    frames = {}
    for name, own in right.items():
        frame = make_predictions(900, seed=1)
        truth = np.where(np.random.default_rng(5).random(900) < 0.5, "Male", "Female")
        frame["gender_true"], frame["gender_pred"] = (
            truth,
            np.where(own, truth, np.where(truth == "Male", "Female", "Male")),
        )
        frame["weight"] = np.where(np.arange(900) < 2, 2000.0, 1.0)
        frames[name] = read_predictions(frame)
    found = compare(frames["first"], {"other": frames["other"]}, by=["race"], tasks=["gender"], baseline_name="first")
    row = found.deltas.query("by == 'overall' and metric == 'accuracy'").iloc[0]
    assert row["p_value"] < 0.001
    assert row["delta"] < 0 < row["high"]
    assert "no difference from first is shown for 1 model" in conclusions(make_comparison_context(found))[0]


def test_charts_name_models_of_any_name() -> None:
    """matplotlib leaves out names that begin with an underscore."""
    curve = {"_a": np.linspace(0, 1, len(GRID)), "<b>&$x$": np.linspace(0, 1, len(GRID))}
    text = str(roc_chart({"age": curve}))
    assert ">_a<" in text.replace("\u200b", "")
    assert "&lt;b&gt;&amp;$x$" in text
    assert ">_a<" in str(roc_chart({"age": {"_a": curve["_a"]}})).replace("\u200b", "")


def test_histories_without_known_measures_are_no_chart() -> None:
    """A table beside a foreign audit may hold anything."""
    assert not has_curve(pd.DataFrame({"x": [1, 2]}))
    assert not has_curve(pd.DataFrame({"val_score": [1]}))
    assert has_curve(pd.DataFrame({"val_score": [1, 2]}))
