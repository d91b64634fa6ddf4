"""Training, validation and test faces: stratified, seeded, whole persons and identical files kept together."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from fairaudit.data.checks import Finding, contradictions, duplicate_sets
from fairaudit.data.tables import FaceTable, findings_table
from fairaudit.errors import TooFewFacesError, UsageError
from fairaudit.registry import lookup, suggestion
from fairaudit.spec import BalanceSpec, SplitSpec
from fairaudit.subgroups import UNKNOWN
from fairaudit.wording import plural

SPLITS = ("train", "val", "test")
Duplicates = Literal["test-only", "keep", "drop", "first"]


def split_faces(
    faces: FaceTable,
    split: SplitSpec | None = None,
    *,
    seed: int = 0,
    duplicates: Duplicates = "test-only",
    balance: BalanceSpec | None = None,
) -> FaceTable:
    """Return the faces with `split` ("train", "val", "test") and `trainable`, and `meta["split_hash"]`.

    Faces that share a file's bytes or a `subject_id` stay together. Shares hold within every cell of the stratifying
    attributes (default: every task; a masked label is a value of its own); a cell too small to give each split a face
    joins a coarser one, which is counted in a finding. With `split.official` the data set's own test faces stay as they
    are, and only the rest is split. `duplicates` says what becomes of identical files with contradicting labels,
    `balance` how many training faces of each class are trained on: both set `trainable`, never touching test.

    Raises UsageError for an attribute or task that the data lack, or `official` where the data have no such split;
    DataError where there are too few faces for three splits.
    """
    split = split or SplitSpec()
    attributes = _stratify(faces, split)
    frame, contradicting, findings = _without_contradictions(faces, duplicates)
    units = _units(frame)
    rng = np.random.default_rng(seed)
    shares = dict(zip(SPLITS, (split.train, split.val, 1 - split.train - split.val), strict=True))
    if split.official:
        names, more = _official(frame, units, attributes, shares, rng)
    else:
        names, more = _allocate(frame, units, attributes, shares, rng)
    frame = frame.assign(split=names, trainable=~contradicting)[names != ""].reset_index(drop=True)
    if set(frame["split"]) != set(SPLITS):
        counts = ", ".join(f"{name}: {int((frame['split'] == name).sum()):,}" for name in SPLITS)
        apart = len(np.unique(units))
        torn = (
            f" of {plural(apart, 'person or set', 'persons or sets')} of identical files" if apart < len(frame) else ""
        )
        given = f"{plural(len(frame), 'face')}{torn} {'is' if len(frame) == 1 else 'are'} too few"
        raise TooFewFacesError(f"{given} for a split into three ({counts}); give more faces")
    if balance is not None:
        frame["trainable"], few = _balanced(faces, frame, balance, rng)
        more = [*more, few]
    digest = hashlib.sha256()
    for image, name in sorted(zip(frame["image"], frame["split"], strict=True)):
        digest.update(f"{image}\t{name}\n".encode())
    meta = {**faces.meta, "split_hash": digest.hexdigest(), "split_seed": seed, "stratified_by": list(attributes)}
    listed = pd.concat([faces.findings, findings_table([*findings, *more])], ignore_index=True)
    return replace(faces, frame=frame, findings=listed, meta=meta)


def redivide(
    faces: FaceTable,
    split: SplitSpec,
    *,
    seed: int,
    duplicates: Duplicates = "test-only",
    balance: BalanceSpec | None = None,
) -> FaceTable:
    """Return the faces that are not for testing with "train" and "val" drawn anew, by the rules of `split_faces`.

    `faces` holds the training and validation faces of an earlier split; the test faces stay where they are.
    """
    frame, contradicting, _ = _without_contradictions(faces, duplicates)
    rng = np.random.default_rng([seed, 31])
    total = split.train + split.val
    shares = {"train": split.train / total, "val": split.val / total}
    names, _ = _allocate(frame, _units(frame), _stratify(faces, split), shares, rng)
    frame = frame.assign(split=names, trainable=~contradicting)
    if balance is not None:
        frame["trainable"] = _balanced(faces, frame, balance, rng)[0]
    return replace(faces, frame=frame)


def _stratify(faces: FaceTable, split: SplitSpec) -> tuple[str, ...]:
    known = [*faces.tasks, *faces.attributes]
    for name in split.stratify or ():
        if name not in known:
            has = ", ".join(known)
            raise UsageError(
                f"split.stratify: no attribute {name!r}{suggestion(name, known)} in these data (they have: {has})"
            )
    return tuple(faces.tasks) if split.stratify is None else tuple(split.stratify)


def _without_contradictions(faces: FaceTable, duplicates: str) -> tuple[pd.DataFrame, np.ndarray, list[Finding]]:
    """Apply the rule for identical files with contradicting labels; return rows, which of them contradict, findings."""
    frame = faces.frame
    labels = [*faces.tasks, *(name for name in faces.attributes if name != "dataset"), "age_years"]
    sets = duplicate_sets(frame) if "sha256" in frame else []
    sets = [members for members in sets if contradictions(frame.iloc[members], labels)]
    inside = np.zeros(len(frame), dtype=bool)
    inside[[position for members in sets for position in members]] = True
    if duplicates == "keep":
        return frame, np.zeros(len(frame), dtype=bool), []
    if duplicates == "test-only":
        detail = "an identical file is labelled differently: not trained on, kept and counted in test"
        return frame, inside, [("contradictory_label", name, "kept", detail) for name in frame["image"][inside]]
    gone = [position for members in sets for position in (members if duplicates == "drop" else members[1:])]
    detail = {
        "drop": "an identical file is labelled differently: all of the set are dropped",
        "first": "an identical file is labelled differently: only the first of the set is used",
    }[duplicates]
    keep = np.ones(len(frame), dtype=bool)
    keep[gone] = False
    findings = [("contradictory_label", frame["image"].iloc[position], "excluded", detail) for position in gone]
    return frame[keep].reset_index(drop=True), np.zeros(int(keep.sum()), dtype=bool), findings


def _units(frame: pd.DataFrame) -> np.ndarray:
    """Number the units that a split may not tear apart: faces joined by identical bytes or by the same person."""
    parent = np.arange(len(frame))

    def root(position: int) -> int:
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = int(parent[position])
        return position

    for column in ("sha256", "subject_id"):
        if column not in frame:
            continue
        seen: dict[str, int] = {}
        for position, value in enumerate(frame[column]):
            if pd.notna(value):
                a, b = root(seen.setdefault(value, position)), root(position)
                parent[max(a, b)] = min(a, b)
    return np.array([root(position) for position in range(len(frame))], dtype=np.int64)


def _renumbered(units: np.ndarray) -> np.ndarray:
    """Number the units of some of the rows by the position of each one's first row among them."""
    _, first, inverse = np.unique(units, return_index=True, return_inverse=True)
    return first[inverse]


