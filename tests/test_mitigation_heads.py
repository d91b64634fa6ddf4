"""Heads on embeddings: training, choosing on validation faces, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from fairlearn.metrics import equalized_odds_difference
from sklearn.linear_model import LogisticRegression

from fairaudit.errors import DataError, UsageError
from fairaudit.mitigation.checks import check_problem
from fairaudit.mitigation.choosing import best_epoch, choose, odds_difference, validation_scores
from fairaudit.mitigation.heads import fit_head, weighted_cross_entropy
from fairaudit.mitigation.methods import fit_method, refused
from fairaudit.mitigation.problem import Answers, Fitted, Part, Problem
from fairaudit.spec import MitigateSpec


def made_up(n: int = 1200, seed: int = 0, classes: int = 2) -> Problem:
    """A head whose classes lie apart along the first coordinates, in two groups of which the second is small."""
    rng = np.random.default_rng(seed)

    def part(size: int) -> Part:
        y = rng.integers(classes, size=size)
        g = (rng.random(size) < 0.2).astype(np.int64)
        x = rng.normal(size=(size, 6)).astype(np.float32)
        x[np.arange(size), y] += np.where(g == 1, 0.8, 2.0)
        return Part(x=x, y=y, g=g)

    names = tuple(f"class {k}" for k in range(classes))
    return Problem(task="t", classes=names, by="g", groups=("big", "small"), train=part(n), val=part(n // 2), seed=seed)


def test_a_head_agrees_with_logistic_regression() -> None:
    """On linearly made classes the trained head gives scikit-learn's answers, but for faces near the border."""
    problem = replace(made_up(), settings=MitigateSpec(learning_rate=0.02))
    oracle = LogisticRegression(C=10).fit(problem.train.x, problem.train.y)
    fitted = fit_method("erm", problem)
    probabilities, labels = fitted.predict(problem.val.x)
    assert np.allclose(probabilities.sum(1), 1)
    assert (labels == oracle.predict(problem.val.x)).mean() > 0.97
    assert np.abs(probabilities - oracle.predict_proba(problem.val.x)).mean() < 0.05


def test_the_same_seed_gives_the_same_head_and_another_seed_another() -> None:
    """Bit-equal arrays for one seed; a hidden layer is part of the head."""
    problem = replace(made_up(400), settings=MitigateSpec(hidden=8, epochs=3))
    one, two = fit_method("erm", problem), fit_method("erm", problem)
    assert all((one.arrays[k] == two.arrays[k]).all() for k in one.arrays)
    assert "hidden_weight" in one.arrays
    other = fit_method("erm", replace(problem, seed=1))
    assert not (other.arrays["weight"] == one.arrays["weight"]).all()


def test_weights_move_the_head_and_masked_labels_teach_nothing() -> None:
    """Heavy faces draw the head to their label; labels turned over where they are not masked turn the head over."""
    problem = made_up(600)
    y = problem.train.y.copy()
    y[::3] = -1
    masked = replace(problem, train=replace(problem.train, y=y))
    scrambled = replace(masked, train=replace(masked.train, y=np.where(y < 0, -1, 1 - y)))
    right, wrong = fit_head(masked), fit_head(scrambled)
    heavy = fit_head(problem, loss=weighted_cross_entropy(problem, np.where(problem.train.y == 1, 5.0, 0.2)))
    plain = fit_head(problem)
    assert (heavy.predict(problem.val.x).labels == 1).mean() > (plain.predict(problem.val.x).labels == 1).mean() + 0.05
    assert (right.predict(problem.val.x).labels == problem.val.y).mean() > 0.8
    assert (wrong.predict(problem.val.x).labels == problem.val.y).mean() < 0.2


