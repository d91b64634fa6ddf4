"""Methods × seeds: against the analysis of variance, fairlearn, t-tests over seeds, and planted truth."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import equalized_odds_difference
from scipy import stats
from sklearn.metrics import roc_auc_score

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.methods import _aligned, compare_methods
from fairaudit.metrics import crossed
from fairaudit.metrics.crossed import Faces
from fairaudit.metrics.crossed_cells import auc_cells, churn_cells, own_churn_cells
from fairaudit.metrics.intervals import z_value
from fairaudit.metrics.measures import ranked
from fairaudit.metrics.scores import auc, score_table
from fairaudit.report.render import write_methods_report
from fairaudit.results import MethodComparison
from fairaudit.results.columns import METHOD_TABLES

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from methods_simulation import METRICS, run

BEFORE = {"White": 0.95, "Black": 0.8, "Asian": 0.93}
N = 900


def table(accuracy: dict[str, float], seed: int, world: int = 0) -> Predictions:
    """One seed's predictions of gender: right this often in each group; the faces are those of `world`."""
    faces, rng = np.random.default_rng([1, world]), np.random.default_rng([2, seed])
    race, label = faces.choice(list(accuracy), N), faces.integers(0, 2, N)
    luck = np.where(rng.random(N) < 0.7, faces.random(N), rng.random(N))
    right = luck < np.vectorize(accuracy.get)(race)
    names = np.array(["Female", "Male"])
    columns = {"race": race, "gender_true": names[label], "gender_pred": names[np.where(right, label, 1 - label)]}
    return read_predictions(pd.DataFrame({"image": [f"{world}-{i}" for i in range(N)], **columns}))


def seeds(accuracy: dict[str, float], first: int, count: int = 4) -> list[Predictions]:
    """Several seeds of one method."""
    return [table(accuracy, first + s) for s in range(count)]


BASE = seeds(BEFORE, 0)
METHODS = {
    "good": seeds({**BEFORE, "Black": 0.93}, 10),
    "down": seeds({"White": 0.8, "Black": 0.8, "Asian": 0.8}, 20),
    "same": seeds(BEFORE, 30),
}


@pytest.fixture(scope="module")
def found() -> MethodComparison:
    """A method that helps the worst-off, one that levels down, one that changes nothing."""
    named = [table(BEFORE, 90, world=1), table(BEFORE, 91, world=1)]
    return compare_methods(BASE, METHODS, by=["race"], margin=0.06, validation=named)


def effect(found: MethodComparison, method: str, metric: str, subgroup: str = "", seed: str = "") -> pd.Series:
    """The single row of effects with these values, on the axis race."""
    rows = found.effects
    rows = rows[(rows["method"] == method) & (rows["metric"] == metric) & (rows["by"] == "race")]
    rows = rows[(rows["seed"] == seed) & ((rows["subgroup"] == subgroup) | (subgroup == ""))]
    assert len(rows) == 1
    return rows.iloc[0]


def arms(n: int = 240, count: int = 4, classes: int = 3) -> tuple[Faces, list[np.ndarray]]:
    """Made-up faces in three groups and two arms' predictions."""
    rng = np.random.default_rng(3)
    label, group = rng.integers(0, classes, n), rng.integers(0, 3, n)
    faces = Faces(label=label, classes=classes, group=group, groups=("a", "b", "c"), weight=np.ones(n))
    made = [np.where(rng.random((count, n)) < p, label, rng.integers(0, classes, (count, n))) for p in (0.7, 0.8)]
    return faces, made


def test_variance_parts_equal_the_two_way_analysis_of_variance() -> None:
    """Of balanced data the three parts are the mean squares over nS, computed from their definitions."""
    faces, (a, b) = arms()
    (top_a, bottom), (top_b, _) = (crossed.accuracy_cells(faces, p) for p in (a, b))
    changes = crossed.changes(crossed.joint(faces, (top_a, top_b), bottom, paired=True), np.arange(3))
    for g in range(3):
        d = (top_b - top_a)[:, faces.group == g, 0]
        count, n = d.shape
        rest = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
        squares = count * d.mean(0).var(ddof=1), n * d.mean(1).var(ddof=1), (rest**2).sum() / ((count - 1) * (n - 1))
        floor = 1 / (n + 2) ** 2  # two halves of a face
        parts = changes.faces[g] - floor, changes.seeds[g], changes.interaction[g]
        assert parts == pytest.approx([square / (n * count) for square in squares], rel=1e-9)
        assert changes.value[g] == pytest.approx(d.mean())


