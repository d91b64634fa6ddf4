"""Label schemes: age bins at every edge, spreadsheet damage, published mappings."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairaudit.data.taxonomy import (
    AGE_BINS,
    AGE_STARTS,
    MAPPINGS,
    SCHEMES,
    age_bins,
    age_label,
    age_starts,
    map_labels,
    scheme_of,
)
from fairaudit.errors import UsageError


@given(st.integers(0, 116))
def test_every_age_in_years_has_its_bin(years: int) -> None:
    """No age is lost at an edge: the bin is the last one that starts at or below it (counted independently)."""
    expected = AGE_BINS[sum(years >= start for start in AGE_STARTS) - 1]
    assert age_bins(pd.Series([years]))[0] == expected


def test_upper_edges_are_inclusive() -> None:
    """2 is in 0-2 and 3 in 3-9, 69 in 60-69 and 70 in 70+."""
    assert age_bins(pd.Series([2, 3, 9, 10, 69, 70])).tolist() == ["0-2", "3-9", "3-9", "10-19", "60-69", "70+"]


def test_age_without_a_number_stays_missing() -> None:
    """A missing or negative age gets no bin."""
    assert age_bins(pd.Series([None, -1])).isna().all()


@pytest.mark.parametrize(
    ("damaged", "bin_"),
    [
        ("03-Sep", "3-9"),
        ("3-Sep", "3-9"),
        ("9-March", "3-9"),
        ("9-Mar", "3-9"),
        ("Sep-03", "3-9"),
        ("Sept-3", "3-9"),
        ("2024-03-09", "3-9"),
        ("2024-03-09 00:00:00", "3-9"),
        ("3/9/2024", "3-9"),
        ("Mar-09", "3-9"),
        ("Oct-19", "10-19"),
        ("19-Oct", "10-19"),
        ("10/19/2024", "10-19"),
        ("19.10.2024", "10-19"),
        ("2019-10-01", "10-19"),
        ("10–19", "10-19"),
        ("20 - 29", "20-29"),
    ],
)
def test_spreadsheet_damage_is_repaired(damaged: str, bin_: str) -> None:
    """What a spreadsheet made of "3-9" and "10-19" is turned back, and said to be a repair."""
    assert age_label(damaged) == (bin_, True)


@pytest.mark.parametrize("text", [*AGE_BINS, "more than 70"])
def test_published_bins_need_no_repair(text: str) -> None:
    """The bins as published are read as they are."""
    assert age_label(text) == ("70+" if text == "more than 70" else text, False)


@pytest.mark.parametrize(
    "text", ["", "adult", "Feb-20", "03-Oct", "3", "2024-05-06", "10-19-30-40", "Sepia-03", "1/2/3", "³-9", "3/9/10/19"]
)
def test_what_spells_no_bin_is_not_guessed(text: str) -> None:
    """Dates and words that are no damaged bin stay unknown."""
    assert age_label(text) == (None, False)


def test_mappings_cover_their_source_and_stay_in_their_target() -> None:
    """Every class of the source scheme is mapped, into classes of the target or to nothing."""
    for (source, target), mapping in MAPPINGS.items():
        assert set(mapping) == set(SCHEMES[source].classes)
        assert {label for label in mapping.values() if label} <= set(SCHEMES[target].classes)


def test_unexpressible_labels_become_missing() -> None:
    """UTKFace's Asian and Others do not say which of the seven classes is meant."""
    mapped = map_labels(pd.Series(["White", "Asian", "Others", "Indian"]), "race5", "race7")
    assert mapped.isna().tolist() == [False, True, True, False]


def test_unpublished_mapping_is_refused() -> None:
    """Age bins cannot become races."""
    with pytest.raises(UsageError, match="age9 to race7"):
        map_labels(pd.Series(["0-2"]), "age9", "race7")


def test_scheme_of_prefers_the_smallest_that_fits() -> None:
    """White and Black fit both race schemes: five classes are assumed; Latino_Hispanic needs seven."""
    assert scheme_of("race", {"White", "Black"}).name == "race5"
    assert scheme_of("race", {"White", "Latino_Hispanic"}).name == "race7"
    assert scheme_of("race", {"Martian"}) is None


@pytest.mark.parametrize(
    ("classes", "starts"),
    [
        (AGE_BINS, (0, 3, 10, 20, 30, 40, 50, 60, 70)),
        (SCHEMES["age9-fairface"].classes, (0, 3, 10, 20, 30, 40, 50, 60, 70)),
        (("18-29", "30 and over"), (18, 30)),
        (("0-2", "4-9", "10+"), None),
        (("3-9", "0-2", "10+"), None),
        (("0-2", "3-9"), None),
        (("0-2", "3"), None),
        (("young", "old"), None),
        ((), None),
    ],
)
def test_age_bins_tell_where_they_start(classes: tuple[str, ...], starts: tuple[int, ...] | None) -> None:
    """Bins that follow each other, the last one open, give their first years; anything else gives None."""
    assert age_starts(classes) == starts
