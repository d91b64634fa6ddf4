"""Adjusted heads: thresholds against fairlearn, offsets against all others, planted shifts, what is fitted on what."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from fairaudit.errors import UsageError
from fairaudit.mitigation import offsets, postprocessing, temperature, thresholds
from fairaudit.mitigation.draws import face_draws
from fairaudit.mitigation.methods import METHODS, cautions, fit_method, refused
from fairaudit.mitigation.postprocessing import start
from fairaudit.mitigation.problem import Fitted, Part, Problem
from fairaudit.spec import MitigateSpec

POST = tuple(name for name, method in METHODS.items() if method.stage == "post")
QUICK = MitigateSpec(epochs=6, batch_size=128, learning_rate=0.02)


def faces(n: int, seed: int, classes: int = 2) -> Part:
    """Faces of two subgroups; those of the second, 30 %, show it, and look more like class 0 than they are."""
    rng = np.random.default_rng(seed)
    y, g = rng.integers(classes, size=n), (rng.random(n) < 0.3).astype(np.int64)
    x = rng.normal(size=(n, classes + 1))
    x[np.arange(n), y] += 2
    x[:, 0] += 2 * g
    x[:, -1] *= 0.1
    x[:, -1] += 0.5 * g
    return Part(x=x.astype(np.float32), y=y, g=g)


def shifted(classes: int = 2, seed: int = 0, n: int = 1200) -> Problem:
    """Trained on few faces of the second subgroup, so that little is known of its shift."""
    train, val = faces(n, 10 * seed, classes), faces(n, 10 * seed + 1, classes)
    few = (train.g == 0) | (np.arange(n) % 10 == 0)
    train = Part(x=train.x[few], y=train.y[few], g=train.g[few])
    names = tuple(f"c{k}" for k in range(classes))
    return Problem(task="t", classes=names, by="b", groups=("a", "z"), train=train, val=val, seed=seed, settings=QUICK)


def recalls(fitted: Fitted, part: Part, classes: int) -> np.ndarray:
    """Recall of each class (columns) in each of two subgroups, by a plain loop."""
    right = fitted.predict(part.x, part.g).labels == part.y
    return np.array([[right[(part.g == g) & (part.y == k)].mean() for k in range(classes)] for g in (0, 1)])


def test_thresholds_are_fairlearns() -> None:
    """Each face's decision is fairlearn's probability of a positive against the face's own draw, on unseen faces."""
    from fairlearn.postprocessing import ThresholdOptimizer

    problem, fresh = shifted(), faces(3000, 77)
    fitted, head = fit_method("group-thresholds", problem), fit_method("erm", problem)

    class Head(BaseEstimator):
        def __sklearn_is_fitted__(self) -> bool:
            return True

        def fit(self) -> None: ...

        def predict(self, x: np.ndarray) -> np.ndarray:
            return head.predict(np.asarray(x, dtype=np.float32)).probabilities[:, 1].astype(np.float64)

    theirs = ThresholdOptimizer(estimator=Head(), constraints="equalized_odds", predict_method="predict", prefit=True)
    theirs.fit(problem.val.x, problem.val.y, sensitive_features=problem.val.g)
    chance = theirs._pmf_predict(fresh.x, sensitive_features=fresh.g)[:, 1]
    ours = fitted.predict(fresh.x, fresh.g)
    np.testing.assert_array_equal(ours.labels, face_draws(fresh.x, problem.seed) < chance)
    np.testing.assert_allclose(ours.probabilities, head.predict(fresh.x).probabilities)
    assert np.isin(np.round(chance, 6), [0, 1]).mean() < 1


@pytest.mark.parametrize("name", ["group-thresholds", "group-offsets", "inferred-group-offsets"])
def test_a_planted_shift_between_subgroups_is_taken_out(name: str) -> None:
    """The head gives the second subgroup's recalls away; the adjusted one brings both subgroups' recalls together."""
    problem, fresh = shifted(n=2400), faces(6000, 78)
    before, after = (recalls(fit_method(method, problem), fresh, 2) for method in ("erm", name))
    gap_before, gap_after = np.abs(before[0] - before[1]).max(), np.abs(after[0] - after[1]).max()
    assert gap_before > 0.15
    assert gap_after < 0.5 * gap_before


