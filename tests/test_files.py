"""Files are whole or absent; folders of other kinds are never written into."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from fairaudit import files
from fairaudit.errors import FairauditError, UsageError
from fairaudit.files import atomic_file, atomic_folder, claim, held, plain_disk_errors, remove_claimed, write_json

ROOT = Path(__file__).parents[1]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """An error in the middle keeps what was there, and leaves no temporary file."""
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="half"), atomic_file(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise ValueError("half")
    assert path.read_text(encoding="utf-8") == '{\n "old": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_an_interrupted_folder_is_absent(tmp_path: Path) -> None:
    """Ctrl-C while a folder is written leaves none."""
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "audit") as temporary:
        (temporary / "part").write_text("x", encoding="utf-8")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def _old_folder(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "audit.json").write_text("old")


def _new_folder(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "audit.json").write_text("new")


def test_a_kill_while_the_old_folder_is_removed_leaves_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new folder is in its place before the old one goes, so that the next run is not refused."""
    _old_folder(tmp_path / "audit")
    remove = files.shutil.rmtree

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if Path(path).exists() and (Path(path) / "audit.json").exists():
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        _new_folder(tmp_path / "audit")
    monkeypatch.undo()
    assert (tmp_path / "audit" / "audit.json").read_text() == "new"
    (left,) = [path for path in tmp_path.iterdir() if path.name != "audit"]
    assert files._LEFTOVER.fullmatch(left.name)  # the next command removes it
    claim(tmp_path / "audit", "audit", "audit.json")  # the folder is not refused


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails between the two renames costs nothing that was there."""
    _old_folder(tmp_path / "audit")

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FairauditError, match="disk is full"):
        _new_folder(tmp_path / "audit")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]
    assert (tmp_path / "audit" / "audit.json").read_text() == "old"


def test_a_folder_that_cannot_be_moved_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that lies in a container's image: it can be removed there, not renamed."""
    _old_folder(tmp_path / "audit")

    def apart(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another layer")

    monkeypatch.setattr(Path, "rename", apart)
    _new_folder(tmp_path / "audit")
    assert (tmp_path / "audit" / "audit.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    """An output folder that lies on another disk is replaced there."""
    _old_folder(tmp_path / "disk" / "audit")
    (tmp_path / "audit").symlink_to(tmp_path / "disk" / "audit", target_is_directory=True)
    _new_folder(tmp_path / "audit")
    assert (tmp_path / "audit").is_symlink() and (tmp_path / "disk" / "audit" / "audit.json").read_text() == "new"
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["audit"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """Killed while it wrote a file and a folder, a process leaves neither; the next writer clears its pieces away, and
    leaves those of a process that lives, and anybody else's, alone."""
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom fairaudit.files import atomic_file, atomic_folder\n"
        "with atomic_file(Path('a.parquet')) as one, atomic_folder(Path('b')) as two:\n"
        "    one.with_suffix('.rows').write_text('x'); one.write_text('x'); (two / 'x').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 3 and not {"a.parquet", "b"} & left
    dead = next(name for name in left if name.startswith(".a.parquet.") and name.endswith(".part"))
    lives = re.sub(r"-\d+\.part", f"-{os.getppid()}.part", dead)
    others = [tmp_path / lives, tmp_path / ".a.parquet.99.part", tmp_path / ".notes.part"]
    for path in others:
        path.write_text("somebody's", encoding="utf-8")
    with atomic_file(tmp_path / "c") as temporary:
        temporary.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"c", *(path.name for path in others)}


def test_what_another_container_writes_is_left_alone(tmp_path: Path) -> None:
    """Its process may live though no process here has that number; only what is old, whole and all, is cleared away."""
    mine = files._temporary(tmp_path / "a").name
    theirs = re.sub(r"\.[0-9a-f]{8}-\d+\.part", ".0123abcd-99999999.part", mine)
    new, old = tmp_path / theirs, tmp_path / theirs.replace(".a.", ".old.")
    busy, done = tmp_path / theirs.replace(".a.", ".busy."), tmp_path / theirs.replace(".a.", ".done.")
    for path in (new, old):
        path.touch()
    for folder in (busy, done):
        folder.mkdir()
        (folder / "table.csv").touch()
    long_ago = time.time() - files.ABANDONED - 60
    for path in (old, busy, done / "table.csv", done):
        os.utime(path, (long_ago, long_ago))
    write_json(tmp_path / "b.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"b.json", new.name, busy.name}


def test_a_number_that_lives_again_keeps_leftovers_for_a_day(tmp_path: Path) -> None:
    """In a restarted container process 1 lives, and is not the one that left a piece: what is old goes."""
    mine = files._temporary(tmp_path / "a").name
    new, old = (tmp_path / re.sub(r"-\d+\.part", "-1.part", mine).replace(".a.", f".{age}.") for age in ("new", "old"))
    new.touch()
    old.touch()
    os.utime(old, (time.time() - files.ABANDONED - 60,) * 2)
    write_json(tmp_path / "b.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"b.json", new.name}


@pytest.mark.parametrize("other", ["boot", "namespace", "host"])
def test_processes_that_are_numbered_apart_have_names_of_their_own(other: str, tmp_path: Path) -> None:
    """Two processes 7 on one volume, in two containers, on two hosts or after a restart, never write the same file."""
    names = []
    for changed in (False, True):
        boot, space, host = (("2" if changed and other == one else "1") for one in ("boot", "namespace", "host"))
        files._numbered_by.cache_clear()
        with (
            patch("os.getpid", lambda: 7),
            patch("platform.node", lambda host=host: host),
            patch.object(Path, "read_text", lambda path, boot=boot, **more: boot),
            patch.object(Path, "readlink", lambda path, space=space: Path(space)),
        ):
            names.append(files._temporary(tmp_path / "a").name)
    files._numbered_by.cache_clear()
    assert names[0] != names[1] and all(name.endswith("-7.part") for name in names)


@pytest.mark.parametrize("way", ["unlink", "iterdir"])
def test_leftovers_that_cannot_be_removed_hinder_no_writing(tmp_path: Path, way: str) -> None:
    """In a shared folder such as /tmp another user's leftovers stay, and some folders cannot be listed."""
    left = files._temporary(tmp_path / "theirs")
    left = left.with_name(re.sub(r"-\d+\.part", "-99999999.part", left.name))
    left.touch()
    usual, refused = getattr(Path, way), []

    def refuse(path: Path, *args: object, **more: object) -> object:
        if path not in (left, tmp_path):
            return usual(path, *args, **more)
        refused.append(path)
        raise PermissionError(errno.EPERM, "no")

    with patch.object(Path, way, refuse):
        write_json(tmp_path / "a.json", {})
    assert refused and (tmp_path / "a.json").is_file() and left.is_file()


@pytest.mark.parametrize(
    ("number", "word"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_disk_errors_are_said_plainly(tmp_path: Path, number: int, word: str) -> None:
    """A full disk is a sentence and exit code 5."""
    with pytest.raises(FairauditError, match=word) as error, plain_disk_errors(tmp_path / "x"):
        raise OSError(number, "no")
    assert error.value.exit_code == 5


def test_nan_is_never_written_as_json(tmp_path: Path) -> None:
    """JSON has no NaN; a value that is undefined must have been taken out before."""
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_claim_refuses_somebody_elses_folder(tmp_path: Path) -> None:
    """New, empty and our own are fine; anything else is refused."""
    claim(tmp_path / "new", "audit", "audit.json")
    claim(tmp_path, "audit", "audit.json")
    (tmp_path / "thesis.doc").touch()
    with pytest.raises(UsageError, match="not a fairaudit audit"):
        claim(tmp_path, "audit", "audit.json")
    (tmp_path / "audit.json").touch()
    claim(tmp_path, "audit", "audit.json")
    with pytest.raises(UsageError, match="is a file"):
        claim(tmp_path / "thesis.doc", "audit", "audit.json")


def test_claim_overlooks_what_a_killed_process_left(tmp_path: Path) -> None:
    """Killed before the marker was whole, we left its piece alone; with anything else the folder is somebody's."""
    (tmp_path / ".audit.json.deadbeef-3.part").touch()
    claim(tmp_path, "audit", "audit.json")
    (tmp_path / ".thesis.part").touch()
    with pytest.raises(UsageError, match="not a fairaudit audit"):
        claim(tmp_path, "audit", "audit.json")


def test_a_folder_counts_as_ours_until_it_is_gone(tmp_path: Path) -> None:
    """Killed at any point of removing it, the next call may use it."""
    for kill_at in range(5):
        folder = tmp_path / "f"
        (folder / "inner").mkdir(parents=True, exist_ok=True)
        for name in ("a", "m.json", "z"):
            (folder / name).touch()
        usual, left = Path.unlink, [kill_at]

        def unlink(path: Path, *args: Any, usual: Any = usual, left: list[int] = left, **more: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            usual(path, *args, **more)

        try:
            with patch.object(Path, "unlink", unlink):
                remove_claimed(folder, "m.json")
        except KeyboardInterrupt:
            assert kill_at < 3
        claim(folder, "kind", "m.json")
    assert not (tmp_path / "f").exists()


def test_the_folder_that_a_command_runs_in_is_not_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be gone under the command and the shell; one that is written into, or lies beside or within, may be."""
    here = tmp_path / "audit" / "groups"
    here.mkdir(parents=True)
    (tmp_path / "audit" / "audit.json").touch()
    (tmp_path / "link").symlink_to("audit")
    monkeypatch.chdir(here)
    for out in (Path(), Path(".."), here, tmp_path / "link"):
        with pytest.raises(UsageError, match="that this command runs in"):
            claim(out, "audit", "audit.json")
        claim(out, "run", "audit.json", whole=False)
    for out in (Path("new"), Path("../beside"), Path("../../other")):
        claim(out, "audit", "audit.json")


def test_a_folder_is_held_by_one_call(tmp_path: Path) -> None:
    """A second call is refused, also of another process; a kill frees the folder, and an empty one goes."""
    folder, out = tmp_path / "f", tmp_path / "out"
    code = (
        "import os, signal\nfrom pathlib import Path\nfrom fairaudit.errors import UsageError\n"
        "from fairaudit.files import held\n"
        "try:\n    with held(Path('f'), Path('out')):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "except UsageError:\n    raise SystemExit(7)"
    )

    def other() -> int:
        run = [sys.executable, "-c", code]
        return subprocess.run(run, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode

    assert other() == -signal.SIGKILL and folder.is_dir()
    with held(folder, out):
        with pytest.raises(UsageError, match="another call is writing"), held(folder, out):
            pass
        assert other() == 7
    assert not folder.exists()
