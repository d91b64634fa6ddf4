"""Methods that act in training: their formulas against independent ones, and what they do to planted biases."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from planted_heads import accuracies, planted
from sklearn.linear_model import LogisticRegression

from fairaudit.mitigation import last_layer
from fairaudit.mitigation.class_balanced import effective_weights
from fairaudit.mitigation.domain_independent import OwnHead, known_classes
from fairaudit.mitigation.fairness_penalty import penalised, recall_differences
from fairaudit.mitigation.group_dro import WorstCells, cell_codes, drawing_weights
from fairaudit.mitigation.heads import fit_head
from fairaudit.mitigation.logit_adjusted import adjusted_cross_entropy, log_shares
from fairaudit.mitigation.methods import fit_method
from fairaudit.mitigation.problem import Fitted, Part, Problem, softmax


def small_problem() -> Problem:
    """Eight training faces with hand-made labels and subgroups, one masked, one of unknown subgroup."""
    part = Part(
        x=np.eye(8, dtype=np.float32),
        y=np.array([0, 0, 1, 1, 0, 1, -1, 1]),
        g=np.array([0, 0, 0, 1, 1, 1, 1, -1]),
    )
    return replace(planted(n=100), train=part)


def nll(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row by hand."""
    return -np.log(softmax(logits)[np.arange(len(y)), y])


def test_shares_of_groupdro_move_by_the_papers_rule() -> None:
    """q · exp(step · (cell's mean loss + C / √n)), scaled to 1; a cell that is not in the batch is only scaled."""
    problem = small_problem()
    codes, n = cell_codes(problem)
    assert codes.tolist() == [0, 0, 1, 3, 2, 3, -1, -1]
    assert n.tolist() == [2, 1, 1, 2]
    loss = WorstCells(problem, step=0.5, adjustment=2.0)
    rows = np.array([0, 1, 3, 4])
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    each = nll(logits, problem.train.y[rows])
    means = np.array([each[:2].mean(), 0, each[3], each[2]])
    moved = np.array([0.25, 0.25, 0.25, 0.25])
    for cell in (0, 2, 3):
        moved[cell] *= np.exp(0.5 * (means[cell] + 2.0 / np.sqrt(n[cell])))
    moved /= moved.sum()
    value = loss(torch.from_numpy(logits), rows)
    assert np.allclose(loss.q.numpy(), moved, rtol=1e-5)
    assert float(value) == pytest.approx((moved * means).sum(), rel=1e-5)


def test_groupdro_draws_cells_alike_and_keeps_unknown_faces_at_their_share() -> None:
    """Cells of known subgroup have one total each; a masked label is never drawn; unknown faces weigh one each."""
    problem = small_problem()
    weights = drawing_weights(problem)
    codes, _ = cell_codes(problem)
    totals = np.bincount(codes[codes >= 0], weights=weights[codes >= 0])
    assert np.allclose(totals, totals[0])
    assert weights[6] == 0
    assert weights[7] == 1
    loss = WorstCells(problem, step=0.5, adjustment=0.0)
    rows = np.array([0, 7])
    logits = torch.tensor([[1.0, 0.0], [0.5, 0.0]])
    each = nll(logits.numpy(), np.array([0, 1]))
    value = float(loss(logits, rows))
    worst = float(loss.q[0]) * each[0]
    assert loss.unknown == pytest.approx(1 / 7)
    assert value == pytest.approx(6 / 7 * worst + 1 / 7 * each[1], rel=1e-5)


def test_effective_weights_are_the_papers() -> None:
    """(1 − β) / (1 − βⁿ) scaled to mean 1; β = 0 is even, β = 1 the inverse frequency, an absent class weighs 0."""
    n = np.array([1000, 100, 10])
    for beta in (0.9, 0.999):
        paper = np.array([(1 - beta) / (1 - beta**k) for k in n])
        assert np.allclose(effective_weights(n, beta), paper * 3 / paper.sum())
    assert np.allclose(effective_weights(n, 0.0), 1)
    assert np.allclose(effective_weights(n, 1.0), (1 / n) * 3 / (1 / n).sum())
    assert np.allclose(effective_weights(n, 1 - 1e-9), effective_weights(n, 1.0), rtol=1e-4)
    assert np.allclose(effective_weights(np.array([5, 0, 5]), 0.99), [1, 0, 1])


