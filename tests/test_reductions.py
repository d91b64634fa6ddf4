"""fairlearn's reductions on embeddings: the classifier against scikit-learn, the mixture against plain fairlearn."""

from dataclasses import replace

import numpy as np
import pytest
from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient, GridSearch
from safetensors.numpy import load, save
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from fairaudit.mitigation.draws import face_draws
from fairaudit.mitigation.heads import standardised
from fairaudit.mitigation.logistic import Faces, Logistic
from fairaudit.mitigation.methods import cautions, fit_method, refused
from fairaudit.mitigation.problem import Fitted, Part, Problem
from fairaudit.mitigation.reductions import _theta, grid_size, quiet
from fairaudit.spec import MitigateSpec


def tied(n: int = 1500, seed: int = 0, groups: int = 2) -> Problem:
    """A binary head whose classes are fainter and less balanced in later subgroups, which the embeddings show, too."""
    rng = np.random.default_rng(seed)

    def part(size: int) -> Part:
        g = rng.integers(groups, size=size)
        y = (rng.random(size) < 0.5 - 0.3 * g / groups).astype(np.int64)
        x = rng.normal(size=(size, 12))
        x[:, :6] += (0.35 * (2 * y - 1) * np.where(g > 0, 0.6, 1))[:, None]
        x[:, 6:8] += g[:, None]
        return Part(x=(3 * x + 1).astype(np.float32), y=y, g=g)

    names = tuple(f"g{i}" for i in range(groups))
    made = Problem(task="t", classes=("no", "yes"), by="b", groups=names, train=part(n), val=part(n), seed=seed)
    return replace(made, settings=MitigateSpec(epochs=6, batch_size=128, learning_rate=0.02))


def gap_and_error(chance: np.ndarray, part: Part) -> tuple[float, float]:
    """Equalized-odds difference and error of positives given with a probability, by a plain loop."""
    rates = [[chance[(part.g == g) & (part.y == k)].mean() for g in range(int(part.g.max()) + 1)] for k in (0, 1)]
    return max(max(each) - min(each) for each in rates), float(np.abs(chance - part.y).mean())


@pytest.mark.parametrize("seed", range(3))
def test_the_classifier_is_scikit_learns(seed: int) -> None:
    """Weighted logistic regression with C = 1: the same coefficients, wherever the search begins."""
    rng = np.random.default_rng(seed)
    z = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)
    y = (rng.random(500) < 1 / (1 + np.exp(-z[:, 0]))).astype(int)
    weight = rng.exponential(size=500) * (rng.random(500) < 0.9)
    oracle = LogisticRegression(C=1.0, tol=1e-8, max_iter=10000).fit(z.astype(np.float64), y, sample_weight=weight)
    faces = Faces(z)
    for _ in range(2):
        theta = faces.fit(y, weight)
        np.testing.assert_allclose(theta[:-1], oracle.coef_[0], atol=4e-3)
        assert theta[-1] == pytest.approx(oracle.intercept_[0], abs=4e-3)
        faces.begin = rng.normal(size=7)
    turned = faces.fit(1 - y, weight)
    np.testing.assert_allclose(turned[:-1], -oracle.coef_[0], atol=4e-3)


def test_the_mixture_is_as_good_as_plain_fairlearn() -> None:
    """On training faces: the equalized-odds difference and error of fairlearn with scikit-learn's classifier."""
    problem = tied()
    _, _, z = standardised(problem.train)
    plain = ExponentiatedGradient(LogisticRegression(), EqualizedOdds(difference_bound=0.01), eps=0.01)
    with quiet():
        plain.fit(z.numpy().astype(float), problem.train.y, sensitive_features=problem.train.g)
    theirs = gap_and_error(plain._pmf_predict(z.numpy().astype(float))[:, 1], problem.train)
    arrays = fit_method("exponentiated-gradient", problem).arrays
    positive = problem.train.x @ arrays["weight"].T + arrays["bias"] > 0
    ours = gap_and_error(positive @ arrays["chance"], problem.train)
    erm = fit_method("erm", problem).predict(problem.train.x).labels
    assert ours[0] == pytest.approx(theirs[0], abs=0.02)
    assert ours[1] == pytest.approx(theirs[1], abs=0.01)
    assert ours[0] < 0.4 * gap_and_error(erm.astype(float), problem.train)[0]


