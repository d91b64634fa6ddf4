"""Make an audit again from its stored predictions and settings, and name every number that differs."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from fairaudit.audit import run_audit
from fairaudit.audit_meta import UNKNOWN_LABELS, versions
from fairaudit.data.predictions import read_predictions
from fairaudit.data.sharded import AnyPredictions
from fairaudit.data.shards import read_shards
from fairaudit.environment import source_hash
from fairaudit.errors import DataError
from fairaudit.files import file_hash
from fairaudit.finding_words import before_labels
from fairaudit.progress import Progress, silent
from fairaudit.results import AuditResult
from fairaudit.results.files import FORMAT_VERSION, PAGES, read_table
from fairaudit.spec import AuditSpec
from fairaudit.verified_pages import changed_pages
from fairaudit.verified_tables import Difference, compare_tables
from fairaudit.wording import plural

PREDICTIONS = "predictions.parquet"
OWN_METRICS = "custom.csv"
NOT_RUN = (
    "custom.csv was not recomputed: that would run the code that audit.json names ({}); --run-metrics does, where you "
    "trust it."
)
# Tables that came after the others. audit.json may be edited, its word on what code wrote it included: so that other
# code wrote it excuses the absence of these alone.
LATER = frozenset(("roc.csv", "thresholds.csv"))
NEWER = (
    "Not checked: {}. audit.json lists no such table and names other code than this fairaudit's, which may not have "
    "made it yet; of these predictions this fairaudit makes it."
)
REWORDED = (
    "Warnings differ in wording: not verified, made by other code, which may have said the same in other words. Both "
    "wordings are among the differences."
)
SHORTER = (
    "findings.csv: {} of earlier code, which did not say how often the same faces are labelled so; otherwise word for "
    "word as recomputed."
)
ADDED = "Not checked: {}, which this fairaudit does not make of these predictions: {}."
MARKERS = {
    "audit.json": "audit",
    "comparison.json": "comparison",
    "methods.json": "comparison of methods",
    "attribution.json": "attribution",
    "robustness.json": "robustness",
    "masking.json": "masking",
    PAGES: "report",  # whose results lie in another folder
}
# what audit.json itself says that follows from the predictions; the rest was told to the audit
FOLLOWS = (
    *("n", "tasks", "subgroups", "degenerate", "shared_classes", "outcomes", "excluded", "independence"),
    *("confidence", "min_group_size", "draws", "seed"),
)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was checked in one folder.

    kind: as in MARKERS; files: how many files' hashes were checked; cells: how many
    table cells were recomputed, `inexact` of them equal to 1e-9 but not to the last digit; versions: (stored, present)
    by library where they differ; notes: what could not be checked, in words; unchecked: the same in a few words each,
    empty only where all was checked; told: how many warnings were told to the audit, which nothing here can check.
    """

    kind: str
    files: int
    cells: int = 0
    inexact: int = 0
    differences: tuple[Difference, ...] = ()
    versions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    told: int = 0