def test_logit_adjustment_adds_the_log_of_the_prior() -> None:
    """Loss by hand; on the same logits, τ = 1 makes a rare class cost more where it is missed."""
    problem = small_problem()
    added = np.tile(log_shares(np.array([75, 25])), (8, 1))
    assert np.allclose(added[0], np.log([0.75, 0.25]))
    rows = np.array([0, 2])
    logits = np.array([[0.3, 0.1], [-0.2, 0.4]], dtype=np.float32)
    by_hand = nll(logits + added[rows], np.array([0, 1])).mean()
    assert float(adjusted_cross_entropy(problem, added)(torch.from_numpy(logits), rows)) == pytest.approx(
        by_hand, rel=1e-5
    )
    assert np.allclose(log_shares(np.array([0, 4])), np.log([0.5 / 4.5, 4 / 4.5]))


def test_recall_differences_agree_with_numpy_and_are_unbiased() -> None:
    """Against a loop over cells; where all subgroups have the same distribution, the mean over batches is nought."""
    rng = np.random.default_rng(3)
    y, g = rng.integers(3, size=200), rng.integers(-1, 4, size=200)
    probabilities = softmax(rng.normal(size=(200, 3)))
    value = recall_differences(torch.from_numpy(probabilities), torch.from_numpy(y), torch.from_numpy(g), (4, 3))
    terms = []
    for k in range(3):
        cells = [probabilities[(y == k) & (g == code), k] for code in range(4)]
        centre = np.mean([cell.mean() for cell in cells])
        terms += [(cell.mean() - centre) ** 2 - cell.var(ddof=1) / len(cell) * 3 / 4 for cell in cells]
    assert float(value) == pytest.approx(np.mean(terms), rel=1e-5)
    draws = []
    for _ in range(400):
        p = torch.from_numpy(softmax(rng.normal(size=(48, 2)) * 2))
        codes = torch.from_numpy(rng.integers(2, size=(2, 48)))
        draws.append(float(recall_differences(p, codes[0], codes[1], (2, 2))))
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    lonely = recall_differences(torch.full((3, 2), 0.5), torch.tensor([0, 1, 1]), torch.tensor([0, 0, -1]), (2, 2))
    assert float(lonely) == 0


def test_a_domain_head_sees_its_own_faces_and_abstains_where_its_subgroup_has_no_class() -> None:
    """The gradient of a face reaches its subgroup's logits only, unknown faces reach all; lacking classes get none."""
    problem = small_problem()
    y = np.where(problem.train.g == 1, 1, problem.train.y)
    y[[2, 6]] = [1, -1]
    lacking = replace(problem, train=replace(problem.train, y=y))
    assert known_classes(lacking)[0].tolist() == [[True, True], [False, True]]
    logits = torch.zeros((3, 4), requires_grad=True)
    OwnHead(lacking)(logits, np.array([0, 3, 7])).backward()
    assert logits.grad is not None
    reached = (logits.grad != 0).tolist()
    assert reached[0] == [True, True, False, False]
    assert reached[1] == [False, False, False, False]  # its subgroup has one class only: nothing to tell apart
    assert reached[2][:2] == [True, True]


def test_joined_heads_answer_as_their_mean_and_never_a_class_nobody_has() -> None:
    """Against a loop over subgroups."""
    rng = np.random.default_rng(0)
    has = np.array([[True, True, False, False], [True, False, True, False]])
    arrays = {"weight": rng.normal(size=(2, 4, 5)), "bias": rng.normal(size=(2, 4)), "has": has}
    x = rng.normal(size=(6, 5))
    answers = Fitted(kind="mixture", arrays=arrays).predict(x)
    by_hand = np.zeros((6, 4))
    for code in range(2):
        inside = np.flatnonzero(has[code])
        by_hand[:, inside] += softmax(x @ arrays["weight"][code, inside].T + arrays["bias"][code, inside])
    by_hand /= np.maximum(has.sum(0), 1)
    assert np.allclose(answers.probabilities, by_hand / by_hand.sum(1, keepdims=True))
    assert (answers.probabilities[:, 3] == 0).all()