def test_unpaired_seeds_have_both_variances() -> None:
    """Arms with other numbers of seeds: the variance between seeds is s²/S of each arm, summed."""
    faces, (a, b) = arms()
    (top_a, bottom), (top_b, _) = (crossed.accuracy_cells(faces, p) for p in (a[:3], b))
    changes = crossed.changes(crossed.joint(faces, (top_a, top_b), bottom, paired=False), np.array([0]))
    rates = [top[:, faces.group == 0, 0].mean(1) for top in (top_a, top_b)]
    assert changes.seeds[0] == pytest.approx(sum(r.var(ddof=1) / len(r) for r in rates))
    assert [freedom for _, freedom in changes.by_seeds] == [2, 3]


def test_without_variance_between_faces_the_interval_is_the_t_test_over_seeds() -> None:
    """The reach at no variance between faces is Student's of the seeds' differences."""
    rng = np.random.default_rng(0)
    d = rng.normal(size=5)
    part = d.var(ddof=1) / 5
    one = crossed.Contrasts(value=np.array([d.mean()]), faces=np.zeros(1), interaction=np.zeros(1),
                            by_seeds=((np.array([part]), 4),), freedom=np.array([100.0]))  # fmt: skip
    oracle = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    low, high = one.limits(stats.norm.ppf(0.975))
    assert (low[0], high[0]) == pytest.approx((oracle.low, oracle.high))


def test_equalized_odds_are_fairlearns() -> None:
    """Two classes: fairlearn's difference. Three: the largest over one class against the rest."""
    for classes in (2, 3):
        faces, (a, _) = arms(classes=classes)
        top, bottom = crossed.odds_cells(faces, a)
        law = crossed.joint(faces, (top, top), bottom, paired=True)
        found = crossed.largest_gap(np.ones((3, bottom.shape[1]), dtype=bool))
        for s, figure in enumerate(crossed.extreme_of(law.by_seed[0], found)):
            oracle = max(
                equalized_odds_difference(faces.label == k, a[s] == k, sensitive_features=faces.group)
                for k in range(classes)
            )
            assert figure == pytest.approx(oracle, abs=1e-12)


def scored(seed: int = 0, n: int = 400, classes: int = 2, seeds: int = 3) -> tuple[Faces, np.ndarray]:
    """Faces of two groups with weights, and each seed's probabilities, some of them tied."""
    rng = np.random.default_rng([seed, 8])
    label, group = rng.integers(classes, size=n), rng.integers(2, size=n)
    faces = Faces(label=label, classes=classes, group=group, groups=("a", "b"), weight=rng.choice([0.5, 1.5], n))
    raw = rng.normal(size=(seeds, n, classes)).round(1) + 1.2 * np.eye(classes)[label]
    return faces, np.exp(raw) / np.exp(raw).sum(-1, keepdims=True)


def test_auc_over_seeds_is_sklearns_and_its_variance_delongs() -> None:
    """Every seed and group, weighted, ties halved; of three classes the mean of one-vs-rest; unusable faces are out."""
    for classes in (2, 3):
        faces, scores = scored(classes=classes)
        usable = np.arange(len(faces.label)) % 11 > 0
        top, bottom = auc_cells(faces, scores, usable)
        law = crossed.joint(faces, (top, top), bottom, paired=True, seeds_random=False)
        for g in range(2):
            rows = usable & (faces.group == g)
            for s, own in enumerate(scores):
                oracle = np.mean([
                    roc_auc_score(faces.label[rows] == k, own[rows, k], sample_weight=faces.weight[rows])
                    for k in ([1] if classes == 2 else range(3))
                ])  # fmt: skip
                assert law.by_seed[0][s, g] == pytest.approx(oracle)
            assert law.denominator[g] == rows.sum()
    faces, scores = scored(seeds=1)
    even = replace(faces, weight=np.ones(400))
    scores = scores[:1]
    top, bottom = auc_cells(even, scores, np.ones(400, dtype=bool))
    law = crossed.joint(even, (top, top), bottom, paired=True, seeds_random=False)
    delong = auc(score_table(ranked(scores[0, :, 1]), faces.group, 2, faces.label == 1)).variance
    least = 1 / (2 * (law.denominator + 2) ** 2)
    assert law.faces.diagonal()[:2] - least == pytest.approx(delong, rel=0.02)


