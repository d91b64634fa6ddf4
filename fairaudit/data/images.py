"""Image files: which of a folder are images, which lie inside the data root, and how one becomes RGB pixels."""

import io
import os
import struct
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from fairaudit.errors import DataError
from fairaudit.wording import plural

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
# Only decoders that run no other program (EPS would); the bytes decide, not the name's ending.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
MAX_PIXELS = 64 * 1024 * 1024
MAX_BYTES = 512 * 1024 * 1024
BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
ORIENTATION = 0x0112
_JPEG, _EXIF = b"\xff\xd8\xff", b"Exif\0"


class BombError(DataError):
    """The picture says of itself that it is larger than `MAX_PIXELS`; it was not decoded."""


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes; raises BombError where it is larger than `MAX_BYTES`, OSError where it cannot be read."""
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > MAX_BYTES:
            raise BombError(f"a file of {size:,} bytes, more than {MAX_BYTES:,}")
        return stream.read()


def open_checked(data: bytes) -> Image.Image:
    """Open the image in `data` without decoding it.

    Raises BombError where its header states more than `MAX_PIXELS` pixels, and any of `DECODE_ERRORS` where it is none.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except BOMB_ERRORS:
        raise BombError(f"more than {MAX_PIXELS:,} pixels") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BombError(f"{width:,} × {height:,} pixels, more than {MAX_PIXELS:,}")
    return image


def in_words(error: BaseException) -> str:
    """Return what a decoder's error says in one line that is the same each time (Pillow's names a place in memory)."""
    text = str(error).split("\n", 1)[0]
    return "no image of a known format" if "cannot identify" in text else text or type(error).__name__


def load_rgb(path: Path, size: int | None = None) -> np.ndarray:
    """Return the picture as uint8 RGB, shape (H, W, 3), or (size, size, 3) after an antialiased bilinear resize.

    It is turned upright as its EXIF orientation says; greyscale and CMYK become RGB, transparency lies on white.
    Raises DataError where the file cannot be read, is no image, is truncated or states more than `MAX_PIXELS` pixels.
    """
    try:
        data = read_bytes(path)
        pixels = _plain_jpeg(data)
        if pixels is None:
            pixels = np.array(_upright_rgb(open_checked(data)), dtype=np.uint8)
    except BombError as error:
        raise DataError(f"image {path} is refused as a decompression bomb: {error}") from None
    except DECODE_ERRORS as error:
        raise DataError(f"image {path} cannot be read: {in_words(error)}") from None
    if size is None or pixels.shape[:2] == (size, size):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _plain_jpeg(data: bytes) -> np.ndarray | None:
    """Return the pixels of an ordinary JPEG, as Pillow gives them in a third of its time; None where Pillow must look.

    Both use libjpeg-turbo with the same exact settings. Whatever is out of the ordinary (another colour space, a turned
    or huge picture, the slightest damage) is left to Pillow, so that it is refused or mended as everywhere else.
    """
    if not data.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray") or height * width > MAX_PIXELS:
            return None
        if _EXIF in data and orientation(open_checked(data)) != 1:
            return None
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except (*DECODE_ERRORS, BombError):
        return None
    return pixels


def _upright_rgb(image: Image.Image) -> Image.Image:
    if orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel: convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.clip(np.asarray(image, dtype=np.int64), 0, 65535) >> 8).astype(np.uint8))
    if has_alpha(image):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) … 8; 1 where there is none or it cannot be read."""
    if "exif" not in image.info and image.format != "TIFF":
        return 1
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DECODE_ERRORS:
        return 1
    return value if value in range(1, 9) else 1


def has_alpha(image: Image.Image) -> bool:
    """Return whether the picture has transparency."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def list_images(root: Path) -> tuple[list[str], list[tuple[str, str, str, str]]]:
    """Return the sorted paths of image files below `root` ("/" between parts), and what else was met, as findings.

    Hidden files and files with another ending are ignored and counted; linked folders are not entered, but listed.
    """
    names: list[str] = []
    ignored: Counter[str] = Counter()
    findings: list[tuple[str, str, str, str]] = []
    for folder, subfolders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        linked = [name for name in subfolders if (Path(folder) / name).is_symlink()]
        findings += [
            ("path_outside", (here / name).as_posix(), "excluded", "a linked folder is not entered") for name in linked
        ]
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in linked)
        prefix = "" if here == Path() else f"{here.as_posix()}/"
        for name in files:
            if not _is_text(name):
                shown = prefix + name.encode(errors="surrogateescape").decode(errors="backslashreplace")
                findings.append(("unreadable_name", shown, "excluded", "the file's name is no UTF-8 text; rename it"))
                continue
            kind = "hidden" if name.startswith(".") else os.path.splitext(name)[1].lower()  # noqa: PTH122 (14,001 names)
            if kind in SUFFIXES or (not kind and name.lower().endswith("jpg")):
                names.append(prefix + name)
            else:
                ignored[kind or "no ending"] += 1
    if ignored:
        what = ", ".join(f"{kind}: {count:,}" for kind, count in sorted(ignored.items()))
        findings.append(("ignored_file", "", "listed", f"not an image: {plural(ignored.total(), 'file')} ({what})"))
    return sorted(names), findings


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Inside:
    """Tells of relative paths whether they stay inside a root, links followed; folders are resolved once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def why_not(self, name: str) -> str | None:
        """Return why `name` leaves the root, or None where it stays inside."""
        path = PurePosixPath(name)
        if path.is_absolute() or name[1:2] == ":":
            return "an absolute path"
        if ".." in path.parts:
            return "a path with '..'"
        full = self.root / path
        if os.path.islink(full):  # noqa: PTH114 (a name too long for the file system is False, no error)
            real = os.path.realpath(full)
        else:
            parent = str(path.parent)
            if parent not in self._folders:
                self._folders[parent] = os.path.realpath(self.root / parent)
            real = f"{self._folders[parent]}/{path.name}"
        return None if real.startswith(self._real.rstrip("/") + "/") else "a link that leads out of the data folder"
