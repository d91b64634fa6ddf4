"""Augmentation with torchvision's transforms v2: every image gets its own, reproducible draw."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from fairaudit.spec import AugmentationSpec

COLUMNS = ("mirror", "rotate", "scale", "shift_x", "shift_y", "brightness", "contrast", "grayscale")


def draw(spec: AugmentationSpec, count: int, seed: Iterable[int]) -> np.ndarray:
    """Return the changes of `count` images, float32 (count, 8) in the order of COLUMNS.

    Drawn at once, so an image's change depends on the seed and its place only, never on batches or threads.
    """
    rng = np.random.default_rng(list(seed))
    spread = rng.uniform(-1, 1, (count, 6)) * [
        spec.rotate, spec.scale, spec.shift, spec.shift, spec.brightness, spec.contrast,
    ]  # fmt: skip
    chance = rng.uniform(0, 1, (count, 2)) < [0.5 if spec.mirror else 0.0, spec.grayscale]
    return np.column_stack([chance[:, 0], spread, chance[:, 1]]).astype(np.float32)


def augment(image: Tensor, change: np.ndarray) -> Tensor:
    """Return one uint8 image (3, S, S), changed; what a turn uncovers is filled by reflection.

    Raises nothing: every change that `draw` can give is possible for an image of 32 pixels or more.
    """
    mirror, turn, scale, right, down, bright, contrast, gray = (float(value) for value in change)
    size = image.shape[-1]
    if turn or scale or right or down:
        border = size // 6
        image = v2.affine(
            v2.pad(image, [border] * 4, padding_mode="reflect"),
            angle=turn,
            translate=[right * size, down * size],
            scale=1 + scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        image = v2.center_crop(image, [size, size])
    if mirror:
        image = v2.horizontal_flip(image)
    if bright:
        image = v2.adjust_brightness(image, 1 + bright)
    if contrast:
        image = v2.adjust_contrast(image, 1 + contrast)
    return v2.rgb_to_grayscale(image, num_output_channels=3) if gray else image


def augment_batch(images: Tensor, changes: np.ndarray, pool: ThreadPoolExecutor) -> Tensor:
    """Return uint8 images (N, S, S, 3), each changed by its row of `changes`, in the same layout."""
    work: Callable[[int], Tensor] = lambda i: augment(images[i].permute(2, 0, 1), changes[i]).permute(1, 2, 0)  # noqa: E731
    return torch.stack(list(pool.map(work, range(len(images)))))
