"""Weighted, resampled and augmented heads: what is drawn and weighed, what is learned from it, what is refused."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairaudit.errors import UsageError
from fairaudit.mitigation import cells
from fairaudit.mitigation.augmenting import augmented_share
from fairaudit.mitigation.bias_mimicking import mimicking_quotas
from fairaudit.mitigation.methods import METHODS, cautions, fit_method, refused
from fairaudit.mitigation.problem import Answers, Fitted, Part, Problem
from fairaudit.mitigation.resampling import balanced_draws, draws_per_cell, undersampled
from fairaudit.mitigation.weighted import weights_of
from fairaudit.spec import MitigateSpec

PRE = tuple(name for name, method in METHODS.items() if method.stage == "pre")
PEERS = Path(__file__).parent / "data" / "peers.csv"
tables = st.lists(st.lists(st.integers(0, 12), min_size=3, max_size=3), min_size=2, max_size=4)


def of_counts(table: list[list[int]], seed: int = 0, d: int = 4) -> Problem:
    """A problem whose training faces fill the subgroup × class table, with embeddings of pure noise."""
    rng = np.random.default_rng(seed)
    g, y = (np.repeat(codes.ravel(), np.ravel(table)) for codes in np.indices(np.shape(table)))
    part = Part(x=rng.normal(size=(len(y), d)).astype(np.float32), y=y, g=g)
    groups, classes = (tuple(f"{kind}{i}" for i in range(n)) for kind, n in zip("gc", np.shape(table), strict=True))
    return Problem(task="t", classes=classes, by="b", groups=groups, train=part, val=part, seed=seed)


def shortcut(seed: int = 0, classes: int = 2) -> Problem:
    """Training labels go with the subgroup in nine faces of ten, in validation they do not.

    The first coordinates show the label faintly, the last ones the subgroup clearly: a plain head takes the shortcut.
    """
    rng = np.random.default_rng(seed)

    def part(n: int, tied: float) -> Part:
        y = rng.integers(classes, size=n)
        g = np.where(rng.random(n) < tied, y, rng.integers(classes, size=n))
        x = rng.normal(size=(n, 2 * classes)).astype(np.float32)
        x[np.arange(n), y] += 1.5
        x[np.arange(n), classes + g] += 3
        return Part(x=x, y=y, g=g)

    groups, names = (tuple(f"{kind}{i}" for i in range(classes)) for kind in "gc")
    train, val = part(1000, 0.85), part(1000, 0.0)
    views = tuple(train.x + rng.normal(scale=0.3, size=train.x.shape).astype(np.float32) for _ in range(2))
    made = Problem(
        task="t", classes=names, by="b", groups=groups, train=replace(train, views=views), val=val, seed=seed
    )
    return replace(made, settings=MitigateSpec(epochs=8, batch_size=64, learning_rate=0.01))


def recall_gap(problem: Problem, fitted: Fitted) -> float:
    """Largest difference between two subgroups' recall of a class, on validation faces, by a plain loop."""
    right = fitted.predict(problem.val.x).labels == problem.val.y
    gaps = []
    for k in range(len(problem.classes)):
        each = [right[(problem.val.y == k) & (problem.val.g == g)].mean() for g in range(len(problem.groups))]
        gaps.append(max(each) - min(each))
    return float(max(gaps))


def test_head_weights_are_those_of_aif360() -> None:
    """The weights of four cells equal those that AIF360 gave the same faces (data/peers.csv)."""
    stored = pd.read_csv(PEERS, keep_default_na=False)
    kept = stored[stored["peer"] == "table"].set_index(["metric", "group"])["value"].astype(int)
    table = np.zeros((2, 2), dtype=int)
    for (cell, group), n in kept.items():
        if group:
            table[0 if group == "A" else 1, int(cell.split()[1])] += n
    problem = replace(of_counts(table.tolist()), settings=MitigateSpec(cap=1e6))
    weights = weights_of("reweighing", problem)
    theirs = stored[stored["metric"].str.startswith("reweighing")]
    assert len(theirs) == 4
    for row in theirs.itertuples():
        group, label = 0 if row.group == "A" else 1, int(row.metric[-1])
        ours = weights[(problem.train.g == group) & (problem.train.y == label)]
        np.testing.assert_allclose(ours, float(row.value), rtol=1e-12)
    roots = weights_of("reweighing-sqrt", problem)
    np.testing.assert_allclose(roots**2 / weights, (roots**2 / weights)[0])


