"""What a head-level mitigation gets and gives: embeddings with labels and groups in, a fitted head as plain arrays out.

A method never sees a test face: a Problem holds training and validation faces only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from fairaudit.errors import UsageError
from fairaudit.mitigation.draws import face_draws
from fairaudit.registry import lookup
from fairaudit.spec import MitigateSpec

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Faces of one split: embeddings `x` (n, d) float32, label codes `y` (n,) with −1 for a masked label, subgroup
    codes `g` (n,) with −1 where the subgroup is unknown.

    `views` holds embeddings of augmented versions of the same faces, each (n, d); methods that augment draw from them.
    """

    x: np.ndarray
    y: np.ndarray
    g: np.ndarray
    views: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One head (`task` with its `classes`) to be trained fairly for the subgroups `groups` of the axis `by`."""

    task: str
    classes: tuple[str, ...]
    by: str
    groups: tuple[str, ...]
    train: Part
    val: Part
    seed: int = 0
    settings: MitigateSpec = field(default_factory=MitigateSpec)
    degenerate: str | None = None  # why the axis determines the label, where it does


class Answers(NamedTuple):
    """A head's probabilities (n, K), rows summing to 1, and the class codes (n,) it decides for."""

    probabilities: np.ndarray
    labels: np.ndarray


Predictor = Callable[[Arrays, np.ndarray, np.ndarray | None], Answers]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted head: the kind of predictor and its arrays, nothing that could execute.

    `uses_group` tells whether its answers need each face's subgroup. `notes` are sentences for the report, `tried`
    holds a row a candidate with its validation scores.
    """

    kind: str
    arrays: Arrays
    uses_group: bool = False
    notes: tuple[str, ...] = ()
    tried: pd.DataFrame = field(default_factory=pd.DataFrame)

    def predict(self, x: np.ndarray, g: np.ndarray | None = None) -> Answers:
        """Return the answers for embeddings (n, d); `g` (n,) is needed where `uses_group`, and ignored elsewhere.

        Raises UsageError where subgroups are needed and not given.
        """
        if self.uses_group and g is None:
            raise UsageError("this mitigation decides by each face's subgroup, which was not given")
        return lookup(PREDICTORS, self.kind, "kind of head")(self.arrays, x, g if self.uses_group else None)


def hidden(arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """Return what the last layer sees: the embeddings (n, d), or the hidden layer (ReLU) where the head has one."""
    if "hidden_weight" in arrays:
        return np.asarray(np.maximum(x @ arrays["hidden_weight"].T + arrays["hidden_bias"], 0))
    return x


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def _plain(arrays: Arrays, x: np.ndarray, _: np.ndarray | None) -> Answers:
    """One softmax head: weight (K, d), bias (K,)."""
    probabilities = softmax(hidden(arrays, x) @ arrays["weight"].T + arrays["bias"])
    return Answers(probabilities, probabilities.argmax(1))


def _one_vs_rest(arrays: Arrays, x: np.ndarray, _: np.ndarray | None) -> Answers:
    """One sigmoid output a class: weight (K, d), bias (K,); the probabilities are the outputs, scaled to sum to 1."""
    logits = hidden(arrays, x) @ arrays["weight"].T + arrays["bias"]
    probabilities = softmax(-np.logaddexp(0, -logits))
    return Answers(probabilities, probabilities.argmax(1))


def _mixture(arrays: Arrays, x: np.ndarray, _: np.ndarray | None) -> Answers:
    """A softmax head a subgroup, weight (G, K, d), bias (G, K): the mean of their probabilities, without the subgroup.

    `has` (G, K) tells which classes a head knows: it takes no part in the others.
    """
    has = arrays["has"][arrays["has"].any(1)]
    weight, bias = (arrays[name][arrays["has"].any(1)] for name in ("weight", "bias"))
    logits = (hidden(arrays, x) @ weight.reshape(has.size, -1).T).reshape(len(x), *has.shape) + bias
    mean = softmax(np.where(has, logits, -np.inf)).sum(1) / np.maximum(has.sum(0), 1)
    probabilities = mean / mean.sum(1, keepdims=True)
    return Answers(probabilities, probabilities.argmax(1))


def _group_adjusted(arrays: Arrays, x: np.ndarray, g: np.ndarray | None) -> Answers:
    """A softmax head whose log probabilities are scaled and moved: slope (G + 1,), offset (G + 1, K), unknown last."""
    assert g is not None
    logits = np.log(_plain(arrays, x, None).probabilities.clip(1e-12)) * arrays["slope"][g, None] + arrays["offset"][g]
    probabilities = softmax(logits)
    return Answers(probabilities, probabilities.argmax(1))


def _inferred_adjusted(arrays: Arrays, x: np.ndarray, _: np.ndarray | None) -> Answers:
    """A softmax head moved by the offsets (G, K), averaged over the probabilities of a head that tells the subgroup."""
    prefix = "group_"
    finder = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    mean = _plain(finder, x, None).probabilities @ arrays["offset"]
    probabilities = softmax(np.log(_plain(arrays, x, None).probabilities.clip(1e-12)) + mean)
    return Answers(probabilities, probabilities.argmax(1))


def _group_thresholds(arrays: Arrays, x: np.ndarray, g: np.ndarray | None) -> Answers:
    """A binary softmax head that decides by two thresholds of each subgroup, (G + 1,) each, and a draw of the face."""
    assert g is not None
    probabilities = _plain(arrays, x, None).probabilities
    p0, t0, p1, t1, ignore, constant = (
        arrays[name][g] for name in ("p0", "threshold0", "p1", "threshold1", "ignore", "constant")
    )
    score = probabilities[:, 1]
    chance = ignore * constant + (1 - ignore) * (p0 * (score > t0) + p1 * (score > t1))
    return Answers(probabilities, (face_draws(x, int(arrays["salt"][0])) < chance).astype(np.int64))


def _randomised(arrays: Arrays, x: np.ndarray, _: np.ndarray | None) -> Answers:
    """Binary linear heads, weight (T, d), bias (T,): a face's draw decides by which, each with its chance (T,)."""
    logits = hidden(arrays, x) @ arrays["weight"].T + arrays["bias"]
    score = 1 / (1 + np.exp(-logits.clip(-60, 60))) @ arrays["chance"]
    drawn = face_draws(x, int(arrays["salt"][0])) < (logits > 0) @ arrays["chance"]
    return Answers(np.column_stack([1 - score, score]), drawn.astype(np.int64))


PREDICTORS: dict[str, Predictor] = {
    "softmax": _plain,
    "one-vs-rest": _one_vs_rest,
    "mixture": _mixture,
    "group-adjusted": _group_adjusted,
    "inferred-adjusted": _inferred_adjusted,
    "group-thresholds": _group_thresholds,
    "randomised": _randomised,
}
