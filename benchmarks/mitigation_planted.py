"""Biases planted in made-up faces: which mitigation removes one in truth, and which only closes the measured gap.

    python benchmarks/mitigation_planted.py --work FOLDER [--seeds 5] [--only "label noise"] [--out FILE]

For each bias a small network is trained on faces with the bias and their labels, as `fairaudit demo` does: it learns
the bias, which a network trained elsewhere could not (the frozen face network hardly sees the mark). Each seed then
draws fresh faces with the same bias and refits every head-level method on the network's embeddings of these. Each head
answers two sets of faces that are drawn once a bias: one with the bias and its labels (`measured`: what a user would
see) and one drawn without it, with the labels the faces were drawn from (`truth`; for the cue a mark that goes with
nothing). What is finished is kept in FOLDER and skipped. `verdict` says how the words are made of intervals over seeds
and faces (`metrics/crossed.py`), each looked at alone; `verdict_shared` of such that hold for all methods of a bias at
once (Bonferroni). That another network would differ is in neither.
"""

import argparse
import csv
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fairaudit.data.synthetic import ATTRIBUTES, synthesize
from fairaudit.data.tables import FaceTable
from fairaudit.errors import FairauditError
from fairaudit.inputs import load, load_and_split
from fairaudit.metrics import crossed
from fairaudit.metrics.crossed import Faces, Joint
from fairaudit.metrics.intervals import z_value
from fairaudit.mitigation.methods import METHODS, refused
from fairaudit.mitigation.refitted import RefittedHead, make_problem, refit
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.embeddings import Embedder, checkpoint_embedder, embeddings_of, views_of
from fairaudit.models.training import train
from fairaudit.progress import silent
from fairaudit.spec import MitigateSpec, PlantedBias, Spec, SyntheticSpec, load_spec

