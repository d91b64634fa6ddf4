"""Cases that tell a difference from noise: planted gaps are found where they are, and nothing where there is none."""

import numpy as np

from fairaudit.results import AuditResult
from fairaudit.selftest.checks import QUICK, Check, audited, drawn, equal, gap, holds

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
    findings = result.table("findings")
    differing = findings[findings["finding"] & (findings["kind"] == "rest") & (findings["metric"] == "accuracy")]
    return [
        equal("worst-off", "Indian", row["worst"]),
        holds("lower limit of the gap", "above 0", row["difference_low"], row["difference_low"] > 0),
        holds("interval of Indian against the rest", "holds −0.15", _range(rest), rest["low"] < -0.15 < rest["high"]),
        equal("subgroups not assessed", "", row["not_assessed"]),
        # one bad group makes innocent ones differ from the rest, unless it is left out of that
        equal("found to differ from the rest in accuracy", ["Indian"], sorted(differing["subgroup"])),
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
    """Six attributes drawn at random: all show a gap, at most one is beyond noise, and none is a finding."""
    names = [f"random{i}" for i in range(6)]
    frame = drawn(1000, {name: ["a", "b", "c", "d"][: 2 + i % 3] for i, name in enumerate(names)}, 0.9, seed=4)
    result = audited(frame, names)
    found = result.gaps[result.gaps["metric"] == "accuracy"]
    beyond = int((found["difference_low"] > 0).sum())
    return [
        equal("attributes compared", 6, len(found)),
        holds("smallest gap in accuracy", "larger than 0", found["difference"].min(), found["difference"].min() > 0),
        # of 6 with 1 false in 20 each, more than one is expected once in 30 such suites
        holds("gaps beyond noise, each by itself", "at most 1", beyond, beyond <= 1),
        equal("findings, adjusted over all", 0, _findings(result)),
    ]


def no_disparity() -> list[Check]:
    """As many faces as FairFace's validation split, accuracy .94 in every group: gaps of noise, no finding."""
    frame = drawn(FAIRFACE_VALIDATION, {"race": RACES, "age": AGES}, 0.94, seed=5)
    axes = {"race": 0.017, "race:age": 0.084}  # the gap that noise alone makes, on average
    result = audited(frame, list(axes))
    found = [equal("findings", 0, _findings(result))]
    for by, expected in axes.items():
        row = gap(result, "accuracy", by=by)
        found.append(equal(f"lower limit of the gap of {row['difference']:.3f} over {by}", 0.0, row["difference_low"]))
        found.append(equal("gap expected without disparity", expected, row["expected_gap"], expected / 5))
    return found


def policies() -> list[Check]:
    """A limit on a gap: failed where a gap is planted, passed where there is room, inconclusive where noise decides."""
    declared = ("difference(accuracy, race) <= 0.02", "difference(accuracy, race) <= 0.15")
    settings = QUICK.model_copy(update={"policies": declared})
    fair = audited(drawn(3000, {"race": RACES}, 0.94, seed=6), audit=settings).table("policies")
    needed = fair["n_needed"].iloc[0]
    frame, worse = (drawn(3000, {"race": RACES}, accuracy, seed=7) for accuracy in (0.95, 0.65))
    frame = frame.assign(gender_pred=np.where(frame["race"] == "Indian", worse["gender_pred"], frame["gender_pred"]))
    unfair = audited(frame, audit=settings).table("policies")
    return [
        equal("without disparity, at most 2 points", "inconclusive", fair["verdict"].iloc[0]),
        holds("faces a subgroup that would decide", "more than there are", needed, needed > fair["n_smallest"].iloc[0]),
        equal("without disparity, at most 15 points", "pass", fair["verdict"].iloc[1]),
        equal("30 points planted, at most 15", "fail", unfair["verdict"].iloc[1]),
        equal("who is worst", "Indian", unfair["worst"].iloc[1]),
    ]


def _findings(result: AuditResult) -> int:
    return int(result.table("findings")["finding"].sum())


def _range(row: object) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}"  # type: ignore[index]
