"""Predictions that stay on disk, as an audit reads them: distinct rows, and how many faces each stands for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from fairaudit import subgroups
from fairaudit.data.columns import categorical
from fairaudit.data.face_cells import FaceCells
from fairaudit.data.predictions_check import NO_LABEL, NO_PREDICTION, STATUSES
from fairaudit.data.score_counts import BINS, MOST_EXACT, ScoreCounts
from fairaudit.data.sources import (
    KEPT,
    MOST_MEASUREMENTS,
    YEARS,
    Reading,
    may_be_measured,
    measured,
    status_column,
    text_column,
)
from fairaudit.data.tables import FINDING_COLUMNS, Predictions, findings_table
from fairaudit.data.year_counts import YearCounts
from fairaudit.errors import DataError, UsageError
from fairaudit.files import value_hash

if TYPE_CHECKING:
    from fairaudit.data.shards import ShardSource

MOST_ROWS = 4_000_000  # distinct combinations of label, prediction and attributes that are held in memory
FIRST = 20  # images that an audit names of the faces left out


class _Part(NamedTuple):
    """A column of a counted table: our name, the column of the files, its codes per distinct value, the categories."""

    name: str
    column: str
    codes: np.ndarray
    categories: Any


class ShardedPredictions:
    """A predictions table on disk, read by the rules of `read_predictions`; see `tables.Predictions` for the fields."""

    def __init__(self, *, source: "ShardSource", reading: Reading, shards: Sequence[Mapping[str, Any]]) -> None:
        self.source, self.reading = source, reading
        self.tasks, self.ordered, self.label_source = reading.tasks, reading.ordered, reading.label_source
        self.attributes = tuple(reading.attributes)
        self.meta = {**reading.meta, "shards": {"folder": source.where, "files": list(shards), "said": self._said()}}
        self.findings = pd.DataFrame(list(reading.findings), columns=[*FINDING_COLUMNS, "rows"])
        self._counted: dict[tuple[tuple[str, str], ...], Predictions] = {}
        self._of_task: dict[tuple[str, ...], Predictions] = {}
        self._held: Predictions | None = None

    def __len__(self) -> int:
        return len(self.source)

    def _said(self) -> list[str]:
        """Return what the audit must say because the table stays on disk."""
        said, columns = [], self.source.columns
        if held := [word for word, name in (("weights", "weight"), ("subjects", "subject_id")) if name in columns]:
            said.append(
                f"The table has {' and '.join(held)}, so every face was held in memory: it grows with the number of "
                f"{'subjects and ' if 'subjects' in held else ''}faces ({len(self):,} faces here)."
            )
        elif any(c.startswith(f"{task}_prob_") for c in columns for task in self.tasks) and len(self) > MOST_EXACT:
            said.append(
                f"AUC, average precision, calibration and reliability curves come from {BINS:,} bins of scores: how "
                "far that can have moved an AUC or average precision stands beside it, and a mean score is within "
                f"{0.5 / BINS:.1g}. Thresholds of coverage are ends of bins, where counts are exact."
            )
        if not held and "age" in self.tasks and self.reading.years and self._year_columns("age") is None:
            said.append(
                "age: errors in years are not reported, because a map of values made other ages of those that the "
                "files hold; map them in the files, or audit a table in memory."
            )
        return said

    def hash(self) -> str:
        """Return a SHA-256 of the files' hashes, in their order."""
        return value_hash([shard["sha256"] for shard in self.meta["shards"]["files"]])

    @property
    def frame(self) -> pd.DataFrame:
        """Raise UsageError: there is no table of single faces."""
        raise UsageError(
            f"what was asked for needs every single face of {self.source.where} in memory; a table of more than "
            "1,000,000 faces is counted on disk: give fewer faces (and no --memory), or leave it out"
        )

    @property
    def weighted(self) -> bool:
        """Whether the faces have weights."""
        return "weight" in self.source.columns

    @cached_property
    def _people(self) -> int:
        return self.source.subjects()

    def subjects(self) -> int | None:
        """Return how many persons the table names, a face without one counting as one; None where it names none."""
        return self._people if "subject_id" in self.source.columns else None

    def outline(self, axes: Sequence[str] | None = None) -> Predictions:
        """Return every combination of the attributes and of the labels that `axes` name, with their faces.

        Labels that no axis names stand as one value, which says that there are some.
        """
        labels = self._labels_of(axes or ())
        found = self._count([*self._attributes(), *self._label_parts(labels)], {})
        frame = found.frame
        for task, classes in self.tasks.items():
            column = f"{task}_true"
            if column in self.reading.codes and task not in labels:
                some = self.reading.codes[column][:-1].max(initial=-1)
                frame = frame.assign(**{column: categorical(np.full(len(frame), some), classes)})
        return self._predictions(frame, found.times, {})

    def measured(self, names: Sequence[str]) -> list[str]:
        """Return which of `names` are columns of numbers, which stand in no table but those of `of_task`; where one is
        none, all that there are (at most 20), so that a refusal can name them.
        """
        found = [name for name in names if name not in self.attributes and self._measured_as(name)]
        if len(found) < len(names):
            others = [c for c in self.source.columns if c not in {*found, *self.attributes} and self._measured_as(c)]
            found += others[:MOST_MEASUREMENTS]
        return found

    def _measured_as(self, name: str) -> str | None:
        """Return the column of the files that holds the numbers of `name`; None where there are none."""
        binned = name.removesuffix("_years")
        if name == "age_true_years" and binned in self.reading.years:
            return binned
        known = name in self.source.columns and (may_be_measured(name) or name in ("age_years", "age_true_years"))
        return name if known and self.source.is_measured(name) else None

    def of_task(
        self, task: str, axes: Sequence[str], *, numbers: Sequence[str] = (), every_face: bool = False
    ) -> Predictions:
        """Return every combination of a task's label, prediction and status, the attributes, the labels in `axes`, and
        the quantile bins of the columns `numbers`.

        With weights or subjects: every face, because what weighs or belongs together cannot be counted as one. Raises
        DataError where there are more than fit into memory.
        """
        if every_face:
            _ = self.frame  # says why not
        if self.weighted or self.subjects() is not None:
            held = self.held(numbers)
            return replace(held, left_out=self._left_out(task, held.frame))
        key = (task, *self._labels_of(axes), *numbers)
        if key not in self._of_task:
            self._of_task[key] = self._counted_task(task, axes, numbers)
        return self._of_task[key]

    def _counted_task(self, task: str, axes: Sequence[str], numbers: Sequence[str]) -> Predictions:
        parts = [
            *self._label_parts([task, *self._told_labels(task, axes)]),
            self._part(f"{task}_pred", self.tasks[task]),
        ]
        if task in self.reading.status:
            text = self.reading.status[task]
            codes = np.array([STATUSES.index(value) if value in STATUSES else -1 for value in text])
            parts.append(_Part(f"{task}_status", f"{task}_status", codes, STATUSES))
        parts += [part for name in numbers if (part := self._in_bins(name, task)) is not None]
        found = self._count([*parts, *self._attributes()], {})
        frame = found.frame
        status = frame[f"{task}_status"].astype(object) if f"{task}_status" in frame else pd.Series(np.nan, frame.index)
        status = status.astype(object).where(status.notna(), None)
        status[frame[f"{task}_pred"].notna()] = "ok"
        frame = frame.assign(**{f"{task}_status": pd.Series(status, dtype=object)})
        counted = self._predictions(frame, found.times, self._left_out(task, frame))
        probabilities = [
            name if (name := f"{task}_prob_{c}") in self.source.columns else None for c in self.tasks[task]
        ]
        ages = self._year_columns(task)
        labelled = f"{task}_true" in frame and frame[f"{task}_true"].notna().any()
        if not labelled or not (any(probabilities) or ages):
            return counted
        cells = self._face_cells(task, frame, axes)
        return replace(
            counted,
            scores=ScoreCounts(cells, probabilities) if any(probabilities) else None,
            years=YearCounts(cells, ages) if ages else None,
        )

    def _in_bins(self, name: str, task: str) -> _Part | None:
        """Return a column of numbers in the quantile bins of the faces that a task counts; None where it has none."""
        theirs = self._measured_as(name)
        if theirs is None:
            return None
        codes = self.reading.codes
        where, unless = {}, {f"{task}_pred": codes[f"{task}_pred"] < 0}
        if f"{task}_true" in codes and (codes[f"{task}_true"] >= 0).any():
            where[f"{task}_true"] = codes[f"{task}_true"] >= 0
        if task in self.reading.status:
            unless[f"{task}_status"] = np.array([text not in STATUSES for text in self.reading.status[task]])
        column = f"{name} in bins of {task}"
        bins, found = self.source.put_in_bins(column, theirs, where, unless)
        return _Part(name, column, found, bins)

    def _face_cells(self, task: str, frame: pd.DataFrame, axes: Sequence[str]) -> FaceCells:
        """Lay the task's faces by cell: a combination of the attributes and of the labels that `frame` tells."""
        telling = [*self._attributes(), *self._label_parts(self._told_labels(task, axes))]
        label, prediction = self._part(f"{task}_true", self.tasks[task]), self._part(f"{task}_pred", self.tasks[task])
        own = [part.name for part in telling]
        known = pd.DataFrame({name: frame[name].cat.codes for name in own}, index=frame.index)
        cell = known.groupby(own, sort=True).ngroup().to_numpy() if own else np.zeros(len(frame), dtype=np.int64)
        cells = known.assign(cell=cell).drop_duplicates()

        def code(raw: pd.DataFrame) -> pd.DataFrame:
            codes = pd.DataFrame({part.name: part.codes[raw[part.column].to_numpy()] for part in telling}, raw.index)
            number = codes.astype(np.int64).merge(cells.astype(np.int64), on=own, how="left")["cell"] if own else 0
            told = {
                side: part.codes[raw[part.column].to_numpy()]
                for side, part in (("label", label), ("predicted", prediction))
            }
            return pd.DataFrame(told, raw.index).assign(cell=np.asarray(number))

        columns = list(dict.fromkeys(part.column for part in (label, prediction, *telling)))
        name = f"{list(self.tasks).index(task)}_{len(self._of_task)}"
        return FaceCells(self.source, name, columns, cell, code)

    def _year_columns(self, task: str) -> tuple[str, str] | None:
        """Return the columns of the files that hold labelled and predicted ages in years; None where they are not known
        of the task, or a map of values made other years of them.
        """
        found = []
        for name in YEARS if task == "age" else ():
            column = name.removesuffix("_years")
            if column in self.reading.years and self.source.holds_years(column, self.reading.years[column]):
                found.append(column)
            elif column not in self.reading.years and name in self.source.columns:
                found.append(name)
        return (found[0], found[1]) if len(found) == 2 else None

    def _told_labels(self, task: str, axes: Sequence[str]) -> list[str]:
        """Return the tasks whose labels a task's table tells: those in `axes`, and the sexes that ages are split by."""
        labels = self._labels_of(axes)
        sexes = "gender" in self.tasks and "gender" not in self.attributes and self._year_columns(task) is not None
        return list(dict.fromkeys([*labels, *(["gender"] if sexes else [])]))

    def held(self, numbers: Sequence[str] = (), *, complete: bool = False) -> Predictions:
        """Return every face, in the order of the files, with the columns `numbers`; `complete`: with images and all
        that a table in memory has.
        """
        if self._held is None or complete or not set(numbers) <= set(self._held.frame.columns):
            self._held = self._all_faces(numbers, complete)
        return self._held

    def _all_faces(self, numbers: Sequence[str], complete: bool) -> Predictions:
        told, columns = self.reading, self.source.columns
        probabilities = [
            column
            for task, classes in self.tasks.items()
            for column in columns
            if column in {f"{task}_prob_{name}" for name in classes}
        ]
        years = [name for name in YEARS if name in columns or name.removesuffix("_years") in told.years]
        exact = [name.removesuffix("_years") if name.removesuffix("_years") in told.years else name for name in years]
        numbered = [*probabilities, *(["weight"] if self.weighted else [])]
        plain = [name for name in (*(KEPT if complete else ("subject_id",)), "image") if name in columns]
        plain = [name for name in plain if name != "weight" and (complete or name != "image")]
        coded = list(dict.fromkeys([*(p.column for p in self._all_parts()), *(f"{t}_status" for t in told.status)]))
        raw = self.source.rows(coded, numbered, plain)
        ages = self.source.rows([], exact, []) if exact else {}
        out: dict[str, Any] = {}
        if complete:
            out["image"] = text_column(raw["image"]) if "image" in raw else [f"row {i + 1}" for i in range(len(self))]
        for task, classes in self.tasks.items():
            for part in self._task_parts(task):
                out[part.name] = categorical(part.codes[raw[part.column]], part.categories)
            given = told.codes[f"{task}_pred"][raw[f"{task}_pred"]] >= 0
            status = told.status[task][raw[f"{task}_status"]] if task in told.status else np.full(len(given), None)
            out[f"{task}_status"] = pd.Series(status_column(status, given), dtype=object)
            out |= {f"{task}_prob_{name}": raw[p] for name in classes if (p := f"{task}_prob_{name}") in raw}
        for part in self._attributes():
            out[part.name] = categorical(part.codes[raw[part.column]], part.categories)
        for name in (name for name in KEPT if name in raw):
            out[name] = text_column(raw[name]) if name == "subject_id" else raw[name]
        for name, column in zip(years, exact, strict=True):
            possible = told.years[column][raw[column]] if column in told.years else ages[column]
            out[name] = np.where(np.isnan(possible), np.nan, ages[column])
        out |= self._measurements(self.source.columns if complete else numbers, set(out), complete)
        return self._predictions(pd.DataFrame(out), None, {}, complete)

    def _measurements(self, names: Sequence[str], taken: set[str], complete: bool) -> dict[str, pd.Series]:
        """Return columns of numbers whole; `complete`: as many as a table in memory keeps."""
        found: dict[str, pd.Series] = {}
        for name in names:
            if name in taken or not (may_be_measured(name) or name == "age_years") or len(found) >= MOST_MEASUREMENTS:
                continue
            if name in self.source.columns and self.source.is_measured(name):
                values = measured(self.source.rows([], [], [name])[name])
                found |= {} if values is None else {name: values}
        return found

    def _task_parts(self, task: str) -> list[_Part]:
        return [*self._label_parts([task]), self._part(f"{task}_pred", self.tasks[task])]

    def _all_parts(self) -> list[_Part]:
        return [*(part for task in self.tasks for part in self._task_parts(task)), *self._attributes()]

    def _part(self, column: str, categories: Sequence[str]) -> _Part:
        return _Part(column, column, self.reading.codes[column], categories)

    def _attributes(self) -> list[_Part]:
        told = self.reading
        return [_Part(name, told.serving[name], told.codes[name], values) for name, values in told.attributes.items()]

    def _label_parts(self, tasks: Iterable[str]) -> list[_Part]:
        columns = [(f"{task}_true", self.tasks[task]) for task in dict.fromkeys(tasks)]
        return [self._part(column, classes) for column, classes in columns if column in self.reading.codes]

    def _labels_of(self, axes: Sequence[str]) -> list[str]:
        """Return the tasks whose labels serve as attributes of the axes."""
        named = {attribute for by in axes for attribute in subgroups.parse(by)} - set(self.attributes)
        return [task for task in self.tasks if task in named]

    def _count(self, parts: Sequence[_Part], left_out: Mapping[str, Sequence[str]]) -> Predictions:
        """Count the distinct rows, sorted by their codes, so that they are the same whatever the shards."""
        key = tuple((part.name, part.column) for part in parts)
        if key not in self._counted:
            if not parts:
                return self._predictions(pd.DataFrame(index=[0]), np.array([len(self)]), left_out)
            columns = list(dict.fromkeys(part.column for part in parts))
            raw = self.source.grouped(columns, MOST_ROWS)
            codes = [part.codes[raw[part.column].to_numpy()] for part in parts]
            table = pd.DataFrame(dict(enumerate(codes))).assign(times=raw["count"].to_numpy())
            summed = table.groupby(list(range(len(parts))), sort=True, as_index=False)["times"].sum()
            frame = pd.DataFrame(
                {part.name: categorical(summed[i].to_numpy(), part.categories) for i, part in enumerate(parts)}
            )
            self._counted[key] = self._predictions(frame, summed["times"].to_numpy(dtype=np.int64), left_out)
        return self._counted[key]

    def _predictions(
        self,
        frame: pd.DataFrame,
        times: np.ndarray | None,
        left_out: Mapping[str, Sequence[str]],
        complete: bool = False,
    ) -> Predictions:
        return Predictions(
            frame=frame,
            tasks=self.tasks,
            attributes=self.attributes,
            ordered=self.ordered,
            label_source=self.label_source,
            findings=self.findings if not complete else self._every_finding(),
            meta=self.meta if not complete else self.reading.meta,
            times=times,
            left_out=left_out,
        )

    def _every_finding(self) -> pd.DataFrame:
        """Return the findings with a row a face again."""
        told = self.findings
        rows = told.loc[told.index.repeat(told["rows"]), list(FINDING_COLUMNS)].itertuples(index=False, name=None)
        return findings_table(list(rows))

    def _left_out(self, task: str, frame: pd.DataFrame) -> dict[str, list[str]]:
        """Return the first images of the faces that a task cannot count, by reason."""
        given = self.reading.codes[f"{task}_pred"] >= 0
        missing = frame[f"{task}_pred"].isna() & frame[f"{task}_status"].isna()
        where = {f"{task}_pred": ~given}
        if task in self.reading.status:
            where[f"{task}_status"] = np.array([text not in STATUSES for text in self.reading.status[task]])
        found = {}
        if f"{task}_true" in frame and frame[f"{task}_true"].notna().any():
            labelled = self.reading.codes[f"{task}_true"] >= 0
            if frame[f"{task}_true"].isna().any():
                found[NO_LABEL] = self._images({f"{task}_true": ~labelled})
            missing &= frame[f"{task}_true"].notna()
            where[f"{task}_true"] = labelled
        if missing.any():
            found[NO_PREDICTION] = self._images(where)
        return found

    def _images(self, where: Mapping[str, np.ndarray]) -> list[str]:
        return [image for image, _, _ in self.source.faces(where)][:FIRST]


AnyPredictions: TypeAlias = Predictions | ShardedPredictions


def too_many(where: str, rows: int) -> DataError:
    """Return the word on a table whose distinct rows do not fit into memory."""
    return DataError(
        f"{where}: its labels, predictions and attributes have {rows:,} different combinations; at most {MOST_ROWS:,} "
        "are held in memory. Leave out columns that are no attribute, or name fewer of them"
    )
