"""Calibration of the predicted class's stated probability, estimated for every pool of a sample."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fairaudit.metrics import calibration
from fairaudit.metrics.estimates import Estimate
from fairaudit.metrics.intervals import Limits
from fairaudit.metrics.measures import MOST_CERTAIN
from fairaudit.metrics.pools import Pools
from fairaudit.metrics.rates import METRICS
from fairaudit.metrics.scores import LEAST_OF_EACH

FEW = f"not estimable: an interval needs {LEAST_OF_EACH} right and {LEAST_OF_EACH} wrong predictions"


@dataclass(frozen=True, kw_only=True)
class TopPool:
    """One pool's predictions by stated confidence: distinct scores (D,), weights of right and wrong ones, their Σw²;
    and where subjects are known the faces themselves (positions).
    """

    score: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    squares: tuple[np.ndarray, np.ndarray]
    faces: tuple[int, int]
    members: np.ndarray | None


def top_pools(pools: Pools) -> Iterator[TopPool]:
    """Yield every pool's table of confidences and right predictions."""
    table = pools.top_table()
    people = pools.faces() if pools.sample.subject is not None else iter([None] * len(pools))
    for (score, columns), members in zip(pools.tables(table), people, strict=True):
        right, wrong, right2, wrong2, rights, wrongs = columns
        yield TopPool(
            score=score,
            right=right,
            wrong=wrong,
            squares=(right2, wrong2),
            faces=(round(rights.sum()), round(wrongs.sum())),
            members=None if members is None else members[pools.scores.usable[members]],
        )


def error_of_calibration(pools: Pools) -> Estimate:
    """Estimate the debiased calibration error of the predicted class's probability (root of the squared error)."""
    rows = []
    for pool in top_pools(pools):
        n = sum(pool.faces)
        if n < 2:
            rows.append((np.nan, np.nan, n))
            continue
        if pool.members is None:
            found = calibration.calibration_error(pool.score, pool.right, pool.wrong, pool.squares, n)
        else:
            found = calibration.clustered_calibration_error(
                pools.scores.confidence[pool.members],
                pools.scores.right[pool.members],
                pools.weight[pool.members],
                pools.sample.subject[pool.members],  # type: ignore[index]
            )
        rows.append((*found, n))
    squared, variance, n = (column[:, None] for column in np.array(rows, dtype=float).T)

    def limits(z: float) -> Limits:
        reach = z * np.sqrt(variance)
        low, high = (np.clip(calibration.signed_root(squared + side * reach), -1, 1) for side in (-1, 1))
        return low, high

    notes = np.full(squared.shape, "", dtype=object)
    notes[np.isnan(squared) & (n > 0)] = "not estimable: no two independent faces share a bin of scores"
    return Estimate(
        metric=METRICS["ece"],
        value=calibration.signed_root(squared),
        denominator=n,
        effective=pools.effective(n, lambda: pools.scores.usable[:, None]),
        limits=limits,
        notes=notes,
    )


def recalibrations(pools: Pools) -> dict[str, Estimate]:
    """Estimate slope and intercept of the logistic recalibration of the predicted class's probability."""
    fits, sizes = [], []
    start: np.ndarray | None = None
    groups = len(pools.known)
    for q, pool in enumerate(top_pools(pools)):
        sizes.append(pool.faces)
        if not sum(pool.faces):
            fits.append(calibration.Recalibration(value=np.full(2, np.nan), variance=np.full(2, np.nan)))
            continue
        # everyone else of one subgroup is nearly everyone else of the one before
        squares = pool.squares if pools.sample.weight is not None else None
        fit = calibration.recalibrate(pool.score, pool.right, pool.wrong, squares, start if q >= groups else None)
        start = None if np.isnan(fit.value).any() else fit.value
        fits.append(fit if pool.members is None else _with_subjects(pools, fit, pool.members))
    few = np.min(sizes, axis=1) < LEAST_OF_EACH
    found = {}
    for i, name in enumerate(("calibration_intercept", "calibration_slope")):
        value, variance = (np.array([getattr(fit, part)[i] for fit in fits])[:, None] for part in ("value", "variance"))
        notes = np.array([fit.reason for fit in fits], dtype=object)[:, None]
        notes[few[:, None] & (notes == "") & ~np.isnan(value)] = FEW
        notes[(notes == "") & ~np.isnan(value) & pools.clipped()] = (
            f"confidences nearer than {MOST_CERTAIN:g} to 0 or 1 count as that far from it"
        )
        error = np.sqrt(np.where(few[:, None], np.nan, variance))
        total = np.sum(sizes, axis=1)[:, None].astype(float)
        found[name] = Estimate(
            metric=METRICS[name],
            value=value,
            denominator=total,
            effective=pools.effective(total, lambda: pools.scores.usable[:, None]),
            limits=_normal(value, error),
            notes=notes,
        )
    return found


def _normal(value: np.ndarray, error: np.ndarray) -> Callable[[float], Limits]:
    return lambda z: (value - z * error, value + z * error)


def _with_subjects(pools: Pools, fit: calibration.Recalibration, members: np.ndarray) -> calibration.Recalibration:
    if np.isnan(fit.value).any():
        return fit
    subject = pools.sample.subject
    assert subject is not None  # members are given only then
    variance = calibration.clustered_variance(
        fit.value,
        pools.scores.confidence[members],
        pools.scores.right[members],
        pools.weight[members],
        subject[members],
    )
    return calibration.Recalibration(value=fit.value, variance=variance, reason=fit.reason)
