"""What is wrong with the image files: every one is read, hashed and decoded once, and every trap is listed."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from fairaudit.data.images import (
    BOMB_ERRORS,
    DECODE_ERRORS,
    BombError,
    has_alpha,
    in_words,
    open_checked,
    orientation,
    read_bytes,
)
from fairaudit.progress import Progress, silent

CHUNK = 512
Finding = tuple[str, str, str, str]
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}


class ImageCheck(NamedTuple):
    """What one file is: its hash, its size in pixels, and what was found ("problem" excludes it, notes keep it)."""

    sha256: str
    width: int
    height: int
    problem: tuple[str, str] | None
    notes: tuple[tuple[str, str], ...] = ()


def check_image(path: Path) -> ImageCheck:
    """Read one file once: hash its bytes, refuse bombs by their header, decode it to find truncation. Never raises."""
    try:
        data = read_bytes(path)
    except BombError as error:
        return ImageCheck("", 0, 0, ("decompression_bomb", str(error)))
    except OSError as error:
        return ImageCheck("", 0, 0, ("unreadable", str(error.strerror or error)))
    if not data:
        return ImageCheck("", 0, 0, ("zero_byte", "the file is empty"))
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = open_checked(data)
    except BombError as error:
        return ImageCheck(digest, 0, 0, ("decompression_bomb", str(error)))
    except DECODE_ERRORS as error:
        return ImageCheck(digest, 0, 0, ("unreadable", in_words(error)))
    width, height = image.size
    notes = tuple(_notes(image, path))
    try:
        # An eighth of the size costs a third of the time, and all of the compressed data is still read.
        image.draft(None, (max(1, width // 8), max(1, height // 8)))
        image.load()
    except (*DECODE_ERRORS, *BOMB_ERRORS) as error:
        kind = "truncated" if _cut_off(error) else "unreadable"
        return ImageCheck(digest, width, height, (kind, in_words(error)))
    return ImageCheck(digest, width, height, None, notes)


def check_images(root: Path, names: Sequence[str], progress: Progress = silent) -> tuple[pd.DataFrame, list[Finding]]:
    """Check every file of `names` below `root`, in threads, a bounded number at a time.

    Returns a table (image, sha256, width, height, usable) in the order of `names`, and the findings: "excluded" for
    unusable files, "kept" for greyscale, CMYK, transparent, EXIF-rotated and wrongly named ones.
    """
    checks: list[ImageCheck] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of what is found here anyway
        for start in range(0, len(names), CHUNK):
            checks += pool.map(check_image, [root / name for name in names[start : start + CHUNK]])
            progress("checking images", len(checks), len(names))
    findings = [
        (kind, name, "excluded" if check.problem else "kept", detail)
        for name, check in zip(names, checks, strict=True)
        for kind, detail in ((check.problem,) if check.problem else check.notes)
    ]
    table = pd.DataFrame(
        {
            "image": list(names),
            "sha256": [check.sha256 for check in checks],
            "width": [check.width for check in checks],
            "height": [check.height for check in checks],
            "usable": [check.problem is None for check in checks],
        }
    )
    return table, findings


def duplicate_findings(frame: pd.DataFrame, labels: Sequence[str]) -> list[Finding]:
    """List every set of byte-identical images ("duplicate") and what its labels disagree in ("contradictory_label")."""
    rows: list[Finding] = []
    for members in duplicate_sets(frame):
        first, *others = frame["image"].iloc[members]
        rows.append(("duplicate", first, "listed", f"byte-identical with {', '.join(others)}"))
        differing = contradictions(frame.iloc[members], labels)
        if differing:
            values = "; ".join(f"{name}: {' / '.join(given)}" for name, given in differing.items())
            rows.append(("contradictory_label", first, "listed", f"{values} (with {', '.join(others)})"))
    return rows


def duplicate_sets(frame: pd.DataFrame) -> list[list[int]]:
    """Return the row positions of each set of two or more byte-identical images, in the order of the table."""
    by_hash: dict[str, list[int]] = {}
    for position, digest in enumerate(frame["sha256"]):
        by_hash.setdefault(digest, []).append(position)
    return [members for members in by_hash.values() if len(members) > 1]


def contradictions(members: pd.DataFrame, labels: Sequence[str]) -> dict[str, list[str]]:
    """Return for each label column that disagrees among `members` its values; a missing label contradicts nothing."""
    found = {}
    for name in labels:
        if name in members:
            given = members[name].dropna()
            values = sorted({f"{value:g}" if isinstance(value, float) else str(value) for value in given})
            if len(values) > 1:
                found[name] = values
    return found


def _notes(image: Image.Image, path: Path) -> Iterator[tuple[str, str]]:
    if has_alpha(image):
        yield "alpha", f"mode {image.mode}: transparency is laid on white"
    elif image.mode == "CMYK":
        yield "cmyk", "converted to RGB"
    elif image.mode in ("1", "L") or image.mode.startswith("I"):
        yield "greyscale", f"mode {image.mode}, converted to RGB"
    turned = orientation(image)
    if turned != 1:
        yield "exif_rotated", f"EXIF orientation {turned}: turned upright"
    endings = _ENDINGS.get(str(image.format), ())
    if endings and path.suffix.lower() not in endings:
        yield "wrong_extension", f"the file is {image.format}"


def _cut_off(error: BaseException) -> bool:
    words = ("truncated", "broken data stream", "broken png", "not enough", "unexpected end")
    return any(word in str(error).lower() for word in words)