def test_limits_of_auc_levels_are_those_of_delongs_covariance_between_seeds() -> None:
    """The parts of the variance from a pairwise kernel, DeLong's covariance of the seeds' areas, on the logit scale."""
    faces, scores = scored(n=800, seeds=4)
    faces = replace(faces, weight=np.ones(800))
    top, bottom = auc_cells(faces, scores, np.ones(800, dtype=bool))
    law = crossed.joint(faces, (top, top), bottom, paired=True)
    value, low, high = crossed.logit_levels(law, 1, np.arange(2), 0.95)
    for g in range(2):
        own, label = scores[:, faces.group == g, 1], faces.label[faces.group == g]
        x, y = own[:, label == 1, None], own[:, None, label == 0]
        kernel = (x > y) + 0.5 * (x == y)
        cov = np.cov(kernel.mean(2)) / x.shape[1] + np.cov(kernel.mean(1)) / y.shape[2]
        aucs, count = kernel.mean((1, 2)), len(own)
        alike = cov.sum() / count**2
        inner = (np.trace(cov) - cov.sum() / count) / (count * (count - 1))
        reach = np.sqrt(
            stats.t.ppf(0.975, len(label) - 1) ** 2 * (alike - inner)
            + stats.t.ppf(0.975, count - 1) ** 2 * aucs.var(ddof=1) / count
        )
        p = aucs.mean()
        ends = [1 / (1 + np.exp(-(np.log(p / (1 - p)) + side * reach / (p * (1 - p))))) for side in (-1, 1)]
        assert value[g] == pytest.approx(p)
        assert [low[g], high[g]] == pytest.approx(ends, abs=0.02 * (ends[1] - ends[0]))
    perfect = np.stack([1.0 - faces.label, faces.label], axis=-1)[None].repeat(4, 0)
    top, bottom = auc_cells(faces, perfect, np.ones(800, dtype=bool))
    value, low, high = crossed.logit_levels(
        crossed.joint(faces, (top, top), bottom, paired=True), 0, np.arange(2), 0.95
    )
    assert (value == 1).all() and np.isnan(low).all() and np.isnan(high).all()


def test_auc_without_ten_faces_of_each_side_is_not_assessed() -> None:
    """Nine faces of a class in a group: no AUC there, and the other group is as before."""
    faces, scores = scored()
    label = np.where(faces.group == 0, 0, faces.label)
    label[np.flatnonzero(faces.group == 0)[:9]] = 1
    thin = replace(faces, label=label)
    top, bottom = auc_cells(thin, scores, np.ones(400, dtype=bool))
    law = crossed.joint(thin, (top, top), bottom, paired=True)
    assert np.isnan(law.value[0, 0]) and 0.5 < law.value[0, 1] < 1


def test_own_churn_is_over_all_pairs_of_seeds() -> None:
    """Four seeds make six pairs, one seed none; the shares are counted by hand."""
    faces, (a, _) = arms()
    top, bottom = own_churn_cells(faces, a)
    assert top[..., 0].tolist() == [(a[i] != a[j]).tolist() for i in range(4) for j in range(i + 1, 4)]
    assert len(own_churn_cells(faces, a[:1])[0]) == 0 and bottom.sum() == len(faces.label)


