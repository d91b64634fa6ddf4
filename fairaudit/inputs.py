"""What a user typed becomes specs, faces and tables: the part of every command that comes before the work."""

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fairaudit.errors import DataError, TooFewFacesError, UsageError
from fairaudit.files import claim, held, remove_claimed, value_hash, write_json, write_text
from fairaudit.plan import LATE, check_against, load_plan, plan_meta
from fairaudit.policies import parse_policies
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.resources import resource_dir
from fairaudit.results import AuditResult
from fairaudit.results.files import HISTORY
from fairaudit.spec import (
    AttributionSpec,
    AuditSpec,
    ReportSpec,
    SelectionSpec,
    Spec,
    acknowledgement,
    load_spec,
    parse_spec,
)

if TYPE_CHECKING:
    import pandas as pd

    from fairaudit.data.sharded import AnyPredictions
    from fairaudit.data.tables import FaceTable, Predictions
    from fairaudit.models.protocol import FaceModel

_MARKER = "predicting.json"
SPLITS = ("auto", "all", "train", "val", "test")


def find_spec(path: Path) -> tuple[Spec, Path]:
    """Return a spec and its folder: the file as given, else one that comes with fairaudit, by its name."""
    own = resource_dir("audits") / path.with_suffix(".toml").name
    chosen = own if not path.exists() and len(path.parts) == 1 and own.exists() else path
    return load_spec(chosen), chosen.parent


def require_folder(data: Path) -> None:
    """Raise UsageError unless `data` is a folder."""
    if not data.is_dir():
        raise UsageError(f"--data {data} is not a folder; give the folder in which the faces lie")


def refuse_unread(given: Mapping[str, Any], table: bool) -> None:
    """Raise UsageError for the first option of `given` that was given: nothing would read it."""
    for option, value in given.items():
        if value:
            kind = "--predictions: the table is audited as it is" if table else "--checkpoint: it writes its own table"
            raise UsageError(f"{option} means nothing with {kind}; leave it out")


def data_spec(dataset: str | None, spec: Path | None, checkpoint: Mapping[str, Any] | None = None) -> Spec:
    """Return the spec that says how a folder is read: `spec`, else `dataset`, else the checkpoint's own."""
    if spec and dataset:
        raise UsageError("give --spec or --dataset, not both: the spec names the data set")
    if spec:
        return find_spec(spec)[0]
    if dataset:
        return parse_spec({"name": dataset, "data": {"dataset": dataset}})
    if checkpoint and checkpoint.get("spec"):
        return parse_spec(checkpoint["spec"], "the checkpoint's spec")
    raise UsageError("how are the faces labelled? Give --dataset (utkface, fairface, manifest, folders) or --spec")


def load(data: Path, spec: Spec, progress: Progress) -> "FaceTable":
    """Read the faces below `data` as the spec says."""
    from fairaudit.data.readers import load_faces

    require_folder(data)
    return load_faces(spec.data, data, seed=spec.seed, tasks=spec.tasks, progress=progress)


def face_root(spec: Spec, data: Path) -> Path:
    """Return the folder that image paths are relative to: the set's own, or `data` for merged sets."""
    return data if spec.data.sources else data / spec.data.folder


def load_and_split(data: Path, spec: Spec, progress: Progress) -> "FaceTable":
    """Read the faces below `data` and split them as the spec says."""
    from fairaudit.data.splits import split_faces

    faces = load(data, spec, progress)
    return split_faces(faces, spec.split, seed=spec.seed, duplicates=spec.data.duplicates, balance=spec.data.balance)


def faces_for(
    checkpoint: Mapping[str, Any], data: Path, dataset: str | None, spec: Path | None, split: str, progress: Progress
) -> tuple["FaceTable", str]:
    """Return the faces that a checkpoint is asked about, and a sentence that says which they are.

    `auto` means the test split where these are the faces it was trained with (same split hash), else all faces.
    """
    lookup({name: name for name in SPLITS}, split, "split")
    loaded = data_spec(dataset, spec, checkpoint)
    if split == "all":
        return load(data, loaded, progress), "all faces"
    if split == "auto" and not checkpoint.get("split_hash"):
        return load(data, loaded, progress), "all faces: which ones the model was trained on is not known"
    try:
        faces = load_and_split(data, loaded, progress)
    except TooFewFacesError:
        if split != "auto":
            raise
        return load(data, loaded, progress), "all faces: they are too few to be the set that it was trained with"
    if split != "auto":
        return faces.part(split), f"the {split} split"
    if faces.meta["split_hash"] == checkpoint.get("split_hash"):
        return faces.part("test"), "the test split of the faces that this checkpoint was trained with"
    return faces, "all faces: they are not the set that this checkpoint was trained with"