def test_last_layer_is_the_mean_of_logistic_regressions_on_balanced_halves() -> None:
    """Halves share no face and split each cell evenly; subsets are balanced; the weights are scikit-learn's mean."""
    problem = planted("spurious-cue", n=800)
    half, other = last_layer.halves(problem)
    assert not set(half) & set(other)
    assert len(half) + len(other) == len(problem.val)
    cells = problem.val.g * 2 + problem.val.y
    assert (np.abs(np.bincount(cells[half]) - np.bincount(cells[other])) <= 1).all()
    subsets = last_layer.balanced_subsets(problem, half)
    assert len(subsets) == last_layer.MEMBERS
    assert all(len(set(np.bincount(cells[rows]))) == 1 and set(rows) <= set(half) for rows in subsets)
    fitted = fit_method("last-layer-retraining", problem)
    strength = float(fitted.tried.loc[fitted.tried["chosen"], "candidate"].item().split()[1])
    x, y = problem.val.x, problem.val.y
    used = np.unique(np.concatenate(subsets))
    z = (x - x[used].mean(0)) / x[used].std(0)
    logits = np.mean(
        [LogisticRegression(C=strength, max_iter=500).fit(z[r], y[r]).decision_function(z) for r in subsets], axis=0
    )
    assert np.allclose(fitted.predict(x).probabilities[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-3)


def test_last_layer_chooses_by_faces_it_was_not_trained_on() -> None:
    """Labels of the other half change what is chosen by, never the candidates' weights."""
    problem = planted("spurious-cue", n=800)
    _, other = last_layer.halves(problem)
    y = problem.val.y.copy()
    y[other] = np.random.default_rng(0).permutation(y[other])
    fitted = fit_method("last-layer-retraining", problem)
    within = {}
    for name, part in (("as is", problem.val), ("shuffled", replace(problem.val, y=y))):
        changed = replace(problem, val=part)
        # cells decide the halves, so keep them as they are and compare the weights of one strength
        subsets = last_layer.balanced_subsets(problem, last_layer.halves(problem)[0])
        within[name] = last_layer._average(changed.val.x, changed.val.y, subsets, 0.01, changed, {}).arrays["weight"]
    assert (within["as is"] == within["shuffled"]).all()
    assert set(fitted.tried["n"]) == {len(other)}


@cache
def unmitigated(bias: str) -> tuple[Problem, np.ndarray]:
    """A problem with the bias, and the accuracy of each subgroup without mitigation."""
    problem = planted(bias)
    return problem, accuracies(problem, fit_method("erm", problem), bias)


CELLS = ("group-dro", "domain-independent", "fairness-penalty", "last-layer-retraining")
RAISES_THE_SMALL = {
    "spurious-cue": dict.fromkeys(CELLS, 0.12),
    "under-representation": dict.fromkeys(CELLS, 0.12),
    "label-shift": {"group-dro": 0.03, "group-logit-adjusted": 0.03, "last-layer-retraining": 0.03},
}


@pytest.mark.parametrize(
    ("bias", "method"), [(bias, name) for bias, names in RAISES_THE_SMALL.items() for name in names]
)
def test_a_method_raises_the_subgroup_that_erm_fails(bias: str, method: str) -> None:
    """On fresh faces, the small subgroup gains what the method promises for this bias."""
    problem, before = unmitigated(bias)
    after = accuracies(problem, fit_method(method, problem), bias)
    assert before[0] > before[1] + 0.02
    assert after[1] > before[1] + RAISES_THE_SMALL[bias][method]
    assert after.min() > before.min()


@pytest.mark.parametrize("method", CELLS)
@pytest.mark.parametrize("bias", ["label-noise", "lower-quality"])
def test_nothing_helps_a_subgroup_whose_labels_are_wrong_or_whose_pictures_are_bad(bias: str, method: str) -> None:
    """Where the small subgroup's labels or pictures carry less, its accuracy cannot be raised by training."""
    problem, before = unmitigated(bias)
    after = accuracies(problem, fit_method(method, problem), bias)
    assert before[0] > before[1] + 0.15
    assert abs(after[1] - before[1]) < 0.03


def test_equal_recalls_can_be_had_by_levelling_down() -> None:
    """Under label noise the penalty closes the gap at the cost of the big subgroup and gives the small one nothing."""
    problem, before = unmitigated("label-noise")
    strong = fit_head(problem, loss=penalised(problem, 100.0))
    after = accuracies(problem, strong, "label-noise")
    assert after[0] < before[0] - 0.03
    assert after[1] < before[1] + 0.01


@pytest.mark.parametrize("method", ["class-balanced", "logit-adjusted"])
def test_class_losses_raise_the_rare_class_and_know_nothing_of_subgroups(method: str) -> None:
    """With one face in ten of class 1, its recall rises on fresh faces, in both subgroups."""
    problem = planted(n=2000)
    keep = (problem.train.y == 0) | (np.random.default_rng(0).random(len(problem.train)) < 0.1)
    rare = replace(problem, train=last_layer.take(problem.train, np.flatnonzero(keep)))
    recall = {}
    for name in ("erm", method):
        labels = fit_method(name, rare).predict(problem.val.x).labels
        recall[name] = [(labels == 1)[(problem.val.y == 1) & (problem.val.g == code)].mean() for code in range(2)]
    assert (np.array(recall[method]) > np.array(recall["erm"]) + 0.02).all()
