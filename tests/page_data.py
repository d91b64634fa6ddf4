"""Results of every kind that has a page of its own, planted and small: robustness, masking, methods over seeds,
mitigations, a sweep."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fairaudit.data.perturbations import PERTURBATIONS, STRENGTHS
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.masking.tables import masking_tables
from fairaudit.methods import compare_methods
from fairaudit.report.mitigate import write_mitigate_report
from fairaudit.report.render import write_methods_report
from fairaudit.report.sweep import write_sweep_report
from fairaudit.results import Masking, MethodComparison, Robustness
from fairaudit.robustness.heads import Head
from fairaudit.robustness.tables import robustness_tables
from fairaudit.spec import AuditSpec, parse_spec
from fairaudit.sweep import candidates, rank

NAMES = ("Female", "Male")
QUICK = AuditSpec(draws=100)
FILLS = {"blur": "what lies around the region, blurred into it", "mean": "the mean colour of the data"}
REGIONS = {"eyes": 0.06, "nose": 0.05, "hair": 0.21}


def answers(right: np.ndarray, race: np.ndarray) -> Predictions:
    """Predictions of gender, labelled in turn, right where told; race and gender are attributes."""
    label = np.arange(len(right)) % 2
    names = np.array(NAMES, dtype=object)
    columns = {"race": race, "gender_true": names[label], "gender_pred": names[np.where(right, label, 1 - label)]}
    return read_predictions(pd.DataFrame({"image": [f"{i}.jpg" for i in range(len(right))], **columns}))


def _meta(name: str, n: int, races: Mapping[str, int]) -> dict[str, object]:
    return {
        "name": name,
        "created": "2026-01-02T03:04:05+00:00",
        "fairaudit": "0",
        "format": 1,
        "n": n,
        "sampled": f"all {n} faces",
        "tasks": {"gender": list(NAMES)},
        "subgroups": {"race": dict(races)},
        "degenerate": [],
        "image_size": 112,
        "confidence": 0.95,
        "draws": QUICK.draws,
        "seed": 0,
        "min_group_size": 30,
        "independence": "Every face counts as a person of its own.",
        "label_source": "",
        "model": {},
        "checkpoint": "",
        "predictions": {},
        "warnings": [f"A warning that names {name}."],
    }


def _faces(groups: Mapping[str, int], seed: int) -> tuple[Head, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    race = np.repeat(list(groups), list(groups.values())).astype(object)
    right = rng.random(len(race)) < 0.94
    return Head.of(answers(right, race), "gender", ["race"]), right, race, rng.random(len(race))


def make_robustness(groups: Mapping[str, int], weak: str = "", *, name: str = "made up", seed: int = 0) -> Robustness:
    """Return a robustness in which everyone loses the weakest faces first, and `weak` far more of them."""
    head, right, race, hard = _faces(groups, seed)
    for way in PERTURBATIONS:
        for strength in range(1, STRENGTHS + 1):
            lost = hard < strength / STRENGTHS * np.where(race == weak, 0.5, 0.12)
            head.add((way, strength), answers(right & ~lost, race))
    curves, gaps, tests = robustness_tables({"gender": head}, ["race"], list(PERTURBATIONS), QUICK, seed)
    ways = {
        way: {"amounts": list(p.amounts), "unit": p.unit, "shown": p.shown, "stands_for": p.stands_for}
        for way, p in PERTURBATIONS.items()
    }
    meta = {**_meta(name, len(race), groups), "perturbations": ways}
    return Robustness(curves=curves, gaps=gaps, tests=tests, meta=meta)


def make_masking(groups: Mapping[str, int], weak: str = "", *, name: str = "made up", seed: int = 0) -> Masking:
    """Return a masking in which everyone needs the eyes a little, `weak` the hair, and nobody the nose."""
    head, right, race, hard = _faces(groups, seed)
    falls: dict[str, Callable[[], np.ndarray]] = {
        "eyes": lambda: np.full(len(race), 0.1),
        "nose": lambda: np.zeros(len(race)),
        "hair": lambda: np.where(race == weak, 0.45, 0.02),
    }
    for region, fall in falls.items():
        for fill in FILLS:
            head.add((region, fill), answers(right & (hard >= fall()), race))
    table, tests = masking_tables({"gender": head}, ["race"], REGIONS, list(FILLS), QUICK, seed)
    meta = {
        **_meta(name, len(race), groups),
        "regions": REGIONS,
        "fills": FILLS,
        "palette": {"mean": [0.5, 0.4, 0.4], "spread": [0.2, 0.2, 0.2]},
        "alignment": "as the data says",
        "template": "regions of a template of the face",
    }
    return Masking(table=table, tests=tests, meta=meta)


def make_methods(
    groups: Mapping[str, int], weak: str, *, names: tuple[str, str, str], seeds: int = 3
) -> MethodComparison:
    """Return three methods over seeds: one helps `weak`, one levels down, one changes nothing."""
    race = np.repeat(list(groups), list(groups.values())).astype(object)

    def runs(worst: float, others: float, first: int) -> list[Predictions]:
        base = np.random.default_rng(99).random(len(race))
        return [
            answers(
                np.where(np.random.default_rng(first + s).random(len(race)) < 0.8, base, 0.5)
                < np.where(race == weak, worst, others),
                race,
            )
            for s in range(seeds)
        ]

    methods = dict(zip(names, (runs(0.92, 0.94, 10), runs(0.78, 0.8, 20), runs(0.78, 0.94, 30)), strict=True))
    before = runs(0.78, 0.94, 0)
    return compare_methods(before, methods, by=["race"], validation=[before[0]])


def write_mitigations(out: Path, groups: Mapping[str, int], weak: str, names: tuple[str, str, str]) -> Path:
    """Write the page of mitigations of one head, with the methods' own page and tables that it leads to."""
    found = make_methods(groups, weak, names=names)
    found.save(out / "comparison" / "gender")
    write_methods_report(found, out / "comparison" / "gender", links={"All heads": "../../index.html"})
    stages = ("none", "pre", "in", "post")
    costs = {
        name: {"stage": stage, "seconds": 12.5, "groups_at": "use" if stage == "post" else ""}
        for name, stage in zip((str(found.meta["baseline"]), *names), stages, strict=True)
    }
    spec = parse_spec({"name": weak, "question": f"Who helps {weak}?", "data": {"dataset": "manifest"}})
    refused = [("gender", names[1], f"it needs more faces of {weak} than there are")]
    page, _ = write_mitigate_report(
        out, spec, "race", {"gender": found}, {"gender": costs}, {"gender": "comparison/gender"},
        facts=["Embeddings: made up.", f"The test faces were opened once, with {weak} among them."], refused=refused,
    )  # fmt: skip
    return page


def write_sweep(out: Path, groups: Mapping[str, int], weak: str) -> Path:
    """Write the page of a sweep over three combinations, the last of which fails `weak`."""
    race = np.repeat(list(groups), list(groups.values())).astype(object)
    swept = {"model.dropout": [0.1, 0.2], "training.epochs": [3, 5]}
    asked = {"question": "Which?", "data": {"dataset": "manifest"}, "audit": {"subgroups": ["race"]}, "sweep": swept}
    spec = parse_spec({"name": weak, **asked})
    found = candidates(spec)
    chance = np.random.default_rng(5).random(len(race))
    tables = {
        one.name: answers(chance < np.where(race == weak, 0.9 - 0.2 * i, 0.93), race) for i, one in enumerate(found)
    }
    curve = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "seconds": [2.0, 2.0]})
    histories = {one.name: curve for one in found}
    words = {one.name: ", ".join(f"{key} = {value}" for key, value in one.changes.items()) for one in found}
    table = rank(found, tables, histories, spec)
    return write_sweep_report(out, spec, table, words, histories, audited=None, seen=(weak,))
