"""Do the stated classes and preprocessing of a model look right? Told from a sample of labelled faces.

Nothing is changed: what looks wrong is said, in the output and in the report.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom

from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError
from fairaudit.metrics.intervals import wilson, z_value
from fairaudit.models.batching import Batching
from fairaudit.models.protocol import FaceModel, Forward
from fairaudit.models.runtime import Clock, flow
from fairaudit.wording import plural

MOST_FACES = 500
FEWEST_FACES = 30
ALPHA = 0.01  # shared by all comparisons of a model
_BATCH = 50


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """One head on the sample: labels and predictions (n,) as class numbers, as stated and with red and blue swapped;
    `spread` (n,): the largest minus the smallest logit."""

    labels: np.ndarray
    plain: np.ndarray
    swapped: np.ndarray
    spread: np.ndarray


def look_twice(
    model: FaceModel, faces: FaceTable, forward: Forward, device: torch.device, seed: int = 0
) -> tuple[list[str], dict[str, Any]]:
    """Return what looks wrong, a sentence each, and per task the figures it was told from.

    On at most MOST_FACES labelled faces drawn with `seed`: accuracy against the most frequent label's share (its 95 %
    Wilson interval); and with red and blue swapped, with the classes in another order, or both, by exact one-sided
    McNemar tests at ALPHA, shared out among them (Bonferroni); an order is chosen on one half of the sample and tested
    on the other. Nothing is said of a head with fewer than FEWEST_FACES labelled faces.
    """
    tasks = [task for task in model.classes if task in faces.tasks]
    level = ALPHA / (3 * max(1, len(tasks)))
    said: list[str] = []
    record: dict[str, Any] = {}
    for task, answers in _sample(model, faces, forward, device, tasks, seed).items():
        if len(answers.labels) < FEWEST_FACES:
            continue
        sentences, record[task] = _doubts(task, model.classes[task], answers, level)
        said += sentences
    return said, record


def _sample(
    model: FaceModel, faces: FaceTable, forward: Forward, device: torch.device, tasks: list[str], seed: int
) -> dict[str, _Answers]:
    codes = {
        task: faces.frame[task].astype(object).map(model.classes[task].index, na_action="ignore").to_numpy(dtype=float)
        for task in tasks
    }
    labelled = np.zeros(len(faces), dtype=bool)
    for values in codes.values():
        labelled |= np.isfinite(values)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(labelled))[:MOST_FACES]
    found: dict[str, list[tuple[np.ndarray, ...]]] = {task: [] for task in tasks}
    for chosen, plain, swapped in _answers(model, faces, forward, device, rows):
        for task in tasks:
            logits = np.log(np.maximum(plain[task], 1e-30))
            labels = codes[task][chosen]
            known = np.isfinite(labels) & np.isfinite(plain[task]).all(1)
            row = (labels, plain[task].argmax(1), swapped[task].argmax(1), np.ptp(logits, axis=1))
            found[task].append(tuple(part[known] for part in row))
    made = {}
    for task, parts in found.items():
        nothing = (np.empty(0),) * 4
        columns = [np.concatenate(column) for column in zip(*(parts or [nothing]), strict=True)]
        labels, one, two = (column.astype(int) for column in columns[:3])
        made[task] = _Answers(labels=labels, plain=one, swapped=two, spread=columns[3])
    return made


def _answers(
    model: FaceModel, faces: FaceTable, forward: Forward, device: torch.device, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]:
    """Yield row numbers with the answers to these faces as they are, and with red and blue swapped."""
    paths = [faces.root / str(name) for name in faces.frame["image"]]

    def load(part: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        read = {}
        for row in part:
            try:
                read[row] = model.read(paths[row])
            except (DataError, OSError):
                continue  # predict names it
        pixels = list(read.values()) or [np.zeros((0, model.image_size, model.image_size, 3), dtype=np.uint8)]
        return np.array(list(read), dtype=int), torch.from_numpy(np.stack(pixels) if read else pixels[0])

    batching = Batching(device, _BATCH)

    def answer(loaded: tuple[np.ndarray, torch.Tensor]) -> Any:
        chosen, pixels = loaded
        if not len(chosen):
            return None
        return chosen, batching.run(forward, pixels), batching.run(forward, pixels.flip(3))

    parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    for found in flow(load, answer, parts, device, Clock()):
        if found is not None:
            yield found


def _doubts(task: str, classes: tuple[str, ...], answers: _Answers, level: float) -> tuple[list[str], dict[str, Any]]:
    labels, right = answers.labels, answers.plain == answers.labels
    counts = np.bincount(labels, minlength=len(classes))
    n, common = len(labels), int(counts.argmax())
    rate, most = float(right.mean()), float(counts.max() / n)
    low, high = (float(limit) for limit in wilson(np.array(rate), np.array(n), z_value(0.95)))
    start = f"{task}: the model is right for {100 * rate:.1f} % of {plural(n, 'sampled face')}"
    said = []
    by_chance = low <= max(most, 1 / len(classes))
    if by_chance:
        said.append(
            f"{start} (95 % interval {100 * low:.1f}–{100 * high:.1f}): no better than the answer {classes[common]!r} "
            f"for every face ({100 * most:.1f} %). Are its classes, outputs and preprocessing described rightly?"
        )
    better = _better_reading(answers, len(classes), level)
    if better is not None:
        said.append(f"{start}, and {_in_words(better, answers, classes)}")
    if not by_chance and answers.spread.max() <= 1.001:
        said.append(
            f"{task}: the model's logits never lie further apart than 1, as probabilities do. Is "
            "values = 'probabilities' meant?"
        )
    figures = {
        "n": n,
        "accuracy": rate,
        "low": low,
        "high": high,
        "most_frequent_label": classes[common],
        "most_frequent_share": most,
        "accuracy_red_and_blue_swapped": float((answers.swapped == labels).mean()),
        "red_and_blue_swapped_fits": better is not None and better.swapped,
        "order_that_fits": None if better is None else [classes[k] for k in better.order],
    }
    return said, figures


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Another way to read the model: red and blue swapped or not, output i taken for class order[i]."""

    swapped: bool
    order: np.ndarray

    def predicted(self, answers: _Answers) -> np.ndarray:
        """Return the class numbers (n,) that the model then predicts."""
        found: np.ndarray = self.order[answers.swapped if self.swapped else answers.plain]
        return found