def predict_for_audit(
    model: "FaceModel",
    data: Path,
    dataset: str | None,
    spec: Path | None,
    split: str,
    device: str,
    keep: Path,
    progress: Progress,
    cache: Path | None = None,
) -> tuple["Predictions", dict[str, Any], Path]:
    """Let a model predict the faces of an audit into the folder of `keeping_predictions`.

    Return the table, what the audit's first page says of model and data, and the folder that image names start from.
    """
    from fairaudit.audit_stages import audit_meta
    from fairaudit.data.parts import is_done
    from fairaudit.data.predictions import read_predictions
    from fairaudit.models.inference import predict
    from fairaudit.models.prediction_keys import part_key, ran_on

    faces, which = faces_for(model.meta, data, dataset, spec, split, progress)
    path = keep / "predictions.parquet"
    key = {**part_key(model.in_order(faces.tasks), faces, "fp32"), **ran_on(model.place(device))}
    if is_done(path, key):
        progress("predict", 0, 0, "every face was predicted by a call that was stopped: going on there")
    else:
        predict(model, faces, path, device=device, cache=cache, progress=progress)
    table = read_predictions(path)
    return table, {**audit_meta(faces, model.meta), "faces": which}, faces.root


@contextmanager
def keeping_predictions(out: Path) -> Iterator[Path]:
    """Yield a folder beside the audit `out` for its predictions; it is removed when all is well, and else stays, so
    that the same call goes on. Raises UsageError where it is not ours, or another call is writing the same `out`.
    """
    whole = out.resolve()  # "." has no name
    folder = whole.with_name(f"{whole.name}.predicting")
    claim(folder, "audit under way", _MARKER)
    with held(folder, out):
        write_json(folder / _MARKER, {"of": whole.name})
        yield folder
        remove_claimed(folder, _MARKER)


def heads_of(model: "FaceModel", tasks: Sequence[str] | None, say: Callable[[str], None]) -> list[str] | None:
    """Return those of a spec's tasks that the model has heads for, and say which it has none for; None means all."""
    missing = [task for task in tasks or () if task not in model.classes]
    if missing:
        say(f"the model has no head for {', '.join(missing)}: not audited (it has: {', '.join(model.classes)})")
    return [task for task in tasks or () if task in model.classes] or None


def keep_history(checkpoint: Path, audit: Path) -> None:
    """Lay the training history beside the audit, so that its report can be written again without the checkpoint."""
    if (checkpoint / HISTORY).exists():
        write_text(audit / HISTORY, (checkpoint / HISTORY).read_text(encoding="utf-8"))


def read_histories(folders: Mapping[str, Path]) -> dict[str, "pd.DataFrame"]:
    """Return the training history that lies beside each audit, where there is one."""
    import pandas as pd

    return {name: pd.read_csv(path) for name, folder in folders.items() if (path := folder / HISTORY).exists()}


