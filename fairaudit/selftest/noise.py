"""Cases that tell a difference from noise: planted gaps are found where they are, and nothing where there is none."""

import numpy as np

from fairaudit.selftest.checks import Check, audited, drawn, equal, gap, holds

RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
GENDERS = ("Male", "Female")
FAIRFACE_VALIDATION = 10_954


def planted_gap() -> list[Check]:
    """One of seven groups is right in 80 % of its faces, the others in 95 %: found, and the right one is named."""
    frame = drawn(4000, {"race": RACES}, 0.95, seed=1)
    worse = drawn(4000, {"race": RACES}, 0.80, seed=1)
    frame = frame.assign(gender_pred=np.where(frame["race"] == "Indian", worse["gender_pred"], frame["gender_pred"]))
    result = audited(frame)
    row = gap(result, "accuracy")
    rest = result.rest[(result.rest["metric"] == "accuracy") & (result.rest["subgroup"] == "Indian")].iloc[0]
    return [
        equal("worst-off", "Indian", row["worst"]),
        holds("lower limit of the gap", "above 0", row["difference_low"], row["difference_low"] > 0),
        holds("interval of Indian against the rest", "holds −0.15", _range(rest), rest["low"] < -0.15 < rest["high"]),
        equal("subgroups not assessed", "", row["not_assessed"]),
    ]


def planted_intersection() -> list[Check]:
    """Only women of one group are worse off: the intersection is named."""
    frame = drawn(6000, {"race": RACES[:4], "sex": GENDERS}, 0.95, seed=2)
    worse = drawn(6000, {"race": RACES[:4], "sex": GENDERS}, 0.75, seed=2)
    chosen = (frame["race"] == "Black") & (frame["sex"] == "Female")
    frame = frame.assign(gender_pred=np.where(chosen, worse["gender_pred"], frame["gender_pred"]))
    row = gap(audited(frame, ["race:sex"]), "accuracy", by="race:sex")
    return [
        equal("worst-off", "Black × Female", row["worst"]),
        holds("lower limit of the gap", "above 0", row["difference_low"], row["difference_low"] > 0),
    ]


def planted_class() -> list[Check]:
    """One group's faces labelled Female are recognised less often: recall of Female shows it, of Male does not."""
    frame = drawn(6000, {"race": RACES[:4]}, 0.95, seed=3)
    worse = drawn(6000, {"race": RACES[:4]}, 0.75, seed=3)
    chosen = (frame["race"] == "Black") & (frame["gender_true"] == "Female")
    result = audited(frame.assign(gender_pred=np.where(chosen, worse["gender_pred"], frame["gender_pred"])))
    female, male = gap(result, "recall", "Female"), gap(result, "recall", "Male")
    return [
        equal("worst-off in recall of Female", "Black", female["worst"]),
        holds("lower limit of its gap", "above 0", female["difference_low"], female["difference_low"] > 0),
        equal("lower limit of the gap in recall of Male", 0.0, male["difference_low"]),
    ]


def random_attributes() -> list[Check]:
    """Twelve attributes drawn at random: all show a gap, and at most two of them one that is beyond noise."""
    names = [f"random{i}" for i in range(12)]
    frame = drawn(1200, {name: ["a", "b", "c", "d"][: 2 + i % 3] for i, name in enumerate(names)}, 0.9, seed=4)
    gaps = audited(frame, names).gaps
    found = gaps[gaps["metric"] == "accuracy"]
    beyond = int((found["difference_low"] > 0).sum())
    return [
        equal("attributes compared", 12, len(found)),
        holds("smallest gap in accuracy", "larger than 0", found["difference"].min(), found["difference"].min() > 0),
        # of 12 with 1 false in 20 each, more than two are expected once in 50 such suites
        holds("gaps beyond noise", "at most 2", beyond, beyond <= 2),
    ]


def no_disparity() -> list[Check]:
    """As many faces as FairFace's validation split, accuracy .94 in every group: no gap is beyond noise."""
    frame = drawn(FAIRFACE_VALIDATION, {"race": RACES, "sex": GENDERS, "age": AGES}, 0.94, seed=5)
    axes = ["race", "race:sex", "race:sex:age"]
    result = audited(frame, axes)
    rows = [gap(result, "accuracy", by=by) for by in axes]
    what = "lower limit of the gap of {:.3f} over {}"
    return [equal(what.format(row["difference"], row["by"]), 0.0, row["difference_low"]) for row in rows]


def _range(row: object) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}"  # type: ignore[index]