def with_probabilities(tables: list[Predictions], tilt: float, seed: int) -> list[Predictions]:
    """Add probabilities that go with the labels by `tilt`, the rest by chance; predictions stay as they are."""
    made = []
    for number, one in enumerate(tables):
        rng = np.random.default_rng([seed, number])
        said = tilt * (one.frame["gender_true"] == "Male") + rng.normal(size=N)
        p = 1 / (1 + np.exp(-said.to_numpy()))
        made.append(replace(one, frame=one.frame.assign(gender_prob_Female=1 - p, gender_prob_Male=p)))
    return made


def test_auc_and_churn_rows_equal_recomputation() -> None:
    """Every group and all faces: values by masks and sklearn; a planted gain in ranking is seen, churn stays churn."""
    base, better = with_probabilities(BASE, 0.5, 1), with_probabilities(METHODS["good"], 2.0, 2)
    found = compare_methods(base, {"m": better}, by=["race"])
    effects = found.effects[found.effects["claim"] == "method"]
    rows = {(r["metric"], r["by"], r["subgroup"]): r for r in effects.to_dict("records")}
    for by, group in (("overall", "overall"), ("race", "Black"), ("race", "White")):
        masks = [t.frame["race"].isin([group] if by == "race" else list(BEFORE)) for t in base]
        old, new = (
            np.mean([roc_auc_score(t.frame["gender_true"][m] == "Male", t.frame["gender_prob_Male"][m])
                     for t, m in zip(tables, masks, strict=True)]) for tables in (base, better)
        )  # fmt: skip
        auc_row, churn = rows["auc", by, group], rows["churn", by, group]
        assert (auc_row["baseline"], auc_row["value"]) == pytest.approx((old, new))
        assert auc_row["low"] > 0 and auc_row["n"] == masks[0].sum()
        assert 0 < auc_row["baseline_low"] < old < auc_row["baseline_high"]
        assert auc_row["value_low"] < new < auc_row["value_high"] < 1
        level = rows["accuracy", by, group]
        assert level["baseline_low"] < level["baseline"] < level["baseline_high"] <= 1
        differ = [(b.frame["gender_pred"] != o.frame["gender_pred"])[m].mean() for o, b, m in
                  zip(base, better, masks, strict=True)]  # fmt: skip
        assert churn["value"] == churn["delta"] == pytest.approx(np.mean(differ))
        assert 0 <= churn["low"] < churn["value"] < churn["high"] <= 1 and churn["baseline"] == 0
        assert (churn["value_low"], churn["value_high"]) == (churn["low"], churn["high"])
        assert np.isnan(churn["baseline_low"])  # 0 by definition, without error
    for metric in ("worst_accuracy", "gap", "named_gap", "equalized_odds"):
        (row,) = (r for (kind, by, _), r in rows.items() if (kind, by) == (metric, "race"))
        for side in ("baseline", "value"):
            assert row[f"{side}_low"] < row[side] < row[f"{side}_high"]
    own = found.spread[(found.spread["metric"] == "own_churn") & (found.spread["subgroup"] == "White")]
    mask = base[0].frame["race"] == "White"
    codes = [t.frame["gender_pred"][mask].to_numpy(dtype=str) for t in base]
    pairs = [(one != two).mean() for i, one in enumerate(codes) for two in codes[:i]]
    row = own[own["method"] == "baseline"].iloc[0]
    assert (row["value"], row["least"], row["most"]) == pytest.approx((np.mean(pairs), min(pairs), max(pairs)))
    assert row["n"] == mask.sum()
    sizes = found.spread.set_index(["method", "by", "metric", "subgroup"])["n"]
    assert sizes["m", "overall", "own_churn", "overall"] == N and (sizes > 0).all()


def test_no_auc_without_probabilities_and_no_churn_without_pairs(found: MethodComparison) -> None:
    """The reason stands in place of the figure; faces with impossible probabilities are counted out."""
    row = effect(found, "good", "auc")
    assert np.isnan(row["delta"]) and row["reason"] == "not every table has probabilities of this task"
    other = compare_methods(BASE, {"m": METHODS["good"][:3]}, by=["race"])
    assert "other seeds than the baseline" in effect(other, "m", "churn")["reason"]
    base = with_probabilities(BASE, 0.5, 1)
    broken = base[0].frame.assign(
        gender_prob_Male=np.where(np.arange(N) < 7, 0.9999, base[0].frame["gender_prob_Male"])
    )
    said = compare_methods(
        [replace(base[0], frame=broken), *base[1:]], {"m": with_probabilities(BASE, 0.6, 3)}, by=["race"]
    )
    assert any("7 faces lack usable probabilities" in text for text in said.meta["warnings"])
    assert said.effects.loc[said.effects["metric"] == "auc", "n"].max() == N - 7


