"""How many faces are needed, before any is collected: to find a gap, and to show that a limit on it is kept."""

import numpy as np
from scipy import optimize, stats

from fairaudit.errors import UsageError
from fairaudit.metrics.detectable import power_of
from fairaudit.metrics.intervals import mover_difference, wilson, z_value

MOST = 1e9  # faces a subgroup; more is said to be impossible
_SIMULATED = 4000
_SMALLEST = 2.0


def faces_to_find(groups: int, rate: float, gap: float, alpha: float, power: float) -> int:
    """Return the faces in each of `groups` equal subgroups that find one at rate − gap against the rest at `rate`.

    By the two-sided score test (see `detectable.power_of`). alpha: the level of the family, shared by Bonferroni among
    the contrasts (one for two groups, else one a group).
    Raises UsageError where the rates lie outside 0…1 or no number below a billion would do.
    """
    _check(groups, rate, alpha, power)
    if not (gap != 0 and 0 <= rate - gap <= 1):
        raise UsageError(
            f"gap {gap:g} at rate {rate:g}: one group would have the rate {rate - gap:g}; the gap must not be 0, and "
            "both rates must lie in 0 to 1"
        )
    level = alpha / contrasts(groups)

    def missing(n: float) -> float:
        sizes = np.array([n]), np.array([n * (groups - 1)])
        return float(power_of(np.array([rate]), np.array([-gap]), *sizes, level)[0]) - power

    if missing(MOST) < 0:
        raise UsageError(f"gap {gap:g}: more than {MOST:,.0f} faces in each group would be needed; name a larger gap")
    if missing(_SMALLEST) >= 0:
        return int(_SMALLEST)
    return int(np.ceil(optimize.brentq(missing, _SMALLEST, MOST, rtol=1e-9)))


def contrasts(groups: int) -> int:
    """Return how many distinct contrasts of one subgroup against the rest there are: two groups make one."""
    return 1 if groups == 2 else groups


def power_to_pass(n: int, groups: int, rate: float, limit: float, alpha: float, seed: int = 0) -> float:
    """Return how often `difference <= limit` passes with `n` faces in each subgroup, all at `rate`: simulated.

    Judged as an audit does: the largest of all pairwise Newcombe upper limits at the level alpha / pairs. 4,000 seeded
    draws, the same for every `n`, so the Monte-Carlo error is at most .008 and the answer grows with n.
    """
    uniform = np.random.default_rng([seed, groups]).random((_SIMULATED, groups))
    # with equal n a pair's upper limit grows with its first and falls with its second value: the extremes decide
    first, second = (stats.binom.ppf(u, n, rate) / n for u in (uniform.max(1), uniform.min(1)))
    z, size = z_value(1 - alpha, groups * (groups - 1) // 2), np.array(float(n))
    upper = mover_difference((first, *wilson(first, size, z)), (second, *wilson(second, size, z)))[1]
    return float((upper <= limit).mean())


def faces_to_pass(groups: int, rate: float, limit: float, alpha: float, power: float, seed: int = 0) -> int:
    """Return the faces in each subgroup with which `difference <= limit` passes when there is truly no gap.

    Starts at the normal approximation, √n = √(rate (1 − rate)) (q + z √2) / limit with q the `power` quantile of the
    studentized range (Tukey) and z of the pairwise intervals, and ends by simulation, to within 1 %.
    Raises UsageError where no number below a billion would do.
    """
    _check(groups, rate, alpha, power)
    if not 0 < limit < 1:
        raise UsageError(f"limit {limit:g}: a limit on a difference of rates lies between 0 and 1")
    start = normal_faces_to_pass(groups, rate, limit, alpha, power)
    if start > MOST:
        raise UsageError(f"limit {limit:g}: more than {MOST:,.0f} faces in each group would be needed")

    def enough(n: float) -> bool:
        return power_to_pass(int(np.ceil(n)), groups, rate, limit, alpha, seed) >= power

    few, many = start, start
    while enough(few) and few > _SMALLEST:
        few, many = max(few / 1.2, _SMALLEST), few
    while not enough(many):
        few, many = many, many * 1.2
    while many / few > 1.01 and many - few > 1:
        middle = (few * many) ** 0.5
        few, many = (few, middle) if enough(middle) else (middle, many)
    return int(np.ceil(many))


def normal_faces_to_pass(groups: int, rate: float, limit: float, alpha: float, power: float) -> float:
    """Return the normal approximation that `faces_to_pass` starts from."""
    pairs = groups * (groups - 1) // 2
    if groups == 2:
        quantile = np.sqrt(2) * stats.halfnorm.ppf(power)
    else:
        quantile = stats.studentized_range.ppf(power, groups, np.inf)
    spread = max(rate * (1 - rate), 1e-4)
    return float(spread * ((quantile + z_value(1 - alpha, pairs) * np.sqrt(2)) / limit) ** 2)


def design_effect(per_subject: float, icc: float) -> float:
    """Return by how much repeated pictures of a person widen variances: 1 + (m − 1) · ICC (Kish 1965)."""
    if not (per_subject >= 1 and 0 <= icc <= 1):
        raise UsageError(f"{per_subject:g} pictures a person with ICC {icc:g}: give at least 1 and an ICC in 0 to 1")
    return 1 + (per_subject - 1) * icc


def _check(groups: int, rate: float, alpha: float, power: float) -> None:
    if groups < 2:
        raise UsageError(f"{groups} group: a gap needs at least two")
    if not 0 <= rate <= 1:
        raise UsageError(f"rate {rate:g}: a rate lies in 0 to 1, such as 0.94")
    if not 0 < alpha < 0.5:
        raise UsageError(f"alpha {alpha:g}: a level lies between 0 and 0.5, such as 0.05")
    if not alpha < power < 1:
        raise UsageError(f"power {power:g}: it lies between alpha ({alpha:g}) and 1, such as 0.8")
