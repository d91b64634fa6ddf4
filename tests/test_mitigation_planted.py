"""The benchmark of planted biases: its words against answers whose truth is known, and its sets of faces."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from mitigation_planted import BASELINE, BY, CLASSES, HURT, SCENARIOS, TASK, faces_of, judged, verdict

N, SEEDS = 3000, 5
RNG = np.random.default_rng(4)
LABEL, IS_HURT = RNG.integers(2, size=N), np.arange(N) % 5 == 0
LUCK = RNG.random(N)


def answers(hurt: float, rest: float, seed: int = 0) -> np.ndarray:
    """Class codes (S, N) that are right this often; most luck is the face's own, the same in every arm."""
    rng = np.random.default_rng(seed)
    luck = np.where(rng.random((SEEDS, N)) < 0.8, LUCK, rng.random((SEEDS, N)))
    right = luck < np.where(IS_HURT, hurt, rest)
    return np.where(right, LABEL, 1 - LABEL)


# accuracy (of those hurt, of the rest) that a user would see, and in truth; the baseline has .75 and .95 in both
KNOWN = {
    "removed": ((0.95, 0.95), (0.95, 0.95)),
    "reduced": ((0.85, 0.95), (0.85, 0.95)),
    "removed by levelling down": ((0.75, 0.75), (0.75, 0.75)),
    "only hidden": ((0.95, 0.95), (0.75, 0.95)),
    "harmed": ((0.75, 0.95), (0.6, 0.95)),
    "harmed, and the measured gap falls": ((0.95, 0.95), (0.6, 0.95)),
    "no change shown": ((0.75, 0.95), (0.75, 0.95)),
}


def test_words_are_those_of_the_planted_truth() -> None:
    """Every method is called what it was made to do; values are the masks' means, n the faces."""
    sides = []
    for side in (0, 1):
        made = {BASELINE: answers(0.75, 0.95)}
        made |= {word: answers(*rates[side], seed=1) for word, rates in KNOWN.items()}
        sides.append(judged(made, LABEL, IS_HURT, "accuracy"))
        for name, own in made.items():
            right = (own == LABEL).mean(0)
            values = [right[~IS_HURT].mean() - right[IS_HURT].mean(), right[IS_HURT].mean(), right.mean()]
            assert [sides[-1][name][what][0] for what in ("gap", "hurt", "all")] == pytest.approx(values)
            assert sides[-1][name]["n"] == (IS_HURT.sum(), (~IS_HURT).sum())
    measured, truth = sides
    assert {word: verdict(measured[word], truth[word], truth[BASELINE]) for word in KNOWN} == {w: w for w in KNOWN}


def test_a_gap_turned_round_is_no_removal_and_an_open_truth_stays_open() -> None:
    """Where there was no gap in truth, one of the other sign is harm; a wide interval of the truth says open."""
    none = judged({BASELINE: answers(0.95, 0.95), "m": answers(0.95, 0.8, 1)}, LABEL, IS_HURT, "accuracy")
    assert verdict(none["m"], none["m"], none[BASELINE]) == "harmed, and the measured gap falls"
    seen = judged({BASELINE: answers(0.75, 0.95), "m": answers(0.95, 0.95, 1)}, LABEL, IS_HURT, "accuracy")["m"]
    wide = {**seen, "gap": (0.1, -0.3, 0.5), "gap change": (-0.1, -0.5, 0.3), "hurt change": (0.1, -0.3, 0.5)}
    assert verdict(seen, wide, {"gap": (0.2, 0.1, 0.3)}) == "measured gap falls, truth open"


def test_recall_counts_the_faces_of_its_class_only() -> None:
    """Recall of Female: value, change and n by masks; the other class has no part in it."""
    made = {BASELINE: answers(0.7, 0.9), "m": answers(0.8, 0.9, 1)}
    found = judged(made, LABEL, IS_HURT, "recall of Female")["m"]
    code = CLASSES.index("Female")
    female = code == LABEL
    recall = [(made[name] == LABEL).mean(0)[female & IS_HURT].mean() for name in (BASELINE, "m")]
    assert found["hurt"][0] == pytest.approx(recall[1]) and found["n"][0] == (female & IS_HURT).sum()
    assert found["hurt change"][0] == pytest.approx(recall[1] - recall[0])
    assert found["hurt change"][1] < recall[1] - recall[0] < found["hurt change"][2]


def test_the_mark_of_the_truth_goes_with_nothing(tmp_path: Path) -> None:
    """In the cue's own faces it tells the label, the other way round for those it hurts; in the truth it does not."""
    scenario = SCENARIOS["spurious cue"]
    shares = []
    for name, biases in (("measured", [scenario.bias]), ("truth", list(scenario.truth))):
        truth = pd.read_csv(faces_of(tmp_path / name, biases, 1000, (1, 2, 3)) / "truth.csv")
        agrees = truth["bias_1_spurious_cue"] == (truth[TASK] == CLASSES[-1])
        shares.append([agrees[truth[BY] == HURT].mean(), agrees[truth[BY] != HURT].mean()])
    assert shares[0][0] < 0.1 and shares[0][1] > 0.9
    assert np.allclose(shares[1], 0.5, atol=0.12)
