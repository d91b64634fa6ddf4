"""Sanity checks: an attribution that looks the same without what was learned explains the picture, not the model."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from fairaudit.attribution.maps import cell_sums, mean_interval, signed_interval
from fairaudit.attribution.methods import ATTRIBUTIONS
from fairaudit.attribution.networks import module_of, parts, randomized
from fairaudit.attribution.passes import RELABELLED, Explained, Job, Pass, run_pass
from fairaudit.attribution.region_table import KINDS
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError
from fairaudit.models.classifier import FaceClassifier
from fairaudit.results.columns import SANITY_COLUMNS
from fairaudit.wording import plural

LARGEST_ERROR = 0.05
LARGEST_CORRELATION = 0.5
LARGEST_INFIDELITY = 0.9
COMPLETE, FAITHFUL = "completeness", "infidelity"
RANDOM, CASCADE, LABELS = "model randomization", "cascading randomization", "label randomization"
_LIMITS = {
    COMPLETE: LARGEST_ERROR,
    FAITHFUL: LARGEST_INFIDELITY,
    **dict.fromkeys((RANDOM, CASCADE, LABELS), LARGEST_CORRELATION),
}
PASSED, FAILED, SHOWN = "passed", "failed", "shown only"
CHECKED = {"quick": 6, "full": 16}  # faces
_LEVELS = 4  # of cascading randomization
_MOST, _STEPS, _RATE = 512, 150, 1e-3  # faces, steps and rate at which heads are trained on permuted labels


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two maps (h, w) over cells of about a fourteenth of their side: noise in single
    pixels must not hide a likeness."""
    cells = [cell_sums(values).ravel() for values in (one, other)]
    if any(not np.isfinite(values).all() or np.ptp(values) == 0 for values in cells):
        return float("nan")
    return float(stats.spearmanr(*cells).statistic)


def measured(one: Pass, found: Sequence[Explained]) -> list[dict[str, object]]:
    """Return the rows of what every face of a trained pass has told already: completeness error and infidelity."""
    method, rows = ATTRIBUTIONS[one.method], []
    for task in found[0].maps if found else ():
        rows += _completeness(one, task, found, "")
        values = np.array([face.infidelity.get(task, np.nan) for face in found])
        values = values[np.isfinite(values)]
        if values.size:
            mean, low, high = mean_interval(values)
            said = (
                f"sums over squares leave {100 * mean:.0f} % of the loss of score unexplained when a square of the "
                f"face is taken away ({task}; 100 % is no better than saying nothing, at most "
                f"{100 * LARGEST_INFIDELITY:g} % is wanted)"
            )
            row = _row(one, task, FAITHFUL, "", mean, len(values), said, (low, high))
            rows.append(row if method.factor != "none" else {**row, "outcome": SHOWN, "limit": np.nan})
    return rows


def complete_for_each(one: Pass, found: Sequence[Explained]) -> list[dict[str, object]]:
    """Return the rows of the completeness of a pass whose faces are compared: every baseline's, not the first's alone,
    for a contrast rests on each of them."""
    tasks = list(found[0].maps) if found else []
    return [row for task in tasks for row in _completeness(one, task, found, f"faces compared, {one.baseline}")]


def _completeness(one: Pass, task: str, found: Sequence[Explained], part: str) -> list[dict[str, object]]:
    errors = np.array([face.errors.get(task, np.nan) for face in found])
    errors = errors[np.isfinite(errors)]
    if not ATTRIBUTIONS[one.method].adds_up or not errors.size:
        return []
    value = float(np.median(errors))
    said = (
        f"attributions of {task} miss the change of its score by {100 * value:.1f} % (median over "
        f"{plural(len(errors), 'face')}"
        f"{', baseline ' + one.baseline if part else ''}; at most {100 * LARGEST_ERROR:g} % is wanted)"
    )
    return [_row(one, task, COMPLETE, part, value, len(errors), said)]


def compared(
    one: Pass, check: str, part: str, trained: Sequence[Explained], other: Sequence[Explained]
) -> list[dict[str, object]]:
    """Return the rows that compare the trained model's maps with another model's, face by face, of either kind.

    A method that multiplies by the picture keeps its edges in absolute maps whatever the model is; signed maps may
    still tell models apart. Cascading steps are shown and not judged.
    """
    rows = []
    for task in trained[0].maps if trained else ():
        for kind, name in enumerate(KINDS if ATTRIBUTIONS[one.method].signed else KINDS[:1]):
            each = [
                rank_correlation(a.maps[task][kind], b.maps[task][kind]) for a, b in zip(trained, other, strict=True)
            ]
            values = np.array([value for value in each if np.isfinite(value)])
            if not values.size:
                continue
            mean, low, high = signed_interval(values)
            said = (
                f"{name} maps of {task} beside those of {_MODELS[check].format(part=part)}: rank correlation "
                f"{mean:.2f}, mean over {plural(len(values), 'face')} (at most {LARGEST_CORRELATION:g} is wanted)"
            )
            row = _row(one, task, check, f"{name}{', ' if part else ''}{part}", mean, len(values), said, (low, high))
            rows.append(row if check != CASCADE else {**row, "outcome": SHOWN, "limit": np.nan})
    return rows