def test_weights_of_masked_and_unknown_faces_and_of_the_cap() -> None:
    """Masked and unknown faces weigh 1; class balancing weighs unknown ones, too; the cap holds."""
    problem = of_counts([[40, 5], [4, 9]])
    g, y = problem.train.g.copy(), problem.train.y.copy()
    g[0], y[-1] = -1, -1
    problem = replace(problem, train=replace(problem.train, g=g, y=y), settings=MitigateSpec(cap=2.0))
    joint = weights_of("joint-balancing", problem)
    assert joint[0] == joint[-1] == 1
    assert joint.max() == pytest.approx(2)
    by_class = weights_of("class-balancing", replace(problem, settings=MitigateSpec(cap=3.0)))
    assert by_class[0] == by_class[1] != 1
    assert by_class[y == 0].sum() == pytest.approx(by_class[y == 1].sum())


@given(tables, st.integers(0, 5))
def test_undersampling_equals_the_cells_and_invents_no_face(table: list[list[int]], seed: int) -> None:
    """Every cell that has faces keeps as many as the smallest, each at most once, the same ones for the same seed."""
    if not np.any(table):
        return
    problem = of_counts(table, seed)
    rows = undersampled(problem)
    assert len(set(rows.tolist())) == len(rows)
    kept = np.zeros(np.shape(table), dtype=int)
    np.add.at(kept, (problem.train.g[rows], problem.train.y[rows]), 1)
    smallest = min(n for n in np.ravel(table) if n)
    np.testing.assert_array_equal(kept, np.where(np.array(table) > 0, smallest, 0))
    np.testing.assert_array_equal(rows, undersampled(problem))


@given(tables, st.integers(0, 5))
def test_oversampling_draws_cells_alike_and_faces_of_a_cell_alike(table: list[list[int]], seed: int) -> None:
    """An epoch takes each cell equally often, and no face of a cell twice more often than another."""
    if not np.any(table):
        return
    problem = of_counts(table, seed)
    times = np.bincount(balanced_draws(problem, np.random.default_rng(seed)), minlength=len(problem.train))
    for g, k in np.argwhere(np.array(table) > 0):
        own = times[(problem.train.g == g) & (problem.train.y == k)]
        assert own.sum() == draws_per_cell(problem)
        assert own.max() - own.min() <= 1


@given(st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=3), min_size=2, max_size=4))
def test_mimicking_takes_what_is_there_in_the_proportions_of_the_class(table: list[list[int]]) -> None:
    """Class c is whole, no cell gives more than it has, each proportion is c's to one face, one cell is used up."""
    counts = np.array(table)
    for c in range(3):
        quotas = mimicking_quotas(counts, c)
        np.testing.assert_array_equal(quotas[:, c], counts[:, c])
        assert (quotas <= counts).all() and (quotas >= 1).all()
        for other in range(3):
            scale = (counts[:, other] / counts[:, c]).min()
            assert (np.abs(quotas[:, other] - scale * counts[:, c]) <= 1).all()
            assert (quotas[:, other] == counts[:, other]).any()


@pytest.mark.parametrize("c", [0, 1, 2])
def test_mimicking_removes_the_association_exactly_where_counts_allow(c: int) -> None:
    """With counts that divide evenly, label and subgroup are exactly independent in every class's set."""
    counts = np.array([[60, 30, 90], [30, 90, 30], [30, 60, 60]])
    quotas = mimicking_quotas(counts, c)
    expected = np.outer(quotas.sum(1), quotas.sum(0)) / quotas.sum()
    np.testing.assert_allclose(quotas, expected, rtol=1e-12)
    assert not np.allclose(counts, np.outer(counts.sum(1), counts.sum(0)) / counts.sum())


@given(tables)
@settings(max_examples=25)
def test_rarer_cells_draw_more_views(table: list[list[int]]) -> None:
    """The share of augmented draws falls with the faces of a cell, and is 0 where faces suffice."""
    if not np.any(table):
        return
    problem = of_counts(table)
    share, quota = augmented_share(problem), draws_per_cell(problem)
    own = np.array(table)[problem.train.g, problem.train.y]
    np.testing.assert_allclose(share, np.where(own < quota, (quota - own) / quota, 0))


