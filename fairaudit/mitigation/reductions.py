"""fairlearn's reductions on embeddings, for heads of two classes: ExponentiatedGradient and GridSearch.

Source: Agarwal et al., "A reductions approach to fair classification", ICML 2018. Constraint: equalized odds (the
share of each class predicted positive is the same in every subgroup), allowed violation 0.01, fairlearn's defaults
for all else; the classifier is a logistic regression on the standardised embeddings (`fairaudit.mitigation.logistic`),
or on the hidden layer of erm's head where the settings ask for one.
Group labels: training (GridSearch validation, too, to choose); none at test time. Cost: dozens of fits, each a logistic
regression; they do not depend on the seed. Faces of unknown subgroup cannot be held to a constraint and are left out.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairaudit.mitigation import cells
from fairaudit.mitigation.choosing import choose
from fairaudit.mitigation.erm import erm
from fairaudit.mitigation.heads import standardised
from fairaudit.mitigation.logistic import Faces, Logistic
from fairaudit.mitigation.problem import Arrays, Fitted, Part, Problem, hidden

CONSTANT = 30.0  # the intercept of a member that always gives the same answer
VIOLATION = 0.01
GRID = 25  # candidates for two subgroups: both multipliers in three steps each way
MANY = 100  # candidates, from which on the number of fits is said
FEW = 20  # training faces of a cell, below which its rate is mostly chance


def exponentiated_gradient(problem: Problem) -> Fitted:
    """Return the randomised mixture of heads that ExponentiatedGradient finds: weight (T, d), bias (T,), chance (T,).

    The guarantee holds for the mixture as it is, so the draw among its members stays: each face's is made of its
    embedding and the seed (`face_draws`), the same whenever the face is seen. Probabilities are the members' logistic
    ones, weighted by their chances: a score, from which the decision may differ.
    """
    from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient

    given = _given(problem)
    reduction = ExponentiatedGradient(Logistic(given.faces), EqualizedOdds(difference_bound=VIOLATION), eps=VIOLATION)
    with quiet():
        reduction.fit(given.rows, given.y, sensitive_features=given.g)
    chance = reduction.weights_.sort_index().to_numpy(dtype=np.float64)
    kept = np.flatnonzero(chance > 0)
    arrays = {
        **given.folded(np.stack([_theta(reduction.predictors_[t], given.faces) for t in kept])),
        "chance": chance[kept] / chance[kept].sum(),
        "salt": np.array([problem.seed]),
    }
    said = (
        f"a face is decided by one of {len(kept)} heads, drawn by chance but always the same for the same face; the "
        "seed decides the draws alone, not the heads"
    )
    return Fitted(kind="randomised", arrays=arrays, notes=(said, *reduction_cautions(problem)))


def grid_search(problem: Problem) -> Fitted:
    """Return the head of GridSearch's grid of multipliers that the validation faces prefer: one softmax head.

    fairlearn chooses on the training faces; here the same candidates are chosen on validation faces, as everywhere.
    """
    from fairlearn.reductions import EqualizedOdds, GridSearch

    given = _given(problem)
    search = GridSearch(Logistic(given.faces), EqualizedOdds(), grid_size=grid_size(problem))
    with quiet():
        search.fit(given.rows, given.y, sensitive_features=given.g)
    made = {}
    for number, member in enumerate(search.predictors_):
        one = given.folded(_theta(member, given.faces)[None])
        sides = {name: np.concatenate([-one[name], one[name]]) / 2 for name in ("weight", "bias")}
        made[f"multipliers {number}"] = Fitted(kind="softmax", arrays={**one, **sides})
    chosen = choose(problem, made)
    said = f"one of {len(made)} heads, chosen on validation faces; nothing depends on the seed"
    return replace(chosen, notes=(said, *reduction_cautions(problem)))


def grid_size(problem: Problem) -> int:
    """Return how many multipliers GridSearch tries: `GRID` for two subgroups, else none and each constraint alone.

    fairlearn takes the first so many points of a lattice; these are the sizes at which they are a whole one.
    """
    groups = len(np.unique(problem.train.g[cells.known(problem.train)]))
    return GRID if groups <= 2 else 4 * (groups - 1) + 1


def lacking(problem: Problem) -> str | None:
    """Return why equalized odds cannot be asked for: a subgroup with training faces of one class only, or None."""
    table = cells.counts(problem, problem.train)
    none = (table == 0) & (table.sum(1, keepdims=True) > 0)
    if not none.any():
        return None
    return (
        f"equalized odds needs training faces of {' and of '.join(problem.classes)} in every subgroup of {problem.by}; "
        f"there is none of {cells.names(problem, none)}. Choose a coarser axis, or joint-balancing"
    )


def reduction_cautions(problem: Problem) -> tuple[str, ...]:
    """Return sentences on cells of few faces and on faces that cannot be held to a constraint."""
    table = cells.counts(problem, problem.train)
    few = (table > 0) & (table < FEW)
    thin = f"fewer than {FEW} training faces, so a rate of little use, in {cells.names(problem, few)}"
    unknown = int(((problem.train.y >= 0) & (problem.train.g < 0)).sum())
    left = f"{cells.labelled_of_unknown(unknown)} not trained on"
    return (*([thin] if few.any() else []), *([left] if unknown else []))


def grid_cautions(problem: Problem) -> tuple[str, ...]:
    """Return the sentences of `reduction_cautions`, and one on a grid of many fits."""
    size = grid_size(problem)
    many = f"grid-search fits {size} heads on this axis; exponentiated-gradient takes all constraints together"
    return (*([many] if size >= MANY else []), *reduction_cautions(problem))


@dataclass(frozen=True, kw_only=True)
class _Given:
    """The faces that a reduction trains on: row numbers (n, 1), labels and subgroups (n,), and their features."""

    rows: np.ndarray
    y: np.ndarray
    g: np.ndarray
    faces: Faces
    mean: np.ndarray
    scale: np.ndarray
    before: Arrays  # of the hidden layer, where there is one

    def folded(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return weight (T, d) and bias (T,) for features as they come, of coefficients (T, d + 1) for scaled ones."""
        weight = theta[:, :-1] / self.scale
        bias = theta[:, -1] - weight @ self.mean
        return {**self.before, "weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def _given(problem: Problem) -> _Given:
    rows = cells.known(problem.train)
    before: Arrays = {}
    part = problem.train
    if problem.settings.hidden:
        before = {name: values for name, values in erm(problem).arrays.items() if name.startswith("hidden_")}
        part = Part(x=hidden(before, part.x), y=part.y, g=part.g)
    mean, scale, z = standardised(part)
    return _Given(
        rows=np.arange(len(rows))[:, None],
        y=part.y[rows],
        g=part.g[rows],
        faces=Faces(z.numpy()[rows]),
        mean=mean.astype(np.float64),
        scale=scale.astype(np.float64),
        before=before,
    )


def _theta(member: Any, faces: Faces) -> np.ndarray:
    """Return the coefficients (d + 1,) of a member of a reduction; of one with a single answer, a constant."""
    if isinstance(member, Logistic):
        return member.theta
    theta = np.zeros(faces.z.shape[1])
    theta[-1] = CONSTANT if member.predict(np.zeros((1, 1)))[0] else -CONSTANT
    return theta


@contextmanager
def quiet() -> Iterator[None]:
    """Keep fairlearn from advising a grid of 2^constraints points, and pandas from advising fairlearn."""
    logger = logging.getLogger("fairlearn")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(before)
