"""Predict: faces stream through a checkpoint into predictions.parquet, the public table that audits start from."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fairaudit.data.tables import META_KEY, FaceTable, findings_table, predictions_meta
from fairaudit.errors import DataError, FairauditError, UsageError
from fairaudit.files import atomic_file
from fairaudit.models.answer_rows import attribute_columns, record_of, schema_of
from fairaudit.models.answers import Decide, check_groups, decider
from fairaudit.models.batching import Batching, usual_size
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import PLAIN, CompiledBlocks, why_not
from fairaudit.models.flips import FlipCheck
from fairaudit.models.prediction_keys import depends_on, part_key, ran_on
from fairaudit.models.protocol import FaceModel, Forward
from fairaudit.models.reading import Batch, batches
from fairaudit.models.runtime import Clock, flow, keep_freed_memory, pick_dtype
from fairaudit.models.sanity import look_twice
from fairaudit.models.unfinished import ENDING, Unfinished
from fairaudit.progress import Progress, silent

DESCRIBED = (
    *(
        "name",
        "source",
        "file_format",
        "file",
        "sha256",
        "further_files",
        "network",
        "outputs",
        "description",
        "architecture",
    ),
    *("backbone_weights", "preprocessing", "seed", "selected", "validation"),
)
NO_NUMBER = "the model gave no number for this face"
ROW_GROUP = 4096  # rows
_Finding = tuple[str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One call of `predict`: what is asked of whom, how, and what was met on the way."""

    checkpoint: FaceModel
    faces: FaceTable
    schema: pa.Schema
    device: torch.device
    load: Callable[[slice], Batch]
    forward: Forward
    decide: Decide
    exact: FlipCheck | None
    batching: Batching
    compiled: CompiledBlocks | None
    clock: Clock
    notes: list[str]
    key: Mapping[str, Any]
    unfinished: Unfinished
    troubles: list[_Finding] = field(default_factory=list)


def predict(
    checkpoint: FaceModel,
    faces: FaceTable,
    out: Path,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    precision: str = "fp32",
    compile: bool = False,
    flip_test: bool | None = None,
    cache: Path | None = None,
    keep: Path | None = None,
    progress: Progress = silent,
) -> Path:
    """Write what the checkpoint says of each face to the Parquet file `out`, whole or not at all, and return `out`.

    Columns: `image`; per task `<task>_true` (where the faces have it), `<task>_pred`, `<task>_status` ("ok", or
    "failed" with an empty prediction for an image that cannot be read), `<task>_prob_<class>` (0…1); `age_true_years`
    and `age_pred_years` where the model predicts ages in years (set to 0 or 120 beyond these); then every label and
    attribute of the faces as a subgroup column, `subject_id` and `weight` where known, and `brightness`, `contrast`
    and `sharpness` of the picture as the model sees it (`data.quality`). Images are decoded in
    threads beside the model; memory does not grow with their number. `precision` is "fp32", "bf16" or "auto"; where it
    is not float32, the classes that it changes are counted on a sample; so they are with `compile`, which has a network
    of ours compiled (torch.compile) for batches of one size, or goes on without where that fails. `flip_test` averages
    with the mirrored face; by default as the model was trained to be used. `batch_size` is found by trying unless it is
    given; where memory runs out it is halved. `cache` is a folder that keeps decoded faces for the next command. Where
    somebody stated classes and preprocessing of the model (`checkpoint.stated`), what looks wrong with them on a sample
    is said through `progress` and stands in the file's meta as "warnings" (`sanity.look_twice`).

    Raises DataError, before any image is read, where the faces' classes of a task are not the checkpoint's, and
    UsageError where another call is writing `out` at the same time.
    """
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"batch_size = {batch_size}: it must be 1 or more")
    if precision not in ("fp32", "bf16", "auto"):
        raise UsageError(f"unknown precision {precision!r} (allowed: fp32, bf16, auto)")
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; give the name of a file")
    checkpoint = checkpoint.in_order(faces.tasks)
    check_classes(checkpoint, faces)
    refitted = getattr(checkpoint, "refitted", ())  # of a Checkpoint, also where a model shows it changed pictures
    decide = decider(refitted, faces.frame)
    by_group = check_groups(refitted, list(faces.frame.columns))
    keep_freed_memory()
    place = checkpoint.place(device)
    flip = checkpoint.flip_test if flip_test is None else flip_test
    dtype = pick_dtype(precision, place)
    forward, compiled, said = _forward(checkpoint, place, dtype, flip, batch_size, compile)
    if compiled:
        batch_size = batch_size or compiled.size  # none is tried: each would be compiled
    said = [*by_group, *said]
    exact = None
    if compiled or dtype != torch.float32:
        exact = FlipCheck(checkpoint.on(place, torch.float32, flip=flip), decide, checkpoint.classes, len(faces))
    schema = schema_of(checkpoint, faces)
    doubts = look_twice(checkpoint, faces, forward, place) if checkpoint.stated else ([], {})
    for text in doubts[0]:
        progress("look twice", 0, 0, text)
    for text in said:
        progress("predict", 0, 0, text)
    key = part_key(checkpoint, faces, precision, compile)
    folder = keep or out.with_name(out.name + ENDING)
    needs = depends_on(key, faces, schema, place, dtype, flip, compiled is not None)
    with Unfinished.found(folder, out, schema, needs, progress) as unfinished:
        load, notes = batches(checkpoint, faces, place, cache, progress)
        work = _Work(
            checkpoint=checkpoint, faces=faces, schema=schema, device=place, load=load, forward=forward, decide=decide,
            exact=exact, batching=Batching(place, batch_size), compiled=compiled, clock=Clock(),
            notes=[*said, *notes], key=key, unfinished=unfinished,
        )  # fmt: skip
        _go_on(work)
        began = time.perf_counter()
        with atomic_file(out) as temporary:
            temporary.touch()  # a folder that cannot be written to is told before the work
            last = _work_off(work, progress)
            work.clock.seconds = time.perf_counter() - began
            _remark(work, precision, progress)
            described = _describe(work, precision, flip=flip, doubts=doubts)
            written = _write(chain(unfinished.tables(), [last]), temporary, schema, described)
            if written != len(faces):
                raise FairauditError(
                    f"{written:,} rows instead of {len(faces):,} were to be written to {out}: it is left as it was. "
                    "Does another call write the same --out? Run the same command again"
                )
    return out


