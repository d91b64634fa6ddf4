"""Weights of training faces: the published formula by hand, what the weights promise, and what is refused."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairaudit.errors import UsageError
from fairaudit.mitigation import MITIGATIONS, mitigation_weights
from fairaudit.mitigation.reweighing import class_balancing, joint_balancing, reweigh
from fairaudit.spec import MitigationSpec

NO_CAP = 1e9
FACES = pd.DataFrame(
    {
        "group": pd.Categorical(["Aspen"] * 8 + ["Birch"] * 4),
        "gender": pd.Categorical(["Male"] * 7 + ["Female"] + ["Male"] + ["Female"] * 3, categories=["Male", "Female"]),
    }
)
rows = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz")), min_size=6, max_size=60)


def table(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Faces with the attributes of `pairs`, and two more rows so that the subgroup never determines the label."""
    return pd.DataFrame([*pairs, ("A", "x"), ("A", "y")], columns=["group", "label"])


def totals(frame: pd.DataFrame, weights: np.ndarray, *columns: str) -> dict[tuple[str, ...], float]:
    """Total weight of each combination of values, by a plain loop."""
    result: Counter[tuple[str, ...]] = Counter()
    for row, weight in zip(frame[list(columns)].itertuples(index=False), weights, strict=True):
        result[tuple(row)] += weight
    return dict(result)


def test_reweighing_is_the_published_formula() -> None:
    """w(g, y) = P(g)·P(y) / P(g, y), worked out by hand for eight faces of one group and four of another."""
    weights = reweigh(FACES, "gender", "group", cap=NO_CAP)
    by_hand = {
        ("Aspen", "Male"): (8 / 12) * (8 / 12) / (7 / 12),
        ("Aspen", "Female"): (8 / 12) * (4 / 12) / (1 / 12),
        ("Birch", "Male"): (4 / 12) * (8 / 12) / (1 / 12),
        ("Birch", "Female"): (4 / 12) * (4 / 12) / (3 / 12),
    }
    expected = [by_hand[pair] for pair in zip(FACES["group"], FACES["gender"], strict=True)]
    np.testing.assert_allclose(weights, expected, rtol=1e-14)


@given(rows)
def test_reweighing_makes_label_shares_equal_across_subgroups(pairs: list[tuple[str, str]]) -> None:
    """Without a cap, weighted subgroup × label totals factor wherever a cell has faces, and the mean weight is 1."""
    frame = table(pairs)
    weights = reweigh(frame, "label", "group", cap=NO_CAP)
    joint, n = totals(frame, weights, "group", "label"), len(frame)
    group_n, label_n = Counter(frame["group"]), Counter(frame["label"])
    assert weights.mean() == pytest.approx(weights.sum() / n)
    scale = weights.mean() / np.mean(
        [group_n[g] * label_n[y] / n / Counter(zip(frame.group, frame.label, strict=True))[(g, y)]
         for g, y in zip(frame["group"], frame["label"], strict=True)]
    )  # fmt: skip
    for (group, label), total in joint.items():
        assert total == pytest.approx(scale * group_n[group] * label_n[label] / n)


def test_weighted_label_rates_are_equal() -> None:
    """After reweighing, the weighted share of Female is the overall one in both groups."""
    weights = reweigh(FACES, "gender", "group", cap=NO_CAP)
    joint, whole = totals(FACES, weights, "group", "gender"), totals(FACES, weights, "group")
    for group in ("Aspen", "Birch"):
        assert joint[(group, "Female")] / whole[(group,)] == pytest.approx(4 / 12)


@given(rows, st.floats(1.05, 5), st.sampled_from(sorted(MITIGATIONS)))
def test_cap_and_mean_hold_together(pairs: list[tuple[str, str]], cap: float, method: str) -> None:
    """Whatever the data, the mean weight is 1 and no weight exceeds the cap, to rounding."""
    weights = MITIGATIONS[method](table(pairs), "label", "group", cap=cap)
    assert weights.mean() == pytest.approx(1)
    assert weights.max() <= cap * (1 + 1e-9)
    assert weights.min() > 0


@given(rows)
def test_balancing_gives_equal_totals(pairs: list[tuple[str, str]]) -> None:
    """Joint balancing gives every non-empty cell the same total weight, class balancing every class."""
    frame = table(pairs)
    cells = totals(frame, joint_balancing(frame, "label", "group", cap=NO_CAP), "group", "label")
    classes = totals(frame, class_balancing(frame, "label", "group", cap=NO_CAP), "label")
    np.testing.assert_allclose(list(cells.values()), len(frame) / len(cells))
    np.testing.assert_allclose(list(classes.values()), len(frame) / len(classes))


