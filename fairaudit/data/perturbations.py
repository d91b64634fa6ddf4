"""Pictures made worse in five documented steps: blur, noise, JPEG, darkness, low contrast; the same for everybody.

A perturbation is a plain function (pixels, amount, seed) → pixels on uint8 RGB (H, W, 3) as a model looks at them. How
much is done depends on the strength alone, never on who is in the picture.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image
from scipy import ndimage

STRENGTHS = 5
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's conversion to grey
Change = Callable[[np.ndarray, float, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """One way in which pictures get worse: its five amounts, weakest first, what they count, and what it stands for.

    `shown` is the format in which an amount is read: "{:g} stops less light".
    """

    change: Change
    amounts: tuple[float, float, float, float, float]
    unit: str
    shown: str
    stands_for: str


def blur(pixels: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Return the picture under a Gaussian blur of standard deviation `amount` × its shorter side.

    Cut off at four standard deviations; beyond the border the picture goes on as at its edge.
    """
    sigma = amount * min(pixels.shape[:2])
    out = ndimage.gaussian_filter(pixels.astype(np.float32), (sigma, sigma, 0), mode="nearest", truncate=4.0)
    return _bytes(out)


def noise(pixels: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Return the picture plus normal noise of standard deviation `amount` × 255 in every pixel and channel by itself.

    The same seed gives the same pattern, whatever the amount.
    """
    pattern = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    return _bytes(pixels + (255 * amount) * pattern)


def jpeg(pixels: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Return the picture after one passage through JPEG at quality `amount` (1 … 95 of the Independent JPEG Group's
    scale), colours at half resolution.
    """
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=round(amount), subsampling="4:2:0")
    decoded: np.ndarray = simplejpeg.decode_jpeg(stream.getvalue(), colorspace="RGB")
    return decoded


def darkness(pixels: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Return the picture as if `amount` stops less light had come in: linear light (sRGB, IEC 61966-2-1) × 2^−amount.

    Rounded to whole grey levels, so that detail in the shadows is lost, as in a camera.
    """
    level = np.arange(256) / 255
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) * 2.0**-amount
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return _bytes(255 * shown)[pixels]


def low_contrast(pixels: np.ndarray, amount: float, seed: int = 0) -> np.ndarray:
    """Return the picture with the share `amount` of every pixel's distance from the picture's mean luma taken away."""
    middle = float((pixels.reshape(-1, 3).mean(0) * _LUMA).sum())
    return _bytes(middle + (1 - amount) * (pixels.astype(np.float32) - middle))


def seed_of(image: str, seed: int) -> int:
    """Return the seed of one picture's noise: from its name and the run's seed, so that order does not matter."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{image}".encode(errors="surrogateescape")).digest()[:8])


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


PERTURBATIONS: dict[str, Perturbation] = {
    "blur": Perturbation(
        change=blur,
        amounts=(0.005, 0.01, 0.02, 0.03, 0.05),
        unit="standard deviation as a share of the picture’s side",
        shown="{:.1%} of the side",
        stands_for="out of focus, moved, or enlarged from few pixels",
    ),
    "noise": Perturbation(
        change=noise,
        amounts=(0.02, 0.05, 0.1, 0.2, 0.3),
        unit="standard deviation as a share of the range from black to white",
        shown="{:.0%} of the range",
        stands_for="a sensor in little light",
    ),
    "jpeg": Perturbation(
        change=jpeg,
        amounts=(50, 30, 15, 8, 4),
        unit="JPEG quality",
        shown="quality {:g}",
        stands_for="strong compression for sending or storing",
    ),
    "darkness": Perturbation(
        change=darkness,
        amounts=(1, 2, 3, 4, 5),
        unit="stops less light",
        shown="{:g} stops",
        stands_for="under-exposure",
    ),
    "low-contrast": Perturbation(
        change=low_contrast,
        amounts=(0.3, 0.5, 0.7, 0.85, 0.95),
        unit="share of the contrast taken away",
        shown="{:.0%} gone",
        stands_for="haze, glare, a flat print",
    ),
}
