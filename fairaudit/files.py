"""Files that are whole or absent, and their hashes."""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from fairaudit.errors import FairauditError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PLAIN = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EBUSY: "it is in use or a mounted disk (a folder inside it can be written)",
}

ABANDONED = 24 * 3600  # seconds after which what was never finished belongs to no running command
# `rows`: left by earlier versions of `predict`
_LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)\.(?:part|rows)")


@contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a full or read-only disk into a FairauditError that says so in plain words."""
    try:
        yield
    except OSError as error:
        if error.errno not in _PLAIN:
            raise
        raise FairauditError(
            f"cannot write {path}: {_PLAIN[error.errno]}. Nothing half-written was left; "
            "free space or choose another --out, then run the same command again"
        ) from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on any failure."""
    temporary = _temporary(path)
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent.resolve())
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`, on failure it is removed.

    An existing `path` is replaced whole: the caller has made sure that it may be (see `claim`). Where it is a link to a
    folder elsewhere, that folder is replaced and the link stays.
    """
    with plain_disk_errors(path):
        path = path.resolve()
        temporary = _temporary(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent.resolve())
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            _exchange(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, path: Path) -> None:
    """Put the folder `new` in the place of `path`; what stood there is moved aside first and only then removed.

    A kill while it is removed leaves the new folder in its place, whole, and a leftover that the next call removes.
    A kill just between the two renames leaves neither in its place: the work is then to be done again.
    """
    if not path.exists():
        new.replace(path)
        return
    aside = _temporary(path.with_name(f"{path.name}.old"))
    shutil.rmtree(aside, ignore_errors=True)
    try:
        path.rename(aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(path)  # a folder of a container's image cannot be moved, only removed
    try:
        new.replace(path)
    except BaseException:
        if aside.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """Return the name under which this process writes what will be `path`."""
    return path.with_name(f".{path.name}.{_numbered_by()}-{os.getpid()}.part")


@lru_cache(maxsize=1)
def _numbered_by() -> str:
    """Return 8 hex digits that stand for whoever numbers the processes that this one can see.

    The host's name is not enough: containers of one name on a shared volume each have a process 1, and after a restart
    old numbers mean other processes. Where Linux does not tell, no other process is taken to be numbered alike.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        told = f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        told = secrets.token_hex()
    return hashlib.sha256(told.encode()).hexdigest()[:8]


@lru_cache(maxsize=1000)
def _remove_leftovers(folder: Path) -> None:
    """Remove, once for each folder, what killed processes left in it while they wrote.

    Whether another container's or machine's process lives cannot be asked: its pieces go when they are ABANDONED old.
    So do those of a number that lives here: numbers are used again, also in a restarted container of the same name.
    """
    with suppress(OSError):  # another user's leftovers, or a folder that cannot be listed, hinder no one who writes
        for left in list(folder.iterdir()):
            found = _LEFTOVER.fullmatch(left.name)
            if not found:
                continue
            with suppress(OSError):
                ended = found[1] == _numbered_by() and not _lives(int(found[2]))
                if not ended and time.time() - _last_written(left) < ABANDONED:
                    continue
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def _last_written(path: Path) -> float:
    """Return when a file, or anything in a folder, was last written to, in seconds since 1970."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return max(one.lstat().st_mtime for one in (path, *inside))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def value_hash(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value: equal values give equal hashes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def claim(folder: Path, kind: str, marker: str, *, whole: bool = True) -> None:
    """Make sure that `folder` may be (over)written by a `kind`: it is absent, empty, or holds `marker` already.

    What a killed process of ours left while it wrote (`.….part`) counts as nothing: it may have been the marker.
    Raises UsageError where it holds anything else, so that no other run's files are ever mixed with ours, and where it
    is to be replaced `whole` and we run in it: then this process, and the shell, would stand in a folder that is gone.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; give a folder that is new, empty or holds an earlier {kind}")
    if whole and Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(
            f"--out {folder} is or holds the folder that this command runs in, and would be replaced whole by the new "
            f"{kind}; name another folder, or run it from elsewhere"
        )
    if not (folder / marker).exists() and any(not _LEFTOVER.fullmatch(path.name) for path in folder.iterdir()):
        raise UsageError(
            f"--out {folder} already holds something that is not a fairaudit {kind} (no {marker} in it); "
            "give a new or empty folder"
        )


def remove_claimed(folder: Path, marker: str) -> None:
    """Remove a folder of ours; its `marker` goes last, so that the folder still counts as ours after a kill."""
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if path.name != marker]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        (folder / marker).unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def held(folder: Path, out: Path) -> Iterator[None]:
    """Keep every other call that holds `folder`, for the same `out`, from it; the system frees it when we are killed.

    It is made where it is absent, and removed at the end where it is empty. Raises UsageError where another call holds
    it. Where the system or the disk knows no locks (Windows, some network disks), nothing is held.
    """
    with plain_disk_errors(folder):
        handle = _lock(folder, out)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            folder.rmdir()
        if handle is not None:
            os.close(handle)


def _lock(folder: Path, out: Path) -> int | None:
    """Return an open handle of the folder, locked for us alone; None where there are no locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if fcntl is None:
            return None
        try:
            handle = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # another call has just ended, and removed it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise UsageError(
                f"another call is writing --out {out} at this moment (it holds {folder}); wait for it, or give another"
            ) from None
        except FileNotFoundError:
            pass
        except OSError:
            os.close(handle)
            return None
        os.close(handle)  # what we locked was removed meanwhile