def test_pictures_of_one_person_are_no_new_evidence() -> None:
    """Every face three times, as one person: variance between faces as if once, and a third without persons."""
    faces, (a, b) = arms()

    def variance(times: int, subject: np.ndarray | None) -> float:
        many = Faces(label=np.repeat(faces.label, times), classes=3, group=np.repeat(faces.group, times),
                     groups=faces.groups, weight=np.ones(240 * times), subject=subject)  # fmt: skip
        (one, bottom), (two, _) = (crossed.accuracy_cells(many, np.repeat(p, times, axis=1)) for p in (a, b))
        law = crossed.joint(many, (one, two), bottom, paired=True)
        return float(crossed.changes(law, np.array([0])).faces[0])

    assert variance(3, np.repeat(np.arange(240), 3)) == pytest.approx(variance(1, None), rel=0.02)
    assert variance(3, None) < 0.4 * variance(1, None)


def test_means_and_gaps_equal_recomputation(found: MethodComparison) -> None:
    """Accuracy, named subgroup, worst, gap equal masks over the tables; the pair was named on validation."""
    frames = [t.frame for t in METHODS["good"]]
    rates = [(f["gender_true"] == f["gender_pred"]).groupby(f["race"]).mean() for f in frames]
    mean = pd.concat(rates, axis=1).mean(axis=1)
    assert effect(found, "good", "accuracy", "White")["value"] == pytest.approx(mean["White"])
    assert effect(found, "good", "named_accuracy")["subgroup"] == "Black"
    assert effect(found, "good", "worst_accuracy")["value"] == pytest.approx(mean.min())
    assert effect(found, "good", "gap")["value"] == pytest.approx(mean.max() - mean.min())
    assert found.meta["named"]["gender"]["race"]["worst"] == "Black"
    spread = found.spread[(found.spread["method"] == "good") & (found.spread["metric"] == "gap")].iloc[0]
    gaps = [rate.max() - rate.min() for rate in rates]
    assert (spread["mean"], spread["sd"]) == pytest.approx((np.mean(gaps), np.std(gaps, ddof=1)))
    assert (spread["least"], spread["most"]) == pytest.approx((min(gaps), max(gaps)))


def test_only_the_method_that_helps_without_harm_is_recommended(found: MethodComparison) -> None:
    """The planted help is recommended, levelling down is named and refused, no change is refused."""
    advice = found.recommendations[found.recommendations["claim"] == "method"].set_index("method")
    assert advice["recommended"].to_dict() == {"good": True, "down": False, "same": False}
    assert "levelling down" in advice.loc["down", "reason"]
    assert "harmed: White" in advice.loc["down", "reason"]
    assert "no help beyond noise" in advice.loc["same", "reason"]
    assert effect(found, "down", "gap")["levelling_down"]
    assert not effect(found, "good", "gap")["levelling_down"]
    assert not found.recommendations.loc[found.recommendations["claim"] == "checkpoint", "recommended"].any()


def test_checkpoints_are_rows_of_their_own_and_narrower(found: MethodComparison) -> None:
    """A single pair of checkpoints has its own value, and no variance over seeds."""
    row = effect(found, "good", "accuracy", "White", seed="2")
    one, two = (
        (t.frame["gender_true"] == t.frame["gender_pred"])[t.frame["race"] == "White"].mean()
        for t in (BASE[1], METHODS["good"][1])
    )
    assert row["delta"] == pytest.approx(two - one)
    assert row["claim"] == "checkpoint"
    assert np.isnan(row["sd_seeds"])


