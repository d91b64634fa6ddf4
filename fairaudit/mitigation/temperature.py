"""Prior and temperature of each subgroup: probabilities calibrated within it, and its class shares taken out.

A face of subgroup g gets p′ ∝ exp(a[g] · log p + b[g]). Sources: Platt, "Probabilistic outputs for support vector
machines", 1999; Guo et al., "On calibration of modern neural networks", ICML 2017 (temperature 1 / a); Saerens,
Latinne & Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14,
2002 (priors). a and b minimise the negative log likelihood of the fitting half of the validation faces, first of all
subgroups together, then of each, drawn towards the common values with the weight of `PULL` faces. Candidates, chosen
on the other half: the head as it is; a temperature for each subgroup, which changes no decision; temperature and prior
(a, b); and "equal priors": the same, with the subgroup's own class shares π(k | g) divided out and those of all faces
put in their place, so that a class is not likelier for being frequent in a face's subgroup.
Group labels: validation and test. Cost: one fit and a few small optimisations.
"""

import numpy as np
from scipy.optimize import minimize

from fairaudit.mitigation.postprocessing import Start, decide, fitted_groups, start
from fairaudit.mitigation.problem import Fitted, Problem, softmax

PULL = 10.0
STEEPEST = 20.0


def prior_temperature(problem: Problem) -> Fitted:
    """Return erm's head with its subgroup's temperature and prior, which needs each face's subgroup at test time."""
    started = start(problem)
    made = {}
    for name, free in (("temperature", False), ("prior and temperature", True)):
        slope, offset = _by_group(problem, started, free)
        arrays = {**started.head.arrays, "slope": slope, "offset": offset}
        made[name] = Fitted(kind="group-adjusted", arrays=arrays, uses_group=True)
    equal = offset.copy()
    for g in fitted_groups(problem, started.g):
        equal[g] += np.log(shares(started.y, len(problem.classes)))
        equal[g] -= np.log(shares(started.y[started.g == g], len(problem.classes)))
    arrays = {**started.head.arrays, "slope": slope, "offset": equal}
    made["equal priors"] = Fitted(kind="group-adjusted", arrays=arrays, uses_group=True)
    return decide(started, made, "uses the subgroup of each face at test time")


def shares(y: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of each class among `y` (m,), with one face of each added so that none is 0."""
    return (np.bincount(y, minlength=classes) + 1) / (len(y) + classes)


def fit_scaling(
    log_p: np.ndarray, y: np.ndarray, free: bool, towards: tuple[float, np.ndarray] | None = None
) -> tuple[float, np.ndarray]:
    """Return a > 0 and b (K,), mean 0, under which exp(a · log p + b) is likeliest for labels `y`; b = 0 unless `free`.

    Minimised is the summed negative log likelihood plus `PULL` / 2 · squared distance to `towards` (default: 1 and 0).
    """
    classes = log_p.shape[1]
    a0, b0 = towards if towards is not None else (1.0, np.zeros(classes))
    own = np.eye(classes)[y]
    use = float(free)

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        logits = v[0] * log_p + v[1:] * use
        p = softmax(logits)
        picked = np.log(np.clip((p * own).sum(1), 1e-300, None)).sum()
        apart = v - np.concatenate([[a0], b0])
        slope = np.concatenate([[((p - own) * log_p).sum()], (p - own).sum(0) * use])
        return -picked + PULL / 2 * (apart @ apart), slope + PULL * apart

    begin = np.concatenate([[a0], b0])
    bounds = [(1 / STEEPEST, STEEPEST), *[(None, None)] * classes]
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(found[0]), (found[1:] - found[1:].mean()) * use


def _by_group(problem: Problem, started: Start, free: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes (G + 1,) and offsets (G + 1, K): thin subgroups and the last row get the common ones."""
    common = fit_scaling(started.log_p, started.y, free)
    slope = np.full(len(problem.groups) + 1, common[0])
    offset = np.tile(common[1], (len(problem.groups) + 1, 1))
    for g in fitted_groups(problem, started.g):
        rows = started.g == g
        slope[g], offset[g] = fit_scaling(started.log_p[rows], started.y[rows], free, common)
    return slope, offset