def _allocate(
    frame: pd.DataFrame,
    units: np.ndarray,
    attributes: Sequence[str],
    shares: dict[str, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Finding]]:
    """Return each row's split. Units are drawn in the order of their first image, so file order does not matter."""
    first, inverse, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(frame["image"].to_numpy(dtype=object)[first], kind="stable")
    values = frame[list(attributes)].astype(object)
    cells = values.where(values.notna(), UNKNOWN).iloc[first].reset_index(drop=True)
    assigned = np.full(len(first), "", dtype=object)
    findings: list[Finding] = []
    for members, level in _strata(cells.iloc[order], len(attributes), min(shares.values())):
        assigned[members] = _share_out(sizes[members], shares, rng)
        if level < len(attributes):
            by = " × ".join(attributes[:level]) or "nothing"
            findings.append(("coarse_stratum", by, "listed", f"{int(sizes[members].sum())}"))
    return assigned[inverse], _summed(findings, attributes)


def _strata(cells: pd.DataFrame, depth: int, smallest: float) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (units, number of attributes used) of each stratum; units of cells too small go on to a coarser one.

    A cell is large enough when the smallest split expects at least one of its units.
    """
    needed = int(np.ceil(1 / smallest - 1e-9))
    left = cells
    for level in range(depth, 0, -1):
        grouped = left.groupby(list(left.columns[:level]), sort=True, observed=True)
        size = grouped[left.columns[0]].transform("size") if len(left) else pd.Series(dtype=int)
        for _, members in left[size >= needed].groupby(list(left.columns[:level]), sort=True, observed=True):
            yield members.index.to_numpy(), level
        left = left[size < needed]
    if len(left):
        yield left.index.to_numpy(), 0


def _share_out(sizes: np.ndarray, shares: dict[str, float], rng: np.random.Generator) -> list[str]:
    """Give each unit, in random order, to the split that lags most behind its share; ties by the seed.

    The choice does not look at the unit's size, so persons of many pictures are as likely in test as anyone else.
    """
    names = list(shares)
    share = np.array(list(shares.values()))
    lag = rng.uniform(0, 1e-6, len(names))
    result = [""] * len(sizes)
    for unit in rng.permutation(len(sizes)):
        chosen = int(np.argmax(lag + share))
        lag += share * sizes[unit]
        lag[chosen] -= sizes[unit]
        result[unit] = names[chosen]
    return result


def _summed(rows: Sequence[Finding], attributes: Sequence[str]) -> list[Finding]:
    """Turn one row a coarse stratum into one finding a level, with its faces and cells."""
    if not rows:
        return []
    table = pd.DataFrame(rows, columns=["kind", "by", "action", "n"]).astype({"n": int})
    cells = " × ".join(attributes)
    return [
        (
            "coarse_stratum",
            "",
            "listed",
            f"{plural(int(group['n'].sum()), 'face')} of cells of {cells} too small for a split, "
            f"stratified by {by} instead",
        )
        for by, group in table.groupby("by", sort=False)
    ]


def _official(
    frame: pd.DataFrame,
    units: np.ndarray,
    attributes: Sequence[str],
    shares: dict[str, float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[Finding]]:
    """Keep the data set's own test faces and split the rest; a face of the rest that is one of them too is left out."""
    if "official_split" not in frame or frame["official_split"].isna().all():
        raise UsageError("split.official: these data have no official split; leave it out or set it to false")
    own = frame["official_split"].to_numpy(dtype=object)
    has_test = (own == "test").any()
    names = np.full(len(frame), "", dtype=object)
    names[own == ("test" if has_test else "val")] = "test"
    if has_test:
        names[own == "val"] = "val"
    findings: list[Finding] = []
    for fixed in ("test", "val"):
        leaks = (names != fixed) & (names != "test") & np.isin(units, units[names == fixed])
        names[leaks] = "left out"
        findings += [
            ("official_leak", image, "excluded", f"the same file or person is in the official {fixed} faces")
            for image in frame["image"][leaks]
        ]
    # Faces of no official part (a merged set) are split like any other, test included.
    parts = [(own == "train", ["train"] if has_test else ["train", "val"]), (pd.isna(own), list(SPLITS))]
    for rows, into in parts:
        rows = np.flatnonzero(rows & (names == ""))
        if len(rows):
            total = sum(shares[name] for name in into)
            some = {name: shares[name] / total for name in into}
            part = frame.iloc[rows].reset_index(drop=True)
            names[rows], more = _allocate(part, _renumbered(units[rows]), attributes, some, rng)
            findings += more
    names[names == "left out"] = ""
    return names, findings


