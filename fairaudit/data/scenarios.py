"""Made-up predictions in which no subgroup is treated differently, in six ways that mislead, or exactly one is.

Recalls differ between classes, so that a difference in label mix alone moves accuracy and selection rates. The null
that holds in all six is that of error rates: P(prediction | label) is the same in every subgroup.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from fairaudit.registry import lookup

CLASSES = ("A", "B", "C")
AXES = ("group", "site", "group:site")
# P(prediction | label), rows are labels
CONFUSION = np.array([[0.92, 0.05, 0.03], [0.08, 0.82, 0.10], [0.05, 0.15, 0.80]])
_SITES = ("north", "south")
BAD = "g2"


def _table(
    rng: np.random.Generator, group: np.ndarray, label: np.ndarray, site: np.ndarray, wrong: np.ndarray | None = None
) -> pd.DataFrame:
    """Return predictions drawn from CONFUSION; `wrong`: the chance of each face that another label is predicted."""
    chance = CONFUSION[label].cumsum(1)
    predicted = (rng.random((len(label), 1)) > chance).sum(1)
    if wrong is not None:
        other = (label + rng.integers(1, len(CLASSES), len(label))) % len(CLASSES)
        predicted = np.where(rng.random(len(label)) < wrong, other, predicted)
    names = np.array(CLASSES, dtype=object)
    return pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(len(label))],
            "kind_true": names[label],
            "kind_pred": names[predicted],
            "group": np.array([f"g{g}" for g in group], dtype=object),
            "site": np.array(_SITES, dtype=object)[site],
        }
    )


def _labels(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.choice(len(CLASSES), n, p=(0.4, 0.35, 0.25))


def equal_mix(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Five subgroups of unequal size with the same mix of labels."""
    return _table(rng, rng.choice(5, n, p=(0.4, 0.25, 0.15, 0.12, 0.08)), _labels(rng, n), rng.integers(0, 2, n))


def unequal_class_mix(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Five subgroups whose labels are mixed very differently."""
    group = rng.integers(0, 5, n)
    mix = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.45, 0.45, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    label = (rng.random((n, 1)) > mix[group].cumsum(1)).sum(1)
    return _table(rng, group, label, rng.integers(0, 2, n))


def repeated_subjects(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Four subgroups of persons with one to six pictures each, some persons much harder than others."""
    pictures = rng.integers(1, 7, n)
    person = np.repeat(np.arange(n), pictures)[:n]
    group, label, site = rng.integers(0, 4, n)[person], _labels(rng, n)[person], rng.integers(0, 2, n)[person]
    hard = np.where(rng.random(n) < 0.15, 0.7, 0.0)[person]
    return _table(rng, group, label, site, hard).assign(subject_id=[f"p{i}" for i in person])


def overlapping_axes(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Four subgroups that live almost apart: most of g0 and g1 in the north, most of g2 and g3 in the south."""
    group = rng.integers(0, 4, n)
    site = (rng.random(n) < np.where(group < 2, 0.15, 0.85)).astype(int)
    return _table(rng, group, _labels(rng, n), site)


def sparse_cells(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Sixteen subgroups, most of them around the smallest size that is assessed."""
    shares = np.array([6.0] * 2 + [1.0] * 14)
    return _table(rng, rng.choice(16, n, p=shares / shares.sum()), _labels(rng, n), rng.integers(0, 2, n))


def noisy_group_labels(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Five subgroups of different label mix, one face in four labelled as a member of another one."""
    table = unequal_class_mix(n, rng)
    other = np.array([f"g{g}" for g in rng.integers(0, 5, n)], dtype=object)
    return table.assign(group=np.where(rng.random(n) < 0.25, other, table["group"].to_numpy(dtype=object)))


NULLS: Mapping[str, Callable[[int, np.random.Generator], pd.DataFrame]] = {
    "equal mix": equal_mix,
    "unequal class mix": unequal_class_mix,
    "repeated subjects": repeated_subjects,
    "overlapping axes": overlapping_axes,
    "sparse cells": sparse_cells,
    "noisy group labels": noisy_group_labels,
}


def null_table(name: str, n: int, seed: int) -> pd.DataFrame:
    """Return `n` faces of one of NULLS in the public predictions format; the task is `kind`, the axes are AXES."""
    return lookup(NULLS, name, "null")(n, np.random.default_rng(seed))


def one_bad_group(n: int, seed: int, gap: float) -> pd.DataFrame:
    """Return `n` faces of five equal subgroups, of which BAD alone has a share `gap` of its predictions spoilt."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 5, n)
    return _table(rng, group, _labels(rng, n), rng.integers(0, 2, n), np.where(group == 2, gap, 0.0))


def one_bad_cell(n: int, seed: int, gap: float) -> pd.DataFrame:
    """Return `n` faces of which those of BAD in the south alone have a share `gap` of predictions spoilt."""
    rng = np.random.default_rng(seed)
    group, site = rng.integers(0, 5, n), rng.integers(0, 2, n)
    return _table(rng, group, _labels(rng, n), site, np.where((group == 2) & (site == 1), gap, 0.0))


def margins_only(n: int, seed: int, odds: float) -> pd.DataFrame:
    """Return `n` faces whose odds of a right prediction are multiplied by `odds` in BAD, and again in the south.

    On the logit scale the two effects add up: no intersection is more than its margins.
    """
    rng = np.random.default_rng(seed)
    group, site, label = rng.integers(0, 5, n), rng.integers(0, 2, n), _labels(rng, n)
    right = CONFUSION[label, label]
    factor = np.where(group == 2, odds, 1.0) * np.where(site == 1, odds, 1.0)
    worse = factor * right / (1 - right + factor * right)
    other = (label + rng.integers(1, len(CLASSES), n)) % len(CLASSES)
    table = _table(rng, group, label, site)
    names = np.array(CLASSES, dtype=object)
    return table.assign(kind_pred=names[np.where(rng.random(n) < worse, label, other)])