def test_a_faces_answer_is_its_own_draw_and_the_seed_decides_no_head() -> None:
    """Labels are the mixture's chance against the face's draw; another seed has the same heads and other draws."""
    problem = tied()
    one, other = (fit_method("exponentiated-gradient", replace(problem, seed=seed)) for seed in (0, 1))
    for name in ("weight", "bias", "chance"):
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    assert one.arrays["chance"].sum() == pytest.approx(1)
    x = problem.val.x
    chance = (x @ one.arrays["weight"].T + one.arrays["bias"] > 0) @ one.arrays["chance"]
    np.testing.assert_array_equal(one.predict(x).labels, face_draws(x, 0) < chance)
    np.testing.assert_array_equal(one.predict(x[::-1]).labels[::-1], one.predict(x).labels)
    assert (one.predict(x).labels != other.predict(x).labels).any()
    assert "drawn by chance" in one.notes[0]


@pytest.mark.parametrize("name", ["exponentiated-gradient", "grid-search"])
@pytest.mark.parametrize("hidden", [0, 5])
def test_arrays_are_the_whole_head(name: str, hidden: int) -> None:
    """Stored as safetensors and read back the answers are the same, with a hidden layer, too."""
    problem = tied(600)
    problem = replace(problem, settings=problem.settings.model_copy(update={"hidden": hidden}))
    fitted = fit_method(name, problem)
    assert ("hidden_weight" in fitted.arrays) == bool(hidden)
    stored = load(save({key: np.ascontiguousarray(values) for key, values in fitted.arrays.items()}))
    again = Fitted(kind=fitted.kind, arrays=stored).predict(problem.val.x)
    np.testing.assert_array_equal(again.labels, fitted.predict(problem.val.x).labels)
    np.testing.assert_allclose(again.probabilities.sum(1), 1, rtol=1e-6)
    assert (again.labels == problem.val.y).mean() > 0.65


def test_the_grid_is_a_whole_lattice_and_its_heads_are_fairlearns() -> None:
    """Two subgroups: all 25 points; four: each constraint alone. The chosen head is one that fairlearn fitted."""
    problem = tied(800)
    assert grid_size(problem) == 25
    fitted = fit_method("grid-search", problem)
    assert len(fitted.tried) == 25
    _, _, z = standardised(problem.train)
    search = GridSearch(LogisticRegression(tol=1e-8), EqualizedOdds(), grid_size=25)
    with quiet():
        search.fit(z.numpy().astype(float), problem.train.y, sensitive_features=problem.train.g)
    chosen = search.predictors_[int(np.flatnonzero(fitted.tried["chosen"])[0])]
    ours = fitted.predict(problem.train.x)
    assert (ours.labels == chosen.predict(z.numpy().astype(float))).mean() > 0.995
    sums = search.lambda_vecs_.abs().sum()
    assert (sums <= 2 + 1e-9).all() and (sums > 2 - 1e-9).sum() == 12
    four = tied(800, groups=4)
    search = GridSearch(LogisticRegression(), EqualizedOdds(), grid_size=grid_size(four))
    with quiet():
        search.fit(four.train.x.astype(float), four.train.y, sensitive_features=four.train.g)
    used = (search.lambda_vecs_ != 0).sum()
    assert sorted(used) == [0, *[1] * 12]
    assert len(set(map(tuple, search.lambda_vecs_.T.to_numpy()))) == 13


def test_a_member_with_one_answer_keeps_it() -> None:
    """A constant classifier becomes an intercept of its sign."""
    faces = Faces(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    for answer in (0, 1):
        member = DummyClassifier(strategy="constant", constant=answer).fit(np.zeros((2, 1)), [answer, answer])
        theta = _theta(member, faces)
        assert (theta[:-1] == 0).all()
        assert (theta[-1] > 0) == bool(answer)
    learned = Logistic(faces).fit(None, np.arange(20) % 2, np.ones(20))
    assert _theta(learned, faces) is learned.theta


def test_words_before_training() -> None:
    """A subgroup of one class is refused, more classes, too; small cells, unknown faces and long grids are said."""
    problem = tied(400)
    y = np.where(problem.train.g == 1, 0, problem.train.y)
    lacking = replace(problem, train=replace(problem.train, y=y))
    for name in ("exponentiated-gradient", "grid-search"):
        assert "there is none of g1 labelled yes" in str(refused(name, lacking))
        three = replace(problem, classes=("a", "b", "c"))
        assert "two classes" in str(refused(name, three))
    y[np.flatnonzero(problem.train.g == 1)[:3]] = 1
    g = problem.train.g.copy()
    g[np.flatnonzero(g == 0)[:4]] = -1
    thin = replace(problem, train=replace(problem.train, y=y, g=g))
    said = cautions("exponentiated-gradient", thin)
    assert said[0] == "fewer than 20 training faces, so a rate of little use, in g1 labelled yes"
    assert said[1] == "4 labelled training faces of unknown subgroup are not trained on"
    wide = tied(2000, groups=30)
    assert "grid-search fits 117 heads" in cautions("grid-search", wide)[0]