def test_a_point_dominated_within_noise_is_not_called_dominated(found: MethodComparison) -> None:
    """The baseline and its like are behind the method that helps; each other they do not dominate."""
    rows = found.pareto[(found.pareto["front"] == "accuracy–worst") & (found.pareto["seed"] == "")].set_index("method")
    assert rows.loc["good", "standing"] == "on the front"
    assert rows.loc["baseline", "standing"] == rows.loc["down", "standing"] == "dominated"
    assert rows.loc["baseline", "dominated_by"] == "good"
    only = compare_methods(BASE, {"same": METHODS["same"]}, by=["race"])
    assert not (only.pareto["standing"] == "dominated").any()
    assert (rows["accuracy_low"] < rows["accuracy"]).all()
    assert (rows["versus_low"] <= rows["versus"]).all()


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_recommend_nothing_and_say_so(count: int) -> None:
    """However large the help; with one seed there is no interval either."""
    named = table(BEFORE, 90, world=1)
    few = compare_methods(BASE[:count], {"good": METHODS["good"][:count]}, by=["race"], margin=0.3, validation=named)
    row = few.recommendations[few.recommendations["claim"] == "method"].iloc[0]
    assert not row["recommended"]
    assert "a method is recommended from 3 seeds on" in row["reason"]
    change = effect(few, "good", "named_accuracy")
    assert np.isnan(change["low"]) == (count == 1)
    assert ("one seed" in change["reason"]) == (count == 1)


def test_without_validation_nothing_is_recommended() -> None:
    """The subgroup to be helped is then named on the compared faces, with a warning."""
    found = compare_methods(BASE, {"good": METHODS["good"]}, by=["race"], margin=0.3)
    row = found.recommendations[found.recommendations["claim"] == "method"].iloc[0]
    assert not row["recommended"]
    assert "no validation faces" in row["reason"]
    assert any("regression to the mean" in warning for warning in found.meta["warnings"])


def test_seeds_by_name_are_paired_and_other_numbers_are_not() -> None:
    """A mapping in another order gives the same numbers; three seeds against four are compared unpaired."""
    straight = compare_methods(BASE, {"m": METHODS["good"]}, by=["race"])
    named = {str(i + 1): t for i, t in enumerate(METHODS["good"])}
    turned = compare_methods(BASE, {"m": dict(reversed(named.items()))}, by=["race"])
    columns = ["delta", "low", "high"]
    for metric in ("named_accuracy", "gap"):
        assert effect(straight, "m", metric)[columns].tolist() == pytest.approx(
            effect(turned, "m", metric)[columns].tolist()
        )
    other = compare_methods(BASE, {"m": METHODS["good"][:3]}, by=["race"])
    assert other.meta["paired"] == {"m": False}
    assert (other.effects["claim"] == "method").all()
    assert other.effects.loc[other.effects["metric"] == "gap", "low"].notna().all()


def test_saved_and_loaded_alike(found: MethodComparison, tmp_path: Path) -> None:
    """The five tables survive saving, with the public columns."""
    found.save(tmp_path / "m")
    again = MethodComparison.load(tmp_path / "m")
    for name, part in (("method_effects", "effects"), ("method_harm", "harm"), ("seed_spread", "spread"),
                       ("pareto", "pareto"), ("recommendations", "recommendations")):  # fmt: skip
        before, after = getattr(found, part), getattr(again, part)
        assert tuple(after.columns) == METHOD_TABLES[name]
        pd.testing.assert_frame_equal(before, after, check_dtype=False, check_exact=True)
    assert again.meta["named"] == found.meta["named"]


def test_the_page_answers_first_and_names_the_cost(found: MethodComparison, tmp_path: Path) -> None:
    """First screen: what is recommended, by how much the gap fell, who is harmed; every table and chart below."""
    text = write_methods_report(found, tmp_path).read_text(encoding="utf-8")
    first = text[text.index('id="answer"') : text.index('id="warnings"')]
    assert "Gender by race: recommended: good." in first
    assert "Levelling down" in first
    assert "Harmed: White" in first
    assert "No one is harmed at a margin of 6.0" in first
    assert text.count('<svg class="pareto"') == 2
    for key in ("effects", "harm", "ranking", "pareto", "spread", "hashes"):
        assert f'<section id="{key}"' in text
    assert "nan" not in text.replace("governance", "")