def verify(
    folder: Path, *, predictions: Path | None = None, run_metrics: bool = False, progress: Progress = silent
) -> Verification:
    """Check a folder that fairaudit wrote: hashes of its files and pages; of an audit, every number made again.

    predictions: the table to recompute from where the audit stores none. run_metrics: import and run the user's own
    metrics that audit.json names; without it no code is run and their table is not recomputed. Raises DataError where
    the folder holds no result, or an audit cannot be made again (no predictions, no settings, another format).
    """
    marker = next((name for name in MARKERS if (folder / name).is_file()), None)
    if marker is None:
        raise DataError(f"{folder} holds none of {', '.join(MARKERS)}: give the folder of an audit or a comparison")
    kind = MARKERS[marker]
    pages, spoiled, notes = changed_pages(folder)
    unchecked = ["the pages"] if notes else []
    wrong = [Difference(table=name, row="", column=what, stored=a, recomputed=b) for name, what, a, b in spoiled]
    meta = _meta(folder / marker) if kind != "report" else {"files": {}}
    files = len(meta["files"]) + pages
    wrong += _changed_files(folder, meta)
    if kind in ("robustness", "masking"):  # the answers that their tables come from
        answers = {f"predictions/{name}": told for name, told in meta.get("predictions", {}).items()}
        wrong += _changed_files(folder, {"files": answers})
        files += len(answers)
    if kind != "audit":
        notes.append(
            f"Only hashes were checked: the {kind} is not made again from its predictions."
            if kind in ("robustness", "masking")
            else f"Only hashes were checked: the {kind} does not hold the predictions that it was made from."
        )
        unchecked.append("the numbers")
        return Verification(
            kind=kind, files=files, differences=tuple(wrong), notes=tuple(notes), unchecked=tuple(unchecked)
        )
    table = _predictions(folder, meta, predictions, progress)
    foreign = [] if run_metrics else list(meta["settings"]["audit"].get("metrics", ()))
    result = _made_again(table, meta, folder, {"metrics": ()} if foreign else {}, progress)
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / "audit"
        result.save(again)
        skipped = {OWN_METRICS} if foreign else set()
        other = _by_other_code(meta)
        made = {path.name for path in again.glob("*.csv")} - skipped - set(meta["files"])
        new = sorted(name for name in made & LATER if not (folder / name).exists()) if other else []
        if new:
            notes.append(NEWER.format(", ".join(new)))
        unchecked += new
        more, cells, inexact = _compare_folders(folder, meta, again, skipped | set(new))
    if other:
        count = len(more)
        more = _without_shorter(more, result.table("findings"))
        if shorter := count - len(more):
            notes.append(SHORTER.format(plural(shorter, "sentence")))
    warned, added = _compared_warnings(meta, result, other)
    if warned and other:
        notes.append(REWORDED)
    if added:
        unchecked.append(plural(len(added), "warning"))
        notes.append(ADDED.format(unchecked[-1], " ".join(f"“{text}”" for text in added)))
    if foreign:
        unchecked.append(OWN_METRICS)
        notes.append(NOT_RUN.format(", ".join(foreign)))
    wrong += [*_changed_meta(table, meta, result), *warned, *more]  # what the numbers come from first
    return Verification(
        kind=kind,
        files=files,
        cells=cells,
        inexact=inexact,
        differences=tuple(wrong),
        versions=_versions(meta),
        notes=tuple(notes),
        unchecked=tuple(unchecked),
        told=sum(text in _told(meta) for text in meta.get("warnings", [])),
    )


def _compare_folders(
    folder: Path, meta: Mapping[str, Any], again: Path, skipped: set[str]
) -> tuple[list[Difference], int, int]:
    """Return every difference between the stored tables and those made again, the cells compared, and the inexact."""
    told = {name for name in meta["files"] if name.endswith(".csv")} - skipped
    made = {path.name for path in again.glob("*.csv")} - skipped
    wrong, cells, inexact = [], 0, 0
    for name in sorted(told ^ made):
        there = ("a table", "no table") if name in told else ("no table", "a table")
        wrong.append(Difference(table=name, row="", column="", stored=there[0], recomputed=there[1]))
    for name in sorted(told & made):
        if not (folder / name).is_file():
            continue  # its hash is missing, which is said already
        frame = read_table(again / name)
        try:
            stored = read_table(folder / name)
        except ValueError as error:
            said = f"unreadable ({error})"
            wrong.append(Difference(table=name, row="", column="", stored=said, recomputed="a table"))
            continue
        found, close = compare_tables(name, stored, frame)
        wrong += found
        cells, inexact = cells + frame.size, inexact + close
    return wrong, cells, inexact


