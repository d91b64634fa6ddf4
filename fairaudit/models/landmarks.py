"""dlib's landmarks of a face: an optional extra, loaded only where it is asked for."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairaudit.errors import DataError, UsageError
from fairaudit.models.weights import find_weights


def load_predictor(name: str, folders: Sequence[Path], wanted_by: str) -> tuple[Any, Any]:
    """Return the dlib module and its predictor of landmarks, read from the file `name`.

    Raises UsageError where dlib is not installed or the file cannot be found, DataError where it holds none.
    """
    try:
        dlib: Any = importlib.import_module("dlib")
    except ImportError:
        raise UsageError(f"{wanted_by} needs dlib: pip install 'fairaudit[dlib]'") from None
    path = find_weights(name, folders)
    try:
        return dlib, dlib.shape_predictor(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} is no landmarks file of dlib: {error}") from None


def landmarks_in(picture: np.ndarray, dlib: Any, predictor: Any) -> Any:
    """Return dlib's landmarks of a picture, which is taken to be one face; DataError unless they are 5 or 68."""
    height, width = picture.shape[:2]
    points = predictor(picture, dlib.rectangle(0, 0, width - 1, height - 1))
    if points.num_parts not in (5, 68):
        raise DataError(f"the landmarks file gives {points.num_parts} landmarks; dlib aligns faces by 5 or 68")
    return points