def test_offsets_help_the_worst_subgroup_of_three_classes() -> None:
    """Accuracy of the shifted subgroup rises and the other's does not fall, for three classes."""
    problem, fresh = shifted(classes=3, n=2400), faces(6000, 79, classes=3)
    head, fitted = fit_method("erm", problem), fit_method("group-offsets", problem)
    before, after = (f.predict(fresh.x, fresh.g).labels == fresh.y for f in (head, fitted))
    assert after[fresh.g == 1].mean() > before[fresh.g == 1].mean() + 0.03
    assert after[fresh.g == 0].mean() > before[fresh.g == 0].mean() - 0.02


@given(st.integers(0, 10**6), st.sampled_from(["raise", "equal"]), st.sampled_from([0.0, 1.0, 4.0]))
def test_the_search_finds_the_best_offset_of_two_classes(seed: int, kind: str, strength: float) -> None:
    """With two classes only the difference matters: no difference of the grid has a higher objective."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.02, 0.98, 40)
    log_p, y = np.log(np.column_stack([1 - p, p])), (rng.random(40) < p).astype(int)
    y[:2] = 0, 1
    target = rng.uniform(0.3, 0.9, 2)

    def value(difference: float) -> float:
        labels = (log_p[:, 1] + difference > log_p[:, 0]).astype(int)
        recall = np.array([(labels[y == k] == k).mean() for k in (0, 1)])
        apart = np.abs(recall - target) if kind == "equal" else np.maximum(target - recall, 0)
        return float((labels == y).mean() - strength * apart.mean())

    found = offsets._ascend(log_p, y, target, kind, strength)
    assert value(found[1] - found[0]) >= max(value(d) for d in offsets.GRID) - 1e-9


def test_the_share_of_found_subgroups_is_of_faces_that_chose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every validation face is asked once, of a finder whose epoch it did not choose; unknown subgroups are not."""
    problem = replace(shifted(n=400), settings=QUICK.model_copy(update={"epochs": 2}))
    hidden = np.arange(len(problem.val)) % 7 == 0
    problem = replace(problem, val=replace(problem.val, g=np.where(hidden, -1, problem.val.g)))
    seen: list[tuple[set[bytes], set[bytes]]] = []
    original = offsets.subgroup_head

    class Watched:
        def __init__(self, own: Problem) -> None:
            self.head, self.chose = original(own), {row.tobytes() for row in own.val.x}

        def predict(self, x: np.ndarray) -> object:
            seen.append((self.chose, {row.tobytes() for row in x}))
            return self.head.predict(x)

    monkeypatch.setattr(offsets, "subgroup_head", Watched)
    right, n = offsets.found_subgroups(problem)
    asked = [row for _, faces in seen for row in faces]
    assert n == len(asked) == len(set(asked)) == (~hidden).sum()
    assert all(not chose & faces for chose, faces in seen)
    assert 0.7 * n < right <= n


def test_offsets_stay_where_nothing_is_gained() -> None:
    """A head that is right everywhere gets no offset: of equal values the one nearest to 0 is taken."""
    y = np.arange(30) % 3
    log_p = np.log(np.full((30, 3), 0.1) + 0.7 * np.eye(3)[y])
    assert (offsets._ascend(log_p, y, np.array([0.5, 0.5, 0.5]), "raise", 4.0) == 0).all()


@pytest.mark.parametrize("name", ["group-offsets", "inferred-group-offsets", "prior-temperature"])
def test_nothing_is_chosen_on_what_it_was_fitted_on(name: str) -> None:
    """The halves share no face and split every cell evenly; labels of the choosing half move no offset."""
    problem = replace(shifted(n=400), settings=QUICK.model_copy(update={"epochs": 1}))
    started = start(problem)
    table = np.zeros((2, 2, 2), dtype=int)
    np.add.at(table[0], (started.g, started.y), 1)
    np.add.at(table[1], (started.rest.val.g, started.rest.val.y), 1)
    assert table.sum() == len(problem.val)
    assert (np.abs(table[0] - table[1]) <= 1).all()
    seen = {row.tobytes() for row in started.rest.val.x}
    turned = np.array([1 - y if x.tobytes() in seen else y for x, y in zip(problem.val.x, problem.val.y, strict=True)])
    assert 0 < (turned != problem.val.y).sum() == len(started.rest.val)
    # halves of the turned labels would be other halves: the fitting half is put in place by hand
    other = replace(started, rest=replace(started.rest, val=replace(started.rest.val, y=1 - started.rest.val.y)))
    for kind, strength in offsets.CANDIDATES.values():
        one, two = (offsets.search_offsets(problem, s, kind, strength) for s in (started, other))
        np.testing.assert_array_equal(one, two)
    fitted = fit_method(name, problem)
    assert f"adjusted on {len(started.y)} validation faces" in fitted.notes[0]
    assert f"on {len(started.rest.val)} others" in fitted.notes[0]
    assert (fitted.tried["n"] == len(started.rest.val)).all()
    assert fitted.tried["candidate"][0] == "as it is"


