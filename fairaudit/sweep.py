"""Experiments swept from one spec: every combination trained, ranked on validation faces alone, one chosen for test."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.audit_stages import audit_stage, report_stage
from fairaudit.axes import subjects_of
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.errors import DataError, UsageError
from fairaudit.files import value_hash, write_text
from fairaudit.metrics.intervals import sign_flip_p, wilson, z_value
from fairaudit.model_stages import predict_stage, prepare_faces, train_stage
from fairaudit.report.sweep import write_sweep_report
from fairaudit.results.files import HISTORY
from fairaudit.run_checks import check_spec, choose_axes
from fairaudit.spec import Spec, parse_spec
from fairaudit.stages import Run, claim_run, clear_cache
from fairaudit.wording import plural

MOST = 64  # combinations; more on one validation set choose by luck
TABLE = "sweep.csv"
SWEPT = ("model", "training")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One combination: its name (a folder's), the keys that it sets, and its spec."""

    name: str
    changes: Mapping[str, Any]
    spec: Spec


def candidates(spec: Spec) -> list[Candidate]:
    """Return every combination of the values in `spec.sweep`, the last key varying fastest.

    Raises UsageError for a spec without [sweep], a key outside model and training (others would change the faces that
    are judged), an unknown key or impossible value, or more than `MOST` combinations.
    """
    if not spec.sweep:
        raise UsageError('the spec has no [sweep] table, such as: [sweep] / "model.dropout" = [0.2, 0.4]')
    for key, values in spec.sweep.items():
        if key.partition(".")[0] not in SWEPT or "." not in key:
            raise UsageError(
                f'sweep {key!r}: only keys of model and training are swept, such as "model.dropout"; another would '
                "change which faces are judged"
            )
        if len({value_hash(value) for value in values}) < len(values) or not values:
            raise UsageError(f"sweep {key!r} = {list(values)}: give one or more different values")
    count = int(np.prod([len(values) for values in spec.sweep.values()], dtype=object))
    if count > MOST:
        raise UsageError(
            f"the sweep has {count:,} combinations, at most {MOST} are run: name fewer values. The best of many on one "
            "validation set is chosen by luck"
        )
    made = []
    for values in itertools.product(*spec.sweep.values()):
        changes = dict(zip(spec.sweep, values, strict=True))
        raw = spec.model_dump(mode="json", exclude_unset=True, exclude={"sweep"})
        for key, value in changes.items():
            _set(raw, key, value)
        made.append(Candidate(name=_name(changes), changes=changes, spec=parse_spec(raw, f"sweep: {_words(changes)}")))
    return made


def run_sweep(job: Run, *, audit: bool = False) -> tuple[Path, pd.DataFrame]:
    """Train every combination of `job.spec.sweep`, rank them, and return the page and the table that it shows.

    Everything is judged on validation faces; with `audit` the one ranked first, and no other, is audited on the test
    faces. Checkpoints and predictions are kept, and a stage whose inputs are unchanged is skipped. Raises as `run`
    does, before anything is trained.
    """
    found = candidates(job.spec)
    for candidate in found:
        check_spec(candidate.spec, job.weights_folders)
    claim_run(job.out, job.spec.name)
    faces = prepare_faces(replace(job, spec=found[0].spec))
    axes = choose_axes(found[0].spec, faces)
    judged, histories = {}, {}
    for number, candidate in enumerate(found, start=1):
        own = replace(job, spec=candidate.spec)
        job.say(f"combination {number} of {len(found)}: {_words(candidate.changes)}")
        train_stage(own, faces, candidate.name, None)
        predict_stage(own, faces, candidate.name, "val")
        judged[candidate.name] = read_predictions(job.out / "predictions" / f"{candidate.name}-val.parquet")
        histories[candidate.name] = pd.read_csv(job.out / "checkpoints" / candidate.name / HISTORY)
    table = rank(found, judged, histories, job.spec)
    write_text(job.out / TABLE, table.to_csv(index=False))
    chosen = str(table["name"].iloc[0])
    if audit:
        own = replace(job, spec=next(c.spec for c in found if c.name == chosen))
        predict_stage(own, faces, chosen, "test")
        audit_stage(own, faces, chosen, axes)
        report_stage(own, chosen)
    clear_cache(job)
    words = {candidate.name: _words(candidate.changes) for candidate in found}
    seen = sorted(path.name for path in (job.out / "audits").glob("*") if path.name != chosen or not audit)
    page = write_sweep_report(job.out, job.spec, table, words, histories, audited=chosen if audit else None, seen=seen)
    return page, table