def test_unknown_subgroup_and_masked_label_have_weight_one() -> None:
    """What cannot be weighed keeps weight 1 and does not move the others' weights."""
    extra = pd.DataFrame({"group": [None, "Aspen"], "gender": ["Male", None]})
    frame = pd.concat([FACES.astype(object), extra], ignore_index=True)
    weights = reweigh(frame, "gender", "group", cap=NO_CAP)
    assert weights[-2:].tolist() == [1.0, 1.0]
    np.testing.assert_array_equal(weights[:-2], reweigh(FACES, "gender", "group", cap=NO_CAP))


def test_degenerate_axis_is_refused_with_its_reason_and_the_alternatives() -> None:
    """Reweighing gender by an axis that holds gender is refused, by name and by data; balancing works."""
    copy = FACES.assign(twin=FACES["gender"].astype(str))
    for by in ("gender", "group:gender", "twin"):
        with pytest.raises(UsageError, match=r"subgroup determines the label.*joint-balancing.*class-balancing"):
            reweigh(copy, "gender", by, cap=10)
        assert joint_balancing(copy, "gender", by, cap=10).mean() == pytest.approx(1)


def test_every_allowed_head_is_weighed_and_the_others_named() -> None:
    """Without `tasks`, a head that the axis determines is left out with a sentence, the other is weighed."""
    frame = FACES.assign(age=["0-2", "3-9"] * 6)
    weights, sentences = mitigation_weights(
        frame, MitigationSpec(method="reweighing", by="gender"), {"gender": ("Male", "Female"), "age": ("0-2", "3-9")}
    )
    assert list(weights) == ["age"]
    assert any(s.startswith("gender: not mitigated") and "part of the axis" in s for s in sentences)


def test_a_named_head_that_is_degenerate_is_refused() -> None:
    """A head named in the spec is never silently left out."""
    with pytest.raises(UsageError, match="gender is part of the axis"):
        mitigation_weights(FACES, MitigationSpec(method="reweighing", by="gender", tasks=("gender",)), ["gender"])


def test_nothing_left_to_mitigate_is_refused() -> None:
    """When the axis determines every head, the refusal says which and why."""
    with pytest.raises(UsageError, match=r"leaves no head to mitigate.*gender"):
        mitigation_weights(FACES, MitigationSpec(method="reweighing", by="group:gender"), ["gender"])


@pytest.mark.parametrize(
    ("mitigation", "message"),
    [
        (MitigationSpec(method="reweighting", by="group"), "did you mean 'reweighing'"),
        (MitigationSpec(method="reweighing", by="grup"), "did you mean 'group'"),
        (MitigationSpec(method="reweighing", by="group", tasks=("gendr",)), "did you mean 'gender'"),
    ],
)
def test_wrong_names_get_a_suggestion(mitigation: MitigationSpec, message: str) -> None:
    """An unknown method, axis or head is refused with the nearest known name."""
    with pytest.raises(UsageError, match=message):
        mitigation_weights(FACES, mitigation, ["gender"])


def test_sentences_count_capped_faces_effective_size_and_empty_cells() -> None:
    """The description agrees with a count by hand, and names the cell without a face."""
    frame = pd.concat([FACES.astype(object), pd.DataFrame({"group": ["Cedar"] * 3, "gender": ["Male"] * 3})])
    weights, sentences = mitigation_weights(frame, MitigationSpec(method="reweighing", by="group", cap=1.5), ["gender"])
    w = weights["gender"]
    assert f"{int((w >= 1.5 - 1e-9).sum())} reach the cap of 1.5" in sentences[0]
    assert f"effective sample size is {w.sum() ** 2 / (w**2).sum():.0f}" in sentences[0]
    assert any("Cedar labelled Female" in sentence for sentence in sentences)


def test_a_cap_of_one_is_refused() -> None:
    """No weight could differ from 1."""
    with pytest.raises(UsageError, match="above 1"):
        reweigh(FACES, "gender", "group", cap=1)


def test_no_labelled_face_is_refused() -> None:
    """A head without any label cannot be weighed."""
    with pytest.raises(UsageError, match="no training face"):
        reweigh(FACES.assign(gender=None), "gender", "group", cap=10)