def test_scaling_is_logistic_regression_where_nothing_pulls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platt scaling: slope and intercept of sklearn's logistic regression on the log odds."""
    monkeypatch.setattr(temperature, "PULL", 0.0)
    rng = np.random.default_rng(3)
    odds = rng.normal(size=800) * 2
    y = (rng.random(800) < 1 / (1 + np.exp(-(0.6 * odds - 0.8)))).astype(int)
    log_p = -np.logaddexp(0, np.column_stack([odds, -odds]))
    slope, offset = temperature.fit_scaling(log_p, y, free=True)
    oracle = LogisticRegression(C=1e8, tol=1e-8).fit(odds[:, None], y)
    assert slope == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert offset[1] - offset[0] == pytest.approx(oracle.intercept_[0], abs=2e-3)
    only, none = temperature.fit_scaling(log_p, y, free=False)
    without = LogisticRegression(C=1e8, tol=1e-8, fit_intercept=False).fit(odds[:, None], y)
    assert only == pytest.approx(without.coef_[0, 0], rel=1e-3)
    assert (none == 0).all()


def test_a_planted_temperature_and_prior_are_found() -> None:
    """A subgroup whose class shares are turned over in validation: its log loss falls on fresh faces of its kind."""
    problem = shifted(n=2400)

    def skewed(part: Part) -> Part:
        keep = (part.g == 0) | (part.y == 1) | (np.arange(len(part.y)) % 6 == 0)
        return Part(x=part.x[keep], y=part.y[keep], g=part.g[keep])

    problem, fresh = replace(problem, val=skewed(problem.val)), skewed(faces(6000, 80))
    fitted = fit_method("prior-temperature", problem)
    assert set(fitted.tried["candidate"]) == {"as it is", "temperature", "prior and temperature", "equal priors"}
    slope, offset = temperature._by_group(problem, start(problem), free=True)
    full = replace(fitted, arrays={**fitted.arrays, "slope": slope, "offset": offset})
    rows = fresh.g == 1
    losses = [
        -np.log(f.predict(fresh.x[rows], fresh.g[rows]).probabilities[np.arange(rows.sum()), fresh.y[rows]]).mean()
        for f in (fit_method("erm", problem), full)
    ]
    assert losses[1] < 0.8 * losses[0]
    assert offset[1, 1] > offset[0, 1]


def test_draws_are_uniform_and_belong_to_the_face() -> None:
    """Any order and batch gives the same numbers, another salt others; they fill 0…1 evenly."""
    x = np.random.default_rng(0).normal(size=(20000, 4)).astype(np.float32)
    u = face_draws(x, 5)
    assert ((u >= 0) & (u < 1)).all()
    np.testing.assert_array_equal(face_draws(x[::-1], 5)[::-1], u)
    np.testing.assert_array_equal(face_draws(x[7:9].astype(np.float64), 5), u[7:9])
    assert abs(np.corrcoef(u, face_draws(x, 6))[0, 1]) < 0.03
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert (counts > 850).all() and (counts < 1150).all()