def _work_off(work: _Work, progress: Progress) -> pa.Table:
    """Predict and keep every face that is not yet kept; return the last rows, which go into the table itself."""
    last, troubles = work.schema.empty_table(), len(work.troubles)
    for table in _tables(work, progress):
        if work.unfinished.rows + len(table) < len(work.faces):
            work.unfinished.keep(table, _told(work, troubles))
            troubles = len(work.troubles)
        else:
            last = table
    return last


def _forward(
    checkpoint: FaceModel, device: torch.device, dtype: torch.dtype, flip: bool, size: int | None, compile: bool
) -> tuple[Forward, CompiledBlocks | None, list[str]]:
    """Return the function from faces to probabilities, the compiled part of it where there is one, and what to say."""
    if not compile:
        return checkpoint.on(device, dtype, flip=flip), None, []
    if not isinstance(checkpoint, Checkpoint) or not isinstance(checkpoint.model, FaceClassifier):
        raise UsageError("--compile is for networks that `fairaudit train` trained; leave it out")
    if why := why_not(device):
        return checkpoint.on(device, dtype, flip=flip), None, [f"nothing can be compiled here ({why}): {PLAIN}"]
    forward, compiled = checkpoint.compiled_on(device, dtype, flip=flip, size=size or usual_size(device))
    return forward, compiled, []


def check_classes(checkpoint: FaceModel, faces: FaceTable) -> None:
    """Raise DataError where a task that both the checkpoint and the faces know has different classes in the two."""
    for task, classes in checkpoint.classes.items():
        own = faces.tasks.get(task)
        if own is not None and tuple(own) != tuple(classes):
            advice = "use another checkpoint"
            if checkpoint.stated:
                advice = "give the model's classes the data's names in its description (equal names are added up)"
            raise DataError(
                f"the checkpoint's head {task!r} knows the classes {', '.join(classes)}, but the data's are "
                f"{', '.join(own)}. Map the data's labels (data.values, data.target_schemes) or {advice}"
            )


def count_seen(checkpoint: FaceModel, faces: FaceTable) -> dict[str, int]:
    """Return how many of these faces (by SHA-256) the checkpoint was trained ("train") and chosen ("val") on; empty
    where the faces have no hashes.
    """
    if "sha256" not in faces.frame:
        return {}
    short = faces.frame["sha256"].astype(str).str[:16]
    return {part: int(short.isin(known).sum()) for part, known in checkpoint.trained_on.items()}


_Answered = tuple[Batch, dict[str, np.ndarray], dict[str, np.ndarray]]


def _answers(work: _Work) -> Iterator[_Answered]:
    """Yield every batch of faces with its probabilities and class codes; NaN and −1 where a face could not be read."""

    def answer(batch: Batch) -> _Answered:
        outputs = work.batching.run(work.forward, batch.pixels)
        finite = np.all([np.isfinite(values).all(1) for values in outputs.values()], axis=0)
        for row in np.flatnonzero(~finite):
            batch.trouble[row] = batch.trouble[row] or NO_NUMBER
        for values in outputs.values():
            values[[bool(trouble) for trouble in batch.trouble]] = np.nan
        return batch, *work.decide(outputs, np.arange(batch.rows.start, batch.rows.start + len(batch.trouble)))

    slices = work.batching.slices(len(work.faces), work.unfinished.rows)
    for batch, probs, labels in flow(work.load, answer, slices, work.device, work.clock):
        work.clock.images += len(batch.trouble)
        if work.exact:
            work.exact.compare(batch, labels)
        yield batch, probs, labels