def test_every_row_of_the_ranking_has_its_faces(tmp_path: Path) -> None:
    """The baseline's rows, too, whose seeds are compared with each other; where AUC is of fewer faces, that is said."""

    def scored(seed: int, gone: int) -> Predictions:
        frame = table(BEFORE, seed).frame.copy()
        sure = np.random.default_rng(seed).uniform(0.5, 1, len(frame))
        frame["gender_prob_Male"] = np.where(frame["gender_pred"].astype(str) == "Male", sure, 1 - sure)
        frame["gender_prob_Female"] = 1 - frame["gender_prob_Male"]
        frame.loc[: gone - 1, ["gender_prob_Male", "gender_prob_Female"]] = np.nan
        return read_predictions(frame)

    made = compare_methods([scored(s, 0) for s in (1, 2)], {"m": [scored(s, 30) for s in (3, 4)]}, by=["race"])
    text = write_methods_report(made, tmp_path).read_text(encoding="utf-8")
    section = text[text.index('<section id="ranking"') :].split("</section>")[0]
    rows = re.findall(r"<tr.*?</tr>", section.split("<tbody>")[1], flags=re.S)
    cells = [[re.sub(r"<.*?>", "", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.S)]
             for row in rows]  # fmt: skip
    sizes = [row[3] for row in cells]
    assert all(re.match(r"0\.\d+ \(0\.\d+–[01]\.\d+\)", row[0]) for row in cells), cells  # the baseline's, too
    groups = len(made.effects.query("by == 'race' and metric == 'churn'"))
    assert len(rows) == 2 * (1 + groups) and all(re.fullmatch(r"[\d,]+", size.strip()) for size in sizes), sizes
    assert f"AUC of {N - 30:,} faces: the others lack probabilities" in section


def test_the_page_escapes_names(tmp_path: Path) -> None:
    """A method's name that is markup is text, in tables and charts alike."""
    bad = "<script>alert(1)</script>"
    text = write_methods_report(compare_methods(BASE, {bad: METHODS["same"]}, by=["race"]), tmp_path).read_text("utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text


def test_a_degenerate_axis_has_no_equalized_odds() -> None:
    """Race predicted by race: recall of each class, and no equalized odds, with the reason."""

    def races(seed: int) -> Predictions:
        frame = table(BEFORE, seed).frame
        rng = np.random.default_rng(seed)
        guess = np.where(rng.random(N) < 0.8, frame["race"].astype(str), "White")
        return read_predictions(frame[["image", "race"]].assign(race_true=frame["race"], race_pred=guess))

    made = compare_methods([races(s) for s in range(3)], {"m": [races(s) for s in range(5, 8)]}, by=["race"])
    row = effect(made, "m", "equalized_odds")
    assert np.isnan(row["delta"])
    assert "determines the label" in row["reason"]


def test_no_limit_lies_beyond_what_can_be() -> None:
    """Two seeds that contradict each other: rates change by 1 at most, the signed difference of a pair by 2."""
    wild = [table(BEFORE, 1), table(dict.fromkeys(BEFORE, 0.05), 2)]
    found = compare_methods(seeds(BEFORE, 5, 2), {"wild": wild}, by=["race"])
    rows = found.effects[(found.effects["claim"] == "method") & found.effects["low"].notna()]
    reach = np.where(rows["metric"] == "named_gap", 2.0, 1.0)
    assert len(rows) > 5 and (rows["low"].abs() <= reach).all() and (rows["high"].abs() <= reach).all()
    assert (rows["low"].abs() == reach).any()


def test_faces_that_not_all_tables_have_are_counted() -> None:
    """Tables of faces 0 to 9 and 4 to 13: six are in both, and eight were left out."""
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(14)]})
    table = Predictions(frame=frame, tasks={}, attributes=())
    arms = {"a": {"1": replace(table, frame=frame.iloc[:10])}, "b": {"1": replace(table, frame=frame.iloc[4:])}}
    made, lost = _aligned(arms)
    assert (len(made["a"]["1"]), len(made["b"]["1"]), lost) == (6, 6, 8)