def rank(
    found: Sequence[Candidate],
    judged: Mapping[str, Predictions],
    histories: Mapping[str, pd.DataFrame],
    spec: Spec,
) -> pd.DataFrame:
    """Return one row a combination, best first.

    `score` is what `training.select` of the spec asks for: the mean over heads of the accuracy, or of the worst
    subgroup's. Then per head: accuracy, worst subgroup (of `min_group_size` faces or more), each with n and interval.
    `behind` is by how much the mean accuracy of the heads lies below the first's on the same faces, with a paired
    interval; `apart` is True where that leaves out 0 and an exact test that exchanges the two combinations' answers
    face by face says so, too. Both hold for all pairs of combinations at once (Bonferroni), because the faces that
    judge have also chosen which is first. Faces of a person (`subject_id`) count as one unit. Weights of
    faces do not enter.
    """
    confidence, least = spec.audit.confidence, spec.audit.min_group_size
    by = [spec.training.select_by] if spec.training.select_by else list(spec.audit.subgroups or ())
    right = {name: _right(table) for name, table in judged.items()}
    person = _persons(next(iter(judged.values())))
    pairs = max(len(found) * (len(found) - 1) // 2, 1)
    rows = []
    for candidate in found:
        seen, own = judged[candidate.name], right[candidate.name]
        heads = {task: _head(seen, task, own[task], person, by, confidence, least) for task in seen.tasks}
        figure = "accuracy" if spec.training.select == "overall" else "worst_accuracy"
        rows.append(
            {
                "name": candidate.name,
                **candidate.changes,
                "score": _mean([head[figure] for head in heads.values()], least),
                **{f"{task}_{key}": value for task, head in heads.items() for key, value in head.items()},
                "seconds": float(histories[candidate.name]["seconds"].sum()),
            }
        )
    table = pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable", ignore_index=True)
    first = right[str(table["name"].iloc[0])]
    behind = [_behind(first, right[str(name)], person, z_value(confidence, pairs)) for name in table["name"]]
    for place, key in enumerate(("behind", "behind_low", "behind_high", "p")):
        table[key] = [row[place] for row in behind]
    exact = table.pop("p") <= (1 - confidence) / pairs
    table["apart"] = exact & ((table["behind_low"] > 0) | (table["behind_high"] < 0))
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def _mean(figures: Sequence[float], least: int) -> float:
    """Return the mean of what is defined: the same heads in every combination, because the faces are the same."""
    known = [value for value in figures if not np.isnan(value)]
    if not known:
        raise DataError(
            f"no head can be ranked: none has a subgroup with {plural(least, 'labelled validation face')}; give "
            "more faces, a "
            "larger split.val, or training.select = 'overall'"
        )
    return float(np.mean(known))


def _right(table: Predictions) -> dict[str, np.ndarray]:
    """Return per head and face 1 where the prediction is the label, 0 where not (or there is none), NaN unlabelled."""
    made = {}
    for task in table.tasks:
        truth, answer = (table.frame[f"{task}_{end}"].astype(object) for end in ("true", "pred"))
        made[task] = np.where(truth.isna(), np.nan, (truth == answer).astype(float))
    return made


def _persons(table: Predictions) -> np.ndarray:
    """Return the number of each face's person, or of the face itself where no person is known."""
    return subjects_of(table.frame) if "subject_id" in table.frame else np.arange(len(table.frame))


def _head(
    table: Predictions,
    task: str,
    right: np.ndarray,
    person: np.ndarray,
    by: Sequence[str],
    confidence: float,
    least: int,
) -> dict[str, Any]:
    """Return a head's accuracy, and that of its worst subgroup over the axes on which it means something."""
    made = dict(zip(("accuracy", "low", "high", "n"), _share(right, person, confidence), strict=True))
    worst: dict[str, Any] = dict.fromkeys(("worst_accuracy", "worst_low", "worst_high"), np.nan)
    worst |= {"worst_n": 0, "worst_subgroup": ""}
    for axis in by:
        groups = subgroups.assign(table.frame, axis)
        if subgroups.degenerate(groups, table.frame[f"{task}_true"], axis, task):
            continue
        for group in groups.categories:
            inside = np.asarray(groups == group)
            value, low, high, n = _share(right[inside], person[inside], confidence)
            if group != subgroups.UNKNOWN and n >= least and not value >= worst["worst_accuracy"]:
                worst = {"worst_accuracy": value, "worst_low": low, "worst_high": high, "worst_n": n}
                worst["worst_subgroup"] = f"{axis}: {group}"
    return {**made, **worst}


def _share(right: np.ndarray, person: np.ndarray, confidence: float) -> tuple[float, float, float, int]:
    """Return the share that is right, Wilson's limits at the effective number of faces, and n."""
    known = ~np.isnan(right)
    if not known.any():
        return np.nan, np.nan, np.nan, 0
    value, n = right[known].mean(), int(known.sum())
    codes = pd.factorize(person[known])[0]
    size = np.bincount(codes)
    effective = n**2 / (size**2).sum()
    spread = ((np.bincount(codes, weights=right[known]) - value * size) ** 2).sum()
    if size.max() > 1 and len(size) > 1 and spread > 1e-12:
        effective = min(value * (1 - value) * n**2 / (spread * len(size) / (len(size) - 1)), n)
    low, high = wilson(value, np.array(effective), z_value(confidence))
    return float(value), float(low), float(high), n


def _behind(
    first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], person: np.ndarray, z: float
) -> tuple[float, float, float, float]:
    """Return by how much the mean over heads of the accuracy lies below the first's, its limits, and an exact p-value.

    Limits: normal, over persons, with half a face added to each of the four outcomes of a pair, so that few faces
    without spread are not certain (Agresti & Min, Stat Med 24:729, 2005). NaN where all faces are of one person.
    """
    if first is other:
        return 0.0, 0.0, 0.0, 1.0
    n = len(person)
    each, flips = np.zeros(n), np.zeros(n)
    for task in first:  # a face's share in the mean of the heads' accuracies
        difference = np.nan_to_num(first[task] - other[task])
        each += difference * n / max((~np.isnan(first[task])).sum(), 1) / len(first)
        flips += difference
    p = sign_flip_p(np.bincount(person, weights=flips))
    size, sums = np.bincount(person), np.bincount(person, weights=each)
    if len(size) < 2:
        return float(each.mean()), np.nan, np.nan, p
    middle = each.sum() / (n + 2)
    spread = ((sums - middle * size) ** 2).sum() + 1 + 2 * middle**2
    reach = z * np.sqrt(spread * len(size) / (len(size) - 1)) / (n + 2)
    return float(each.mean()), float(max(middle - reach, -1)), float(min(middle + reach, 1)), p


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise UsageError(f"sweep {key!r}: {parent!r} is no table of keys")
    place[last] = value


def _words(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.partition('.')[2]} = {value}" for key, value in changes.items())


def _name(changes: Mapping[str, Any]) -> str:
    """Return a folder's name: readable, and different for different values."""
    text = re.sub(r"[^\w.=-]+", "-", "_".join(f"{key.rpartition('.')[2]}={value}" for key, value in changes.items()))
    return f"{text[:60]}-{value_hash(dict(changes))[:6]}"
