"""What a hidden part of a picture is filled with: what lies around it, the data's mean colour, or noise.

A fill is a plain function (pixels, hidden, palette, seed) → colours, float (H, W, 3), of uint8 RGB pixels (H, W, 3) and
how far each pixel is hidden, 0 … 1 (H, W).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_REACHES = (0.05, 0.1, 0.2, 0.4)  # standard deviations of the blur, as shares of the shorter side
_ENOUGH = 0.02  # share of a pixel's blur that must come from what is not hidden


@dataclass(frozen=True)
class Palette:
    """Mean colour and spread of a set of pictures, each (R, G, B) in 0…255."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]


Fill = Callable[[np.ndarray, np.ndarray, Palette, int], np.ndarray]


def around(pixels: np.ndarray, hidden: np.ndarray, palette: Palette, seed: int = 0) -> np.ndarray:
    """Return what lies around the hidden part, blurred into it (normalized convolution): skin tone and light go on.

    Nothing of the hidden part itself enters, as it would in a plain blur of the picture. The narrowest blur that
    reaches something is taken; where none does, the mean colour of the data.
    """
    left = (1 - hidden)[..., None]
    filled = np.broadcast_to(np.array(palette.mean), pixels.shape).astype(float)
    for reach in reversed(_REACHES):
        sigma = reach * min(pixels.shape[:2])
        weight = ndimage.gaussian_filter(left, (sigma, sigma, 0), mode="nearest")
        colour = ndimage.gaussian_filter(pixels * left, (sigma, sigma, 0), mode="nearest")
        known = weight > _ENOUGH
        filled = np.where(known, colour / np.where(known, weight, 1.0), filled)
    return filled


def flat(pixels: np.ndarray, hidden: np.ndarray, palette: Palette, seed: int = 0) -> np.ndarray:
    """Return the mean colour of the data everywhere."""
    return np.broadcast_to(np.array(palette.mean), pixels.shape).astype(float)


def noisy(pixels: np.ndarray, hidden: np.ndarray, palette: Palette, seed: int = 0) -> np.ndarray:
    """Return normal noise with the data's mean colour and spread, each pixel and channel by itself."""
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape)
    return np.array(palette.mean) + np.array(palette.spread) * drawn


def hide(pixels: np.ndarray, hidden: np.ndarray, fill: Fill, palette: Palette, seed: int = 0) -> np.ndarray:
    """Return the picture with its hidden part filled, uint8 RGB (H, W, 3); half hidden pixels are mixed."""
    mixed = pixels * (1 - hidden)[..., None] + fill(pixels, hidden, palette, seed) * hidden[..., None]
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def palette_of(pictures: list[np.ndarray]) -> Palette:
    """Return the mean colour of pictures uint8 RGB, and the standard deviation of their pixels about it."""
    sums, squares, count = np.zeros(3), np.zeros(3), 0
    for picture in pictures:
        flat_pixels = picture.reshape(-1, 3).astype(float)
        sums, squares, count = sums + flat_pixels.sum(0), squares + (flat_pixels**2).sum(0), count + len(flat_pixels)
    mean = sums / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Palette(_rounded(mean), _rounded(spread))


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 3) for value in values)
    return red, green, blue


FILLS: dict[str, Fill] = {"blur": around, "mean": flat, "noise": noisy}
