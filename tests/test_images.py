"""Pixels: orientation, colour modes, bombs, and which names stay inside the data root."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fairaudit.data.images import ORIENTATION, Inside, list_images, load_rgb
from fairaudit.errors import DataError
from fairaudit.models.pixels import load_face, load_faces


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header states a size that its data do not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def corner_image() -> Image.Image:
    """24 × 16 pixels, white with a black upper left quarter."""
    pixels = np.full((16, 24, 3), 255, dtype=np.uint8)
    pixels[:8, :12] = 0
    return Image.fromarray(pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """Orientation 6 means: turn clockwise, so the dark upper left corner goes to the upper right."""
    exif = Image.Exif()
    exif[0x0112] = 6
    corner_image().save(tmp_path / "a.png", exif=exif)
    rgb = load_rgb(tmp_path / "a.png")
    assert rgb.shape == (24, 16, 3)
    assert rgb[2, 13].max() < 50 and rgb[2, 2].min() > 200


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """A picture that is grey 128 (white for one bit) is that in RGB, whatever mode it is stored in."""
    grey = np.full((8, 8), 128, dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        rgb_image = Image.fromarray(grey).convert("RGB")
        image = rgb_image.quantize(4) if mode == "P" else rgb_image.convert(mode, dither=Image.Dither.NONE)
    image.save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    rgb = load_rgb(next(tmp_path.iterdir()))
    assert rgb.shape == (8, 8, 3) and rgb.dtype == np.uint8
    expected = 255 if mode == "1" else 128
    assert np.abs(rgb.astype(int) - expected).max() <= 2


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    """A fully transparent picture is white, not the colour hidden in it."""
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert (load_rgb(tmp_path / "a.png") == 255).all()


def test_resize_is_square_and_antialiased(tmp_path: Path) -> None:
    """A fine chessboard shrinks to grey, as averaging says, not to one of its colours."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    rgb = load_rgb(tmp_path / "a.png", 16)
    assert rgb.shape == (16, 16, 3)
    assert np.abs(rgb.astype(int) - 127).max() < 12


@pytest.mark.parametrize("data", [b"", b"no image", png_claiming(30_000, 30_000), png_claiming(9_000, 9_000)])
def test_unusable_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """Empty files, text and decompression bombs raise DataError that names the file."""
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.png"):
        load_rgb(tmp_path / "bad.png")


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    """A file that is not there is a DataError, too."""
    with pytest.raises(DataError, match="nowhere"):
        load_rgb(tmp_path / "nowhere.png")


def test_listing_ignores_and_counts_what_is_no_image(tmp_path: Path) -> None:
    """Hidden files and other endings are not images; they are counted by kind."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".cache").mkdir()
    for name in ("b.JPG", "a.png", "sub/c.jpeg", ".hidden.jpg", "notes.txt", "sub/more.txt", ".cache/x.jpg"):
        (tmp_path / name).write_bytes(b"x")
    names, findings = list_images(tmp_path)
    assert names == ["a.png", "b.JPG", "sub/c.jpeg"]
    ((kind, image, action, detail),) = findings
    assert (kind, image, action) == ("ignored_file", "", "listed")
    assert "3 files" in detail and ".txt: 2" in detail and "hidden: 1" in detail


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    """A link to a folder elsewhere is listed, and nothing behind it is read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.jpg").write_bytes(b"x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "outside")
    names, findings = list_images(tmp_path / "data")
    assert names == []
    assert [row[:3] for row in findings] == [("path_outside", "link", "excluded")]


def test_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    """A file name that is no UTF-8 is left out with a readable form of it."""
    try:
        (tmp_path / "caf\udce9.jpg").write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    names, findings = list_images(tmp_path)
    assert names == [] and findings[0][0] == "unreadable_name" and findings[0][1] == "caf\\xe9.jpg"


def test_inside_sees_through_links(tmp_path: Path) -> None:
    """Links that stay inside are fine; links that lead out, '..' and absolute paths are not."""
    root, outside = tmp_path / "data", tmp_path / "other"
    root.mkdir()
    outside.mkdir()
    (root / "a.jpg").write_bytes(b"x")
    (outside / "b.jpg").write_bytes(b"x")
    (root / "in.jpg").symlink_to(root / "a.jpg")
    (root / "out.jpg").symlink_to(outside / "b.jpg")
    (root / "folder").symlink_to(outside)
    inside = Inside(root)
    assert inside.why_not("a.jpg") is None and inside.why_not("in.jpg") is None
    for name in ("out.jpg", "folder/b.jpg", "../other/b.jpg", "x/../../other/b.jpg", "/etc/passwd", "C:/x.jpg"):
        assert inside.why_not(name), name