HERE = Path(__file__).resolve().parent
TASK, BY, HURT = "gender", "group", "Aspen"
CLASSES = ATTRIBUTES[TASK]
BASELINE = "erm"
TRAINED, TESTED, SIZE = 2400, 3000, 32  # faces a network and a seed, faces of each test set, pixels
CONFIDENCE = 0.95
SIDES = ("measured", "truth")
FIGURES = ("gap", "hurt", "rest", "all")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One planted bias, the rate that shows it (accuracy, or one class's recall), and what is planted in the truth."""

    bias: PlantedBias
    rate: str = "accuracy"
    truth: tuple[PlantedBias, ...] = ()


def _planted(kind: str, strength: float, **where: str) -> PlantedBias:
    return PlantedBias.model_validate({"kind": kind, "where": where, "strength": strength, "task": TASK})


SCENARIOS = {
    "few of one label": Scenario(
        bias=_planted("under_representation", 0.9, group=HURT, gender="Female"), rate="recall of Female"
    ),
    "label noise": Scenario(bias=_planted("label_noise", 0.35, group=HURT)),
    "label noise of one label": Scenario(
        bias=_planted("label_noise", 0.45, group=HURT, gender="Female"), rate="recall of Female"
    ),
    "low quality": Scenario(bias=_planted("low_quality", 0.9, group=HURT)),
    # a strength next to nought: the mark goes with no label, in nobody
    "spurious cue": Scenario(
        bias=_planted("spurious_cue", 0.9, group=HURT), truth=(_planted("spurious_cue", 1e-9, group=HURT),)
    ),
}


def spec_of(seed: int) -> Spec:
    """Return the demo's spec for one head on small pictures; the 5 % that its split leaves over are not used."""
    demo = load_spec(HERE.parent / "audits" / "demo.toml").model_dump()
    demo |= {"seed": seed, "tasks": (TASK,), "mitigations": ()}
    demo["split"] |= {"train": 0.65, "val": 0.3, "stratify": (BY, TASK)}
    demo["model"]["image_size"], demo["data"]["synthetic"] = SIZE, None
    demo["training"]["augmented_views"] = 1
    return Spec.model_validate(demo)


def faces_of(folder: Path, biases: Sequence[PlantedBias], n: int, seed: Sequence[int]) -> Path:
    """Draw faces; `seed` numbers stand for a set of faces of their own."""
    number = int(np.random.default_rng(list(seed)).integers(2**31))
    return synthesize(SyntheticSpec(n=n, image_size=SIZE, biases=tuple(biases)), folder, seed=number)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A test set: the faces, the class codes they are judged by, and which of them the bias hurts."""

    faces: FaceTable
    label: np.ndarray
    hurt: np.ndarray


@cache
def tested(name: str, number: int, side: str, work: Path) -> Tested:
    """Read one of a scenario's two test sets. In truth those whom a cue hurts are all faces that it contradicts."""
    scenario, folder = SCENARIOS[name], test_folder(name, number, side, work)
    faces = load(folder, spec_of(0), silent)
    truth = pd.read_csv(folder / "truth.csv").set_index("image").loc[list(faces.frame["image"])]
    named = faces.frame[TASK].astype(str) if side == "measured" else truth[TASK]
    hurt = (truth[BY] == HURT).to_numpy()
    if side == "truth" and scenario.truth:
        mark = truth["bias_1_spurious_cue"].to_numpy(dtype=bool)
        hurt = mark != (truth[TASK] == CLASSES[-1]).to_numpy()
    return Tested(faces=faces, label=pd.Index(CLASSES).get_indexer(pd.Index(named)), hurt=hurt)


def network_of(name: str, number: int, work: Path) -> Embedder:
    """Return the network of a bias, trained if need be on faces of its own."""
    path = work / f"network-{number}"
    if not path.exists():
        with tempfile.TemporaryDirectory() as place:
            drawn = faces_of(Path(place) / "faces", [SCENARIOS[name].bias], TRAINED, (number, 0, 1))
            train(load_and_split(drawn, spec_of(number), silent), spec_of(number), path)
    return checkpoint_embedder(load_checkpoint(path), "cpu")


def heads_of(
    embedder: Embedder, scenario: Scenario, seed: int, folder: Path, number: int
) -> tuple[list[RefittedHead], dict[str, str]]:
    """Draw faces with the bias and refit every method on their embeddings; return the heads, and why others are not."""
    spec = spec_of(seed)
    drawn = faces_of(folder / "faces", [scenario.bias], TRAINED, (number, seed, 1))
    faces = load_and_split(drawn, spec, silent).without("test")
    store = ArrayCache(folder=folder / "cache", progress=silent, device=torch.device("cpu"))
    x = embeddings_of(embedder, faces, store, "faces").numpy()
    changed = views_of(embedder, faces, store, "faces", augmentation=spec.training.augmentation, count=1, seed=seed)
    views = [view.numpy() for view in changed]
    problem = make_problem(faces, x, TASK, BY, seed=seed, settings=MitigateSpec(), views=views)
    heads, why = [], {}
    for name in METHODS:
        if said := refused(name, problem):
            why[name] = said
            continue
        try:
            heads.append(refit(name, problem))
        except FairauditError as error:
            why[name] = str(error)
    return heads, why


def answered(name: str, number: int, seed: int, work: Path) -> Path:
    """Return the file of a bias and seed: answers of every method to both test sets (class codes), made if need be."""
    path = work / f"{number}-{seed}.npz"
    if path.exists():
        return path
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory() as place:
        embedder = network_of(name, number, work)
        heads, why = heads_of(embedder, scenario, seed, Path(place), number)
        # a bias has one network, so that its test faces are embedded once for all seeds
        store = ArrayCache(folder=work / f"embedded-{number}", progress=silent, device=torch.device("cpu"))
        found: dict[str, np.ndarray] = {}
        for side in SIDES:
            faces = tested(name, number, side, work).faces
            x = embeddings_of(embedder, faces, store, side).numpy()
            found |= {f"{side}|{head.method}": head.answer(x, faces.frame).labels.astype(np.int8) for head in heads}
    found |= {f"seconds|{head.method}": np.array(head.seconds) for head in heads}
    found["refused"] = np.array(json.dumps(why))
    with path.with_suffix(".part").open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **found)
    path.with_suffix(".part").rename(path)
    return path


