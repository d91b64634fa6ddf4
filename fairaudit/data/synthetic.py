"""Made-up faces whose truth is known: drawn avatars with biases planted on purpose and written down beside them.

`images/*.png` and `manifest.csv` are what an audit sees. `truth.csv` (the unharmed labels, and a column a bias that
says which faces it touched) and `planted.json` (seed, counts, every bias, what an audit is expected to find) are for
judging the audit, never for training.

Every attribute is independent of the others, apart from what is planted. `group` (five neutral names) draws its tone
uniformly from six neighbouring tones of the Monk scale, shared with the other groups, and prefers one shirt colour of
five: it shows, but cannot be read off. `gender` moves the hair's outline and the collar by overlapping amounts: the
best possible reader of the two is right about 94 % of the time. `age` moves eyes, lines and the hair's grey, each with
noise. Planted biases are in every split alike, as in real data sets, where the test labels and pictures come from the
same hands as the training ones.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from fairaudit.data.avatars import HAIR, MARKS, MONK_TONES, SHIRTS, Looks, colours, draw
from fairaudit.data.planted import MARKER, expectations, planted_report
from fairaudit.data.taxonomy import SCHEMES
from fairaudit.errors import UsageError
from fairaudit.files import atomic_folder, claim, write_json
from fairaudit.progress import Progress, silent
from fairaudit.registry import lookup
from fairaudit.spec import PlantedBias, SyntheticSpec

__all__ = ["ATTRIBUTES", "CONVENTIONS", "GROUP_TONES", "LABEL_SOURCE", "column_name", "planted_report", "synthesize"]

# The first of each group's six neighbouring Monk tones, counted from 1; the order of names is not the order of tones.
GROUP_TONES = {"Aspen": 5, "Birch": 1, "Cedar": 4, "Dune": 3, "Elm": 2}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "gender": SCHEMES["gender2"].classes,
    "age": SCHEMES["age9"].classes,
    "group": tuple(GROUP_TONES),
}
LABEL_SOURCE = "made-up faces: labels are those the faces were drawn from, apart from planted label noise"
CONVENTIONS = (
    "Every feature is an arbitrary convention of the drawing, not a claim about people.",
    "group: a tone drawn uniformly from six neighbouring tones of the ten-tone Monk scale, ranges overlapping, and in "
    "four of ten faces the group's own shirt colour, else any of the five.",
    "gender: outline of the hair (longer for the second class) and depth of the collar, shifted by 1.2 and 1.0 "
    "standard deviations either way, so that they overlap.",
    "age: size and height of the eyes, strength of lines, grey of the hair, each with its own noise.",
)
_HAIR_SHIFT, _COLLAR_SHIFT, _AGE_NOISE, _OWN_SHIRT = 1.2, 1.0, 0.06, 0.4


def synthesize(spec: SyntheticSpec, out: Path, *, seed: int = 0, progress: Progress = silent) -> Path:
    """Draw `spec.n` faces into the folder `out`, plant `spec.biases`, write all of it down; return `out`.

    Writes images/*.png, manifest.csv (image, gender, age, group), truth.csv and planted.json, whole or not at all. The
    same spec and seed give the same bytes. `strength` means, for faces that are drawn as `where` says:
    under_representation: the share of them that is left out (the others take their place, `n` stays);
    label_noise: the share whose label of `task` is replaced by another class;
    low_quality: how far their pictures are blurred, flattened and made noisy;
    spurious_cue: a coloured mark in a corner goes with the last class of `task` with probability (1 + strength)/2
    in all other faces, and with the other classes in these: who relies on the mark is wrong about them.
    Raises UsageError for an unknown attribute or value in `where`, an unknown task, and over four spurious cues.
    """
    for bias in spec.biases:
        _check(bias)
    if sum(bias.kind == "spurious_cue" for bias in spec.biases) > len(MARKS):
        raise UsageError(f"at most {len(MARKS)} spurious cues can be drawn, one in each corner")
    claim(out, "set of made-up faces", MARKER)
    truth = _population(spec, np.random.default_rng([seed, 0]))
    looks = _looks(truth, np.random.default_rng([seed, 1]))
    labels = truth[["image", *ATTRIBUTES]].copy()
    touched = _plant(spec.biases, truth, labels, looks, np.random.default_rng([seed, 2]))
    with atomic_folder(out) as folder:
        _write_images(
            truth["image"], Looks(**looks), spec.image_size, folder, np.random.default_rng([seed, 3]), progress
        )
        labels.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
        pd.concat([truth, touched], axis=1).to_csv(folder / "truth.csv", index=False, lineterminator="\n")
        write_json(folder / MARKER, _record(spec, seed, truth, labels, touched))
    return out


def _check(bias: PlantedBias) -> None:
    """Raise UsageError where a bias names what made-up faces do not have, or nobody to compare with."""
    lookup(ATTRIBUTES, bias.task, "task of a planted bias")
    if not bias.where:
        raise UsageError(
            f"the planted {bias.kind} has an empty `where`: name a subgroup, such as {{ group = 'Aspen' }}"
        )
    for attribute, value in bias.where.items():
        values = lookup(ATTRIBUTES, attribute, "attribute of a planted bias")
        lookup(dict.fromkeys(values), value, f"{attribute} of a planted bias")
    if bias.kind != "under_representation" and set(bias.where) == {bias.task}:
        raise UsageError(
            f"the planted {bias.kind} of {bias.task} names only a class of {bias.task} in `where`, so there is no "
            "other subgroup with that class to compare with; name another attribute (group, age or gender)"
        )


def _population(spec: SyntheticSpec, rng: np.random.Generator) -> pd.DataFrame:
    """Return one row a face: image and attributes, all cells of equal size apart from under-representation."""
    index = pd.MultiIndex.from_product(list(ATTRIBUTES.values()), names=list(ATTRIBUTES))
    cells = index.to_frame(index=False)
    share = np.ones(len(cells))
    for bias in spec.biases:
        if bias.kind == "under_representation":
            share[_members(cells, bias.where)] *= 1 - bias.strength
    if not share.any():
        raise UsageError("the planted under-representation leaves no face at all; lower a strength")
    exact = spec.n * share / share.sum()
    counts = np.floor(exact).astype(int)
    # Ties among remainders are broken at random: a fixed order would favour the first groups.
    order = np.lexsort((rng.random(len(cells)), -(exact - counts).round(9)))
    counts[order[: spec.n - counts.sum()]] += 1
    rows = cells.loc[np.repeat(np.arange(len(cells)), counts)].reset_index(drop=True)
    rows = rows.loc[rng.permutation(len(rows))].reset_index(drop=True)
    start = rows["group"].map(GROUP_TONES).to_numpy()
    rows["tone"] = start + rng.integers(0, 6, len(rows))
    rows.insert(0, "image", [f"images/face_{i:06d}.png" for i in range(1, len(rows) + 1)])
    return rows


def _looks(truth: pd.DataFrame, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the arguments of `Looks`: what each face looks like before anything is planted in its picture."""
    n = len(truth)
    side = np.where(truth["gender"] == ATTRIBUTES["gender"][-1], 1.0, -1.0)
    bins = pd.Index(ATTRIBUTES["age"]).get_indexer(pd.Index(truth["age"]))
    age = (bins + rng.random(n)) / len(ATTRIBUTES["age"])
    groups = pd.Index(ATTRIBUTES["group"]).get_indexer(pd.Index(truth["group"]))
    shirt = np.where(rng.random(n) < _OWN_SHIRT, groups, rng.integers(0, len(SHIRTS), n))

    def noisy(value: np.ndarray, spread: float) -> np.ndarray:
        return np.clip(value + spread * rng.standard_normal(n), 0, 1)

    def jitter(names: tuple[str, ...], which: np.ndarray, spread: float) -> np.ndarray:
        return np.clip(colours(names)[which] + spread * rng.standard_normal((n, 3)), 0, 255).astype(np.float32)

    return {
        "tone": jitter(MONK_TONES, truth["tone"].to_numpy() - 1, 3),
        "hair": jitter(HAIR, rng.integers(0, len(HAIR), n), 5),
        "shirt": jitter(SHIRTS, shirt, 10),
        "background": (195 + 25 * rng.random((n, 1)) + 20 * rng.random((n, 3))).astype(np.float32),
        "hair_length": noisy(0.5 + 0.16 * _HAIR_SHIFT * side, 0.16),
        "collar": noisy(0.5 + 0.16 * _COLLAR_SHIFT * side, 0.16),
        "youth": noisy(1 - age, _AGE_NOISE),
        "lines": noisy(age, _AGE_NOISE),
        "grey": noisy((age - 0.3) / 0.7, _AGE_NOISE),
        "shift": 0.04 * rng.standard_normal((n, 2)).clip(-2, 2),
        "scale": 1 + 0.05 * rng.standard_normal(n).clip(-2, 2),
        "light": 1 + 0.06 * rng.standard_normal(n).clip(-2, 2),
        "marks": np.zeros((n, len(MARKS)), dtype=bool),
        "quality": np.zeros(n),
    }


def _plant(
    biases: tuple[PlantedBias, ...],
    truth: pd.DataFrame,
    labels: pd.DataFrame,
    looks: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Change `labels` and `looks` in place; return a bool column a bias: the faces that it touched."""
    touched: dict[str, np.ndarray] = {}
    flipped = {task: np.zeros(len(truth), dtype=bool) for task in ATTRIBUTES}
    corner = 0
    for number, bias in enumerate(biases, start=1):
        members = _members(truth, bias.where)
        hit = np.zeros(len(truth), dtype=bool)
        if bias.kind == "label_noise":
            free = np.flatnonzero(members & ~flipped[bias.task])
            count = min(len(free), round(bias.strength * int(members.sum())))
            chosen = rng.choice(free, count, replace=False)
            labels.loc[chosen, bias.task] = _another_class(truth.loc[chosen, bias.task], bias.task, rng)
            hit[chosen] = True
            flipped[bias.task] |= hit
        elif bias.kind == "low_quality":
            hit = members
            looks["quality"][members] = np.maximum(looks["quality"][members], bias.strength)
        elif bias.kind == "spurious_cue":
            follows = rng.random(len(truth)) < (1 + bias.strength) / 2
            last = (truth[bias.task] == ATTRIBUTES[bias.task][-1]).to_numpy()
            hit = last == (follows != members)
            looks["marks"][:, corner] = hit
            corner += 1
        touched[column_name(number, bias.kind)] = hit
    return pd.DataFrame(touched, index=truth.index)


def column_name(number: int, kind: str) -> str:
    """Return the column of truth.csv that says which faces the bias `number` (from 1) touched."""
    return f"bias_{number}_{kind}"


def _another_class(labels: pd.Series, task: str, rng: np.random.Generator) -> np.ndarray:
    """Return for each label another class of the task, each with the same probability."""
    classes = np.array(ATTRIBUTES[task], dtype=object)
    codes = pd.Index(classes).get_indexer(pd.Index(labels))
    return classes[(codes + rng.integers(1, len(classes), len(codes))) % len(classes)]


def _members(frame: pd.DataFrame, where: Mapping[str, str]) -> np.ndarray:
    """Return which rows are of the subgroup that `where` names."""
    return np.logical_and.reduce([(frame[attribute] == value).to_numpy() for attribute, value in where.items()])


def _write_images(
    names: pd.Series, looks: Looks, size: int, folder: Path, rng: np.random.Generator, progress: Progress
) -> None:
    (folder / "images").mkdir()
    chunk = max(1, 2**18 // size**2)  # pictures that fit into the processor's cache together
    for start in range(0, len(names), chunk):
        part = slice(start, start + chunk)
        for name, pixels in zip(names[part], draw(looks.rows(part), size, rng), strict=True):
            Image.fromarray(pixels).save(folder / name, compress_level=1)
        progress("drawing faces", min(start + chunk, len(names)), len(names))


def _record(
    spec: SyntheticSpec, seed: int, truth: pd.DataFrame, labels: pd.DataFrame, touched: pd.DataFrame
) -> dict[str, Any]:
    """Return what planted.json holds."""
    counts = truth.groupby(list(ATTRIBUTES), sort=False, observed=True).size().reset_index(name="n")
    biases = [
        {
            **bias.model_dump(),
            "number": number,
            "faces": int(_members(truth, bias.where).sum()),
            "touched": int(touched[column_name(number, bias.kind)].sum()),
            "column": column_name(number, bias.kind),
        }
        for number, bias in enumerate(spec.biases, start=1)
    ]
    return {
        "format": 1,
        "seed": seed,
        "n": len(truth),
        "image_size": spec.image_size,
        "attributes": {name: list(values) for name, values in ATTRIBUTES.items()},
        "schemes": {"gender": "gender2", "age": "age9"},
        "label_source": LABEL_SOURCE,
        "conventions": list(CONVENTIONS),
        "counts": counts.to_dict("records"),
        "labels_changed": {task: int((labels[task] != truth[task]).sum()) for task in ATTRIBUTES},
        "biases": biases,
        "expected": expectations(spec.biases),
    }