def _tables(work: _Work, progress: Progress) -> Iterator[pa.Table]:
    """Yield the table in stretches worth keeping; findings on images that cannot be read go to `work.troubles`."""
    held: list[_Answered] = []
    for batch, probs, labels in _answers(work):
        held.append((replace(batch, pixels=batch.pixels[:0].clone()), probs, labels))
        names = work.faces.frame["image"].iloc[batch.rows]
        work.troubles.extend(
            ("no_number" if text == NO_NUMBER else "unreadable", str(name), "failed", text)
            for name, text in zip(names, batch.trouble, strict=True)
            if text
        )
        if batch.rows.stop - held[0][0].rows.start >= ROW_GROUP or work.unfinished.due():
            yield _row_group(work, held)
            held = []
        progress("predict", batch.rows.stop, len(work.faces))
    if held:
        yield _row_group(work, held)


def _row_group(work: _Work, held: list[_Answered]) -> pa.Table:
    """Return what was held of neighbouring batches as one table: columns of many rows cost no more than of few."""
    whole = Batch(
        rows=slice(held[0][0].rows.start, held[-1][0].rows.stop),
        pixels=held[0][0].pixels,
        quality=np.concatenate([batch.quality for batch, *_ in held]),
        trouble=[text for batch, *_ in held for text in batch.trouble],
    )
    probs = {task: np.concatenate([one[task] for _, one, _ in held]) for task in held[0][1]}
    labels = {task: np.concatenate([one[task] for *_, one in held]) for task in held[0][2]}
    return pa.Table.from_batches([record_of(work.schema, work.checkpoint, work.faces, whole, probs, labels)])


def _told(work: _Work, before: int) -> dict[str, Any]:
    """Return what has to be known of a stretch beside its rows: the troubles after the first `before`, and what
    precision and memory did in all rows so far.
    """
    exact = work.exact.describe() if work.exact else None
    notes = [*_earlier_notes(work), *work.batching.notes, *(work.compiled.notes if work.compiled else ())]
    return {"troubles": work.troubles[before:], "exact": exact, "notes": notes}


def _earlier_notes(work: _Work) -> list[str]:
    told = work.unfinished.told
    return list(told[-1]["notes"]) if told else []


def _go_on(work: _Work) -> None:
    """Take up what an earlier call told of the rows that it kept."""
    told = work.unfinished.told
    work.troubles.extend(tuple(one) for part in told for one in part["troubles"])
    if work.exact and told:
        work.exact.go_on(told[-1]["exact"])


def _remark(work: _Work, precision: str, progress: Progress) -> None:
    """Say, and keep in `work.notes`, what memory and precision did to the predictions."""
    said = [*_earlier_notes(work), *work.batching.notes, *(work.compiled.notes if work.compiled else ())]
    if work.exact:
        said += work.exact.sentences(precision, compiled=work.compiled is not None)
    for note in said:
        progress("predict", 0, 0, note)
    work.notes.extend(said)


def _write(tables: Iterable[pa.Table], out: Path, schema: pa.Schema, described: Mapping[str, Any]) -> int:
    """Write tables one after the other as row groups of ROW_GROUP rows or more; one group is in memory at a time.

    Returns the number of rows.
    """
    rows = 0
    text = json.dumps(described, ensure_ascii=False).encode()
    with pq.ParquetWriter(out, schema.with_metadata({META_KEY: text})) as writer:
        held: list[pa.Table] = []
        for table in tables:
            held.append(table)
            rows += len(table)
            if sum(map(len, held)) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(held).cast(schema))
                held = []
        if held:
            writer.write_table(pa.concat_tables(held).cast(schema))
    return rows


def _describe(work: _Work, precision: str, *, flip: bool, doubts: tuple[list[str], dict[str, Any]]) -> dict[str, Any]:
    checkpoint, faces = work.checkpoint, work.faces
    findings = pd.concat([faces.findings, findings_table(work.troubles)], ignore_index=True)
    seen = count_seen(checkpoint, faces)
    meta = {
        "data": dict(faces.meta),
        **work.key,
        **ran_on(work.device),
        "model": {key: checkpoint.meta[key] for key in DESCRIBED if key in checkpoint.meta},
        "warnings": doubts[0],
        "sample": doubts[1],
        "mitigation": checkpoint.meta.get("mitigation"),
        "seen_in_training": sum(seen.values()) if seen else None,
        "seen": seen,
        "failed": len(work.troubles),
        "flip_test": flip,
        "precision_check": work.exact.describe() if work.exact else None,
        "compiled": work.compiled is not None and work.compiled.on,
        "device": str(work.device),
        "images_per_second": work.clock.per_second(),
        "share_waiting_for_data": work.clock.share_waiting(),
        **work.batching.describe(),
        "loaders": work.clock.loaders,
        "notes": list(work.notes),
    }
    ordered = (checkpoint.ordered | faces.ordered) & frozenset(checkpoint.classes)
    return predictions_meta(checkpoint.classes, attribute_columns(faces), ordered, findings, faces.label_source, meta)
