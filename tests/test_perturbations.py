"""Perturbations against independent formulas: Pillow, scipy.signal, and the definitions written out."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageEnhance, ImageFilter
from scipy.signal import convolve2d

from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS, blur, darkness, jpeg, low_contrast, noise, seed_of


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A picture with smooth areas, edges and fine texture, uint8 RGB (48, 40, 3)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:40]
    base = 120 + 60 * np.sin(x / 6)[..., None] + np.stack([y, 48 - y, x], -1) + 40 * (x > 20)[..., None]
    return np.clip(base + rng.normal(0, 8, (48, 40, 3)), 0, 255).astype(np.uint8)


def test_blur_is_the_gaussian_that_it_says(picture):
    """Convolution with exp(−r² / 2σ²), written out, on a picture continued at its edges; and near Pillow's."""
    sigma = 0.03 * 40
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = np.pad(picture.astype(float), ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    by_hand = np.stack([convolve2d(padded[..., c], kernel, mode="valid") for c in range(3)], -1)
    assert np.abs(blur(picture, 0.03).astype(float) - by_hand).max() <= 0.51
    pillow = np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(sigma)))
    assert np.abs(blur(picture, 0.03).astype(float) - pillow).mean() < 1.5  # Pillow's is made of box blurs


def test_noise_has_its_standard_deviation_and_one_pattern():
    """Mean 0 and σ = amount × 255 on a grey that does not clip; twice the amount is twice the same pattern."""
    grey = np.full((120, 120, 3), 128, dtype=np.uint8)
    once, twice = (noise(grey, amount, seed=5).astype(float) - 128 for amount in (0.05, 0.1))
    assert abs(once.mean()) < 0.3 and abs(once.std() / (0.05 * 255) - 1) < 0.01
    assert np.abs(twice - 2 * once).max() <= 1.5
    assert (noise(grey, 0.05, 5) == noise(grey, 0.05, 5)).all() and (noise(grey, 0.05, 6) != noise(grey, 0.05, 5)).any()


# Table K.1 of the JPEG standard (ITU-T T.81): how coarsely luma is kept at quality 50, first row
_K1 = (16, 11, 10, 16, 24, 40, 51, 61)


def test_jpeg_is_that_of_another_encoder():
    """Within rounding of libjpeg-turbo's own interface, and at quality 50 the standard's table keeps the luma."""
    rng = np.random.default_rng(1)
    picture = np.clip(128 + 60 * np.sin(np.arange(64) / 5)[:, None, None] + rng.normal(0, 12, (64, 64, 3)), 0, 255)
    picture = picture.astype(np.uint8)
    for quality in PERTURBATIONS["jpeg"].amounts:
        data = simplejpeg.encode_jpeg(picture, quality=int(quality), colorsubsampling="420", fastdct=False)
        other = np.array(Image.open(io.BytesIO(data))).astype(int)
        assert np.abs(jpeg(picture, quality) - other).mean() < 1
        assert np.abs(jpeg(picture, quality).astype(int) - picture).mean() > 3
    table = Image.open(io.BytesIO(simplejpeg.encode_jpeg(picture, quality=50))).quantization[0]
    assert tuple(table[:8]) == _K1


def test_darkness_takes_light_not_grey_levels():
    """Each value against the sRGB formula by itself; a stop halves the linear light."""

    def light(level: float) -> float:
        return level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4

    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    for stops in (1, 4):
        for level, shown in zip(ramp[..., 0].ravel(), darkness(ramp, stops)[..., 0].ravel(), strict=True):
            goal = light(level / 255) / 2**stops
            # within half a grey level of the level whose light is the goal
            assert light(max(shown - 0.51, 0) / 255) <= goal <= light((shown + 0.51) / 255)
    assert (darkness(ramp, 0) == ramp).all()


def test_low_contrast_is_pillows_about_the_mean(picture):
    """Pillow's ImageEnhance.Contrast pulls towards the mean luma rounded to a grey level."""
    for amount in PERTURBATIONS["low-contrast"].amounts:
        pillow = np.array(ImageEnhance.Contrast(Image.fromarray(picture)).enhance(1 - amount))
        assert np.abs(low_contrast(picture, amount).astype(int) - pillow).max() <= 1


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_five_strengths_each_worse_and_nothing_else_touched(picture, name):
    """Farther from the picture with each strength; the given pixels stay, shape and type too, the same every time."""
    way, picture = PERTURBATIONS[name], picture.repeat(3, 0).repeat(3, 1)  # blur is in shares of the side
    before = picture.copy()
    made = [way.change(picture, amount, 3) for amount in way.amounts]
    errors = [float(((one.astype(float) - picture) ** 2).mean()) for one in made]
    assert len(made) == STRENGTHS and errors == sorted(errors) and len(set(errors)) == STRENGTHS and errors[0] > 0
    assert (picture == before).all() and all(one.shape == picture.shape and one.dtype == np.uint8 for one in made)
    assert (made[2] == way.change(picture, way.amounts[2], 3)).all()
    assert way.shown.format(way.amounts[0])


def test_seeds_go_by_name():
    """A picture's noise depends on its name and the run's seed, not on the order of pictures; odd names are fine."""
    assert seed_of("a.jpg", 0) == seed_of("a.jpg", 0)
    assert len({seed_of("a.jpg", 0), seed_of("a.jpg", 1), seed_of("b.jpg", 0), seed_of("\udcff🙂.jpg", 0)}) == 4
