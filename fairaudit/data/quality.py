"""How a picture was taken, in three numbers: possible covariates of a gap, never subgroups of people by themselves."""

import numpy as np

QUALITY = ("brightness", "contrast", "sharpness")
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow's conversion to grey


def image_quality(pixels: np.ndarray) -> np.ndarray:
    """Return (brightness, contrast, sharpness) of a uint8 RGB picture (H, W, 3), H and W at least 3.

    brightness: mean luma, 0 black … 1 white; contrast: its standard deviation, 0 … 0.5; sharpness: variance of the
    Laplacian of luma in 0…1 (four neighbours; Pech-Pacheco et al., ICPR 2000), from 0, photographs mostly under 0.1.
    Sharpness depends on the size at which the picture is looked at.
    """
    luma = pixels.astype(np.float32) @ _LUMA
    edges = luma[1:-1, :-2] + luma[1:-1, 2:]
    edges += luma[:-2, 1:-1]
    edges += luma[2:, 1:-1]
    edges -= 4 * luma[1:-1, 1:-1]
    mean, variance = _moments(luma.ravel())
    return np.array([mean / 255, np.sqrt(variance) / 255, _moments(edges.ravel())[1] / 255**2], dtype=np.float32)


def _moments(values: np.ndarray) -> tuple[float, float]:
    mean = values.mean()
    centred = values - mean
    return float(mean), float(centred @ centred) / len(values)
