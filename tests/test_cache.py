"""Arrays on disk: shared by what they hold, bounded, and never anybody else's file removed."""

import os
import time
from pathlib import Path

import pytest
import torch

from fairaudit.errors import FairauditError
from fairaudit.models.cache import ABANDONED, ArrayCache


def fill(cache: ArrayCache, what: str, rows: int = 100) -> torch.Tensor:
    """Have an array of rows × 10 bytes made that depends on `what`."""
    return cache.get(
        f"faces ({what})",
        {"a": what},
        rows,
        lambda rows: rows,
        lambda rows: torch.full((rows.stop - rows.start, 10), 7).byte(),
    )


def test_an_array_is_found_by_what_it_holds(tmp_path: Path) -> None:
    """The words for whoever watches are no part of the key."""
    cache = ArrayCache(folder=tmp_path)
    for words in ("faces (train)", "faces (test)"):
        cache.get(words, {"a": 1}, 3, lambda rows: rows, lambda rows: torch.zeros(3, 2))
    assert cache.made == ["faces (train)"] and cache.found == ["faces (test)"]


def test_what_was_unused_for_longest_makes_room(tmp_path: Path) -> None:
    """A folder holds at most `limit` bytes; other files in it, and a command's own unfinished ones, stay."""
    cache = ArrayCache(folder=tmp_path, limit=2500)
    others = [tmp_path / "faces.bin", tmp_path / "notes.json", tmp_path / f".faces-{'0' * 24}.bin.0123abcd-1.part"]
    for path in others:
        path.write_bytes(b"x" * 5000)
    old = tmp_path / f".faces-{'1' * 24}.bin.0123abcd-1.part"
    old.write_bytes(b"x")
    os.utime(old, (time.time() - ABANDONED - 60,) * 2)
    for age, what in ((300, "first"), (200, "second")):
        fill(cache, what)
        newest = max(tmp_path.glob("faces-*.json"), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (time.time() - age,) * 2)
    fill(cache, "first")  # used again: now the second is the older one
    fill(cache, "third")
    assert not old.exists() and all(path.exists() for path in others)
    assert len(list(tmp_path.glob("faces-*.bin"))) == len(list(tmp_path.glob("faces-*.json"))) == 2
    cache.found.clear()
    fill(cache, "first")
    fill(cache, "third")
    assert cache.found == ["faces (first)", "faces (third)"]


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    """An array above the limit is not begun, and nothing else is removed for it."""
    cache = ArrayCache(folder=tmp_path, limit=2000)
    fill(cache, "small")
    with pytest.raises(FairauditError, match=r"3,000 bytes are more than a cache may hold \(2,000\)"):
        fill(cache, "large", 300)
    assert len(list(tmp_path.iterdir())) == 2