def _without_shorter(found: Sequence[Difference], findings: pd.DataFrame) -> list[Difference]:
    """Leave out sentences of findings that differ only in saying nothing of labels, as earlier code did."""
    earlier = {repr(row["sentence"]): repr(before_labels(row)) for row in findings.to_dict("records")}
    return [
        one
        for one in found
        if (one.table, one.column) != ("findings.csv", "sentence") or earlier.get(one.recomputed) != one.stored
    ]


def _meta(path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(meta, dict) and meta.get("unfinished"):
            raise DataError(f"{path.parent} is unfinished: run the same command again, and it goes on")
        if not isinstance(meta["files"], dict):
            raise TypeError("files is no table of names and hashes")
        if path.name in ("robustness.json", "masking.json") and not isinstance(meta.get("predictions", {}), dict):
            raise TypeError("predictions is no table of names and hashes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): nothing in this folder can be verified") from None
    if meta.get("format") not in (FORMAT_VERSION, None):
        raise DataError(f"{path} has format {meta['format']}; this fairaudit reads format {FORMAT_VERSION}")
    checked: dict[str, Any] = meta
    return checked


def _changed_files(folder: Path, meta: Mapping[str, Any]) -> list[Difference]:
    wrong = []
    for name, told in meta["files"].items():
        path = folder / name
        if path.resolve().parent not in (folder.resolve(), folder.resolve() / "predictions"):
            raise DataError(f"{folder}: a file named {name!r} lies outside the folder; nothing outside is read")
        found = file_hash(path) if path.is_file() else "the file is missing"
        if found != told:
            wrong.append(Difference(table=name, row="", column="SHA-256 of the file", stored=told, recomputed=found))
    return wrong


def _predictions(folder: Path, meta: Mapping[str, Any], given: Path | None, progress: Progress) -> AnyPredictions:
    path = given or folder / PREDICTIONS
    shards = meta.get("shards") if given is None or given.is_dir() else None
    if isinstance(shards, dict) and not path.is_file() and given is None:
        path = _table_on_disk(folder, shards)
    if not path.exists():
        raise DataError(
            f"{folder} stores no {PREDICTIONS}, so its numbers cannot be made again; name the table they came from "
            "with --predictions"
        )
    if not isinstance(meta.get("settings"), dict) or not isinstance(meta["settings"].get("audit"), dict):
        raise DataError(
            f"{folder}: audit.json holds no settings (written by fairaudit {meta.get('fairaudit', '?')}); "
            "make the audit again"
        )
    if isinstance(shards, dict) and not (folder / PREDICTIONS).is_file():
        read_as, tasks = shards.get("reading", {}), meta["settings"].get("tasks")
        return read_shards(
            path,
            rename=read_as.get("rename"),
            values=read_as.get("values"),
            tasks=tasks,
            most_held=0,
            progress=progress,
        )
    return read_predictions(path)


def _table_on_disk(folder: Path, shards: Mapping[str, Any]) -> Path:
    """Return where a table that was counted on disk lies: as seen from the audit folder, else as it was typed.

    Raises DataError where it is in neither place.
    """
    told = [str(shards[name]) for name in ("folder", "typed") if shards.get(name)]
    places = list(dict.fromkeys([*(folder / name for name in told[:1]), *(Path(name) for name in reversed(told))]))
    names = [str(file.get("file")) for file in shards.get("files", [])]
    there = [place for place in places if place.is_file() or any((place / name).is_file() for name in names)]
    if not there:
        raise DataError(
            f"{folder} was counted from a table on disk, which lies no longer where it was: none of its {len(names)} "
            f"files is in {' or '.join(map(str, places))}. Name its folder with --predictions"
        )
    return max(there, key=lambda place: sum((place / name).is_file() for name in names))


def _made_again(
    table: AnyPredictions, meta: Mapping[str, Any], folder: Path, instead: Mapping[str, Any], progress: Progress
) -> AuditResult:
    settings = meta["settings"]
    try:
        audit = AuditSpec.model_validate({**settings["audit"], **instead})
        tasks, by, seed = list(settings["tasks"]), list(settings["by"]), int(settings["seed"])
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder}: the settings in audit.json are damaged, so nothing can be recomputed: {error}"
        ) from None
    return run_audit(table, tasks=tasks, by=by, audit=audit, seed=seed, progress=progress)