def test_folder(name: str, number: int, side: str, work: Path) -> Path:
    """Return the folder of a test set, drawn if need be: one a bias, the unbiased one shared by all but the cue."""
    scenario = SCENARIOS[name]
    biases = (scenario.bias,) if side == "measured" else scenario.truth
    key = hashlib.sha256(json.dumps([b.model_dump() for b in biases]).encode()).hexdigest()[:8]
    folder = work / f"test-{side}-{key}"
    if not folder.exists():
        faces_of(folder, biases, TESTED, (number if biases else 99, 0, SIDES.index(side) + 2))
    return folder


# ---- judging: everything below takes answers and labels, and knows nothing of networks


def figures(law: Joint, rate: int, z: float) -> dict[str, tuple[float, float, float]]:
    """Return (value, low, high) of the second arm, and of its change against the first ("gap change", …).

    The law's groups are the faces that the bias hurts, and the rest; the gap is the rest's rate minus theirs.
    """
    rates = law.entries // 2
    hurt, rest, e = rate, rates + rate, law.entries
    made = {}
    for name, index, sign in (
        ("gap", [rest + e, hurt + e, 0, 0], [1, -1, 0, 0]),
        ("gap change", [rest + e, hurt + e, rest, hurt], [1, -1, -1, 1]),
        ("hurt", [hurt + e, 0, 0, 0], [1, 0, 0, 0]),
        ("hurt change", [hurt + e, hurt, 0, 0], [1, -1, 0, 0]),
        ("rest", [rest + e, 0, 0, 0], [1, 0, 0, 0]),
        ("rest change", [rest + e, rest, 0, 0], [1, -1, 0, 0]),
    ):
        found = crossed.contrasts(law, np.array([index]), np.array([sign], dtype=float))
        low, high = (float(end[0]) for end in found.limits(z))
        made[name] = (float(found.value[0]), low, high)
    return made


