"""Every trap that an image file can be: seen, named, and excluded or kept as promised; never a traceback."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fairaudit.data.checks import check_image, check_images, contradictions, duplicate_findings, duplicate_sets


def noise(seed: int = 0, side: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """One file of each kind."""
    noise().save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_bytes(b"<html>404</html>")
    noise().save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:1500])
    noise().convert("L").save(tmp_path / "grey.jpg")
    noise().convert("CMYK").save(tmp_path / "cmyk.jpg")
    noise().convert("RGBA").save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    noise().save(tmp_path / "turned.jpg", exif=exif)
    noise().save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "png_inside.jpg")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "bomb.png")
    return tmp_path


EXPECTED = {
    "good.jpg": None,
    "empty.jpg": ("zero_byte", "excluded"),
    "cut.jpg": ("truncated", "excluded"),
    "cut.png": ("truncated", "excluded"),
    "text.jpg": ("unreadable", "excluded"),
    "bomb.png": ("decompression_bomb", "excluded"),
    "absent.jpg": ("unreadable", "excluded"),
    "grey.jpg": ("greyscale", "kept"),
    "cmyk.jpg": ("cmyk", "kept"),
    "alpha.png": ("alpha", "kept"),
    "turned.jpg": ("exif_rotated", "kept"),
    "png_inside.jpg": ("wrong_extension", "kept"),
}


def test_each_trap_is_named(traps: Path) -> None:
    """Each file gets exactly the finding it deserves, and only usable ones are marked usable."""
    table, findings = check_images(traps, list(EXPECTED))
    found = {image: (kind, action) for kind, image, action, _ in findings}
    assert found == {name: trap for name, trap in EXPECTED.items() if trap}
    assert len(findings) == len(found)
    usable = dict(zip(table["image"], table["usable"], strict=True))
    assert usable == {name: trap is None or trap[1] == "kept" for name, trap in EXPECTED.items()}


def test_hash_and_size_are_those_of_the_file(traps: Path) -> None:
    """SHA-256 of the bytes, as hashlib computes it, and the picture's pixels."""
    table, _ = check_images(traps, ["good.jpg"])
    row = table.iloc[0]
    assert row["sha256"] == hashlib.sha256((traps / "good.jpg").read_bytes()).hexdigest()
    assert (row["width"], row["height"]) == (32, 32)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncation_is_found_wherever_it_is(tmp_path: Path, progressive: bool, share: float) -> None:
    """The reduced-size decoding that keeps the check quick still meets the end of the data, early or late."""
    noise(side=200).save(tmp_path / "a.jpg", progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    assert check_image(tmp_path / "a.jpg").problem is None
    (tmp_path / "a.jpg").write_bytes(whole[: int(len(whole) * share)])
    problem = check_image(tmp_path / "a.jpg").problem
    assert problem is not None and problem[0] == "truncated"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM"]),
)
def test_no_bytes_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes) -> None:
    """Whatever the bytes are, the check answers instead of raising."""
    path = tmp_path_factory.getbasetemp() / "fuzz.jpg"
    path.write_bytes(head + data)
    check = check_image(path)
    assert check.problem is None or check.problem[0] in ("unreadable", "truncated", "zero_byte", "decompression_bomb")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file_is_listed(traps: Path) -> None:
    """A file without read permission is unreadable, with the system's reason."""
    (traps / "good.jpg").chmod(0)
    assert check_image(traps / "good.jpg").problem == ("unreadable", "Permission denied")


def test_progress_is_told_to_the_end(traps: Path) -> None:
    """The last call says that all files are done."""
    calls: list[tuple[int, int]] = []
    check_images(traps, ["good.jpg"] * 1100, lambda stage, done, total, note="": calls.append((done, total)))
    assert calls == [(512, 1100), (1024, 1100), (1100, 1100)]


def test_duplicates_and_contradictions() -> None:
    """Identical bytes are one set; labels that differ are named, missing ones contradict nothing."""
    frame = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d", "e"],
            "sha256": ["1", "2", "1", "2", "3"],
            "gender": ["Male", "Male", "Female", None, "Male"],
            "age_years": [3.0, 5.0, 3.0, 5.0, 9.0],
        }
    )
    assert duplicate_sets(frame) == [[0, 2], [1, 3]]
    assert contradictions(frame.iloc[[0, 2]], ["gender", "age_years", "race"]) == {"gender": ["Female", "Male"]}
    findings = duplicate_findings(frame, ["gender", "age_years"])
    assert [row[:2] for row in findings] == [("duplicate", "a"), ("contradictory_label", "a"), ("duplicate", "b")]
    assert findings[1][3] == "gender: Female / Male (with c)"