def _changed_meta(table: AnyPredictions, meta: Mapping[str, Any], result: AuditResult) -> list[Difference]:
    """Compare what audit.json says of the predictions and what follows from them."""
    wrong = []
    told, found = str(meta.get("hashes", {}).get("predictions")), table.hash()
    if told != found:
        where = "hash of what was predicted for which face"
        wrong.append(Difference(table="audit.json", row="", column=where, stored=told, recomputed=found))
    wrong += _changed_shards(meta, table.meta)
    again = json.loads(json.dumps({name: result.meta[name] for name in FOLLOWS}))
    for name in FOLLOWS:
        if meta.get(name) != again[name]:
            parts = (_first_change(meta.get(name), again[name]), _first_change(again[name], meta.get(name)))
            wrong.append(Difference(table="audit.json", row="", column=name, stored=parts[0], recomputed=parts[1]))
    return wrong


def _changed_shards(meta: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """Name the files of a table on disk that are not those that were counted."""
    if not (meta.get("shards") and found.get("shards")):
        return []
    sides = [{file["file"]: file["sha256"] for file in told["shards"].get("files", [])} for told in (meta, found)]
    return [
        Difference(
            table=name,
            row="",
            column="SHA-256 of a file of predictions",
            stored=sides[0].get(name, "no such file"),
            recomputed=sides[1].get(name, "no such file"),
        )
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(name) != sides[1].get(name)
    ]


def _compared_warnings(meta: Mapping[str, Any], result: AuditResult, other: bool) -> tuple[list[Difference], list[str]]:
    """Return how the warnings differ from those that follow from the predictions, and the added ones left unchecked.

    Those that were told to the audit are taken as given. A lost warning always is a difference. Added ones are left
    unchecked where nothing is lost and other code wrote them, or audit.json does not say which were told.
    """
    stored, own = [str(text) for text in meta.get("warnings", [])], list(result.meta["warnings"])
    if meta.get("label_source"):  # which may have been told, too
        own = [text for text in own if text != UNKNOWN_LABELS]
    lost = [text for text in own if text not in stored]
    added = [text for text in stored if text not in own and text not in _told(meta)]
    if not lost and (other or "told" not in meta):
        return [], added
    wrong = [*((text, "no such warning") for text in added), *(("no such warning", text) for text in lost)]
    return [Difference(table="audit.json", row="", column="warnings", stored=a, recomputed=b) for a, b in wrong], []


def _told(meta: Mapping[str, Any]) -> list[Any]:
    told = meta.get("told")
    return told if isinstance(told, list) else []


def _first_change(value: Any, other: Any) -> str:
    """Return the first part of `value` that `other` does not have, as JSON cut to a line."""
    if isinstance(value, dict) and isinstance(other, dict):
        changed = {key: part for key, part in value.items() if other.get(key) != part}
        if len(changed) < len(value):
            key = next(iter(changed), None)
            return "nothing more" if key is None else f"{key}: {_first_change(changed[key], other.get(key))}"
    if isinstance(value, list) and isinstance(other, list):
        changed_parts = [part for part in value if part not in other]
        value = changed_parts[0] if changed_parts else value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "…"


def _by_other_code(meta: Mapping[str, Any]) -> bool:
    """Return whether an audit says that other modules than these wrote it; one that names none does. No proof."""
    told = meta.get("environment")
    return not isinstance(told, dict) or told.get("source") != source_hash()


def _versions(meta: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    told, present = meta.get("versions", {}), versions()
    return {name: (str(told.get(name)), now) for name, now in present.items() if told.get(name) != now}
