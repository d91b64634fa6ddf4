"""What every method of a head must do: refuse what cannot work before any training, in words, and say what is thin."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from planted_heads import planted

from fairaudit.errors import DataError, UsageError
from fairaudit.mitigation import heads
from fairaudit.mitigation.checks import check_problem
from fairaudit.mitigation.methods import METHODS, cautions, fit_method, refused
from fairaudit.mitigation.problem import Fitted, Part, Problem
from fairaudit.spec import MitigateSpec

EVERY = sorted(METHODS)
ONE_EPOCH = MitigateSpec(epochs=1, batch_size=64)


def problem_for(name: str, **changes: object) -> Problem:
    """A made-up problem that the method accepts: with views for those that augment."""
    problem = planted(n=400, settings=ONE_EPOCH)
    train = replace(problem.train, views=(problem.train.x + np.float32(0.1),))
    return replace(problem, train=train, **changes)  # type: ignore[arg-type]


def with_train(problem: Problem, **arrays: Any) -> Problem:
    """The problem with other training arrays."""
    return replace(problem, train=replace(problem.train, **arrays))


def fits(name: str, problem: Problem) -> Fitted | str:
    """What the method gives, its answers looked over, or why it is refused."""
    reason = refused(name, problem)
    if reason:
        with pytest.raises(UsageError) as caught:
            fit_method(name, problem)
        assert str(caught.value) == reason
        return reason
    fitted = fit_method(name, problem)
    probabilities, labels = fitted.predict(problem.val.x, problem.val.g)
    assert probabilities.shape == (len(problem.val), len(problem.classes))
    assert np.isfinite(probabilities).all()
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert set(labels) <= set(range(len(problem.classes)))
    return fitted


@pytest.mark.parametrize("name", EVERY)
def test_every_method_says_what_it_is(name: str) -> None:
    """Stage, summary and source are there; a method that needs groups at test time gives a head that asks for them."""
    method = METHODS[name]
    assert method.summary
    assert method.source.split()[-1].isdigit()
    assert method.fits >= 0
    fitted = fits(name, problem_for(name))
    assert isinstance(fitted, Fitted)
    assert fitted.uses_group == ("test" in method.groups_at)
    if fitted.uses_group:
        with pytest.raises(UsageError, match="each face's subgroup"):
            fitted.predict(problem_for(name).val.x)
    assert all(isinstance(values, np.ndarray) for values in fitted.arrays.values())


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_gives_the_same_head_whatever_was_drawn_before(name: str) -> None:
    """Bit-equal answers of two fits; global random states are left as they were and have no part."""
    import torch

    problem = problem_for(name)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = fit_method(name, problem)
    assert (torch.get_rng_state() == state).all()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    two = fit_method(name, problem)
    assert (one.predict(problem.val.x, problem.val.g)[0] == two.predict(problem.val.x, problem.val.g)[0]).all()


@pytest.mark.parametrize("name", EVERY)
def test_three_classes_and_a_hidden_layer(name: str) -> None:
    """K-class heads and heads with a hidden layer work, or a binary method says that it is one, naming the classes."""
    problem = planted(n=500, classes=3, settings=replace_settings(hidden=4))
    problem = with_train(problem, views=(problem.train.x,))
    found = fits(name, problem)
    if METHODS[name].binary_only:
        assert isinstance(found, str)
        assert "two classes" in found
        assert "class 0, class 1, class 2" in found
    else:
        assert isinstance(found, Fitted)


def replace_settings(**changes: object) -> MitigateSpec:
    """The settings of one epoch with changes."""
    return ONE_EPOCH.model_copy(update=changes)


@pytest.mark.parametrize("name", EVERY)
def test_a_subgroup_without_a_training_face(name: str) -> None:
    """It is said before training, and the method runs all the same or refuses in words."""
    problem = problem_for(name)
    three = replace(problem, groups=(*problem.groups, "nobody"))
    said = " ".join(check_problem(three))
    assert "no labelled training face in nobody" in said
    assert "fewer than 10 labelled validation faces in nobody (0)" in said
    fits(name, three)


@pytest.mark.parametrize("name", EVERY)
def test_a_subgroup_absent_from_validation(name: str) -> None:
    """Nothing is chosen by it, which is said; without any subgroup to choose by it is an error."""
    problem = problem_for(name)
    only_big = np.flatnonzero(problem.val.g == 0)
    val = Part(x=problem.val.x[only_big], y=problem.val.y[only_big], g=problem.val.g[only_big])
    without = replace(problem, val=val)
    assert "fewer than 10 labelled validation faces in small (0)" in " ".join(check_problem(without))
    fits(name, without)
    few = replace(problem, val=Part(x=val.x[:6], y=val.y[:6], g=val.g[:6]))
    with pytest.raises(DataError, match=r"no subgroup of 'g' has 10 labelled validation faces"):
        fit_method(name, few)


@pytest.mark.parametrize("name", EVERY)
def test_a_class_absent_from_a_subgroup(name: str) -> None:
    """The cell is named by every method that works with cells; answers stay finite."""
    problem = problem_for(name)
    y = np.where(problem.train.g == 1, 0, problem.train.y)
    lacking = with_train(problem, y=y)
    found = fits(name, lacking)
    if "train" in METHODS[name].groups_at and METHODS[name].stage != "post":  # whose cells are validation faces
        said = found if isinstance(found, str) else " ".join((*cautions(name, lacking), *found.notes))
        assert "small" in said


@pytest.mark.parametrize("name", EVERY)
def test_a_class_absent_from_training(name: str) -> None:
    """It is said that nobody can learn it; whoever trains all the same gives finite answers."""
    problem = problem_for(name)
    three = replace(problem, classes=(*problem.classes, "never"))
    assert "no training face is labelled never" in " ".join(check_problem(three))
    found = fits(name, three)
    if isinstance(found, Fitted):
        assert (found.predict(problem.val.x, problem.val.g).labels != 2).all()


@pytest.mark.parametrize("name", EVERY)
def test_one_class_or_no_label_is_refused_before_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of one class, no label at all, NaN, wrong shapes, codes out of range: sentences, and nothing is trained."""

    def trained(*_: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(heads, "_network", trained)
    problem = problem_for(name)
    unlabelled = replace(problem, val=replace(problem.val, y=np.full_like(problem.val.y, -1)))
    ones, none = np.ones_like(problem.train.y), np.full_like(problem.train.y, -1)
    broken = problem.train.x.copy()
    broken[3, 0] = np.nan
    for changed, words in (
        (with_train(problem, y=ones), "training faces are class 1; a head needs faces of two classes"),
        (with_train(problem, y=none), "no training face has a label"),
        (unlabelled, "no validation face has a label"),
        (with_train(problem, x=broken), "1 training embeddings hold NaN"),
        (with_train(problem, y=problem.train.y[:-1]), r"they must be \(n, d\), \(n,\) and \(n,\)"),
        (with_train(problem, g=problem.train.g + 5), "a subgroup code of the training part"),
        (replace(problem, val=replace(problem.val, x=problem.val.x[:, :3])), "both must come from the same model"),
    ):
        with pytest.raises(DataError, match=words):
            fit_method(name, changed)


@pytest.mark.parametrize("name", EVERY)
def test_one_subgroup_leaves_nothing_to_balance(name: str) -> None:
    """Methods that compare subgroups of training faces refuse; others run."""
    problem = problem_for(name, groups=("all",))
    problem = with_train(problem, g=np.zeros_like(problem.train.g))
    problem = replace(problem, val=replace(problem.val, g=np.zeros_like(problem.val.g)))
    found = fits(name, problem)
    if {"train", "test"} & set(METHODS[name].groups_at):
        assert isinstance(found, str)
        assert "there is nothing to balance" in found
    else:
        assert isinstance(found, Fitted)


@pytest.mark.parametrize("name", EVERY)
def test_an_axis_that_determines_the_label(name: str) -> None:
    """Refused with the reason, or the method works with such an axis."""
    problem = problem_for(name)
    same = replace(
        with_train(problem, g=problem.train.y),
        val=replace(problem.val, g=problem.val.y),
        degenerate="the subgroup determines the label",
    )
    found = fits(name, same)
    assert isinstance(found, Fitted if METHODS[name].any_axis else str)
    if isinstance(found, str):
        assert "the subgroup determines the label" in found


@pytest.mark.parametrize("name", EVERY)
def test_unknown_subgroups_and_masked_labels_are_counted(name: str) -> None:
    """Every third face without a label, every fifth of unknown subgroup: said, counted, and no crash."""
    problem = problem_for(name)
    n = np.arange(len(problem.train))
    mixed = with_train(
        problem, y=np.where(n % 3 == 0, -1, problem.train.y), g=np.where(n % 5 == 0, -1, problem.train.g)
    )
    m = np.arange(len(problem.val))
    mixed = replace(mixed, val=replace(mixed.val, g=np.where(m % 7 == 0, -1, mixed.val.g)))
    said = " ".join(check_problem(mixed))
    assert f"{(n % 3 == 0).sum()} of {len(n)} training faces have no label" in said
    assert f"{((n % 3 != 0) & (n % 5 == 0)).sum()} labelled training faces are of unknown subgroup" in said
    assert isinstance(fits(name, mixed), Fitted)


def test_a_method_cannot_reach_a_test_face() -> None:
    """A Problem and its parts have no room for one: exactly training and validation faces, and settings."""
    assert {field.name for field in fields(Problem)} == {
        *("task", "classes", "by", "groups", "train", "val", "seed", "settings", "degenerate"),
    }
    assert {field.name for field in fields(Part)} == {"x", "y", "g", "views"}