def table_meta() -> dict[str, Any]:
    """Return what is known of an audit that starts from a table alone: when it was made."""
    return {"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}


def read_table(
    path: Path,
    spec: Spec | None,
    rename: Sequence[str],
    value: Sequence[str],
    tasks: Sequence[str] | None,
    memory: str | None = None,
    progress: Progress = silent,
) -> "AnyPredictions":
    """Read a predictions table with the columns and values mapped by the spec and by --rename and --value.

    A folder, a file that would fill much of the memory, and any table with `memory` is read by `read_shards`.
    """
    from fairaudit.data.parts import check_complete
    from fairaudit.data.predictions import read_predictions
    from fairaudit.data.shards import MOST_HELD, is_large, read_shards

    names = dict(spec.data.columns.rename) if spec else {}
    names.update(_pairs(rename, "--rename", "ours=theirs"))
    values = {column: dict(table) for column, table in spec.data.values.items()} if spec else {}
    for key, ours in _pairs(value, "--value", "column.theirs=ours").items():
        column, dot, theirs = key.partition(".")
        if not dot or not theirs:
            raise UsageError(f"--value {key}={ours}: write column.theirs=ours, such as gender.Man=Male")
        values.setdefault(column, {})[theirs] = ours
    if path.is_dir():
        check_complete(path)
    if path.is_dir() or memory or is_large(path):
        held = 0 if memory else MOST_HELD
        return read_shards(
            path, rename=names, values=values, tasks=tasks, memory=memory, most_held=held, progress=progress
        )
    return read_predictions(path, rename=names or None, values=values or None, tasks=tasks)


def store(result: AuditResult, out: Path, table: "AnyPredictions") -> AuditResult:
    """Save an audit with the predictions it comes from; of a table on disk, the way from `out` to its folder, and how
    it was typed.
    """
    from fairaudit.data.tables import Predictions

    if not isinstance(table, Predictions):
        folder = os.path.relpath(Path(table.source.where).resolve(), out.resolve())
        shards = {**table.meta["shards"], "folder": Path(folder).as_posix(), "typed": str(table.source.where)}
        result = replace(result, meta={**result.meta, "shards": shards})
    result.save(out, table if isinstance(table, Predictions) else None)
    return result


def stored_predictions(folder: Path) -> "Predictions":
    """Read the predictions that an audit folder keeps. Raises DataError where it was counted from a table on disk."""
    from fairaudit.data.predictions import read_predictions

    path = folder / "predictions.parquet"
    if not path.exists() and "shards" in AuditResult.load(folder).meta:
        raise DataError(
            f"{folder} was counted from a table on disk and keeps no predictions, so its faces cannot be paired with "
            "others; audit a table of at most 1,000,000 faces (a sample of the same images of every model) to compare"
        )
    return read_predictions(path)


def _pairs(items: Sequence[str], option: str, form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in items:
        left, equals, right = item.partition("=")
        if not (left and equals and right):
            raise UsageError(f"{option} {item!r}: write {form}")
        if pairs.setdefault(left, right) != right:
            raise UsageError(f"{option} {item!r}: {left!r} was given before as {pairs[left]!r}; give it once")
    return pairs


def audit_settings(
    spec: Spec | None,
    min_group_size: int | None,
    policies: Sequence[str] = (),
    exploratory: bool = False,
    adjust_for: Sequence[str] = (),
    metrics: Sequence[str] = (),
    selection: str | None = None,
) -> AuditSpec:
    """Return the spec's audit settings (or the defaults), with what was given on the command line added."""
    settings = spec.audit if spec else AuditSpec()
    given: dict[str, Any] = {"min_group_size": min_group_size, "exploratory": exploratory}
    if policies:
        given["policies"] = tuple(str(policy) for policy in parse_policies([*settings.policies, *policies]))
    if metrics:
        given["metrics"] = tuple(dict.fromkeys([*settings.metrics, *metrics]))
    if selection:
        ((task, class_),) = _pairs([selection], "--selection", "task=class, such as hired=yes").items()
        given["selection"] = SelectionSpec(task=task, class_=class_)
    if adjust_for:
        given["adjust_for"] = tuple(dict.fromkeys([*settings.adjust_for, *adjust_for]))
    return settings.model_copy(update={key: value for key, value in given.items() if value})


def report_meta(spec: Spec | None, acknowledged: str | None = None) -> dict[str, Any]:
    """Return what the spec's table [report] states, and who acknowledges a head that infers race."""
    stated = (spec.report if spec else ReportSpec()).model_dump(mode="json")
    if acknowledged:
        stated["acknowledge_race_head"] = acknowledgement(acknowledged)
    if spec and spec.data.dataset != "merged" and not stated["data_set"]:
        stated["data_set"] = spec.data.dataset
    return stated


def planned(
    path: Path, spec: Spec | None, given: Mapping[str, Any], predictions: Path | None
) -> tuple[AuditSpec, tuple[str, ...] | None, int, dict[str, Any]]:
    """Return the settings, tasks (None: all) and seed of a frozen plan, and what the audit's meta keeps of it."""
    plan = load_plan(path)
    check_against(plan, spec, given)
    kept = plan_meta(plan, predictions)
    record = {
        "plan": kept,
        "hashes": {"plan": plan.sha256},
        "warnings": [kept["timing"]] if LATE in kept["timing"] else [],
    }
    return plan.audit, plan.tasks or None, plan.seed, record


def attribution_settings(spec: Spec, given: Mapping[str, Any], targets: Sequence[str] = ()) -> AttributionSpec:
    """Return the spec's attribution settings, with what was given on the command line (None: not given).

    Raises UsageError for settings that do not fit together.
    """
    told = {key: value for key, value in given.items() if value is not None}
    if targets:
        told["target"] = {**spec.attribution.target, **_pairs(targets, "--target", "task=class, such as gender=Female")}
    try:
        return AttributionSpec.model_validate({**spec.attribution.model_dump(), **told})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"attribution{'.' if where else ''}{where}: {first['msg'].removeprefix('Value error, ')}"
        ) from None


def model_names(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each audit folder, told apart by as much of the path as is needed."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    if len(set(names)) < len(names):
        raise UsageError("the same audit folder was given twice")
    return names


def relative_link(folder: Path, out: Path) -> str:
    """Return the link from a page in `out` to the report in `folder`."""
    return Path(os.path.relpath(folder.resolve() / "index.html", out.resolve())).as_posix()


def listing_hash(root: Path) -> str:
    """Return a hash of the names, sizes and times of all files below `root`: cheap, and changes when a file does."""
    entries = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            state = path.lstat()
            entries.append((str(path.relative_to(root)), state.st_size, state.st_mtime_ns))
    return value_hash(sorted(entries))