def _better_reading(answers: _Answers, count: int, level: float) -> _Reading | None:
    """Return the reading that is clearly right more often than the stated one, None where there is none.

    Orders are chosen on one half of the sample, every reading is tested on the other: first another order, then other
    colours, then both; each has to be better than what was found before it.
    """
    first = np.arange(len(answers.labels)) % 2 == 0  # the rows come in random order
    stated = np.arange(count)
    found = None
    for swapped, other in ((False, True), (True, False), (True, True)):
        predicted = answers.swapped if swapped else answers.plain
        order = _best_order(answers.labels[first], predicted[first], count) if other else stated
        reading = _Reading(swapped=swapped, order=order)
        before = found or _Reading(swapped=False, order=stated)
        right, was = ((one.predicted(answers) == answers.labels)[~first] for one in (reading, before))
        if _better(right, was) < level:
            found = reading
    return found


def _in_words(reading: _Reading, answers: _Answers, classes: tuple[str, ...]) -> str:
    rate = 100 * (reading.predicted(answers) == answers.labels).mean()
    moved = ", ".join(f"{classes[i]!r} as {classes[k]!r}" for i, k in enumerate(reading.order) if i != k)
    ways = [*(["with red and blue swapped"] if reading.swapped else [])]
    ways += [f"with its classes read in another order ({moved})"] if moved else []
    wanted = [*(["its colour order (input.colour)"] if reading.swapped else []), *(["its classes"] if moved else [])]
    return f"{' and '.join(ways)} for {rate:.1f} %. Does the description say {' and '.join(wanted)} rightly?"


def _better(new: np.ndarray, old: np.ndarray) -> float:
    """Return the p-value of "right more often than before", exact McNemar, one-sided; 1 without any change."""
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return float(binom.sf(gained - 1, gained + lost, 0.5)) if gained + lost else 1.0


def _best_order(labels: np.ndarray, predicted: np.ndarray, count: int) -> np.ndarray:
    cells = np.zeros((count, count))
    np.add.at(cells, (predicted, labels), 1)
    cells += np.eye(count) * 1e-3  # where nothing speaks for another order, the stated one
    order: np.ndarray = linear_sum_assignment(cells, maximize=True)[1]
    return order