@pytest.mark.parametrize("name", POST)
def test_arrays_are_the_whole_head(name: str) -> None:
    """Stored as safetensors and read back, the arrays give the same answers; the same seed gives the same arrays."""
    problem = replace(shifted(n=400), settings=QUICK.model_copy(update={"hidden": 6}))
    one, two = fit_method(name, problem), fit_method(name, problem)
    assert all((one.arrays[key] == two.arrays[key]).all() for key in one.arrays)
    stored = load(save({key: np.ascontiguousarray(values) for key, values in one.arrays.items()}))
    again = Fitted(kind=one.kind, arrays=stored, uses_group=one.uses_group)
    for ours, theirs in zip(
        one.predict(problem.val.x, problem.val.g), again.predict(problem.val.x, problem.val.g), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", POST)
def test_the_subgroup_is_asked_for_where_it_is_used(name: str) -> None:
    """Methods that decide by the subgroup say so, ask for it, and leave faces of unknown subgroup to the head."""
    problem = shifted(n=400)
    fitted, head = fit_method(name, problem), fit_method("erm", problem)
    if "test" not in METHODS[name].groups_at:
        assert "infers the subgroup" in fitted.notes[1]
        fitted.predict(problem.val.x)
        return
    assert any("uses the subgroup of each face at test time" in note for note in fitted.notes)
    with pytest.raises(UsageError, match="each face's subgroup"):
        fitted.predict(problem.val.x)
    if name != "prior-temperature":
        unknown = fitted.predict(problem.val.x, np.full(len(problem.val), -1))
        np.testing.assert_array_equal(unknown.labels, head.predict(problem.val.x).labels)


def test_words_before_training() -> None:
    """Too few validation faces are refused, thin subgroups named, and thresholds of three classes refused."""
    problem = shifted(n=400)
    few = Part(x=problem.val.x[:15], y=problem.val.y[:15], g=np.zeros(15, dtype=int))
    for name in ("group-offsets", "prior-temperature"):
        assert "has 20 labelled validation faces" in str(refused(name, replace(problem, val=few)))
    thin = np.where((problem.val.g == 1) & (np.cumsum(problem.val.g) > 12), 0, problem.val.g)
    sparse = replace(problem, val=replace(problem.val, g=thin))
    assert cautions("group-offsets", sparse)[0].endswith("not adjusted by their own: z (12)")
    assert (fit_method("group-offsets", sparse).arrays["offset"][1] == 0).all()
    lopsided = replace(problem, val=replace(problem.val, y=np.where(problem.val.g == 1, 0, problem.val.y)))
    assert "5 validation faces of c0 and of c1 each in two subgroups" in str(refused("group-thresholds", lopsided))
    three = replace(problem, groups=("a", "z", "q"), val=replace(lopsided.val, g=np.where(problem.val.g == 1, 2, 0)))
    third = np.where((three.val.g == 0) & (np.arange(400) % 2 == 0), 1, three.val.g)
    mixed = replace(three, val=replace(three.val, g=third))
    assert thresholds.thin_subgroups(mixed) == (
        "fewer than 5 validation faces of a class, so the threshold stays at one half: q",
    )
    fitted, head = fit_method("group-thresholds", mixed), fit_method("erm", mixed)
    rows = third == 2
    np.testing.assert_array_equal(
        fitted.predict(mixed.val.x[rows], third[rows]).labels, head.predict(mixed.val.x[rows]).labels
    )
    assert "two classes" in str(refused("group-thresholds", shifted(classes=3, n=100)))


@pytest.mark.parametrize("name", ["group-offsets", "inferred-group-offsets", "prior-temperature"])
def test_ten_to_eighteen_validation_faces_are_refused_before_anything_is_trained(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 10 to 18 faces is too few to choose by: of a subgroup, and by equalized odds of a subgroup's label."""
    problem = replace(shifted(n=1200), settings=QUICK.model_copy(update={"select": "equalized-odds", "epochs": 1}))

    def of_each(count: int) -> Problem:
        cells = [np.flatnonzero((problem.val.g == g) & (problem.val.y == y))[:count] for g in (0, 1) for y in (0, 1)]
        rows = np.concatenate(cells)
        return replace(problem, val=Part(x=problem.val.x[rows], y=problem.val.y[rows], g=problem.val.g[rows]))

    def untrained(*_: object, **__: object) -> Fitted:
        raise AssertionError("trained before it was refused")

    with monkeypatch.context() as patch:
        for module in (postprocessing, offsets):
            patch.setattr(module, "erm" if module is postprocessing else "fit_head", untrained)
        with pytest.raises(UsageError, match="no subgroup of b has 20 labelled validation faces"):
            fit_method(name, replace(of_each(9), settings=QUICK))
        for count in (10, 18):
            with pytest.raises(UsageError, match=r"no label has 10 faces of the half .* larger split\.val"):
                fit_method(name, of_each(count))
    assert fit_method(name, of_each(20)).tried["odds_difference"].notna().all()
    by_accuracy = replace(of_each(12), settings=QUICK.model_copy(update={"epochs": 1}))
    assert refused(name, by_accuracy) is None and len(fit_method(name, by_accuracy).tried) > 1