@pytest.mark.parametrize("name", ["reweighing", "joint-balancing", "undersampling", "oversampling", "bias-mimicking"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_planted_shortcut_is_unlearned(name: str, classes: int) -> None:
    """Where the label goes with the subgroup in training only, balancing about halves the gap of a plain head."""
    problem = shortcut(classes=classes)
    plain = plain_gap(classes)
    assert plain > 0.2
    assert recall_gap(problem, fit_method(name, problem)) < 0.55 * plain


@cache
def plain_gap(classes: int) -> float:
    """The gap of the head without any mitigation."""
    return recall_gap(shortcut(classes=classes), fit_method("erm", shortcut(classes=classes)))


@pytest.mark.parametrize("name", PRE)
def test_every_method_repeats_itself_and_says_what_it_did(name: str) -> None:
    """The same seed gives the same arrays, another seed others; probabilities sum to 1; there is a note."""
    problem = replace(shortcut(), settings=MitigateSpec(epochs=2))
    one, two = fit_method(name, problem), fit_method(name, problem)
    assert one.arrays.keys() == two.arrays.keys()
    assert all((one.arrays[key] == two.arrays[key]).all() for key in one.arrays)
    other = fit_method(name, replace(problem, seed=1))
    assert not (one.arrays["weight"] == other.arrays["weight"]).all()
    answers = one.predict(problem.val.x)
    assert isinstance(answers, Answers)
    np.testing.assert_allclose(answers.probabilities.sum(1), 1, rtol=1e-6)
    assert one.notes
    assert not one.uses_group


def test_views_are_what_rare_cells_learn_from() -> None:
    """Only the rare cell, one label's, is shown as views: what marks the views becomes a sign of that label."""
    problem = replace(of_counts([[300, 300], [300, 30]], d=3), settings=MitigateSpec(select="overall", epochs=5))
    marked = problem.train.x + np.array([0, 0, 4], dtype=np.float32)
    problem = replace(problem, train=replace(problem.train, views=(marked, marked)))
    weight = fit_method("group-aware-augmentation", problem).arrays["weight"]
    plain = fit_method("oversampling", problem).arrays["weight"]
    assert (weight[1] - weight[0])[2] > 3 * np.abs(plain[1] - plain[0])[2]
    bare = replace(problem, train=replace(problem.train, views=()))
    with pytest.raises(UsageError, match=r"needs embeddings of augmented versions.*oversampling"):
        fit_method("group-aware-augmentation", bare)


@pytest.mark.parametrize("name", PRE)
def test_an_axis_that_determines_the_label(name: str) -> None:
    """Only joint and class balancing work there; the others are refused in favour of joint balancing."""
    problem = replace(of_counts([[30, 0], [0, 12]]), degenerate="on the axis t the subgroup determines the label of t")
    if METHODS[name].any_axis:
        weights = weights_of(name, problem)
        assert weights[problem.train.y == 0].sum() == pytest.approx(weights[problem.train.y == 1].sum())
    else:
        assert "joint-balancing" in str(refused(name, problem))


def test_words_before_training() -> None:
    """Weights far over the cap, empty cells, tiny undersampled sets and unmimicked subgroups are said beforehand."""
    problem = of_counts([[2000, 3], [1000, 2000], [40, 0]])
    (far, nothing) = cautions("joint-balancing", problem)
    assert far.startswith("43 of 5043 training faces would weigh more than 2 times the cap of 10")
    assert nothing == "no training face, so nothing to balance, in g2 labelled c1"
    assert "undersampling keeps 15 of 5043" in cautions("undersampling", problem)[0]
    said = cautions("bias-mimicking", problem)
    assert said[0] == "40 training faces of subgroups that lack a class are not drawn (g2)"
    lone = of_counts([[20, 3], [30, 0]])
    with pytest.raises(UsageError, match=r"needs two subgroups.*only g0 has them \(none of g1 labelled c1\)"):
        fit_method("bias-mimicking", lone)
    unknown = replace(lone, train=replace(lone.train, g=np.full(len(lone.train), -1)))
    assert "none of them has a known subgroup" in str(refused("reweighing", unknown))
    assert cautions("reweighing", of_counts([[50, 50], [50, 50]])) == ()
    some = replace(lone.train, g=np.where(np.arange(53) < 4, -1, lone.train.g))
    assert cells.left_out(replace(lone, train=some)) == "4 labelled training faces of unknown subgroup are not drawn"