def test_choosing_by_overall_worst_and_pareto() -> None:
    """Three candidates of known scores: each way of choosing takes the one it should."""
    problem = made_up(400)
    n = 100
    g = np.repeat([0, 1], n // 2)
    y = np.zeros(n, dtype=np.int64)
    problem = replace(problem, val=Part(x=np.arange(n, dtype=np.float32)[:, None], y=y, g=g))
    right = {"even": (41, 41), "strong": (50, 34), "near": (45, 38), "bad": (40, 32)}

    def candidate(first: int, second: int) -> Fitted:
        labels = np.ones(n)
        labels[:first] = 0
        labels[n // 2 : n // 2 + second] = 0
        return Fitted(kind="fixed", arrays={"labels": labels})

    from fairaudit.mitigation import problem as module

    def fixed(arrays, x, _):  # type: ignore[no-untyped-def]
        labels = arrays["labels"][x[:, 0].astype(int)].astype(int)
        return Answers(np.eye(2)[labels] * 0.8 + 0.1, labels)

    module.PREDICTORS["fixed"] = fixed
    try:
        made = {name: candidate(*counts) for name, counts in right.items()}
        chosen = {how: choose(problem, made, how).tried for how in ("overall", "worst-subgroup", "pareto")}
        epochs = [made[name] for name in ("bad", "even", "near", "strong")]
        kept = {how: best_epoch(problem, epochs, how) for how in ("worst-subgroup", "pareto")}
    finally:
        del module.PREDICTORS["fixed"]
    picked = {how: table.loc[table["chosen"], "candidate"].item() for how, table in chosen.items()}
    assert picked == {"overall": "strong", "worst-subgroup": "even", "pareto": "near"}
    assert kept["worst-subgroup"] is made["even"] and kept["pareto"] is made["near"]
    front = chosen["overall"].set_index("candidate")["pareto"]
    assert front.to_dict() == {"even": True, "strong": True, "near": True, "bad": False}
    assert chosen["overall"].set_index("candidate")["worst_accuracy"]["near"] == 38 / 50


def test_the_odds_difference_is_fairlearns() -> None:
    """Two classes: fairlearn's; three: the largest over one-vs-rest; small cells and unknown faces take no part."""
    rng = np.random.default_rng(5)
    for classes in (2, 3):
        problem = made_up(1200, classes=classes)
        y, g = problem.val.y, problem.val.g
        said = np.where(rng.random(len(y)) < 0.3 + 0.2 * g, rng.integers(classes, size=len(y)), y)
        wanted = [equalized_odds_difference(y == k, said == k, sensitive_features=g) for k in range(classes)]
        assert odds_difference(problem, said) == pytest.approx(max(wanted))
        masked = replace(problem.val, g=np.where(np.arange(len(g)) % 5 == 0, -1, g))
        rows = masked.g >= 0
        wanted = [
            equalized_odds_difference(y[rows] == k, said[rows] == k, sensitive_features=g[rows]) for k in range(classes)
        ]
        assert odds_difference(replace(problem, val=masked), said) == pytest.approx(max(wanted))
    few = replace(problem.val, g=np.where(np.arange(len(g)) < 9, 1, 0))
    assert np.isnan(odds_difference(replace(problem, val=few), said))


def test_choosing_by_equalized_odds_needs_odds_and_keeps_the_accuracy() -> None:
    """Heads that answer alike have no difference: without the bound on accuracy they would win. Else in words."""
    problem = replace(made_up(1200), settings=MitigateSpec(select="equalized-odds"))
    x, y, g = problem.val.x, problem.val.y, problem.val.g
    weight = np.zeros((2, 6), dtype=np.float32)
    alike = Fitted(kind="softmax", arrays={"weight": weight, "bias": np.array([1.0, 0.0])})
    strong = fit_head(problem, select="overall")
    offset = np.zeros((3, 2))
    offset[1] = [3.0, 0.0]
    tilted = Fitted(
        kind="group-adjusted", arrays={**strong.arrays, "slope": np.ones(3), "offset": offset}, uses_group=True
    )
    table = choose(problem, {"alike": alike, "tilted": tilted, "strong": strong}).tried.set_index("candidate")
    assert table["odds_difference"]["alike"] == 0
    assert table["odds_difference"]["strong"] == odds_difference(problem, strong.predict(x).labels)
    assert table["chosen"].to_dict() == {"alike": False, "tilted": False, "strong": True}
    assert best_epoch(problem, [alike, tilted, strong], "equalized-odds") is strong
    assert fit_method("selection", problem).kind == "softmax"
    with pytest.raises(UsageError, match="mean nothing here, because g tells t"):
        check_problem(replace(problem, degenerate="g tells t"))
    one = replace(problem, val=Part(x=x, y=np.where(g == 1, 0, 1), g=g))
    with pytest.raises(DataError, match="no label has 10 faces of those to choose by"):
        check_problem(one)
    assert (y >= 0).all()


def test_small_subgroups_are_not_chosen_by_and_none_left_is_an_error() -> None:
    """Subgroups of fewer than ten labelled validation faces say nothing; without any other there is a clear word."""
    problem = made_up(400)
    tiny = replace(problem.val, g=np.where(np.arange(len(problem.val)) < 3, 1, 0))
    answers = Answers(np.full((len(tiny), 2), 0.5), problem.val.y)
    assert validation_scores(replace(problem, val=tiny), answers)["worst_subgroup"] == "big"
    nobody = replace(problem, val=replace(tiny, g=np.full(len(tiny), -1)))
    with pytest.raises(DataError, match="no subgroup of 'g' has 10"):
        validation_scores(nobody, answers)


def test_refusals_name_the_method_and_the_allowed_ones() -> None:
    """An unknown method is named with the nearest known one; a head whose axis determines its label keeps plain ERM."""
    problem = made_up(200)
    with pytest.raises(UsageError, match="unknown mitigation 'erma'; did you mean 'erm'"):
        fit_method("erma", problem)
    assert refused("erm", replace(problem, degenerate="the subgroup determines the label")) is None
