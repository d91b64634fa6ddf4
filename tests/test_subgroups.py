"""Axes and subgroup labels: one parser, one maker."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairaudit import subgroups
from fairaudit.errors import DataError, UsageError


def test_labels_follow_the_order_of_the_axis_and_of_the_categories() -> None:
    """`race:gender` gives "White × Male", ordered by race first."""
    frame = pd.DataFrame(
        {
            "race": pd.Categorical(["B", "A", "B"], categories=["B", "A", "never"]),
            "gender": ["m", "f", "f"],
        }
    )
    labels = subgroups.assign(frame, "race:gender")
    assert list(labels) == ["B × m", "A × f", "B × f"]
    assert list(labels.categories) == ["B × f", "B × m", "A × f"]
    assert list(subgroups.assign(frame, "gender:race")) == ["m × B", "f × A", "f × B"]


def test_missing_attributes_are_unknown_and_come_last() -> None:
    """`unknown` appears only when it has members, and a literal "unknown" is the same thing."""
    frame = pd.DataFrame({"race": ["A", None, "unknown"], "gender": ["m", "f", "m"]})
    assert list(subgroups.assign(frame, "race:gender")) == ["A × m", "unknown", "unknown"]
    assert subgroups.assign(frame, "race").categories[-1] == subgroups.UNKNOWN
    assert subgroups.UNKNOWN not in subgroups.assign(frame, "gender").categories


def test_two_subgroups_never_share_a_label() -> None:
    """Hostile values that would run together are refused, not merged."""
    frame = pd.DataFrame({"a": ["x × y", "x"], "b": ["z", "y × z"]})
    with pytest.raises(DataError, match="both be labelled"):
        subgroups.assign(frame, "a:b")


def test_absent_attribute_names_what_exists() -> None:
    """The message names the columns and the nearest one."""
    with pytest.raises(UsageError, match="did you mean 'gender'"):
        subgroups.require(["race", "gender"], ["race:gendr"])


@given(st.lists(st.tuples(st.sampled_from(["", "a", "ü", "<b>", None]), st.sampled_from(["1", "2", None])), min_size=1))
def test_assign_agrees_with_labelling_row_by_row(rows: list[tuple[str | None, str | None]]) -> None:
    """The packed codes give what a plain loop gives."""
    frame = pd.DataFrame(rows, columns=["p", "q"], dtype=object)
    expected = ["unknown" if p is None or q is None else f"{p} × {q}" for p, q in rows]
    assert list(subgroups.assign(frame, "p:q")) == expected


def test_degenerate_axes_are_found_by_name_and_from_the_data() -> None:
    """Race by race, and an attribute that happens to fix the label; not an axis with mixed labels or tiny groups."""
    labels = pd.Series(["x", "x", "y", "y"] * 5)
    camera = pd.DataFrame({"camera": ["c1", "c1", "c2", "c2"] * 5})
    mixed = pd.DataFrame({"site": ["s1", "s2"] * 10})
    single = pd.DataFrame({"person": [str(i) for i in range(20)]})
    assert subgroups.degenerate(subgroups.assign(camera, "camera"), labels, "race:gender", "race")
    assert subgroups.degenerate(subgroups.assign(camera, "camera"), labels, "camera", "race")
    assert subgroups.degenerate(subgroups.assign(mixed, "site"), labels, "site", "race") is None
    assert subgroups.degenerate(subgroups.assign(single, "person"), labels, "person", "race") is None


def test_numbers_as_attribute_values_become_text() -> None:
    """Integer attributes keep their written form."""
    frame = pd.DataFrame({"site": np.array([2, 10, 2])})
    assert set(subgroups.assign(frame, "site")) == {"2", "10"}


def test_overall_is_no_attribute() -> None:
    """In every table `overall` means the whole set: an axis of that name would be mixed up with it."""
    with pytest.raises(UsageError, match="means the whole set"):
        subgroups.assign(pd.DataFrame({"overall": ["a", "b"]}), "overall")