def test_what_cannot_be_compared_is_refused() -> None:
    """No method, a doubled name, no seed, other faces, an impossible margin: each in words."""
    with pytest.raises(UsageError, match="at least one method"):
        compare_methods(BASE, {})
    with pytest.raises(UsageError, match="name of its own"):
        compare_methods(BASE, {"baseline": BASE})
    with pytest.raises(UsageError, match="one table a seed"):
        compare_methods(BASE, {"m": []})
    with pytest.raises(DataError, match="no image in common"):
        compare_methods(BASE, {"m": [table(BEFORE, 1, world=5)]})
    with pytest.raises(UsageError, match="margin"):
        compare_methods(BASE, {"m": BASE}, margin=0)


def test_intervals_hold_and_nothing_is_recommended_in_vain() -> None:
    """A short simulation where methods differ in their seeds only; the long one is in benchmarks/."""
    rows = {str(r["metric"]): float(str(r["held"])) for r in run("same", 3, 150, 3, 0.02, 60, 1)}
    assert all(rows[metric] >= 0.88 for metric in METRICS), rows
    assert rows["any recommended"] <= 0.1


def test_intervals_of_auc_and_churn_hold_their_truth() -> None:
    """Normal scores whose seeds differ in how far the classes lie apart: the AUC's change is 0, that of a method with
    more distance is Φ(d' / √2) − Φ(d / √2), and its level Φ(d' / √2) over the seeds; churn is the share that was
    planted; of 95 % intervals .88 hold.
    """
    rng = np.random.default_rng(11)
    count, n, away, more = 5, 300, 1.0, 1.6
    label, group = np.arange(n) % 2, np.arange(n) // 2 % 2
    faces = Faces(label=label, classes=2, group=group, groups=("a", "b"), weight=np.ones(n))

    def mean_auc(distance: float) -> float:
        wide = distance + 0.15 * stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
        return float(stats.norm.cdf(wide / np.sqrt(2)).mean())

    true = {away: 0.0, more: mean_auc(more) - mean_auc(away)}
    held: dict[str, list[bool]] = {"auc": [], "level": [], "churn": []}
    usable = np.ones(n, dtype=bool)
    for number in range(120):
        other = (away, more)[number % 2]
        own = rng.normal(size=n)
        sides = []
        for distance in (away, other):
            mean = distance + 0.15 * rng.normal(size=(count, 1))
            raw = mean * label + np.sqrt(0.7) * own + np.sqrt(0.3) * rng.normal(size=(count, n))
            sides.append(auc_cells(faces, np.stack([-raw, raw], axis=-1), usable))
        law = crossed.joint(faces, (sides[0][0], sides[1][0]), sides[0][1], paired=True)
        low, high = crossed.changes(law, np.arange(2)).limits(z_value(0.95))
        held["auc"] += list((low <= true[other]) & (true[other] <= high))
        _, low, high = crossed.logit_levels(law, 1, np.arange(2), 0.95)
        held["level"] += list((low <= mean_auc(other)) & (mean_auc(other) <= high))
        shares = np.clip(0.15 + 0.03 * rng.normal(size=(count, 1)), 0, 1)
        luck = np.where(rng.random((count, n)) < 0.6, rng.random(n), rng.random((count, n)))
        top, bottom = churn_cells(faces, luck < shares, np.zeros((count, n), dtype=bool))
        law = crossed.joint(faces, (top, top), bottom, paired=True)
        _, low, high = crossed.levels(law, 0, np.arange(2), 0.95)
        held["churn"] += list((low <= 0.15) & (high >= 0.15))
    assert all(np.mean(hits) >= 0.88 for hits in held.values()), {k: np.mean(v) for k, v in held.items()}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("law", ["same", "effect"])
def test_intervals_hold_over_many_draws(law: str) -> None:
    """At least .93 of nominal 95 % intervals hold; under the null at most .04 of comparisons recommend any method."""
    rows = {str(r["metric"]): float(str(r["held"])) for r in run(law, 7, 300, 5, 0.03, 500, 2)}
    assert all(rows[metric] >= 0.93 for metric in METRICS), rows
    assert law == "effect" or rows["any recommended"] <= 0.04