def photograph(size: tuple[int, int] = (90, 70)) -> Image.Image:
    """A smooth colourful picture, as JPEG likes it."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options: object) -> bytes:
    """The picture as the bytes of a JPEG file."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def turned() -> Image.Exif:
    """EXIF that says: turn me."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return exif


UNUSUAL = {
    "grey": jpeg(photograph().convert("L")),
    "progressive": jpeg(photograph(), progressive=True),
    "full colour resolution": jpeg(photograph(), subsampling=0, quality=95),
    "cmyk": jpeg(photograph().convert("CMYK")),
    "turned": jpeg(photograph(), exif=turned()),
    "upright with exif": jpeg(photograph(), exif=Image.Exif()),
    "trailing bytes": jpeg(photograph()) + b"<html>",
    "odd size": jpeg(photograph((91, 67))),
    "one pixel": jpeg(photograph((1, 1))),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_jpegs_are_what_pillow_makes_of_them(tmp_path: Path, kind: str) -> None:
    """Every kind of JPEG gives Pillow's own pixels, bit by bit, whichever decoder took it."""
    (tmp_path / "a.jpg").write_bytes(UNUSUAL[kind])
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(UNUSUAL[kind]))).convert("RGB")
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.jpg"), np.array(wanted))


def test_damaged_jpegs_are_left_to_pillow(tmp_path: Path) -> None:
    """At whatever byte a JPEG is cut off or spoilt, it is refused where Pillow refuses it, and else its pixels."""
    whole = jpeg(photograph(), quality=90)
    rng = np.random.default_rng(1)
    damaged = [whole[: int(cut)] for cut in np.linspace(0, len(whole) - 1, 40)]
    for place in rng.integers(0, len(whole), 120):
        damaged.append(whole[:place] + bytes([int(rng.integers(256))]) + whole[place + 1 :])
    refused = 0
    for data in damaged:
        (tmp_path / "a.jpg").write_bytes(data)
        try:
            wanted = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        except Exception:
            refused += 1
            with pytest.raises(DataError, match=r"a\.jpg"):
                load_rgb(tmp_path / "a.jpg")
        else:
            np.testing.assert_array_equal(load_rgb(tmp_path / "a.jpg"), wanted)
    assert 20 < refused < 150


def test_jpeg_bombs_are_refused(tmp_path: Path) -> None:
    """A JPEG whose header states more pixels than allowed is not decoded."""
    data = jpeg(photograph())
    at = data.index(b"\xff\xc0") + 5
    (tmp_path / "a.jpg").write_bytes(data[:at] + struct.pack(">HH", 60_000, 60_000) + data[at + 4 :])
    with pytest.raises(DataError, match="bomb"):
        load_rgb(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [16, 33, 64, 70, 128])
def test_faces_are_resized_as_pillow_does(tmp_path: Path, size: int) -> None:
    """What the models see is Pillow's antialiased resize, larger or smaller, to one step."""
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(), quality=95))
    got, wanted = load_face(tmp_path / "a.jpg", size), load_rgb(tmp_path / "a.jpg", size)
    assert got.shape == (size, size, 3) and got.dtype == np.uint8 and got.flags.c_contiguous
    assert np.abs(got.astype(int) - wanted).max() <= 1
    assert (got != wanted).mean() < 0.04


@pytest.mark.parametrize("together", [1, 100_000, 10**9])
def test_faces_read_together_are_those_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Bit by bit and in order, whatever shapes and damaged files lie between; errors are those of one face."""
    monkeypatch.setattr("fairaudit.models.pixels.TOGETHER", together)
    rng = np.random.default_rng(0)
    shapes = [(90, 70)] * 5 + [(33, 33)] * 3 + [(40, 60)] + [(90, 70)] * 4 + [(20, 200)] * 2
    for number, shape in enumerate(shapes):
        Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(tmp_path / f"{number:02d}.png")
    for number in (3, 5, 14):
        (tmp_path / f"{number:02d}.png").write_bytes(b"no image")
    paths = [*sorted(tmp_path.glob("*.png")), tmp_path / "nowhere.png"]
    for path, found in zip(paths, load_faces(paths, 33), strict=True):
        try:
            np.testing.assert_array_equal(found, load_face(path, 33))
            assert isinstance(found, np.ndarray) and found.flags.c_contiguous
        except DataError as error:
            assert str(found) == str(error)
    assert not list(load_faces([], 33))


@pytest.mark.parametrize("folder", ["utkface", "fairface/train"])
def test_real_faces_within_a_step_of_pillow(folder: str) -> None:
    """On 250 real photographs of each set no pixel lies more than two steps from Pillow's, and hardly any one."""
    root = Path(__file__).parents[2] / "shared" / "faces" / folder
    paths = sorted(root.glob("*.jpg"))[:250] if root.is_dir() else []
    if not paths:
        pytest.skip("needs ../shared/faces")
    steps = np.zeros(256, dtype=np.int64)
    for path in paths:
        away = np.abs(load_face(path, 128).astype(np.int16) - load_rgb(path, 128))
        steps += np.bincount(away.ravel(), minlength=256)
    assert steps[3:].sum() == 0
    assert steps[2] <= 1e-6 * steps.sum() and steps[1] <= 0.04 * steps.sum()
