"""From a picture to what a wrapped network takes: size and crop, alignment, colour order, mean and spread."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fairaudit.data.images import MAX_PIXELS, load_rgb
from fairaudit.errors import DataError
from fairaudit.models.landmarks import landmarks_in, load_predictor
from fairaudit.models.wrapped.description import InputDescription

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's and OpenCV's greyscale
Reader = Callable[[Path], np.ndarray]


def reader(described: InputDescription, folders: Sequence[Path]) -> Reader:
    """Return the function from an image file to uint8 RGB (size, size, 3).

    Raises UsageError where alignment is asked for and dlib or its landmarks file is not there.
    """
    if described.align == "dlib":
        return _dlib_reader(described, folders)
    resample = Image.Resampling[described.filter.upper()]
    size = described.size
    if described.resize is None and described.filter == "bilinear":
        return lambda path: load_rgb(path, size)

    def read(path: Path) -> np.ndarray:
        picture = Image.fromarray(load_rgb(path))
        if described.resize is None:
            return np.array(picture.resize((size, size), resample))
        shorter = min(picture.size)
        # the longer side rounded down, the margins rounded to even: as torchvision's Resize and CenterCrop do
        whole = [described.resize * side // shorter for side in picture.size]
        if whole[0] * whole[1] > MAX_PIXELS:
            size_now = " × ".join(f"{side:,}" for side in picture.size)
            raise DataError(f"image {path} is too long for resize = {described.resize}: it has {size_now} pixels")
        left, top = (round((side - size) / 2) for side in whole)
        return np.array(picture.resize(whole, resample).crop((left, top, left + size, top + size)))

    return read


def _dlib_reader(described: InputDescription, folders: Sequence[Path]) -> Reader:
    """Landmarks are looked for in the whole picture, which is taken to be one face; they place dlib's face chip."""
    dlib, predictor = load_predictor(described.landmarks, folders, "input.align = 'dlib'")

    def read(path: Path) -> np.ndarray:
        picture = load_rgb(path)
        points = landmarks_in(picture, dlib, predictor)
        details = dlib.get_face_chip_details(points, described.size, described.padding)
        return np.ascontiguousarray(dlib.extract_image_chip(picture, details))

    return read


def prepare(images: Tensor, described: InputDescription) -> Tensor:
    """Turn uint8 RGB faces (n, S, S, 3) into float32 (n, C, S, S): colour order, division, mean and spread."""
    x = images.permute(0, 3, 1, 2).float()
    if described.colour == "BGR":
        x = x.flip(1)
    elif described.colour == "grey":
        x = (x * torch.tensor(_LUMA, device=x.device).view(3, 1, 1)).sum(1, keepdim=True)
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=x.device).view(-1, 1, 1)
        for values in (described.mean, described.std)
    )
    return (x / described.divide_by - mean) / std


def in_words(described: InputDescription, *, prepares: bool) -> str:
    """Return the preprocessing as a sentence for the reports; `prepares`: whether the pixels' values are changed."""
    if described.align:
        how = f"dlib's face chip with padding {described.padding:g} at {described.size} px"
    elif described.resize is not None:
        how = f"shorter side {described.resize} px ({described.filter}), centre of {described.size} px cut out"
    else:
        how = f"whole picture to {described.size} × {described.size} px ({described.filter})"
    if not prepares:
        return f"{how}; uint8 RGB"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (described.mean, described.std))
    return f"{how}; {described.colour}, {described.layout}; (byte / {described.divide_by:g} − [{mean}]) / [{std}]"