def _balanced(
    faces: FaceTable, frame: pd.DataFrame, balance: BalanceSpec, rng: np.random.Generator
) -> tuple[np.ndarray, Finding]:
    """Draw at most `per_class` training faces of each class; return which faces are trained on, and the finding.

    Training faces without a label of the task belong to no class and are not trained on.
    """
    classes = lookup(faces.tasks, balance.task, "task")
    train = (frame["split"] == "train").to_numpy() & frame["trainable"].to_numpy()
    labels = frame[balance.task].to_numpy(dtype=object)
    chosen = np.zeros(len(frame), dtype=bool)
    counts = []
    for label in classes:
        rows = np.flatnonzero(train & (labels == label))
        drawn = rng.permutation(rows)[: balance.per_class]
        chosen[drawn] = True
        counts.append(f"{label}: {len(drawn):,} of {len(rows):,}")
    trainable = np.where(frame["split"] == "train", chosen, frame["trainable"])
    unlabelled = int((train & frame[balance.task].isna().to_numpy()).sum())
    if unlabelled:
        counts.append(f"without a label: 0 of {unlabelled:,}")
    most = plural(balance.per_class, "face")
    detail = f"training uses at most {most} of each class of {balance.task} ({', '.join(counts)})"
    return trainable, ("balanced", "", "listed", detail)
