"""A run, and its stages: skipped when their inputs are unchanged and their outputs are still what was written."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairaudit import __version__
from fairaudit.errors import UsageError
from fairaudit.files import claim, file_hash, value_hash, write_json
from fairaudit.progress import Progress, silent
from fairaudit.spec import Spec

RECORD = "run.json"
BASELINE = "baseline"
CACHE = "cache"
_NAME = "run"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: what is asked (`spec`), of which faces (`root`), where it goes (`out`), and whom to tell."""

    spec: Spec
    root: Path
    out: Path
    weights_folders: Sequence[Path] = ()
    progress: Progress = silent
    say: Callable[[str], None] = lambda text: None

    def stage(self, name: str, inputs: Mapping[str, Any], outputs: list[str], work: Callable[[], None]) -> None:
        """Do one stage unless it is done already (see `stages.stage`)."""
        stage(self.out, name, inputs, outputs, work, self.say)


def read_record(out: Path) -> dict[str, Any]:
    """Return what earlier calls noted in `out/run.json`, or an empty record.

    Raises UsageError where the file is damaged: it is never guessed at.
    """
    path = out / RECORD
    if not path.exists():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged ({error}); delete it to do every stage again") from None
    if not isinstance(record, dict):
        raise UsageError(f"{path} is damaged (it holds no table); delete it to do every stage again")
    return record


def claim_run(out: Path, name: str) -> None:
    """Make sure that `out` may hold the run `name`, and note that it does.

    Raises UsageError where it holds anything else, or a run of another name: its models and audits would stand beside
    ours.
    """
    claim(out, "run", RECORD, whole=False)
    record = read_record(out)
    earlier = record.get(_NAME, {}).get("name", name)
    if earlier != name:
        raise UsageError(f"--out {out} holds the run {earlier!r}, not {name!r}; give a new or empty folder")
    if _NAME not in record:
        write_json(out / RECORD, {**record, _NAME: {"name": name}})


def stage(
    out: Path,
    name: str,
    inputs: Mapping[str, Any],
    outputs: list[str],
    work: Callable[[], None],
    say: Callable[[str], None],
) -> bool:
    """Do `work` unless the same inputs already gave the outputs that lie in `out`; return whether it was done.

    `inputs` is any JSON-able description (hashes of files, parts of the spec); `outputs` are files relative to `out`.
    The record is written after the work, so a stage that was stopped is done again.
    """
    key = value_hash({"fairaudit": __version__, **inputs})
    noted = read_record(out).get(name, {})
    if noted.get("inputs") == key and _intact(out, outputs, noted.get("outputs", {})):
        say(f"{name}: unchanged since the last run, skipped")
        return False
    if not (out / RECORD).exists():  # marks the folder as ours before anything is in it: a run killed early goes on
        write_json(out / RECORD, {})
    work()
    hashes = {output: file_hash(out / output) for output in outputs}
    write_json(out / RECORD, {**read_record(out), name: {"inputs": key, "outputs": hashes}})
    return True


def _intact(out: Path, outputs: list[str], noted: Mapping[str, str]) -> bool:
    return all((out / file).is_file() and noted.get(file) == file_hash(out / file) for file in outputs)


def clear_cache(job: Run) -> None:
    """Remove decoded faces and maps: gigabytes, and faces have no place in what is shared."""
    shutil.rmtree(job.out / CACHE, ignore_errors=True)