_MODELS = {
    RANDOM: "a model with shuffled weights",
    CASCADE: "a model with shuffled weights in {part}",
    LABELS: "heads trained on shuffled labels",
}


def _row(
    one: Pass,
    task: str,
    check: str,
    part: str,
    value: float,
    n: int,
    said: str,
    bounds: tuple[float, float] = (np.nan, np.nan),
) -> dict[str, object]:
    limit = _LIMITS[check]
    return {
        "method": one.method,
        "baseline": one.baseline,
        "task": task,
        "check": check,
        "part": part,
        "value": value,
        "low": bounds[0],
        "high": bounds[1],
        "limit": limit,
        "n": n,
        "outcome": PASSED if value <= limit else FAILED,
        "sentence": said,
    }


def full_checks(
    job: Job, one: Pass, model: Any, trained: Sequence[Explained], make_ready: Callable[[Any], Any]
) -> list[dict[str, object]]:
    """Return the rows of cascading randomization and of heads trained on shuffled labels.

    `trained`: what the trained model gave for the faces that are checked; `model`: the network as it came;
    `make_ready`: makes a network fast.
    """
    faces = [face.row for face in trained]
    rows: list[dict[str, object]] = []
    count = len(parts(module_of(model)))
    for level in sorted({max(1, round(count * share)) for share in np.arange(1, _LEVELS) / _LEVELS} - {count}):
        part = f"its last {level} of {count} parts"
        other = make_ready(randomized(model, job.pool.faces, job.seed, level))
        step = Pass(method=one.method, baseline=one.baseline, variant=f"cascade {level}")
        rows += compared(one, CASCADE, part, trained, run_pass(job, step, other, faces, f"sanity: {part}"))
    network = module_of(model)
    if isinstance(network, FaceClassifier):
        other = make_ready(relabelled(job.checkpoint, network, job.faces, job.seed))
        step = Pass(method=one.method, baseline=one.baseline, variant=RELABELLED)
        rows += compared(one, LABELS, "", trained, run_pass(job, step, other, faces, "sanity: shuffled labels"))
    return rows


def relabelled(checkpoint: Any, model: FaceClassifier, faces: FaceTable, seed: int) -> FaceClassifier:
    """Return a copy whose shared layer and heads were trained anew on embeddings with labels shuffled among faces.

    Up to 512 faces of the table, 150 steps of Adam over all of them: enough to learn shuffled labels by heart in part,
    which is the point (Adebayo et al., NeurIPS 2018). The backbone stays.
    """
    rng = np.random.default_rng(seed)
    chosen = faces.frame.iloc[rng.permutation(len(faces.frame))[:_MOST]]
    made = copy.deepcopy(model).eval()
    embeddings, kept = _embeddings(checkpoint, made, faces, chosen)
    labels = {
        task: torch.tensor([names.index(v) if v in names else -1 for v in chosen[task].iloc[kept]])
        for task, names in made.classes.items()
        if task in chosen
    }
    labels = {task: values[rng.permutation(len(values))].to(embeddings.device) for task, values in labels.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in (*made.shared.modules(), *made.heads.modules()):
            if isinstance(part, nn.Linear):
                part.reset_parameters()
    trained = [*made.shared.parameters(), *made.heads.parameters()]
    for value in trained:
        value.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        sum(_losses(made.classify(embeddings), labels)).backward()  # type: ignore[union-attr]
        optimizer.step()
    return made.requires_grad_(False)


def _losses(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> list[Tensor]:
    return [
        nn.functional.nll_loss(logits[task].log_softmax(1), values.clamp(min=0), reduction="none")[values >= 0].mean()
        for task, values in labels.items()
        if (values >= 0).any()
    ]


def _embeddings(
    checkpoint: Any, model: FaceClassifier, faces: FaceTable, chosen: pd.DataFrame
) -> tuple[Tensor, list[int]]:
    """Return embeddings (n, C) of the faces that can be read, and which these are."""
    found, kept = [], []
    for place, image in enumerate(chosen["image"]):
        try:
            pixels = checkpoint.read(faces.root / str(image))
        except DataError:
            continue
        with torch.no_grad():
            found.append(model.embed(model.prepare(torch.from_numpy(pixels)[None])))
        kept.append(place)
    return torch.cat(found), kept


def sanity_frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Return the rows as sanity.csv has them."""
    return pd.DataFrame(list(rows), columns=list(SANITY_COLUMNS))