def judged(
    answers: Mapping[str, np.ndarray], label: np.ndarray, hurt: np.ndarray, rate: str, *, shared: bool = False
) -> dict[str, dict[str, Any]]:
    """Return each method's figures against the baseline: answers (S, N) a method, labels (N,), the faces hurt (N,).

    shared: limits that hold for all methods at once (those of the baseline for itself), else each alone.
    """
    even, side = np.ones(len(label)), np.where(hurt, 0, 1)
    faces = Faces(label=label, classes=len(CLASSES), group=side, groups=("hurt", "rest"), weight=even)
    place = 0 if rate == "accuracy" else CLASSES.index(rate.removeprefix("recall of "))
    cells = crossed.accuracy_cells if rate == "accuracy" else crossed.odds_cells
    base, bottom = cells(faces, answers[BASELINE])
    whole = Faces(label=label, classes=len(CLASSES), group=np.zeros_like(label), groups=("all",), weight=even)
    before, every = crossed.accuracy_cells(whole, answers[BASELINE])
    found = {}
    for name, own in answers.items():
        z = z_value(CONFIDENCE, len(answers) - 1 if shared and name != BASELINE else 1)
        law = crossed.joint(faces, (base, cells(faces, own)[0]), bottom, paired=True)
        made: dict[str, Any] = dict(figures(law, place, z))
        both = crossed.joint(whole, (before, crossed.accuracy_cells(whole, own)[0]), every, paired=True)
        for what, index, sign in (("all", [1, 0], [1.0, 0.0]), ("all change", [1, 0], [1.0, -1.0])):
            one = crossed.contrasts(both, np.array([index]), np.array([sign]))
            low, high = (float(end[0]) for end in one.limits(z))
            made[what] = (float(one.value[0]), low, high)
        made["n"] = (int(law.denominator[place]), int(law.denominator[law.entries // 2 + place]))
        found[name] = made
    return found


def verdict(measured: Mapping[str, Any], truth: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Return what a method did to a bias, by the intervals of its changes; `before`: the baseline's figures in truth.

    "harmed": in truth those whom the bias hurts lose, or the gap grows, or a gap of the other sign opens. "removed":
    the true gap falls, and what is left may be none; "reduced": it falls, and some is left. Both "by levelling down"
    where the rest loses and those hurt are not shown to gain. "only hidden": the measured gap falls, and a fall of the
    true one by as much is excluded. "measured gap falls, truth open": neither. "no change shown": else.
    """
    closes = measured["gap change"][2] < 0
    turned = truth["gap"][2] < 0 <= before["gap"][2]
    if truth["gap change"][1] > 0 or truth["hurt change"][2] < 0 or turned:
        return "harmed, and the measured gap falls" if closes else "harmed"
    if truth["gap change"][2] < 0 < before["gap"][1]:
        down = " by levelling down" if truth["rest change"][2] < 0 and not truth["hurt change"][1] > 0 else ""
        return ("reduced" if truth["gap"][1] > 0 else "removed") + down
    if closes:
        hidden = truth["gap change"][1] > measured["gap change"][0]
        return "only hidden" if hidden else "measured gap falls, truth open"
    return "no change shown"


def rows_of(name: str, number: int, paths: Sequence[Path], work: Path) -> list[dict[str, Any]]:
    """Return a row a method of one bias: figures on both test sets, changes with limits, n, and the verdict."""
    scenario = SCENARIOS[name]
    seeds = [dict(np.load(path)) for path in paths]
    methods = [m for m in METHODS if all(f"truth|{m}" in seed for seed in seeds)]
    found, together = {}, {}
    for side in SIDES:
        test = tested(name, number, side, work)
        answers = {m: np.stack([seed[f"{side}|{m}"] for seed in seeds]) for m in methods}
        rate = "accuracy" if scenario.truth and side == "truth" else scenario.rate
        found[side] = judged(answers, test.label, test.hurt, rate)
        together[side] = judged(answers, test.label, test.hurt, rate, shared=True)
    rows = []
    for method in METHODS:
        row: dict[str, Any] = {"planted": name, "strength": scenario.bias.strength, "rate": scenario.rate}
        row |= {"method": method, "seeds": len(seeds), "confidence": CONFIDENCE, "methods": len(methods) - 1}
        if method not in methods:
            why = next((said for s in seeds if (said := json.loads(str(s["refused"])).get(method))), "")
            rows.append({**row, "verdict": f"not run: {why}"})
            continue
        for side in SIDES:
            own = found[side][method]
            row |= {f"{side}_n_hurt": own["n"][0], f"{side}_n_rest": own["n"][1]}
            for what in FIGURES:
                row[f"{side}_{what}"] = own[what][0]
                limits = own[what] if method == BASELINE else own[f"{what} change"]
                row |= {f"{side}_{what}_low": limits[1], f"{side}_{what}_high": limits[2]}
        if method != BASELINE:
            for key, of in (("verdict", found), ("verdict_shared", together)):
                row[key] = verdict(of["measured"][method], of["truth"][method], of["truth"][BASELINE])
        row["cpu_seconds"] = float(np.mean([seed[f"seconds|{method}"] for seed in seeds]))
        rows.append(row)
    return rows


def main() -> None:
    """Fit what is not fitted yet, and write the table of all biases whose seeds are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where answers and test faces are kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=list(SCENARIOS), help="one bias; the table then has no other")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    given.work.mkdir(parents=True, exist_ok=True)
    names = [given.only] if given.only else list(SCENARIOS)
    paths: dict[str, list[Path]] = {name: [] for name in names}
    for seed in range(1, given.seeds + 1):
        for name in names:
            began = time.process_time()
            paths[name].append(answered(name, list(SCENARIOS).index(name), seed, given.work))
            print(f"{name}, seed {seed}: {time.process_time() - began:.0f} CPU seconds", flush=True)
    rows = [r for name in names for r in rows_of(name, list(SCENARIOS).index(name), paths[name], given.work)]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with given.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if v != v else round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    for row in rows:
        print(
            row["planted"],
            row["method"],
            row.get("verdict", "the baseline"),
            *(f"{row.get(f'{s}_gap', float('nan')):.3f}" for s in SIDES),
        )


if __name__ == "__main__":
    main()
