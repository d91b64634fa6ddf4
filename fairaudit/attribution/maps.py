"""Attribution maps in face coordinates: mean maps per subgroup, and the shares of the centre and the border.

Only numpy: the report reads these without torch.
"""

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats

from fairaudit.subgroups import OVERALL, UNKNOWN
from fairaudit.wording import plural

CENTRE_AREA = 0.5
CONFIDENCE = 0.95
REGIONS = ("centre", "border")
LARGEST = 56  # pixels of a map's longer side
CELLS = 14  # a side, where maps are compared or parts of a picture are taken away: single pixels are noise


def normalized(attributions: np.ndarray) -> np.ndarray:
    """Turn attributions (n, C, H, W) into (2, n, H, W): absolute and signed attribution of each pixel.

    Both are divided by the face's summed absolute attribution: the absolute map sums to 1, the signed one to −1…1. A
    face whose attribution is zero everywhere has no map: all NaN.
    """
    values = attributions.astype(np.float64)
    both = np.stack([np.abs(values).sum(axis=1), values.sum(axis=1)])
    total = both[:1].sum(axis=(2, 3), keepdims=True)
    return np.divide(both, total, out=np.full_like(both, np.nan), where=total > 0)


def face_maps(attributions: np.ndarray) -> np.ndarray:
    """Turn attributions (n, C, H, W) into maps (n, H, W) of absolute attribution, each scaled to sum 1."""
    return np.asarray(normalized(attributions)[0])


def coarse(maps: np.ndarray) -> np.ndarray:
    """Return maps (…, H, W) of at most LARGEST pixels a side; every pixel is the sum of those that it stands for."""
    height, width = maps.shape[-2:]
    if max(height, width) <= LARGEST:
        return maps
    ratio = LARGEST / max(height, width)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    area = height * width / (size[0] * size[1])
    flat = maps.reshape(-1, height, width).astype(np.float32)
    small = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX), dtype=float) * area for one in flat]
    return np.stack(small).reshape(*maps.shape[:-2], *size[::-1])


def cell_of(side: int) -> np.ndarray:
    """Return the row (or column) of CELLS that each of `side` rows (or columns) of pixels lies in: (side,) integers."""
    return np.minimum(np.arange(side) * CELLS // side, CELLS - 1)


def cell_sums(values: np.ndarray) -> np.ndarray:
    """Return the sums of a map (H, W) over CELLS × CELLS cells; of fewer where it has fewer pixels."""
    rows, columns = (np.unique(cell_of(side), return_index=True)[1] for side in values.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


def share_of_centre(absolute: np.ndarray) -> float:
    """Return the share of an absolute map (H, W) that lies in the centre."""
    return float(absolute[centre_mask(*absolute.shape)].sum())


def centre_mask(height: int, width: int) -> np.ndarray:
    """Return (H, W) booleans: the pixels whose middle lies in the central ellipse that covers half of the image."""
    y = (np.arange(height) + 0.5) / height - 0.5
    x = (np.arange(width) + 0.5) / width - 0.5
    return y[:, None] ** 2 + x[None, :] ** 2 <= CENTRE_AREA / np.pi


def describe_centre(height: int, width: int) -> str:
    """Return the sentence that defines the regions, with the share that evenly spread attribution would have."""
    area = float(centre_mask(height, width).mean())
    return (
        f"The centre is the ellipse in the middle of the image that covers {100 * area:.1f} % of it, the border is the "
        f"rest: attribution spread evenly over the image would have a share of {area:.3f} in the centre."
    )


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of shares and its Student t interval, clipped to 0…1; NaN for what n cannot give."""
    mean, low, high = signed_interval(values)
    return mean, float(np.maximum(0.0, low)), high  # NaN stays NaN


def signed_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of correlations, or of differences of shares, and its Student t interval, clipped to −1…1."""
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if n < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, max(-1.0, mean - half), min(1.0, mean + half)


def difference_interval(values: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """Return mean(values) − mean(others) and its Welch interval, clipped to −1…1; NaN for what n cannot give."""
    if min(len(values), len(others)) == 0:
        return np.nan, np.nan, np.nan
    difference = float(values.mean() - others.mean())
    if min(len(values), len(others)) < 2:
        return difference, np.nan, np.nan
    parts = np.array([values.var(ddof=1) / len(values), others.var(ddof=1) / len(others)])
    if parts.sum() == 0:
        return difference, difference, difference
    freedom = parts.sum() ** 2 / (parts[0] ** 2 / (len(values) - 1) + parts[1] ** 2 / (len(others) - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(parts.sum()))
    return difference, max(-1.0, difference - half), min(1.0, difference + half)


def mean_maps(maps: np.ndarray, groups: pd.Categorical) -> dict[str, np.ndarray]:
    """Return {subgroup: mean map (H, W)} of maps (n, H, W); subgroups without a face are left out."""
    labels = np.asarray(groups, dtype=object)
    return {str(g): maps[labels == g].mean(axis=0) for g in groups.categories if (labels == g).any()}


def share_rows(centre: np.ndarray, task: str, by: str, groups: pd.Categorical) -> list[dict[str, object]]:
    """Return one row of results.ATTRIBUTION_COLUMNS for each subgroup and region; `centre` (n,): the shares there."""
    labels = np.asarray(groups, dtype=object)
    rows: list[dict[str, object]] = []
    for group in groups.categories:
        inside, rest = labels == group, (labels != group) & (labels != UNKNOWN)
        for region in REGIONS:
            share = centre if region == "centre" else 1 - centre
            mean, low, high = mean_interval(share[inside])
            difference, difference_low, difference_high = difference_interval(share[inside], share[rest])
            rows.append(
                {
                    "task": task,
                    "by": by,
                    "subgroup": str(group),
                    "region": region,
                    "share": mean,
                    "low": low,
                    "high": high,
                    "n": int(inside.sum()),
                    "rest": float(share[rest].mean()) if rest.any() else np.nan,
                    "difference": difference,
                    "difference_low": difference_low,
                    "difference_high": difference_high,
                    "reason": _reason(int(inside.sum()), int(rest.sum()), by),
                }
            )
    return rows


def _reason(n: int, rest: int, by: str) -> str:
    """Return in words what a row lacks, or an empty string."""
    if n == 0:
        return "no face of this subgroup was attributed"
    if n < 2:
        return "one face gives no interval"
    if by != OVERALL and rest < 2:
        return (
            f"{plural(rest, 'other face gives', 'other faces give')} no interval for the difference"
            if rest
            else "there is no one else to compare"
        )
    return ""
