"""Decision trees as plain arrays: fitted by another library, stored as tensors, read and answered in numpy alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fairaudit.errors import DataError

ROWS = 256  # faces that go down all trees together; more would only take more memory
LARGEST = 2**24  # values of leaves held at once, 128 MiB; only trees beyond all that can be trained here reach it
MOST_TREES = 5000  # a head, or of boosted trees a class: as many as a spec may ask for
DEEPEST = 1000  # steps from a root to a leaf: a chain of a million would be a way to stop a machine


@dataclass(frozen=True, kw_only=True)
class Trees:
    """The trees of one head, one node array after the other.

    `roots` (T,) are the trees' first nodes and `adds_to` (T,) the class whose score a tree adds to (−1: to every
    class). Of a node: `feature` (M,) is the column it asks for, −1 in a leaf; a face with x ≤ `threshold` (M,) goes to
    node `left` (M,), any other to `right` (M,); in a leaf, `left` is the row of `values` (L, K), or (L, 1) where
    `adds_to` names the class.
    """

    roots: np.ndarray
    adds_to: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every array by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Return the mean of the leaves' values (n, K), float64, for features `x` (n, D), float32: a random forest."""
        return self._in_parts(x, lambda part: self.values[self._leaves(part)].mean(1))

    def total(self, x: np.ndarray, classes: int) -> np.ndarray:
        """Return the sum of the leaves' values per class (n, classes), float64: the scores of boosted trees."""
        add = np.eye(classes)[self.adds_to]
        return self._in_parts(x, lambda part: self.values[self._leaves(part), 0] @ add)

    def _in_parts(self, x: np.ndarray, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        rows = max(1, min(ROWS, LARGEST // (len(self.roots) * self.values.shape[1])))
        return np.concatenate([work(x[start : start + rows]) for start in range(0, len(x), rows)])

    def _leaves(self, x: np.ndarray) -> np.ndarray:
        """Return the row of `values` (n, T) in which each face ends in each tree."""
        rows = np.arange(len(x))[:, None]
        node = np.repeat(self.roots[None, :], len(x), axis=0)
        while True:
            feature = self.feature[node]
            inner = feature >= 0
            if not inner.any():
                return self.left[node]
            smaller = x[rows, np.where(inner, feature, 0)] <= self.threshold[node]
            node = np.where(inner, np.where(smaller, self.left[node], self.right[node]), node)


def join_trees(trees: Sequence[Mapping[str, np.ndarray]]) -> Trees:
    """Join trees whose nodes are counted from 0 each; `adds_to` is a number, everything else as in `Trees`."""
    counts = np.array([len(tree["feature"]) for tree in trees])
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    leaves = np.concatenate([[0], np.cumsum([len(tree["values"]) for tree in trees])[:-1]])
    inner = [tree["feature"] >= 0 for tree in trees]
    left = [np.where(i, t["left"] + s, t["left"] + v) for t, i, s, v in zip(trees, inner, starts, leaves, strict=True)]
    right = [np.where(i, t["right"] + s, 0) for t, i, s in zip(trees, inner, starts, strict=True)]
    return Trees(
        roots=starts.astype(np.int32),
        adds_to=np.array([tree["adds_to"] for tree in trees], dtype=np.int32),
        feature=np.concatenate([tree["feature"] for tree in trees]).astype(np.int32),
        threshold=np.concatenate([tree["threshold"] for tree in trees]).astype(np.float32),
        left=np.concatenate(left).astype(np.int32),
        right=np.concatenate(right).astype(np.int32),
        values=np.concatenate([tree["values"] for tree in trees]).astype(np.float64),
    )


def from_sklearn(forest: Any, classes: int) -> Trees:
    """Return a fitted RandomForestClassifier's trees; a class that it was never shown keeps probability 0.

    Thresholds become the largest float32 below or at sklearn's float64 ones: features are float32, so every face goes
    the same way.
    """
    trees = []
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        leaf = tree.children_left < 0
        values = np.zeros((int(leaf.sum()), classes))
        shares = tree.value[leaf, 0, :]
        values[:, forest.classes_.astype(int)] = shares / shares.sum(1, keepdims=True)
        trees.append(
            {
                "adds_to": -1,
                "feature": np.where(leaf, -1, tree.feature),
                "threshold": np.where(leaf, 0, _at_most(tree.threshold)),
                "left": np.where(leaf, leaf.cumsum() - 1, tree.children_left),
                "right": np.where(leaf, 0, tree.children_right),
                "values": values,
            }
        )
    return join_trees(trees)


def from_xgboost(described: Mapping[str, Any]) -> Trees:
    """Return the trees of a booster's own JSON (`save_raw("json")`), of objective multi:softprob with base score 0.

    XGBoost goes left where x < threshold, in float32: that is x ≤ the float32 before it.
    """
    model = described["learner"]["gradient_booster"]["model"]
    trees = []
    for tree, target in zip(model["trees"], model["tree_info"], strict=True):
        left, right = (np.array(tree[key]) for key in ("left_children", "right_children"))
        leaf, conditions = left < 0, np.array(tree["split_conditions"], dtype=np.float32)
        trees.append(
            {
                "adds_to": target,
                "feature": np.where(leaf, -1, np.array(tree["split_indices"])),
                "threshold": np.where(leaf, 0, np.nextafter(conditions, np.float32(-np.inf))),
                "left": np.where(leaf, leaf.cumsum() - 1, left),
                "right": np.where(leaf, 0, right),
                "values": conditions[leaf, None].astype(np.float64),
            }
        )
    return join_trees(trees)


def _at_most(values: np.ndarray) -> np.ndarray:
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


def checked_trees(arrays: Mapping[str, np.ndarray], features: int, classes: int, *, boosted: bool, where: str) -> Trees:
    """Return the trees of a stranger's arrays. Raises DataError unless every way down ends in a leaf that is there."""
    kinds = {field.name: "f" if field.name in ("threshold", "values") else "i" for field in fields(Trees)}
    missing = sorted(kinds.keys() - arrays.keys())
    if missing:
        raise DataError(f"{where}: the trees lack {', '.join(missing)}")
    trees = Trees(**{name: arrays[name] for name in kinds})
    inner, places = trees.feature >= 0, np.arange(len(trees.feature))
    try:
        good = all(arrays[name].dtype.kind == kind for name, kind in kinds.items())
        good &= trees.values.ndim == 2 and trees.values.shape[1] == (1 if boosted else classes)
        good &= all(arrays[name].shape == trees.feature.shape for name in ("threshold", "left", "right"))
        good &= trees.roots.ndim == 1 and len(trees.roots) > 0 and trees.roots.shape == trees.adds_to.shape
        good &= bool(((trees.roots >= 0) & (trees.roots < len(places))).all()) and bool(
            (trees.feature < features).all()
        )
        for side in (trees.left, trees.right):  # children come after their parent, so no way down runs in a circle
            good &= bool(((side[inner] > places[inner]) & (side[inner] < len(places))).all())
        good &= bool(((trees.left[~inner] >= 0) & (trees.left[~inner] < len(trees.values))).all())
        good &= bool(((trees.adds_to >= (0 if boosted else -1)) & (trees.adds_to < classes)).all())
        good &= bool(np.isfinite(trees.values).all() and np.isfinite(trees.threshold).all())
    except (IndexError, ValueError, TypeError):
        good = False
    if not good:
        raise DataError(f"{where}: the trees are damaged (a node, feature or leaf that is not there, or no number)")
    most = MOST_TREES * (classes if boosted else 1)
    if len(trees.roots) > most:
        raise DataError(f"{where} is refused: it has {len(trees.roots):,} trees, more than {most:,}")
    if _deeper(trees, DEEPEST):
        raise DataError(f"{where} is refused: a tree of it is more than {DEEPEST:,} steps deep")
    return trees


def _deeper(trees: Trees, steps: int) -> bool:
    """Return whether a way from a root is longer than `steps`."""
    nodes = np.unique(trees.roots)
    for _ in range(steps + 1):
        inner = nodes[trees.feature[nodes] >= 0]
        if not len(inner):
            return False
        nodes = np.unique(np.concatenate([trees.left[inner], trees.right[inner]]))
    return True
